"""Dense updates of weights as low-rank factors, and under kohya's names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from pocket.train_lora import kohya_layer

_LARGEST = torch.finfo(torch.float16).max
_ROUNDING = 1e-4  # of the largest singular value: what half-precision factors leave


def factors(update: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return down [r, i(, k, k)] and up [o, r(, 1, 1)], the best factors of an update.

    A kernel is flattened into the columns of down, as in LoCon. The singular values are shared
    evenly between both; r is at most `rank` and the update's own rank, and at least 1 (Eckart and
    Young 1936).
    """
    u, s, vh = torch.linalg.svd(update.float().flatten(1), full_matrices=False)
    r = max(1, min(rank, int((s > _ROUNDING * s[0]).sum())))
    root = s[:r].sqrt()
    down, up = root[:, None] * vh[:r], u[:, :r] * root
    return (
        down.reshape(r, *update.shape[1:]),
        up.reshape(len(update), r, *[1] * (update.ndim - 2)),
    )


def kohya_file(
    updates: Mapping[str, Tensor], *, rank: int, has_two_encoders: bool
) -> dict[str, Tensor]:
    """Return the tensors of a LoRA file of updates by canonical parameter name, float16.

    Raises `UserError` for values that float16 cannot hold.
    """
    state: dict[str, Tensor] = {}
    for name, update in updates.items():
        down, up = factors(update, rank)
        if max(float(down.abs().max()), float(up.abs().max())) > _LARGEST:
            raise UserError(f"the update of {name} is beyond what a LoRA file holds (float16)")
        state |= kohya_layer(_kohya_name(name, has_two_encoders), down=down, up=up)
    return state


def _kohya_name(parameter: str, has_two_encoders: bool) -> str:
    """Return kohya's name of a module: dots, which become underscores, are still there."""
    model, _, module = parameter.removesuffix(".weight").partition(".")
    if model == "unet":
        return f"lora_unet_{module}"
    number = {"text_encoder": "1", "text_encoder_2": "2"}[model] if has_two_encoders else ""
    return f"lora_te{number}_text_model_{module}"
