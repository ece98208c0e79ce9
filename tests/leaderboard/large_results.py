"""Write two large runs with random numbers in real files, for performance measurements."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from bench.store import schema
from bench.store.files import png_bytes, sha256_of, write_table
from bench.store.run_store import RunStore

ARMS = [("base", None), ("floor", None), ("oracle", None), ("hires", 0.5)]
ARMS += [(method, t0) for method in ("sdedit", "xadapter") for t0 in (0.5, 0.7, 0.9)]
METRICS = [f"metric-{i}" for i in range(10)]
N_CASES, N_SEEDS, N_PICTURES, PICTURE_PX = 50, 2, 200, 512


def draw_store(root: Path, n_plugins: int, n_cases: int = N_CASES) -> None:
    """Write two runs; the second is slightly worse."""
    pictures = _pictures(root / "pictures")
    for run, (day, loss) in {"old": ("01", 0.0), "new": ("02", 0.05)}.items():
        _draw_run(root / "runs" / run, n_plugins, n_cases, pictures, day=day, loss=loss)


def _pictures(folder: Path) -> list[tuple[Path, str]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = []
    for i in range(N_PICTURES):
        coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        pixels = np.kron(coarse, np.ones((PICTURE_PX // 16, PICTURE_PX // 16, 1), np.uint8))
        noise = rng.integers(0, 8, pixels.shape, dtype=np.uint8)
        png = png_bytes((pixels // 2 + noise).astype(np.uint8))
        path = folder / f"{i}.png"
        path.write_bytes(png)
        found.append((path, sha256_of(png)))
    return found


def _draw_run(
    folder: Path,
    n_plugins: int,
    n_cases: int,
    pictures: list[tuple[Path, str]],
    *,
    day: str,
    loss: float,
) -> None:
    store = RunStore(folder)
    folder.mkdir(parents=True)
    plugins = [f"plugin-{i:03}" for i in range(n_plugins)]
    kinds = {p: ("controlnet" if i % 2 else "lora") for i, p in enumerate(plugins)}
    trials = _trials(plugins, kinds, n_cases)
    facts = {"run_id": folder.name, "status": "complete", "family": "drawn"}
    facts |= {"created": f"2026-11-{day}T00:00:00+00:00", "command": "drawn", "manifest": "drawn"}
    facts |= {"adapter_sha256": sha256_of(folder.name.encode()), "counts": {"trials": len(trials)}}
    store.write_run_facts(facts)
    entries = [
        {"id": p, "kind": kinds[p], "source": f"drawn:{p}", "license": "MIT"} for p in plugins
    ]
    store.write_manifest({"schema": 1, "name": "drawn", "family": "drawn", "plugins": entries})
    write_table(folder / "trials.parquet", trials, schema.TRIALS)
    _write_results(folder, trials, pictures)
    rng = np.random.default_rng(1)
    arms = trials.groupby(["plugin", "kind", "method", "t0"], dropna=False, sort=True)
    level = trials["method"].map({"base": 0.9, "floor": 0.2, "oracle": 0.9}).fillna(0.6)
    level = level - loss * (trials["method"] == "xadapter")
    for metric in METRICS:
        scores = trials.assign(
            metric=metric,
            recipe="drawn",
            better="higher",
            level="image",
            value=np.clip(rng.normal(level, 0.1), 0, 1),
        )
        write_table(folder / "scores" / f"{metric}.parquet", scores, schema.SCORES)
    keys = arms.size().reset_index()[["plugin", "kind", "method", "t0"]]
    _write_tables(folder, keys, n_cases, rng)


def _trials(plugins: list[str], kinds: dict[str, str], n_cases: int) -> pd.DataFrame:
    grid = pd.MultiIndex.from_product(
        [plugins, range(len(ARMS)), range(n_cases), range(N_SEEDS)],
        names=["plugin", "arm", "case", "seed"],
    ).to_frame(index=False)
    prompt = "a photograph of scene number " + grid["case"].astype(str)
    return grid.assign(
        trial_id=[f"{i:020x}" for i in range(len(grid))],
        kind=grid["plugin"].map(kinds),
        stack="[]",
        method=grid["arm"].map({i: m for i, (m, _) in enumerate(ARMS)}),
        t0=grid["arm"].map({i: t for i, (_, t) in enumerate(ARMS)}).astype(float),
        plugin_scale=1.0,
        adapter_scale=1.0,
        case_id="case-" + grid["case"].astype(str).str.zfill(3),
        base_prompt=prompt,
        upgraded_prompt=prompt,
        negative_prompt="",
    )


def _write_results(folder: Path, trials: pd.DataFrame, pictures: list[tuple[Path, str]]) -> None:
    """Write one part per plugin and five cases, like a run; images in 256 folders."""
    names = [f"images/{t[-2:]}/{t}.png" for t in trials["trial_id"]]
    for i in range(256):
        (folder / "images" / f"{i:02x}").mkdir(parents=True)
    for i, name in enumerate(names):
        os.link(pictures[i % len(pictures)][0], folder / name)
    rows = trials[["trial_id"]].assign(
        status="ok",
        image=names,
        image_sha256=[pictures[i % len(pictures)][1] for i in range(len(names))],
        seconds=1.0,
    )
    for (plugin, part), group in rows.groupby([trials["plugin"], trials["case"] // 5]):
        write_table(folder / "results" / f"{plugin}-{part}.parquet", group, schema.RESULTS)


def _write_tables(folder: Path, keys: pd.DataFrame, n_cases: int, rng: np.random.Generator) -> None:
    summary = pd.concat([keys.assign(metric=metric) for metric in METRICS], ignore_index=True)
    value = rng.uniform(0.2, 0.9, len(summary))
    summary = summary.assign(
        **{"value": value, "low": value - 0.05, "high": value + 0.05, "n": 100, "recipe": "drawn"},
        **{"better": "higher", "plugin_scale": 1.0, "adapter_scale": 1.0, "seconds": 1.0},
    )
    write_table(folder / "tables" / "summary.parquet", summary, schema.SUMMARY)
    kept, distance = rng.uniform(0, 1, len(keys)), rng.uniform(0, 0.5, len(keys))
    judged = ~keys["method"].isin(["base", "floor", "oracle"])
    rows = keys.assign(
        **{"level": "setting", "retention": kept, "quality": distance, "status": "measured"},
        **{"plugin_scale": 1.0, "adapter_scale": 1.0, "seconds": 1.0, "n_prompts": n_cases},
        **{"function_metric": "metric-0", "quality_metric": "metric-1"},
        **{"quality_reference": "floor", "recommended": False},
        **{"retention_low": kept - 0.1, "retention_high": kept + 0.1},
        **{"quality_low": distance - 0.1, "quality_high": distance + 0.1},
        **{"verdict": np.where(judged, np.where(kept > 0.8, "works", "degraded"), None)},
        **{"quality_word": np.where(judged, "between", None), "among_best": judged},
        **{"sort_value": np.where(judged, kept, np.nan)},
    )
    best = rows[rows["t0"].notna()].drop_duplicates(["plugin", "method"])
    rows.loc[best.index[best["method"] == "xadapter"], "recommended"] = True
    value = best["sort_value"]
    best = best.assign(level="method", sort_value_low=value - 0.05, sort_value_high=value + 0.05)
    best = best.assign(kept=value, kept_low=value - 0.05, kept_high=value + 0.05, kept_t0s="")
    best["recommended"] = best["method"] == "xadapter"
    both = pd.concat([rows, best], ignore_index=True)
    write_table(folder / "tables" / "compatibility.parquet", both, schema.COMPATIBILITY)
