"""What an attached plugin adds to a denoiser besides changed weights, and the plugins' protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from runners.audit import Audit
from runners.base import PluginFile
from runners.families import Family
from xadapter.denoiser import Conditions
from xadapter.t2i import T2IInput, with_adapters, with_image_prompts


def unchanged(prompt: str) -> str:
    """Return the prompt as it is, for plugins that do not rewrite it."""
    return prompt


@dataclass(frozen=True)
class AttachedControl:
    """A ControlNet that acts on the denoiser of its plugin's side.

    `plugin_id` names its condition image in `RenderCase.conditions`; window (shares of the
    schedule) and guess mode are those of `xadapter.denoiser.Control`.
    """

    plugin_id: str
    net: Any
    scale: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    guess: bool = False


@dataclass(frozen=True)
class AttachedT2I:
    """A T2I-Adapter: `net` maps a condition image [b, 3, h_px, w_px] in [0, 1] to features."""

    plugin_id: str
    net: Any
    scale: float = 1.0


@dataclass(frozen=True)
class AttachedImagePrompt:
    """An image prompt: the embeddings of reference images that an IP-Adapter gives the UNet.

    `embed` takes b reference images (uint8 RGB [h, w, 3], any size) and whether guidance is on,
    and returns one tensor [r, 1, tokens, d] (r = 2b with guidance, unconditional rows first): an
    item of `added_cond_kwargs["image_embeds"]`. The scale is already in the UNet's processors.
    """

    plugin_id: str
    embed: Callable[[Sequence[np.ndarray], bool], Tensor]


@dataclass(frozen=True)
class Attachment:
    """What one plugin, or a stack of them, adds to a denoiser besides its weights.

    `changes_text` is whether weights of a text encoder are changed meanwhile. `taken_off` returns a
    context without the changes of the model itself; None if the plugin acts by inputs alone.
    """

    controls: tuple[AttachedControl, ...] = ()
    adapters: tuple[AttachedT2I, ...] = ()
    image_prompts: tuple[AttachedImagePrompt, ...] = ()
    rewrite_prompt: Callable[[str], str] = unchanged
    changes_text: bool = False
    taken_off: Callable[[], AbstractContextManager[None]] | None = None

    @property
    def keeps_texts(self) -> bool:
        """Whether a prompt is encoded as it is without the plugins."""
        return self.rewrite_prompt is unchanged and not self.changes_text

    def joined(self, other: Attachment) -> Attachment:
        """Return both together; `other` rewrites prompts after this one."""
        first, second = self.rewrite_prompt, other.rewrite_prompt

        def both(prompt: str) -> str:
            return second(first(prompt))

        plain = first is unchanged and second is unchanged
        return Attachment(
            controls=self.controls + other.controls,
            adapters=self.adapters + other.adapters,
            image_prompts=self.image_prompts + other.image_prompts,
            rewrite_prompt=unchanged if plain else both,
            changes_text=self.changes_text or other.changes_text,
            taken_off=_both_off(self.taken_off, other.taken_off),
        )


_TakenOff = Callable[[], AbstractContextManager[None]] | None


def _both_off(first: _TakenOff, second: _TakenOff) -> _TakenOff:
    if first is None or second is None:
        return first or second

    @contextmanager
    def both() -> Iterator[None]:
        # the second was attached to what the first had changed
        with second(), first():
            yield

    return both


class LoadedPlugin(Protocol):
    """A plugin in memory, checked against the family, and not attached."""

    @property
    def file(self) -> PluginFile:
        """The file, with its side and its weight."""
        ...

    @property
    def audit(self) -> Audit:
        """The expected and the applied changes."""
        ...

    def attached(self, family: Family, *, strength: float) -> AbstractContextManager[Attachment]:
        """Attach the plugin to its side of the family; every weight is restored on exit.

        `strength` is the plugin's own weight times the variant's plugin scale.
        """
        ...


def with_attachment(
    conditions: Conditions,
    attachment: Attachment,
    *,
    images: Callable[[str], Tensor],
    references: Sequence[np.ndarray],
    guided: bool,
) -> Conditions:
    """Return the conditions of b images with the attachment's T2I-Adapters and image prompts.

    `images` returns a plugin's condition images [b, 3, height_px, width_px] in [0, 1] by its id;
    `references` holds b pictures, uint8 RGB of any size (empty without an image prompt).
    """
    inputs = [
        T2IInput(adapter.net, images(adapter.plugin_id), adapter.scale)
        for adapter in attachment.adapters
    ]
    embeds = [prompt.embed(references, guided) for prompt in attachment.image_prompts]
    return with_image_prompts(with_adapters(conditions, inputs, guided=guided), embeds)
