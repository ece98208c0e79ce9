"""Make a small run directory with real picture files, for the study's pages."""

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from bench.store.files import png_bytes, sha256_of, write_bytes
from bench.store.run_store import RunStore, condition_name
from tests.leaderboard.studies import rows

RUN_ID = "run-of-the-study"
PROMPT = "a <b>red</b> [square](https://example.org) *on* gray"


def write_study_run(folder: Path, *, n_cases: int = 3) -> RunStore:
    """Write a finished run of a LoRA and a ControlNet; base images have half the size."""
    store = RunStore(folder)
    folder.mkdir(parents=True)
    facts = {"run_id": RUN_ID, "status": "complete", "family": "pocket", "created": "2026-01-01"}
    store.write_run_facts(facts)
    found = rows(n_cases=n_cases)
    trials, results = [], []
    for number, row in enumerate(found):
        side_px = 32 if row["method"] == "base" else 64
        path = f"images/{row['trial_id']}.png"
        write_bytes(folder / path, _named_png(row["trial_id"], side_px, number))
        condition = condition_name(row["case_id"], "canny") if row["plugin"] == "canny" else None
        kind = {"canny": "controlnet", "outline": "lora"}.get(row["plugin"], "")
        prompt = f"{PROMPT} {row['case_id']}"
        given = {"kind": kind, "upgraded_prompt": prompt, "condition_path": condition}
        trials.append({**row, **given})
        results.append({"trial_id": row["trial_id"], "status": "ok", "image": path})
    for case in {row["case_id"] for row in found}:
        edges = np.full((32, 32, 3), 255, np.uint8)
        write_bytes(store.condition_path(case, "canny"), png_bytes(edges))
    store.write_trials(trials)
    store.write_results("all", results)
    return store


def _named_png(name: str, side_px: int, number: int) -> bytes:
    """Write a flat picture with metadata that names its method."""
    import io

    color = (40 * number % 256, 90 * number % 256, 70 * number % 256)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", name)
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px), color).save(buffer, "PNG", pnginfo=notes)
    return buffer.getvalue()


def made_whole(run: RunStore) -> RunStore:
    """Complete a run with hashes of its images, a manifest and tables."""
    rows = run.results().to_dict("records")
    for row in rows:
        row["image_sha256"] = sha256_of((run.folder / row["image"]).read_bytes())
    run.write_results("all", rows)
    for path in run.table_paths("scores"):  # of the images as they are now
        run.write_scores(path.stem, run.scores_of(path.stem))
    run.write_manifest({"schema": 1, "name": "run", "family": "pocket", "plugins": []})
    run.write_table("summary", run.summary())
    run.write_table("compatibility", run.compatibility())
    return run
