"""Stage `vae`: the upgraded VAE, sliced or not, in three precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gpu_check.measure import GIB, memory_row, reset_memory, seconds_of, size_of
from gpu_check.models import filled, vae_of
from gpu_check.stages import Row, Setting
from plugins_manifest.memory import is_out_of_memory
from xadapter.vae import decode_image, encode_image

_DTYPES = ("bfloat16", "float16", "float32")


def vae_rows(setting: Setting) -> Iterator[Row]:
    """Yield milliseconds, memory beyond the weights and non-finite values of each call."""
    size = size_of(setting)
    batches = (size.batches[0], size.compiled_batches[-1])
    side = 2 * size.base_px // 8
    for dtype in _DTYPES:
        with torch.device("meta"):
            empty = vae_of("sdxl", small=setting.small)
        vae: Any = filled(empty, device=setting.device, dtype=dtype, seed=3)
        for batch in batches:
            random = torch.Generator().manual_seed(0)
            latents = torch.randn(batch, 4, side, side, generator=random).to(setting.device)
            image = torch.rand(batch, 3, 8 * side, 8 * side, generator=random) * 2 - 1
            calls: dict[str, Callable[[], Tensor]] = {
                "decode": lambda z=latents, vae=vae: decode_image(vae, z),
                "encode": lambda x=image, z=latents, vae=vae: encode_image(vae, x, z),
            }
            for is_sliced in (True, False):
                (vae.enable_slicing if is_sliced else vae.disable_slicing)()
                for name, call in calls.items():
                    facts = {"call": name, "dtype": dtype, "batch": batch, "sliced": is_sliced}
                    yield {**facts, **_measured(setting, call)}


def _measured(setting: Setting, call: Callable[[], Tensor]) -> Row:
    reset_memory(setting.device)
    before = torch.cuda.memory_allocated(setting.device) if setting.is_cuda else 0
    try:
        n_bad = int((~torch.isfinite(call())).sum())
        seconds = seconds_of(setting.device, call)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"reason": "out of memory"}
    row = {"ms": round(1000 * seconds, 2), "non_finite": n_bad, **memory_row(setting.device)}
    if setting.is_cuda:
        row["gib_beyond_weights"] = round(row["allocated_gib"] - before / GIB, 2)
    return row
