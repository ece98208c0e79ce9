"""Count the memory of a pass on meta tensors: no weights, no arithmetic, any size.

It is what tensors take at the peak; workspaces of kernels and unused blocks of the allocator are
left out. Attention counts as a fused kernel: its output alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpu_check.models import controlnet_of, mapper_of, text_encoder_of, unet_of, vae_of
from xadapter.denoiser import Conditions, Control, Denoiser
from xadapter.guidance import Guidance
from xadapter.taps import capture, inject
from xadapter.vae import decode_image, encode_image

Model = TypeVar("Model", bound=nn.Module)


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else kwargs["query"])
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):
    """The bytes of the storages that operations have made and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()
        self._bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {t.untyped_storage()._cdata for t in tree_leaves(args) if isinstance(t, Tensor)}
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage(), inputs)
        return outputs

    def _add(self, storage: Any, inputs: set[int]) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self._known or key in inputs:  # a view, or an input that is changed in place
            return
        self._known.add(key)
        self._bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        weakref.finalize(storage, self._freed, key, n_bytes)

    def _freed(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self._bytes -= n_bytes


def peak_bytes(work: Callable[[], Any]) -> int:
    """Return the peak of the memory of tensors that some work on meta tensors makes."""
    with torch.inference_mode(), _FusedAttention(), _Live() as live:
        work()
    return live.peak_bytes


def counted_parameters() -> dict[str, int]:
    """Return the number of parameters of each model from SD1.5 to SDXL."""
    with torch.device("meta"):
        models = {
            "base_unet": unet_of("sd15"),
            "upgraded_unet": unet_of("sdxl"),
            "mapper": mapper_of(),
            "base_vae": vae_of("sd15"),
            "upgraded_vae": vae_of("sdxl"),
            "base_text": text_encoder_of(is_large=False),
            "upgraded_text": text_encoder_of(is_large=True),
            "controlnet": controlnet_of(),
        }
    found = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    found["upgraded_text"] += found["base_text"]  # SDXL has both
    return found


def _half(model: Model) -> Model:
    nn.Module.to(model, torch.float16)  # torch's own: diffusers' warns about any cast
    return model


def counted_step(*, upgraded_px: int, n_images: int = 1) -> int:
    """Return the peak of a guided step of stage 2 with a ControlNet, in half precision."""
    with torch.device("meta"):
        base, upgraded = _half(unet_of("sd15")), _half(unet_of("sdxl"))
        mapper, net = _half(mapper_of()), _half(controlnet_of())
        side, px = upgraded_px // 8, upgraded_px // 2
        control = Control(net, torch.empty(n_images, 3, px, px))
        timestep = torch.empty((), dtype=torch.int64)
        text, wide, pooled = (torch.empty(n_images, *s) for s in ((77, 768), (77, 2048), (1280,)))
        ids = torch.empty(n_images, 6)
        latents = [torch.empty(n_images, 4, s, s) for s in (side // 2, side)]
    scheduler: Any = None  # a prediction does not read it
    base_side = Denoiser(base, scheduler, Conditions(text, text), Guidance(7.5), (control,))
    conditions = Conditions(wide, wide, pooled, pooled, ids)
    upgraded_side = Denoiser(upgraded, scheduler, conditions, Guidance(7.5))

    def step() -> None:
        with capture(base) as tap:
            base_side.predict(latents[0], timestep, step=0, n_steps=1)
        with inject(upgraded, mapper(tap.features)):
            upgraded_side.predict(latents[1], timestep, step=0, n_steps=1)

    return peak_bytes(step)


def counted_decode(px: int) -> int:
    """Return the peak of decoding one image, in half precision."""
    with torch.device("meta"):
        vae, latents = _half(vae_of("sdxl")), torch.empty(1, 4, px // 8, px // 8)
    return peak_bytes(lambda: decode_image(vae, latents))


def counted_encode(px: int) -> int:
    """Return the peak of encoding one image, in half precision."""
    with torch.device("meta"):
        vae, image = _half(vae_of("sdxl")), torch.empty(1, 3, px, px)
        noise = torch.empty(1, 4, px // 8, px // 8)
    return peak_bytes(lambda: encode_image(vae, image, noise))
