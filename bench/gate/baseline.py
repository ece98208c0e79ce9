"""The baseline of a gate: a run directory, or a published run that is downloaded into one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.publish import download_run, local_folder, parse_address
from bench.store import RunStore
from plugins_manifest.schema.references import scheme_of
from plugins_manifest.text import shortened

_PICTURES = {"path", "condition_images", "image", "reference", "conditions"}


def open_baseline(text: str) -> Path:
    """Return the run directory of `--baseline`: a path, or a published run (`parse_address`).

    Raises `UserError` if a published run cannot be read or is not what it is pinned to.
    """
    address = parse_address(text)
    return local_folder(text) if address is None else download_run(address).folder


def shown_run(store: RunStore) -> str:
    """Return a run's name in messages: its folder, or the address that it was published at."""
    return _address(store) or shown_path(store.folder)


def has_images(store: RunStore) -> bool:
    """Return whether a run's images are at hand, or can be downloaded."""
    origin = store.run_facts().get("published")
    return bool(origin["has_images"]) if isinstance(origin, dict) else True


def manifest_of(baseline: Path) -> str:
    """Return the manifest of a baseline, as an option.

    Raises `UserError` if it is a published run with local files, which are not published.
    """
    store = RunStore.open(baseline)
    if _address(store) is not None:
        data = store.manifest().as_data()
        local = [entry["id"] for entry in data["plugins"] if _is_local(entry)]
        listed = data["cases"] if isinstance(data["cases"], list) else [data["cases"]]
        if any(_PICTURES & case.keys() for case in listed):
            local.append("the cases")
        if local:
            raise UserError(
                f"{shown_run(store)} was published without the files of {shortened(local)}: name "
                "the manifest that has them with --manifest"
            )
    return str(store.manifest_path)


def _is_local(plugin: Mapping[str, Any]) -> bool:
    return scheme_of(plugin["source"]) is None or plugin.get("reference") is not None


def _address(store: RunStore) -> str | None:
    origin = store.run_facts().get("published")
    return str(origin["address"]) if isinstance(origin, dict) else None
