from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from runners import session
from runners.base import PluginFile, RenderCase, Rendered, RenderSettings, Variant
from runners.families.family import Family
from runners.group import NON_FINITE, run_group
from runners.methods import base as base_model
from tests.runners.conftest import METHODS, SETTINGS

pytestmark = pytest.mark.system


def rendered(
    family: Family,
    plugin: PluginFile | None,
    cases: Sequence[RenderCase],
    variants: Sequence[Variant],
    settings: RenderSettings = SETTINGS,
) -> list[Rendered]:
    return list(run_group(family, plugin, cases, variants, settings, methods=METHODS))


def images(results: Sequence[Rendered]) -> dict[tuple[Variant, int], np.ndarray]:
    assert [r.error for r in results] == [None] * len(results)
    return {(r.variant, r.index): r.image for r in results if r.image is not None}


def largest_step(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


def state_of(family: Family) -> dict[str, Tensor]:
    parts: dict[str, nn.Module] = {
        "unet": family.base.unet,
        "text": family.base.text_encoder,
        "vae": family.base.vae,
        "upgraded": family.upgraded.unet,
    }
    return {
        f"{name}.{key}": value.clone()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def test_every_variant_gives_one_picture_per_case_at_its_side_s_size(
    family: Family, lora: PluginFile, cases: list[RenderCase], sweep: list[Variant]
) -> None:
    results = rendered(family, lora, cases[:2], [*sweep, Variant("floor")])
    assert len(results) == 6 * 2
    for result in results:
        assert result.image is not None
        side_px = 64 if result.variant.method == "base" else 128
        assert result.image.shape == (side_px, side_px, 3)
        assert result.image.dtype == np.uint8
        assert result.seconds > 0
        assert result.peak_memory_mib > 0
    effective = {r.variant.t0: r.effective_t0 for r in results}
    assert effective == {None: None, 0.7: 2 / 3, 1.0: 1.0}


@pytest.mark.parametrize("kind", ["lora", "controlnet"])
def test_an_image_is_the_same_alone_in_a_batch_and_in_another_order(
    family: Family,
    kind: str,
    cases: list[RenderCase],
    sweep: list[Variant],
    request: pytest.FixtureRequest,
) -> None:
    plugin = request.getfixturevalue(kind)
    variants = sweep[::2]  # base, sdedit at 1, xadapter at 1
    batch = images(rendered(family, plugin, cases, variants))
    backwards = images(rendered(family, plugin, cases[::-1], variants[::-1]))
    alone = images(rendered(family, plugin, [cases[2]], variants))
    last = len(cases) - 1
    for (variant, index), image in batch.items():
        assert np.array_equal(image, backwards[variant, last - index])
    for variant in variants:
        assert largest_step(alone[variant, 0], batch[variant, 2]) <= 1


def test_a_batch_made_again_with_other_variants_done_gives_the_same_bits(
    family: Family, lora: PluginFile, cases: list[RenderCase], sweep: list[Variant]
) -> None:
    """What a resumed run does."""
    whole = images(rendered(family, lora, cases[:2], sweep))
    rest = images(rendered(family, lora, cases[:2], sweep[3:]))
    for key, image in rest.items():
        assert np.array_equal(image, whole[key])


@pytest.mark.parametrize("kind", ["lora", "controlnet"])
def test_base_weights_are_the_same_bits_after_a_group(
    family: Family, kind: str, cases: list[RenderCase], request: pytest.FixtureRequest
) -> None:
    before = state_of(family)
    rendered(family, request.getfixturevalue(kind), cases[:1], [Variant("base")])
    after = state_of(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_group_that_is_closed_early_leaves_no_plugin_behind(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    before = state_of(family)
    results = run_group(family, lora, cases, [Variant("base")], SETTINGS, methods=METHODS)
    next(results)
    assert not torch.equal(
        before["unet.mid_block.resnets.0.conv1.weight"],
        family.base.unet.mid_block.resnets[0].conv1.weight,
    )
    results.close()
    after = state_of(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_plugin_and_scale_and_t0_and_adapter_all_matter(
    family: Family, lora: PluginFile, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    variants = [
        Variant("base"),
        Variant("base", plugin_scale=0.5),
        Variant("xadapter", t0=0.7, adapter_scale=1.0),
        Variant("xadapter", t0=0.7, adapter_scale=0.5),
        Variant("xadapter", t0=1.0, adapter_scale=1.0),
        Variant("sdedit", t0=0.7),
    ]
    for plugin in (lora, controlnet):
        shown = images(rendered(family, plugin, cases[:1], variants))
        pictures = list(shown.values())
        for i, left in enumerate(pictures):
            for right in pictures[:i]:
                assert left.shape != right.shape or not np.array_equal(left, right)
    plain = images(rendered(family, None, cases[:1], variants[:1]))[variants[0], 0]
    assert not np.array_equal(
        plain, images(rendered(family, lora, cases[:1], variants[:1]))[variants[0], 0]
    )


def test_plugin_scale_zero_is_the_base_model_without_plugin(
    family: Family, lora: PluginFile, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    off = Variant("base", plugin_scale=0.0)
    plain = images(rendered(family, None, cases[:1], [off]))[off, 0]
    for plugin in (lora, controlnet):
        assert np.array_equal(images(rendered(family, plugin, cases[:1], [off]))[off, 0], plain)


def test_the_manifest_s_weight_multiplies_the_plugin_scale(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    half = Variant("base", plugin_scale=0.5)
    whole = Variant("base", plugin_scale=1.0)
    by_scale = images(rendered(family, lora, cases[:1], [half]))[half, 0]
    by_weight = images(rendered(family, replace(lora, weight=0.5), cases[:1], [whole]))[whole, 0]
    assert np.array_equal(by_scale, by_weight)


def test_adapter_scale_zero_is_sdedit(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    off, rival = Variant("xadapter", t0=0.7, adapter_scale=0.0), Variant("sdedit", t0=0.7)
    shown = images(rendered(family, lora, cases[:2], [off, rival]))
    assert np.array_equal(shown[off, 0], shown[rival, 0])
    assert np.array_equal(shown[off, 1], shown[rival, 1])


def test_floor_does_not_see_the_plugin(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    floor = Variant("floor")
    beside = images(rendered(family, lora, cases[:1], [Variant("base"), floor]))[floor, 0]
    alone = images(rendered(family, None, cases[:1], [floor]))[floor, 0]
    assert np.array_equal(beside, alone)


def test_stage_one_runs_once_for_all_methods_and_knobs(
    family: Family,
    lora: PluginFile,
    cases: list[RenderCase],
    sweep: list[Variant],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    plain = session.run_stage1

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        return plain(*args, **kwargs)  # type: ignore[arg-type]  # passed on unchanged

    monkeypatch.setattr(session, "run_stage1", counted)
    images(rendered(family, lora, cases[:1], sweep))
    assert len(calls) == 1


def test_truncated_mode_serves_every_t0_from_one_stage_one(
    family: Family, lora: PluginFile, cases: list[RenderCase], sweep: list[Variant]
) -> None:
    settings = replace(SETTINGS, stage1_mode="truncated")
    truncated = images(rendered(family, lora, cases[:1], sweep, settings))
    full = images(rendered(family, lora, cases[:1], sweep))
    assert np.array_equal(truncated[sweep[0], 0], full[sweep[0], 0])
    assert not np.array_equal(truncated[sweep[3], 0], full[sweep[3], 0])


def test_the_released_preset_passes_through(
    family: Family, lora: PluginFile, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    variant = Variant("xadapter", t0=0.7, adapter_scale=1.0)
    settings = replace(SETTINGS, preset="released")
    for plugin in (lora, controlnet):
        result = rendered(family, plugin, cases[:1], [variant], settings)[0]
        assert result.error is None
        assert result.effective_t0 == 2 / 3


def test_one_failing_variant_is_rows_and_the_others_go_on(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    settings = replace(SETTINGS, preset="released")  # refuses t0 below one step
    variants = [Variant("sdedit", t0=0.1), Variant("sdedit", t0=0.7)]
    results = rendered(family, lora, cases[:2], variants, settings)
    assert [r.error is None for r in results] == [False, False, True, True]
    assert "less than one step" in str(results[0].error)


def test_a_non_finite_image_is_a_row_with_a_reason_and_its_neighbor_is_fine(
    family: Family, cases: list[RenderCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = session.decode_image

    def spoiled(vae: object, latents: Tensor) -> Tensor:
        picture = plain(vae, latents).clone()
        picture[1, 0, 3, 3] = float("nan")
        return picture

    monkeypatch.setattr(session, "decode_image", spoiled)
    results = rendered(family, None, cases[:3], [Variant("floor"), Variant("base")])
    assert [r.error for r in results] == [None, NON_FINITE, None] * 2
    assert results[1].image is None


def test_seconds_of_all_trials_add_up_to_the_time_spent(
    family: Family, lora: PluginFile, cases: list[RenderCase], sweep: list[Variant]
) -> None:
    start_s = time.perf_counter()
    results = rendered(family, lora, cases[:2], sweep)
    elapsed_s = time.perf_counter() - start_s
    assert 0.5 * elapsed_s < sum(result.seconds for result in results) <= elapsed_s


def test_wrong_input_is_told_all_at_once(
    family: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    settings = replace(SETTINGS, upgraded_size_px=(130, 128), sampler="dpm", steps=0)
    long = replace(cases[0], base_prompt="red " * 40, condition=None)
    variants = [Variant("sdeedit"), Variant("xadapter", t0=1.5)]
    with pytest.raises(UserError) as raised:
        rendered(family, controlnet, [long], variants, settings)
    for part in ("sdeedit", "sdedit", "1.5", "130", "'dpm'", "steps", "42 tokens", "condition"):
        assert part in str(raised.value), part


def test_a_group_without_mapper_names_the_option(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    with pytest.raises(UserError, match="--adapter"):
        rendered(replace(family, mapper=None), lora, cases, [Variant("xadapter", t0=0.7)])


def test_a_pass_that_a_method_did_not_declare_is_refused(
    family: Family, cases: list[RenderCase]
) -> None:
    class Silent(base_model.BaseModel):
        shares = ()

    (row,) = run_group(
        family, None, cases[:1], [Variant("base")], SETTINGS, methods={"base": Silent()}
    )
    assert row.image is None and row.error is not None and "`shares`" in row.error
