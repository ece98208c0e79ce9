"""The base model of a plugin, by the shapes of its tensors and never by a label.

Stable Diffusion 1.5 attends to text of width 768, 2.x to 1024, SDXL to 2048. SDXL also has two
text encoders and deeper transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from plugins_manifest.formats.formulas.spec import Size
from plugins_manifest.formats.parsed import BaseModel, Problem
from plugins_manifest.formats.table import CROSS_DIMS

_CROSS = re.compile(r".*attn2[._](?:processor[._])?to_[kv]")
_TEXT = re.compile(r".*(?:self_attn[._][qkv]_proj|mlp[._]fc1)")
_SECOND_TEXT = re.compile(r"(?:lora|oft)_te2_|text_encoder_2\.")
_DEEP = re.compile(r".*transformer_blocks[._][1-9]")
_TEXT_DIMS: dict[int, BaseModel] = {1024: "sd2", 1280: "sdxl"}


@dataclass(frozen=True)
class Base:
    """A base model, and the text width of the file's cross-attentions, None if it has none."""

    name: BaseModel
    cross_dim: int | None = None


def base_of(sizes: Iterable[tuple[str, Size]], own_cross_dim: int | None) -> Base:
    """Return the base model that most (module as written, size of its weight) pairs indicate.

    `own_cross_dim` is the text width of the model that the plugin is attached to.
    """
    cross: Counter[int] = Counter()
    weak: Counter[BaseModel] = Counter()
    n_text_768 = 0
    for module, size in sizes:
        if size.n_in_flat is not None and _CROSS.fullmatch(module):
            cross[size.n_in_flat] += 1
        elif _SECOND_TEXT.match(module) or _DEEP.fullmatch(module):
            weak["sdxl"] += 1
        elif size.n_in_flat is not None and _TEXT.fullmatch(module):
            n_text_768 += size.n_in_flat == 768
            if size.n_in_flat in _TEXT_DIMS:
                weak[_TEXT_DIMS[size.n_in_flat]] += 1
    if cross:
        width, _ = cross.most_common(1)[0]
        return Base(CROSS_DIMS.get(width, "unknown"), width)
    if weak:
        return Base(weak.most_common(1)[0][0])
    return Base("sd1" if n_text_768 and own_cross_dim == 768 else "unknown")


def base_problem(base: Base, own_cross_dim: int | None) -> Problem | None:
    """Return the problem of a file that was made for another base model; None if it was not."""
    own = CROSS_DIMS.get(own_cross_dim or 0, "unknown")
    if base.cross_dim is not None and base.cross_dim != own_cross_dim:
        made_for = base.name if base.name != "unknown" else "another model"
        return Problem(
            "wrong-base",
            f"made for {made_for}: its cross-attentions read text of width {base.cross_dim}, "
            f"those of the base model {own_cross_dim}",
        )
    if base.cross_dim is None and "unknown" not in (base.name, own) and base.name != own:
        return Problem("wrong-base", f"made for {base.name}, by its layers, not for {own}")
    return None
