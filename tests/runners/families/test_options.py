"""Device options: compiled blocks give the same images, and models wait off the device."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from plugins_manifest.errors import UserError
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.families.offload import Offload, Use
from runners.families.options import compile_family, offloaded, with_options
from runners.group import run_group
from runners.options import TILE_PX, DeviceOptions
from runners.passes import Failure
from tests.runners.conftest import METHODS, SETTINGS
from xadapter.mapper import Mapper
from xadapter.placement import execution_device
from xadapter.vae import decode_image

pytestmark = pytest.mark.system

Images = dict[tuple[Variant, int], np.ndarray]
VARIANTS = [
    Variant("base"),
    Variant("sdedit", t0=0.7),
    *(Variant("xadapter", t0=0.7, adapter_scale=scale) for scale in (1.0, 0.0)),
]
MAPPED, UNMAPPED = VARIANTS[2:]
USES: tuple[Use, ...] = get_args(Use)


def render(family: Family, plugins: Sequence[PluginFile], cases: Sequence[RenderCase]) -> Images:
    found: Images = {}
    for one in run_group(family, tuple(plugins), cases[:2], VARIANTS, SETTINGS, methods=METHODS):
        assert one.image is not None, one.error
        found[one.variant, one.index] = one.image.astype(int)
    return found


def deviation(left: Images, right: Images) -> float:
    """Return the largest mean difference of two pictures, in steps of 1/255."""
    assert left.keys() == right.keys()
    return max(float(np.abs(left[key] - right[key]).mean()) for key in left)


@pytest.fixture
def own_family(family: Family) -> Iterator[Family]:
    yield deepcopy(family)
    torch._dynamo.reset()


def check_compiled(
    family: Family, own: Family, plugins: Sequence[PluginFile], cases: Sequence[RenderCase]
) -> None:
    before = render(family, plugins, cases)
    after = render(own, plugins, cases)
    assert deviation(before, after) < 1
    assert all(np.abs(after[MAPPED, i] - after[UNMAPPED, i]).mean() > 1 for i in (0, 1))


def test_compiled_blocks_render_the_same_with_one_plugin_after_another(
    family: Family,
    own_family: Family,
    lora: PluginFile,
    controlnet: PluginFile,
    cases: list[RenderCase],
) -> None:
    compile_family(own_family, backend="eager")
    blocks = [m for m in own_family.base.unet.modules() if m._compiled_call_impl is not None]
    assert len(blocks) == 10 and {type(m).__name__ for m in blocks} == {"BasicTransformerBlock"}
    plain = render(own_family, [], cases)
    for plugins in ([lora], [controlnet]):
        check_compiled(family, own_family, plugins, cases)
    assert deviation(plain, render(own_family, [], cases)) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_compiler_renders_the_same(
    family: Family, own_family: Family, lora: PluginFile, controlnet: PluginFile, cases: list
) -> None:
    compile_family(own_family)
    for plugins in ([lora], [controlnet]):
        check_compiled(family, own_family, plugins, cases)


def broken_backend(_graph: object, _inputs: object) -> None:
    raise RuntimeError("no such compiler\nand much more")


def test_a_device_without_a_compiler_is_one_message(own_family: Family) -> None:
    with pytest.raises(UserError, match="no working compiler for the device 'cpu'") as caught:
        compile_family(own_family, backend=broken_backend)
    assert "leave out --compile" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_compilation_of_a_block_is_the_reason_of_its_images(
    own_family: Family, cases: list[RenderCase]
) -> None:
    for block in own_family.mapper.body:  # pyright: ignore[reportOptionalMemberAccess]
        block.compile(backend=broken_backend)
    found = list(run_group(own_family, None, cases[:1], VARIANTS[1:3], SETTINGS, methods=METHODS))
    assert found[0].error is None
    reason = found[1].error or ""
    assert reason.startswith("the models cannot be compiled (BackendCompilerFailed: ")
    assert reason.endswith("): leave out --compile")


def test_other_errors_keep_their_own_reason() -> None:
    assert Failure.of(ValueError("too short")).reason == "ValueError: too short"


class Recorded(Offload):
    """Records moves; the device is the CPU, where images have to be those without an offload."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.moved: list[nn.Module] = []
        self.together: set[frozenset[str]] = set()

    def bring(self, model: nn.Module) -> None:
        super().bring(model)
        self.together.add(frozenset(self._uses[one] for one in self._here))

    def _move(self, model: nn.Module, device: torch.device) -> None:
        super()._move(model, device)
        self.moved.append(model)


@pytest.fixture
def waiting(own_family: Family, monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr("runners.families.options.Offload", Recorded)
    monkeypatch.setattr("runners.families.options.is_gpu", lambda _: True)
    return with_options(own_family, "cpu", DeviceOptions(low_memory=True))


def test_models_that_wait_render_the_same_and_one_use_is_on_the_device_at_a_time(
    family: Family, waiting: Family, lora: PluginFile, controlnet: PluginFile, cases: list
) -> None:
    recorded = waiting.offload
    assert isinstance(recorded, Recorded) and len(recorded.moved) == 8  # away, once
    before = render(family, [lora, controlnet], cases)
    assert deviation(before, render(waiting, [lora, controlnet], cases)) == 0
    assert recorded.together == {frozenset([use]) for use in USES}
    assert waiting.base.unet in recorded.moved[8:] and waiting.upgraded.vae in recorded.moved[8:]


def test_the_largest_use_and_the_weights_that_were_moved_are_counted(waiting: Family) -> None:
    recorded, base = waiting.offload, waiting.base
    assert recorded is not None and waiting.mapper is not None
    sizes = {
        model: sum(p.nbytes for p in (*model.parameters(), *model.buffers()))
        for model in (base.unet, waiting.upgraded.unet, waiting.mapper, base.vae)
    }
    most = sum(list(sizes.values())[:3])
    assert recorded.missing_bytes == most
    recorded.bring(base.vae)
    recorded.restart()
    recorded.bring(base.unet)
    assert recorded.missing_bytes == most - sizes[base.unet]
    assert recorded.grown_bytes == sizes[base.unet] - sizes[base.vae]
    recorded.evict()
    assert recorded.missing_bytes == most


def test_a_network_of_a_plugin_waits_too_and_is_freed_with_its_plugin(waiting: Family) -> None:
    net = Mapper((2, 2, 2), (2, 2, 2), n_blocks=1)
    placed, freed = waiting.place(net, use="denoising"), weakref.ref(net)
    assert execution_device(placed) == torch.device("cpu") and waiting.offload is not None
    placed([torch.ones(1, 2, 2, 2)] * 3)
    assert isinstance(waiting.offload, Recorded) and waiting.offload.moved[-1] is net
    waiting.offload.moved.clear()
    del net, placed
    gc.collect()
    assert freed() is None
    waiting.offload.evict()


def test_vaes_of_waiting_models_cut_only_images_beyond_a_tile(waiting: Family) -> None:
    vae = waiting.upgraded.vae
    assert vae.use_tiling and vae.tile_sample_min_size == TILE_PX
    vae.tile_sample_min_size, vae.tile_latent_min_size = 64, 8
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    tiled = decode_image(vae, latents)
    vae.use_tiling = False
    whole = decode_image(vae, latents)
    assert tiled.shape == whole.shape == (1, 3, 128, 128)
    assert 0 < float((tiled - whole).abs().mean()) < 0.2


def test_on_a_cpu_nothing_waits(family: Family) -> None:
    assert offloaded(family, "cpu") is family
    with pytest.raises(UserError, match="the device 'cuda' is not available"):
        offloaded(family, "cuda")


def test_options_cross_processes_and_mark_what_changes_pixels() -> None:
    both = DeviceOptions(compile=True, low_memory=True)
    assert pickle.loads(pickle.dumps(both)) == both
    assert DeviceOptions().marks("cuda", 2048) == ()
    assert both.marks("cuda", 2048) == ("compiled", "tiled")
    assert both.marks("cuda", TILE_PX) == both.marks("cpu", 2048) == ("compiled",)
    context = "-".join(["r1", "float16", "cuda", "torch2.15", *both.marks("cuda", 2048)])
    assert DeviceOptions.of_context(context) == both
    assert DeviceOptions.of_context("r1-float16-cuda-torch2.15") == DeviceOptions()
