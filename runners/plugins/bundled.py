"""Embeddings bundled in a LoRA file: words for its prompts, attached together with it.

Source: the keys `bundle_emb.<word>.string_to_param.*` that AUTOMATIC1111's web UI reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.audit import Audit, AuditRow
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import Attachment
from runners.plugins.textual_inversion import TextualInversionPlugin


def bundled_words(
    file: PluginFile,
    keys: Mapping[str, tuple[str, ...]],
    tensors: Mapping[str, Tensor],
    family: Family,
) -> tuple[tuple[TextualInversionPlugin, ...], list[AuditRow]]:
    """Return the words that can be attached, and a row for every word; `keys` is word -> keys."""
    words, rows = [], []
    for token, held in keys.items():
        plugin = TextualInversionPlugin(
            replace(file, token=token), token, tensors[held[0]].float(), Audit(())
        )
        reason, detail = _refused(plugin, len(held), family)
        norm = float(plugin.vectors.norm())
        rows.append(
            AuditRow(
                held[0],
                "copy",
                n_keys=len(held),
                expected=norm if reason is None else None,
                applied=norm if reason is None else None,
                missing=reason is not None,
                reason=reason,
                detail=detail,
            )
        )
        if reason is None:
            words.append(plugin)
    return tuple(words), rows


@contextmanager
def attached_words(
    words: tuple[TextualInversionPlugin, ...], family: Family
) -> Iterator[Attachment]:
    """Attach words, always at full strength: a scaled vector is not the word."""
    found = Attachment()
    with ExitStack() as stack:
        for word in words:
            found = found.joined(stack.enter_context(word.attached(family, strength=1.0)))
        yield found


def _refused(plugin: TextualInversionPlugin, n_keys: int, family: Family) -> tuple[str | None, str]:
    """Try to attach a word; return the reason code and detail if that fails."""
    pipe: Any = family.pipe(plugin.file.side)
    width = pipe.text_encoder.get_input_embeddings().weight.shape[1]
    shape = tuple(plugin.vectors.shape)
    if hasattr(pipe, "text_encoder_2"):
        return "unsupported-kind", "embeddings attach to models with one text encoder"
    if n_keys != 1 or len(shape) != 2 or shape[1] != width:
        return "bad-shape", f"{n_keys} tensors, the first of shape {shape}; width {width} is needed"
    if not bool(torch.isfinite(plugin.vectors).all()):
        return "non-finite", ""
    try:
        with plugin.attached(family, strength=1.0):
            return None, ""
    except UserError as error:
        return "bad-token", str(error)
