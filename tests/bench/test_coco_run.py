"""Real photos through the whole benchmark: conditions, images, scores; models of the pocket world.

Pocket's models read pocket's words only, so the captions file names the real photos in those.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.plan.conditions import cover
from bench.run import RunRequest, run_benchmark
from bench.scoring.score import read_scores
from bench.store.files import read_image
from bench.store.run_store import RunStore
from metrics.condition.detectors import CANNY
from plugins_manifest.cases.coco import read_captions

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
COCO = Path(os.environ.get("XBENCH_COCO", ROOT / ".." / "shared" / "data" / "coco"))
MANIFEST = """\
schema: 1
name: photos
family: pocket
plugins:
  - {id: canny, kind: controlnet, source: "pocket:controlnet-canny", condition: canny}
cases: {source: coco-val2017, path: coco, n: 4}
methods:
  - name: base
  - name: floor
  - {name: xadapter, t0: [0.7], adapter_scale: [1.0]}
metrics: [condition, pocket-clip]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 2}
"""


def coco_in_pocket_words(folder: Path) -> list[int]:
    """Return a folder with the real photos and captions that pocket knows, and their ids."""
    real = read_captions(COCO / "captions_val2017.json")
    there = [p for p in real.values() if (COCO / "val2017" / p.file_name).is_file()]
    data = {
        "images": [{"id": p.image_id, "file_name": p.file_name} for p in there],
        "annotations": [
            {"id": i, "image_id": p.image_id, "caption": "a large red circle on a white background"}
            for i, p in enumerate(there)
        ],
    }
    folder.mkdir()
    (folder / "captions_val2017.json").write_text(json.dumps(data))
    (folder / "val2017").symlink_to((COCO / "val2017").resolve())
    return [p.image_id for p in there]


@pytest.mark.skipif(not COCO.is_dir(), reason="COCO is not there: set XBENCH_COCO")
def test_photos_are_rendered_and_scored_under_their_own_edges(
    tmp_path: Path, pocket_weights: None
) -> None:
    image_ids = coco_in_pocket_words(tmp_path / "coco")
    (tmp_path / "photos.yaml").write_text(MANIFEST)
    request = RunRequest(
        str(tmp_path / "photos.yaml"), out=tmp_path / "run", device="cpu", show_progress=False
    )
    outcome = run_benchmark(request)
    assert (outcome.n_trials, outcome.n_failed) == (12, 0)
    store = RunStore.open(tmp_path / "run")
    assert [case.image_path for case in store.cases().values()] == [
        str(tmp_path / "coco" / "val2017" / f"{i:012d}.jpg") for i in image_ids[:4]
    ]
    for case in store.cases().values():
        picture = cover(read_image(Path(case.image_path or "")), (64, 64))
        made = read_image(store.folder / "conditions" / "canny" / f"{case.case_id}.png")
        assert np.array_equal(made, CANNY.detect(picture, size_px=(64, 64), family="pocket"))
        assert made.any()
    edges = [row for row in read_scores(store) if row["metric"] == "edge-f1-2px"]
    assert {row["method"] for row in edges} == {"base", "floor", "xadapter"}
    assert len(edges) == 12 and all(row["value"] is not None for row in edges)
    assert not store.summary().empty and (store.tables_dir / "report.md").is_file()
    assert run_benchmark(request).was_finished
