"""Method `direct`: the base model's plugin in the upgraded one, of one layout and of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins_manifest.errors import UserError
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile, RenderCase, Stack, Variant
from runners.families.family import Family, load_from_folders
from runners.group import run_group
from runners.methods import Direct
from runners.plugins import LoadedPlugin
from tests.runners.conftest import METHODS, SETTINGS

ALIKE = replace(SETTINGS, upgraded_size_px=(64, 64), steps=2, clip_skip=2)
KNOWN = {**METHODS, "direct": Direct()}


@pytest.fixture(scope="module")
def twins(folders: Path) -> Family:
    """Return the same base model on both sides."""
    base = folders / "base"
    return load_from_folders(
        "twins",
        base=base,
        upgraded=base,
        mapper=None,
        device="cpu",
        dtype="float32",
        one_layout=True,
    )


def moved(file: PluginFile) -> PluginFile:
    return replace(file, side="upgraded", is_moved=True)


def images(family: Family, stack: Stack, case: RenderCase, *variants: Variant) -> list[np.ndarray]:
    results = run_group(family, stack, [case], variants, ALIKE, methods=KNOWN)
    found = [result.image for result in results]
    assert all(image is not None for image in found)
    return [image for image in found if image is not None]


@pytest.fixture
def case(cases: list[RenderCase]) -> RenderCase:
    """Return a case whose sides have the same prompts."""
    return replace(cases[1], upgraded_prompt=cases[1].base_prompt)


def test_direct_on_identical_sides_is_base_bit_for_bit(
    twins: Family, lora: PluginFile, controlnet: PluginFile, case: RenderCase
) -> None:
    scales = (1.0, 0.5)
    base = images(twins, (lora, controlnet), case, *(Variant("base", None, s) for s in scales))
    there = (moved(lora), moved(controlnet))
    direct = images(twins, there, case, *(Variant("direct", None, s) for s in scales))
    assert all(np.array_equal(a, b) for a, b in zip(base, direct, strict=True))
    assert not np.array_equal(*direct)


def test_direct_at_scale_0_is_floor_and_leaves_the_model_as_it_was(
    twins: Family, lora: PluginFile, case: RenderCase
) -> None:
    before = [p.clone() for p in twins.upgraded.unet.parameters()]
    variants = (Variant("direct", None, 1.0), Variant("direct", None, 0.0), Variant("floor"))
    full, none, floor = images(twins, (moved(lora),), case, *variants)
    assert np.array_equal(none, floor)
    assert not np.array_equal(full, floor)
    after = twins.upgraded.unet.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_plugin_that_fits_in_part_is_refused_unless_it_may_be_partial(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    run = [Variant("direct")]
    with pytest.raises(PluginNotAppliedError, match="upgraded model of 'pocket'") as caught:
        next(run_group(family, moved(lora), cases[:1], run, SETTINGS, methods=KNOWN))
    assert 0 < caught.value.audit.share < 1
    audits: list[LoadedPlugin] = []
    file = replace(moved(lora), allow_partial=True)
    results = run_group(
        family, file, cases[:1], run, SETTINGS, methods=KNOWN, on_loaded=audits.extend
    )
    assert next(results).image is not None
    results.close()
    assert audits[0].file.audit_name == "random-lora (direct)"
    assert audits[0].audit.share == caught.value.audit.share


def test_a_network_for_another_layout_is_refused(
    family: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    condition = np.zeros((128, 128, 3), np.uint8)
    large = [replace(cases[0], condition=condition)]
    with pytest.raises(UserError, match="upgraded model of 'pocket'"):
        next(
            run_group(
                family, moved(controlnet), large, [Variant("direct")], SETTINGS, methods=KNOWN
            )
        )


def test_models_of_two_layouts_are_no_family_of_one(folders: Path) -> None:
    with pytest.raises(UserError, match="not of one layout"):
        load_from_folders(
            "mixed",
            base=folders / "base",
            upgraded=folders / "upgraded",
            mapper=None,
            device="cpu",
            dtype="float32",
            one_layout=True,
        )
