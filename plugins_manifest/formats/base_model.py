"""For which base model a plugin was made, told by its tensors' shapes and never by a label.

Stable Diffusion 1.5 attends to text of width 768, 2.x to 1024, SDXL to 2048. SDXL also has two
text encoders and deeper transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from plugins_manifest.formats.formulas import Size
from plugins_manifest.formats.parsed import BaseModel
from plugins_manifest.formats.table import CROSS_DIMS

_CROSS = re.compile(r".*attn2[._](?:processor[._])?to_[kv]")
_TEXT = re.compile(r".*(?:self_attn[._][qkv]_proj|mlp[._]fc1)")
_SECOND_TEXT = re.compile(r"(?:lora|oft)_te2_|text_encoder_2\.")
_DEEP = re.compile(r".*transformer_blocks[._][1-9]")
_TEXT_DIMS: dict[int, BaseModel] = {1024: "sd2", 1280: "sdxl"}


def base_of(sizes: Iterable[tuple[str, Size]], own_cross_dim: int | None) -> BaseModel:
    """Vote over (module as written, size of its weight).

    `own_cross_dim` is the text width of the model that the plugin shall be attached to: a plugin
    of that width is never told to be of another one by weaker signs.
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
        return CROSS_DIMS.get(width, "unknown")
    if weak:
        return weak.most_common(1)[0][0]
    return "sd1" if n_text_768 and own_cross_dim == 768 else "unknown"
