"""What lies in a run directory, read with pandas: trials with their images, scores and tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

ARM = ["plugin", "kind", "method", "t0", "plugin_scale", "adapter_scale"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One image under one plugin; a floor image is one under each plugin with equal settings."""

    trial_id: str
    plugin: str
    kind: str
    method: str
    plugin_scale: float | None
    case_id: str
    seed: int
    prompt: str
    path: Path


class RunFiles:
    """A run directory without stacks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8"))
        listed = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        self.cases = {case["case_id"]: case for case in listed["cases"]}
        self.trials = rows_of(pd.read_parquet(folder / "trials.parquet"))
        self.results = {r["trial_id"]: r for r in self._parts("results")}
        self.scores = self._parts("scores")
        self.ceilings = self._parts("scores/ceilings")
        self._arrays: dict[Path, np.ndarray] = {}

    def table(self, name: str) -> list[Row]:
        """Return the rows of tables/NAME.parquet; none without the file."""
        path = self.folder / "tables" / f"{name}.parquet"
        return rows_of(pd.read_parquet(path)) if path.is_file() else []

    @property
    def prompt_of(self) -> dict[str, str]:
        """Return case id -> prompt."""
        return {case_id: case["prompt"] for case_id, case in self.cases.items()}

    @cached_property
    def subjects(self) -> list[Subject]:
        """Return all rendered images, in the order of their trials."""
        plugins: dict[tuple[str, int, str], dict[str, str]] = {}
        for trial in self.trials:
            if trial["plugin"]:
                plugins.setdefault(_shared_key(trial), {})[trial["plugin"]] = trial["kind"]
        found = []
        for trial in self.trials:
            result = self.results.get(trial["trial_id"])
            if result is None or result["status"] != "ok":
                continue
            own = {trial["plugin"]: trial["kind"]} if trial["plugin"] else None
            for plugin, kind in (own or plugins.get(_shared_key(trial), {})).items():
                found.append(self._subject(trial, result, plugin, kind))
        return found

    def _subject(self, trial: Row, result: Row, plugin: str, kind: str) -> Subject:
        return Subject(
            trial["trial_id"],
            plugin,
            kind,
            trial["method"],
            trial["plugin_scale"],
            trial["case_id"],
            int(trial["seed"]),
            self.prompt_of[trial["case_id"]],
            self.folder / result["image"],
        )

    def pixels(self, path: Path) -> np.ndarray:
        """Return a picture, uint8 RGB."""
        if path not in self._arrays:
            with Image.open(path) as picture:
                self._arrays[path] = np.asarray(picture.convert("RGB"))
        return self._arrays[path]

    def condition(self, plugin: str, case_id: str) -> np.ndarray | None:
        """Return the condition image of a plugin and case; None without one."""
        for trial in self.trials:
            if (
                trial["case_id"] == case_id
                and trial["plugin"] == plugin
                and trial["condition_path"]
            ):
                return self.pixels(self.folder / trial["condition_path"])
        return None

    def plugin(self, name: str) -> Row:
        """Return a plugin's entry in the manifest."""
        return next(entry for entry in self.manifest["plugins"] if entry["id"] == name)

    def _parts(self, folder: str) -> list[Row]:
        paths = sorted((self.folder / folder).glob("*.parquet"))
        return [row for path in paths for row in rows_of(pd.read_parquet(path))]


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return a table's rows as dictionaries; what is missing is None."""
    return [
        {key: None if _is_missing(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def arm_of(row: Row) -> tuple[Any, ...]:
    """Return what names an arm: plugin, kind, method, t0 and scales."""
    return tuple(row[name] for name in ARM)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA


def _shared_key(trial: Row) -> tuple[str, int, str]:
    return trial["case_id"], int(trial["seed"]), trial.get("settings") or ""
