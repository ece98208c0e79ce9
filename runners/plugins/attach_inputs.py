"""What an attachment adds to a denoiser's conditions: residuals and image prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from runners.plugins.attachment import Attachment
from xadapter.denoiser import Conditions
from xadapter.t2i import T2IInput, with_adapters, with_image_prompts


def with_attachment(
    conditions: Conditions,
    attachment: Attachment,
    *,
    images: Callable[[str], Tensor],
    references: Sequence[np.ndarray],
    guided: bool,
) -> Conditions:
    """The conditions of b images with the attachment's T2I-Adapters and image prompts.

    `images` gives a plugin's condition images [b, 3, height_px, width_px] in [0, 1] by its id;
    `references` holds b pictures, uint8 RGB of any size (none where there is no image prompt).
    """
    inputs = [
        T2IInput(adapter.net, images(adapter.plugin_id), adapter.scale)
        for adapter in attachment.adapters
    ]
    embeds = [prompt.embed(references, guided) for prompt in attachment.image_prompts]
    return with_image_prompts(with_adapters(conditions, inputs, guided=guided), embeds)
