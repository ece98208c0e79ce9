"""Hooks: a zero mapper changes nothing, hooks are removed on exceptions, wrong names refused."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xadapter.worlds import BASE_CHW, UPGRADED_CHW, base_text, drawn, upgraded_text
from xadapter.errors import MapperFitError, SiteError
from xadapter.mapper import Mapper
from xadapter.sites import check_fit, injected_names, site_shapes, tapped_names
from xadapter.taps import capture, fuse, inject


def n_hooks(unet: Any) -> int:
    return sum(len(module._forward_hooks) for module in unet.modules())


def run_base(unet: Any) -> Tensor:
    with torch.no_grad():
        return unet(drawn(1, 2, *BASE_CHW), 500, encoder_hidden_states=base_text(2).text).sample


def run_upgraded(unet: Any) -> Tensor:
    text, added = upgraded_text(2).rows(False)
    with torch.no_grad():
        return unet(
            drawn(2, 2, *UPGRADED_CHW), 500, encoder_hidden_states=text, added_cond_kwargs=added
        ).sample


def features_of(base_unet: Any) -> tuple[Tensor, ...]:
    with capture(base_unet) as tap:
        run_base(base_unet)
    return tap.features


def test_zero_mapper_leaves_the_upgraded_output_bit_identical(
    base_unet: Any, upgraded_unet: Any, zero_mapper: Mapper
) -> None:
    plain = run_upgraded(upgraded_unet)
    with inject(upgraded_unet, zero_mapper(features_of(base_unet))):
        injected = run_upgraded(upgraded_unet)
    assert torch.equal(plain, injected)


def test_capturing_leaves_the_base_output_bit_identical(base_unet: Any) -> None:
    plain = run_base(base_unet)
    with capture(base_unet):
        assert torch.equal(run_base(base_unet), plain)


def stop_inside(context: Any, unet: Any) -> None:
    with context:
        assert n_hooks(unet) == 3
        raise RuntimeError("stop")


def test_hooks_are_gone_after_an_exception(
    base_unet: Any, upgraded_unet: Any, mapper: Mapper
) -> None:
    offsets = mapper(features_of(base_unet))
    for unet, context in (
        (base_unet, capture(base_unet)),
        (upgraded_unet, inject(upgraded_unet, offsets)),
    ):
        with pytest.raises(RuntimeError, match="stop"):
            stop_inside(context, unet)
    assert n_hooks(base_unet) == n_hooks(upgraded_unet) == 0


def test_a_hook_that_matches_nothing_names_the_nearest_modules(base_unet: Any) -> None:
    context = capture(base_unet, names=("up_blocks.1", "up_blocks.9"))
    with pytest.raises(SiteError, match=r"no module 'up_blocks.9'; nearest: .*up_blocks\.\d"):
        context.__enter__()
    assert n_hooks(base_unet) == 0


def test_features_without_a_forward_are_refused(base_unet: Any) -> None:
    with capture(base_unet) as tap, pytest.raises(SiteError, match="run the base UNet"):
        _ = tap.features


def test_offsets_without_a_forward_are_refused(
    base_unet: Any, upgraded_unet: Any, mapper: Mapper
) -> None:
    offsets = mapper(features_of(base_unet))
    unused = inject(upgraded_unet, offsets)
    unused.__enter__()
    with pytest.raises(SiteError, match="no offset reached mid_block, up_blocks"):
        unused.__exit__(None, None, None)


@pytest.mark.parametrize("place", ["", "up_blocks", "up_blocks.1"])
def test_a_site_inside_of_a_compiled_graph_is_refused_at_once(
    base_unet: Any, upgraded_unet: Any, mapper: Mapper, place: str
) -> None:
    offsets = mapper(features_of(base_unet))
    for unet, context in ((base_unet, capture), (upgraded_unet, inject)):
        compiled = deepcopy(unet)
        compiled.get_submodule(place).compile(backend="eager")
        used = context(compiled, offsets) if context is inject else context(compiled)
        with pytest.raises(SiteError, match=f"{place or 'the whole of it'} is compiled"):
            used.__enter__()
        assert n_hooks(compiled) == 0
    wrapped: Any = torch.compile(base_unet, backend="eager")
    with pytest.raises(SiteError, match="the whole of it is compiled"):
        capture(wrapped).__enter__()


def test_blocks_compiled_below_the_sites_are_exact(
    base_unet: Any, upgraded_unet: Any, mapper: Mapper
) -> None:
    offsets = [offset + 1 for offset in mapper(features_of(base_unet))]
    with inject(upgraded_unet, offsets):
        expected = run_upgraded(upgraded_unet)
    compiled = deepcopy(upgraded_unet)
    for block in compiled.up_blocks[1].resnets:
        block.compile(backend="eager")
    with inject(compiled, offsets):
        assert torch.equal(run_upgraded(compiled), expected)


def test_a_network_with_other_levels_is_refused(upgraded_unet: Any) -> None:
    with pytest.raises(SiteError, match="has 3 up_blocks; X-Adapter knows base UNets with"):
        tapped_names(upgraded_unet)


def test_offsets_of_another_shape_show_both_shapes(base_unet: Any, upgraded_unet: Any) -> None:
    offsets = [torch.zeros(2, 3, 4, 4)] * 3
    shapes = r"\(2, 3, 4, 4\).*\(2, 16, 4, 3\)"
    with pytest.raises(MapperFitError, match=shapes), inject(upgraded_unet, offsets):
        run_upgraded(upgraded_unet)
    assert n_hooks(upgraded_unet) == 0


def test_fusion_mixes_and_none_adds() -> None:
    hidden, offset = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 6.0)
    assert float(fuse(hidden, offset, None)) == 8.0
    assert float(fuse(hidden, offset, 0.25)) == 3.0


def test_dry_run_reads_shapes_and_leaves_the_model_alone(upgraded_unet: Any) -> None:
    shapes = site_shapes(upgraded_unet, injected_names(upgraded_unet), latent_side=(16, 24))
    assert shapes.channels == (16, 16, 8)
    assert shapes.sides == ((4, 6), (8, 12), (16, 24))
    assert n_hooks(upgraded_unet) == 0
    assert all(p.device.type == "cpu" for p in upgraded_unet.parameters())


def test_fitting_mapper_passes(base_unet: Any, upgraded_unet: Any, mapper: Mapper) -> None:
    assert check_fit(mapper, base_unet, upgraded_unet) is None


def test_mapper_that_does_not_fit_names_both_sets_of_numbers(
    base_unet: Any, upgraded_unet: Any
) -> None:
    real = Mapper(in_channels=(24, 8, 4), out_channels=(16, 16, 10), n_blocks=1)
    with pytest.raises(MapperFitError) as caught:
        check_fit(real, base_unet, upgraded_unet)
    for numbers in ("(24, 8, 4)", "(12, 8, 4)", "(16, 16, 10)", "(16, 16, 8)"):
        assert numbers in str(caught.value)


def test_four_level_upgraded_model_takes_offsets_at_the_same_sides(base_unet: Any) -> None:
    """SD 2.1 has four levels: the sites shift by one block."""
    names = injected_names(base_unet)
    shapes = site_shapes(base_unet, names, latent_side=(32, 32))
    assert names == ("up_blocks.0", "up_blocks.1", "up_blocks.2")
    assert shapes.sides == ((8, 8), (16, 16), (32, 32))
