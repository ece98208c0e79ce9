"""Map module names of all plugin formats to the base model's parameter names.

Names are looked up in tables made from the model itself; nothing is guessed from substrings.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

from plugins_manifest.formats.parsed import ModuleTable
from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import (
    BASES,
    TEXT,
    TEXT_2,
    UNET,
    ModelName,
    model_table,
    modules_of,
)

# Prefix -> side, for names whose dots are underscores (kohya, LyCORIS). Longer prefixes first.
# `None`: a text encoder that none of the models has.
_FLAT: tuple[tuple[str, str | None], ...] = (
    ("lora_unet_", UNET),
    ("lora_te1_", TEXT),
    ("lora_te2_", TEXT_2),
    ("lora_te3_", None),
    ("lora_te_", TEXT),
    ("lycoris_", ""),
    ("oft_unet_", UNET),
    ("oft_te1_", TEXT),
    ("oft_te2_", TEXT_2),
    ("oft_te_", TEXT),
)
# The same for names with dots (diffusers, PEFT, ComfyUI); "" may be either side.
_DOTTED: tuple[tuple[str, str | None], ...] = (
    ("model.diffusion_model.", UNET),
    ("diffusion_model.", UNET),
    ("unet.", UNET),
    ("text_encoder_2.", TEXT_2),
    ("text_encoder_3.", None),
    ("text_encoder.", TEXT),
    ("text_encoders.clip_l.transformer.", TEXT),
    ("clip_l.transformer.", TEXT),
    ("", ""),
)
_RAW = "base_model.model."
_TEXT_LEVEL, _FLAT_TEXT_LEVEL = "text_model.", "text_model_"
_N_CANDIDATES = 24
_N_NEAREST = 3


def names_of(table: ModuleTable) -> Names:
    """Return the names of a model; those of the shipped tables are computed once."""
    known = next((model for model in BASES.values() if table is model_table(model)), None)
    return Names(table) if known is None else model_names(known)


@cache
def model_names(model: ModelName) -> Names:
    """Return the names of a model whose table is shipped."""
    return Names(model_table(model))


@dataclass(frozen=True)
class Name:
    """A module's name taken apart; `module` is canonical, None if the model lacks it."""

    written: str
    prefix: str
    module: str | None
    is_sgm: bool
    is_raw: bool = False

    @property
    def bare(self) -> str:
        """The name in its own model, as the trainer's tool sees it."""
        return self.written.removeprefix(_RAW).removeprefix(self.prefix).removeprefix(_RAW)


class Names:
    """All names of one base model's modules."""

    def __init__(self, table: ModuleTable) -> None:
        modules = modules_of(table)
        self._own = {m: m for m in modules}
        self._sgm = {UNET + name: module for name, module in sgm_modules(modules).items()}
        self._flat = {m.replace(".", "_"): m for m in self._own.values()}
        self._flat_sgm = {name.replace(".", "_"): m for name, m in self._sgm.items()}

    def resolve(self, written: str) -> Name:
        """Find the module of a name as written in a plugin."""
        for prefix, side in _FLAT:
            if written.startswith(prefix):
                return self._flat_name(written, prefix, side)
        return self._dotted_name(written)

    def nearest(self, written: str) -> tuple[str, ...]:
        """Return the model's names closest to an unknown one, written in the same style."""
        is_flat = any(written.startswith(prefix) for prefix, _ in _FLAT)
        tokens = Counter(_tokens(written))
        shared = Counter(
            {
                name: sum((tokens & words).values())
                for name, words in (self._flat_words if is_flat else self._dotted_words).items()
            }
        )
        likely = [name for name, _ in shared.most_common(_N_CANDIDATES)]
        return tuple(difflib.get_close_matches(written, likely, n=_N_NEAREST, cutoff=0.5))

    @cached_property
    def _flat_words(self) -> dict[str, Counter[str]]:
        names = [_as_kohya(name) for name in (*self._flat, *self._flat_sgm)]
        return {name: Counter(_tokens(name)) for name in names}

    @cached_property
    def _dotted_words(self) -> dict[str, Counter[str]]:
        return {name: Counter(_tokens(name)) for name in (*self._own, *self._sgm)}

    def _flat_name(self, written: str, prefix: str, side: str | None) -> Name:
        rest = written.removeprefix(prefix)
        for known in _sides(side):
            flat_side = known.replace(".", "_")
            level = "" if known == UNET else _FLAT_TEXT_LEVEL
            name = flat_side + rest.removeprefix(level)
            if name in self._flat:
                return Name(written, prefix, self._flat[name], is_sgm=False)
            if name in self._flat_sgm:
                return Name(written, prefix, self._flat_sgm[name], is_sgm=True)
        return Name(written, prefix, None, is_sgm=False)

    def _dotted_name(self, written: str) -> Name:
        rest = written.removeprefix(_RAW)
        prefix, side = next((p, s) for p, s in _DOTTED if rest.startswith(p))
        rest = rest.removeprefix(prefix)
        is_raw = written.startswith(_RAW) or rest.startswith(_RAW)
        rest = rest.removeprefix(_RAW)
        for known in _sides(side):
            name = known + (rest if known == UNET else rest.removeprefix(_TEXT_LEVEL))
            # Old attention processors write `to_out` for the model's `to_out.0`.
            for spelled in (name, name + ".0"):
                if spelled in self._own:
                    return Name(written, prefix, spelled, is_sgm=False, is_raw=is_raw)
            if name in self._sgm:
                return Name(written, prefix, self._sgm[name], is_sgm=True, is_raw=is_raw)
        return Name(written, prefix, None, is_sgm=False, is_raw=is_raw)


def _sides(side: str | None) -> tuple[str, ...]:
    if side is None:
        return ()
    return (side,) if side else (UNET, TEXT)


def _tokens(name: str) -> list[str]:
    return name.replace("_", ".").split(".")


def _as_kohya(flat: str) -> str:
    for side, prefix in ((TEXT_2, "lora_te2_"), (TEXT, "lora_te_")):
        start = side.replace(".", "_")
        if flat.startswith(start):
            return prefix + _FLAT_TEXT_LEVEL + flat.removeprefix(start)
    return "lora_" + flat
