"""Claims about the number of images in one call, and about memory that does not suffice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from plugins_manifest.schema.words import Side
from runners import batches, group
from runners.base import PassName, PluginFile, RenderCase, Rendered, Variant
from runners.batches import BatchSize
from runners.families.family import Family
from runners.group import run_group
from runners.methods.x_adapter import Unplugged, XAdapterMethod
from runners.passes import SharedWork, pass_key
from runners.protocols import Method
from runners.session import GroupSession
from tests.runners.conftest import METHODS, SETTINGS

pytestmark = pytest.mark.system

VARIANTS = [Variant("base"), Variant("xadapter", t0=0.7, adapter_scale=1.0)]


class Limited:
    """X-Adapter on a device that has room for a number of images; `alive` are its tensors."""

    name = "xadapter"
    uses_t0, uses_plugin, uses_adapter = True, True, True
    side: Side = "upgraded"
    shares: tuple[PassName, ...] = Unplugged.shares

    def __init__(self, room: int) -> None:
        self.room = room
        self.alive: list[weakref.ref[torch.Tensor]] = []
        self.calls: list[int] = []

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        self.calls.append(len(session.cases))
        activations = torch.zeros(10)
        self.alive.append(weakref.ref(activations))
        if len(session.cases) > self.room:
            session.stage1()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return XAdapterMethod().render(session, variant)


def rendered(
    family: Family,
    plugin: PluginFile | tuple[PluginFile, ...],
    cases: Sequence[RenderCase],
    *,
    limited: Limited | None = None,
    batch: BatchSize | None = None,
    variants: Sequence[Variant] = VARIANTS,
) -> list[Rendered]:
    methods: dict[str, Method] = dict(METHODS)
    if limited is not None:
        methods["xadapter"] = limited
    return list(run_group(family, plugin, cases, variants, SETTINGS, methods=methods, batch=batch))


def pictures(results: Sequence[Rendered]) -> dict[tuple[Variant, int], np.ndarray]:
    assert [r.error for r in results] == [None] * len(results)
    return {(r.variant, r.index): r.image for r in results if r.image is not None}


def equal_but_rounding(left: Sequence[Rendered], right: Sequence[Rendered]) -> bool:
    one, other = pictures(left), pictures(right)
    steps = (np.abs(one[key].astype(int) - other[key].astype(int)).max() for key in one)
    return one.keys() == other.keys() and max(steps) <= 1


def test_a_batch_that_does_not_fit_is_halved_and_every_image_is_made(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    limited = Limited(room=1)
    results = rendered(family, lora, cases, limited=limited)
    assert limited.calls == [4, 2, 1, 1, 2, 1, 1]
    assert [(r.variant.method, r.index) for r in results] == [
        (variant.method, i) for variant in VARIANTS for i in range(4)
    ]
    assert [r.batch for r in results] == [None] * 4 + [1] * 4
    assert equal_but_rounding(results, rendered(family, lora, cases))


def test_a_failed_batch_leaves_none_of_its_tensors(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    limited = Limited(room=0)
    gc.disable()  # what only a collection frees is still a peak
    try:
        results = run_group(
            family, lora, cases[:1], VARIANTS, SETTINGS, methods={**METHODS, "xadapter": limited}
        )
        errors = [result.error for result in results]
        assert [ref() for ref in limited.alive] == [None]
    finally:
        gc.enable()
    assert errors[0] is None
    assert errors[1] == (
        "OutOfMemoryError: not enough memory (CUDA out of memory. Tried to allocate 2.00 GiB)"
    )


def test_a_failed_pass_leaves_none_of_its_tensors() -> None:
    key, alive = pass_key("stage1", 1.0), []
    work = SharedWork([{key: 1.0}], "cpu")

    def stage1() -> None:
        latents = torch.zeros(10)
        alive.append(weakref.ref(latents))
        raise torch.OutOfMemoryError("CUDA out of memory")

    outcome = work.timed({key: 1.0}, lambda: work.get(key, stage1))
    assert outcome.failure is not None and outcome.failure.is_out_of_memory
    assert alive[0]() is None


def test_plugins_of_one_stage_are_halved_too(
    family: Family, lora: PluginFile, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    stack = (replace(lora, stages="first"), replace(controlnet, stages="second"))
    limited = Limited(room=2)
    results = rendered(family, stack, cases, limited=limited, variants=VARIANTS[1:])
    assert limited.calls == [4, 2, 2]
    assert [(r.index, r.batch) for r in results] == [(0, 2), (1, 2), (2, 2), (3, 2)]
    whole = rendered(family, stack, cases, limited=Limited(room=4), variants=VARIANTS[1:])
    assert equal_but_rounding(results, whole)


def test_the_size_that_fits_is_kept_for_the_next_group(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    size, limited = BatchSize(), Limited(room=2)
    for _ in range(2):
        rendered(family, lora, cases, limited=limited, batch=size)
    assert limited.calls == [4, 2, 2, 2, 2]


def test_a_chosen_number_of_images_is_the_most_of_a_call(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    limited = Limited(room=4)
    results = rendered(family, lora, cases, limited=limited, batch=BatchSize(3))
    assert limited.calls == [3, 1]
    assert [(r.index, r.batch) for r in results[4:]] == [(0, 3), (1, 3), (2, 3), (3, 1)]
    assert equal_but_rounding(results, rendered(family, lora, cases))


def test_auto_measures_one_image_and_then_takes_what_fits(
    family: Family,
    lora: PluginFile,
    cases: list[RenderCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group.PeakMemory, "growth_bytes", property(lambda self: 100))
    monkeypatch.setattr(group, "free_bytes", lambda device: 300)
    scales = [replace(v, plugin_scale=scale) for scale in (1.0, 0.5) for v in VARIANTS]
    limited, size = Limited(room=4), BatchSize("auto")
    results = rendered(family, lora, cases, limited=limited, batch=size, variants=scales)
    assert limited.calls == [1, 2, 1, 1, 2, 1]
    assert len(pictures(results)) == 4 * len(cases)
    rendered(family, lora, cases, limited=limited, batch=size, variants=scales)
    assert limited.calls[6:] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("image_bytes", "free_bytes", "expected"),
    [(100, 1000, 8), (100, 940, 4), (100, 120, 1), (100, 0, 1), (0, 0, batches._MOST)],
)
def test_auto_stays_below_85_percent(image_bytes: int, free_bytes: int, expected: int) -> None:
    size = BatchSize("auto")
    size.saw("work", image_bytes)
    assert size.most("work", 12) is None
    assert size.measured("work", free_bytes=free_bytes) == expected
    assert size.most("work", 12) == expected
