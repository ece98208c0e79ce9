"""A finished run directory whose images are drawn, not rendered: every part of it is real.

X-Adapter's pictures show the right scene, SDEdit's a scene that moves away as t0 grows, floor's
another scene; so a report has something to find.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from bench.analysis.compatibility import write_compatibility
from bench.analysis.summary import summarise
from bench.scoring.score import score_run
from bench.store.files import png_bytes, write_bytes
from bench.store.run_store import RunStore, condition_name
from metrics.base import SetMetric
from metrics.condition.overlap import EDGE_F1, EDGE_IOU, MASK_IOU
from metrics.perceptual_distance import POCKET_LPIPS
from metrics.pocket_oracle import POCKET_ORACLE, POCKET_STYLE_RATE
from metrics.pocket_scorer import PocketEncoder, PocketMaps
from metrics.sets.reference_distance import POCKET_FID, POCKET_KID
from metrics.sets.reference_set import ShippedFeatures
from metrics.sets.run_distance import RunDistance
from metrics.sets.segment_distance import POCKET_PLACE, POCKET_REST
from metrics.styles import POCKET_STYLE
from metrics.text import POCKET_CLIP
from plugins_manifest.cases.cases import Case
from pocket import conditions
from pocket.scenes import Style, caption, render, scene_at
from tests.metrics.pictures import random_scorer, random_sha256

SEED = 31
PLUGINS = {
    "pocket-canny": ("controlnet", "canny", None),
    "pocket-outline": ("lora", None, "outline drawing"),
}


# a native twin for every plugin (method oracle), and a plugin that changes nothing
IDLE = {"pocket-idle": ("lora", None, "hatched drawing")}


@cache
def reference() -> np.ndarray:
    pictures = [render(scene_at(77, i), "shaded", 128) for i in range(24)]
    return random_scorer().features(pictures).astype(np.float64)


def drawn_metrics() -> list:
    encoder = PocketEncoder(random_scorer, random_sha256)
    distance = {"encoder": encoder, "reference": ShippedFeatures(reference, random_sha256)}
    return [
        EDGE_F1,
        EDGE_IOU,
        MASK_IOU,
        replace(POCKET_CLIP, network=encoder),
        replace(POCKET_STYLE, encoder=encoder),
        replace(POCKET_LPIPS, network=PocketMaps(random_scorer, random_sha256)),
        POCKET_ORACLE,
        POCKET_STYLE_RATE,
        replace(POCKET_FID, **distance),
        replace(POCKET_KID, **distance),
    ]


def draw_run(
    folder: Path,
    *,
    n_cases: int = 12,
    t0s: tuple[float, ...] = (0.5, 0.9),
    prompts=None,
    natives: bool = False,
) -> RunStore:
    """Write a whole run with two plugins, four methods, one seed.

    With `natives` also method oracle, a plugin that has no effect, and a base model with grain.
    """
    plugins = PLUGINS | (IDLE if natives else {})
    store = RunStore(folder)
    folder.mkdir(parents=True)
    store.write_run_facts({"run_id": "drawn", "status": "finished"})
    store.write_manifest(_manifest(n_cases, plugins))
    texts = prompts or [caption(scene_at(SEED, i)) for i in range(n_cases)]
    cases = [Case(f"case-{i:02}", texts[i], scene=(SEED, i)) for i in range(n_cases)]
    store.write_cases(cases)
    trials = [t for case in cases for t in _trials(case, t0s, plugins, natives=natives)]
    for case in cases:
        _write_condition(store, case)
    results = [_draw(store, t, case_of(cases, t), grainy_base=natives) for t in trials]
    store.write_trials(trials)
    store.write_results("all", results)
    return store


@cache
def finished_run(root: Path) -> RunStore:
    """Return a drawn run with scores and summary, made once for all tests, which only read it."""
    store = draw_run(root / "finished" / "drawn")
    score_run(store, drawn_metrics())
    summarise(store)
    return store


@cache
def compatible_run(root: Path) -> RunStore:
    """Return a drawn run with native twins on 24 prompts, scores and all tables but the report."""
    store = draw_run(root / "compatible" / "drawn", n_cases=24, natives=True)
    judge_run(store)
    return store


def judge_run(store: RunStore) -> None:
    """Write a drawn run's scores and all tables but the report."""
    score_run(store, [EDGE_F1, POCKET_STYLE_RATE, *thumbnail_distances()])
    summarise(store)
    write_compatibility(store)


@dataclass(frozen=True)
class Thumbnails:
    """Features that see shading and outlines: pixels at 16 x 16, and how uneven each block is."""

    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        return "thumbnails"

    def rows(self, images, references) -> np.ndarray:
        return references.features.of_images(images, encoder="thumbnails", encode=self.encode)

    def encode(self, pictures) -> np.ndarray:
        rows = []
        for picture in pictures:
            side = picture.shape[0] // 16
            gray = picture.mean(axis=-1).reshape(16, side, 16, side) / 255
            rows.append(np.append(gray.std(axis=(1, 3)).ravel(), gray.mean(axis=(1, 3)).ravel()))
        return 4 * np.array(rows)


def thumbnail_distances() -> list[SetMetric]:
    return [
        RunDistance("pocket-kid-floor", "polynomial", Thumbnails(), "floor"),
        *(replace(metric, encoder=Thumbnails()) for metric in (POCKET_REST, POCKET_PLACE)),
    ]


def case_of(cases: list[Case], trial: dict) -> Case:
    return next(case for case in cases if case.case_id == trial["case_id"])


def _manifest(n_cases: int, known: dict) -> dict:
    plugins = []
    for plugin, (kind, condition, trigger) in known.items():
        facts = {"id": plugin, "kind": kind, "source": f"pocket:{plugin}"}
        plugins.append(facts | ({"condition": condition} if condition else {"trigger": trigger}))
    return {
        "schema": 1,
        "name": "drawn",
        "family": "pocket",
        "plugins": plugins,
        "cases": {"source": "pocket", "seed": SEED, "n": n_cases},
        "methods": [{"name": "base"}, {"name": "floor"}],
        "metrics": ["edge-f1"],
        "settings": {"base_size": [64, 64], "upgraded_size": [128, 128], "steps": 4},
    }


def _trials(case: Case, t0s: tuple[float, ...], plugins: dict, *, natives: bool) -> list[dict]:
    trials = [_trial(case, "", "floor", None)]
    for plugin in plugins:
        trials += [_trial(case, plugin, "oracle", None)] if natives else []
        trials.append(_trial(case, plugin, "base", None))
        trials += [_trial(case, plugin, m, t0) for m in ("sdedit", "xadapter") for t0 in t0s]
    return trials


def _trial(case: Case, plugin: str, method: str, t0: float | None) -> dict:
    kind, condition, trigger = (PLUGINS | IDLE).get(plugin, ("", None, None))
    return {
        "trial_id": f"{case.case_id}-{plugin or 'none'}-{method}-{t0}",
        "plugin": plugin,
        "kind": kind,
        "stack": "[]",
        "method": method,
        "t0": t0,
        "plugin_scale": 1.0 if plugin else None,
        "adapter_scale": 1.0 if method == "xadapter" else None,
        "preset": "sound",
        "stage1_mode": "full",
        "case_id": case.case_id,
        "base_prompt": f"{case.prompt} {trigger}" if trigger else case.prompt,
        "upgraded_prompt": case.prompt,
        "negative_prompt": "",
        "condition_path": condition_name(case.case_id, condition) if condition else None,
        "seed": 0,
    }


def _write_condition(store: RunStore, case: Case) -> None:
    assert case.scene is not None
    picture = conditions.canny(render(scene_at(*case.scene), "flat", 64))
    write_bytes(store.condition_path(case.case_id, "canny"), png_bytes(picture))


def _draw(store: RunStore, trial: dict, case: Case, *, grainy_base: bool = False) -> dict:
    assert case.scene is not None
    _, index = case.scene
    away = {"sdedit": 40 if (trial["t0"] or 0) > 0.7 and index % 4 else 0, "floor": 80}
    scene = scene_at(SEED, index + away.get(trial["method"], 0))
    size_px = 64 if trial["method"] == "base" else 128
    picture = drawn(scene, _style(trial), size_px)
    if grainy_base and trial["method"] == "base":
        grain = np.random.default_rng(index).integers(-14, 15, (size_px, size_px, 1))
        picture = (picture + grain).clip(0, 255).astype(np.uint8)
    path, sha256 = store.write_image_file(trial["trial_id"], png_bytes(picture))
    return {
        "trial_id": trial["trial_id"],
        "status": "ok",
        "image": path,
        "image_sha256": sha256,
        "seconds": 0.25 if trial["method"] == "base" else 0.5,
        "peak_memory_mib": 900.0,
        "error": None,
    }


@cache
def drawn(scene, style: Style, size_px: int) -> np.ndarray:
    return render(scene, style, size_px)


def _style(trial: dict) -> Style:
    is_lora = trial["plugin"] == "pocket-outline"
    if trial["method"] == "base":
        return "outline" if is_lora else "flat"
    kept = ("xadapter", "oracle")
    return "outline" if is_lora and trial["method"] in kept else "shaded"
