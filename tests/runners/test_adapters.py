"""Several mappers in one group: each image is that of the mapper alone, and passes are shared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins_manifest.content import ChangedFileError
from pocket.weights import part_path
from runners import session
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.families.registry import AdapterFile, load_family
from runners.group import run_group
from runners.passes import PassKey
from runners.stage2 import shares_of
from tests.runners.conftest import METHODS, SETTINGS, randomized
from xadapter.load import load_mapper
from xadapter.mapper import Mapper

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def mappers(family: Family) -> dict[str, Mapper]:
    assert family.mapper is not None
    other = randomized(Mapper(family.mapper.in_channels, family.mapper.out_channels), 5)
    other.eval().requires_grad_(False)
    assert isinstance(other, Mapper)
    return {"whole": family.mapper, "other": other}


def variants_of(adapter: str | None) -> list[Variant]:
    return [Variant("xadapter", t0, 1.0, 1.0, adapter) for t0 in (0.7, 1.0)]


def images(
    family: Family, plugin: PluginFile, cases: list[RenderCase], variants: list[Variant]
) -> dict[tuple[Variant, int], np.ndarray]:
    results = run_group(family, plugin, cases, variants, SETTINGS, methods=METHODS)
    found = {(r.variant, r.index): r.image for r in results if r.image is not None}
    assert len(found) == len(variants) * len(cases)
    return found


def test_each_of_several_mappers_gives_the_images_of_it_alone(
    family: Family, mappers: dict[str, Mapper], lora: PluginFile, cases: list[RenderCase]
) -> None:
    several = replace(family, mapper=None, mappers=mappers)
    variants = [*variants_of("whole"), *variants_of("other"), Variant("sdedit", 0.7)]
    together = images(several, lora, cases[:2], variants)
    for name, mapper in mappers.items():
        alone = images(replace(family, mapper=mapper), lora, cases[:2], variants_of(None))
        for (variant, index), image in alone.items():
            own = together[replace(variant, adapter=name), index]
            np.testing.assert_array_equal(own, image)
    pairs = [(v, i) for v, i in together if v.adapter == "whole"]
    assert all(np.any(together[v, i] != together[replace(v, adapter="other"), i]) for v, i in pairs)


def test_several_mappers_share_stage_1_and_the_base_models_steps(
    family: Family,
    mappers: dict[str, Mapper],
    lora: PluginFile,
    cases: list[RenderCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = replace(family, mapper=None, mappers=mappers)
    stage1, calls = session.run_stage1, {"stage 1": 0, "base": 0}

    def counted_stage1(*given: object, **named: object) -> object:
        calls["stage 1"] += 1
        return stage1(*given, **named)  # pyright: ignore[reportArgumentType]

    def count(*_: object) -> None:
        calls["base"] += 1

    monkeypatch.setattr(session, "run_stage1", counted_stage1)
    handle = family.base.unet.register_forward_pre_hook(count)
    try:
        images(several, lora, cases[:1], [*variants_of("whole"), *variants_of("other")])
        n_together = calls["base"]
        images(replace(family, mapper=mappers["other"]), lora, cases[:1], variants_of(None))
    finally:
        handle.remove()
    assert calls == {"stage 1": 2, "base": 2 * n_together}


def test_seconds_of_the_base_model_are_split_over_mappers_and_those_of_a_mapper_are_not(
    family: Family, mappers: dict[str, Mapper]
) -> None:
    several = replace(family, mapper=None, mappers=mappers)
    variants = [Variant("xadapter", 1.0, 1.0, 1.0, name) for name in mappers]
    n = {
        name: sum(p.numel() for p in net.parameters())
        for name, net in (
            ("base", family.base.unet),
            ("upgraded", family.upgraded.unet),
            ("mapper", mappers["other"]),
        )
    }
    shares = shares_of(several, METHODS, variants, most=1)[variants[1]]
    own = shares[PassKey("stage2", 1.0, ("xadapter", 1.0))]
    assert own == pytest.approx(n["upgraded"] + n["base"] / 2 + n["mapper"])


def test_a_family_loads_every_mapper_once_and_under_its_hash(tmp_path: Path) -> None:
    own = load_mapper(part_path("mapper"))
    own.save_pretrained(tmp_path / "first")
    with torch.no_grad():
        own.zero_out[0].weight.mul_(0.5)
    own.save_pretrained(tmp_path / "second")
    files = [AdapterFile(name, tmp_path / name) for name in ("first", "second")]
    family = load_family("pocket", adapters=files)
    assert family.mapper is None and list(family.mappers) == ["first", "second"]
    first, second = (family.mapper_of(name) for name in ("first", "second"))
    assert first is not None and second is not None and len(family.all_mappers) == 2
    assert not torch.equal(first.zero_out[0].weight, second.zero_out[0].weight)
    with pytest.raises(ChangedFileError, match="second"):
        load_family("pocket", adapters=[files[0], replace(files[1], sha256="0" * 64)])
