"""Map module names of all plugin formats to the base model's parameter names.

Names are looked up in tables made from the model itself; nothing is guessed from substrings.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, cached_property

from plugins_manifest.formats.original_names import original_modules
from plugins_manifest.formats.parsed import ModuleTable
from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import (
    BASES,
    TEXT,
    TEXT_2,
    TRANSFORMER,
    UNET,
    ModelName,
    model_table,
    modules_of,
)

# Prefix -> side, for names whose dots are underscores (kohya, LyCORIS). Longer prefixes first.
# `None`: a text encoder that none of the models has. `UNET` is the denoiser, whatever it is.
_FLAT: tuple[tuple[str, str | None], ...] = (
    ("lora_unet_", UNET),
    ("lora_transformer_", UNET),
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
    ("transformer.", UNET),
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
    """A module's name taken apart.

    `modules` are canonical: none if the model lacks it, several for one layer of the original model
    that is split in diffusers, in the order of their rows.
    """

    written: str
    prefix: str
    modules: tuple[str, ...]
    is_sgm: bool
    is_raw: bool = False

    @property
    def module(self) -> str | None:
        """The one module of the name; None if the model lacks it, or has it in parts."""
        return self.modules[0] if len(self.modules) == 1 else None

    @property
    def bare(self) -> str:
        """The name in its own model, as the trainer's tool sees it."""
        return self.written.removeprefix(_RAW).removeprefix(self.prefix).removeprefix(_RAW)


class Names:
    """All names of one base model's modules."""

    def __init__(self, table: ModuleTable) -> None:
        modules = modules_of(table)
        self._is_unet = not any(module.startswith(TRANSFORMER) for module in modules)
        self._denoiser = UNET if self._is_unet else TRANSFORMER
        self._own = {m: (m,) for m in modules}
        self._sgm = _originals(modules, self._denoiser)
        self._flat = {m.replace(".", "_"): found for m, found in self._own.items()}
        self._flat_sgm = {name.replace(".", "_"): found for name, found in self._sgm.items()}

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
        for known in self._sides(side):
            flat_side = known.replace(".", "_")
            level = "" if known == self._denoiser else _FLAT_TEXT_LEVEL
            name = flat_side + rest.removeprefix(level)
            if name in self._flat:
                return Name(written, prefix, self._flat[name], is_sgm=False)
            if name in self._flat_sgm:
                return Name(written, prefix, self._flat_sgm[name], is_sgm=self._is_unet)
        return Name(written, prefix, (), is_sgm=False)

    def _dotted_name(self, written: str) -> Name:
        rest = written.removeprefix(_RAW)
        prefix, side = next((p, s) for p, s in _DOTTED if rest.startswith(p))
        rest = rest.removeprefix(prefix)
        is_raw = written.startswith(_RAW) or rest.startswith(_RAW)
        rest = rest.removeprefix(_RAW)
        for known in self._sides(side):
            name = known + (rest if known == self._denoiser else rest.removeprefix(_TEXT_LEVEL))
            # Old attention processors write `to_out` for the model's `to_out.0`.
            for spelled in (name, name + ".0"):
                if spelled in self._own:
                    return Name(written, prefix, self._own[spelled], is_sgm=False, is_raw=is_raw)
            if name in self._sgm:
                return Name(written, prefix, self._sgm[name], self._is_unet, is_raw)
        return Name(written, prefix, (), is_sgm=False, is_raw=is_raw)

    def _sides(self, side: str | None) -> tuple[str, ...]:
        if side is None:
            return ()
        if side:
            return (self._denoiser if side == UNET else side,)
        return (self._denoiser, TEXT)


def _originals(modules: Collection[str], denoiser: str) -> dict[str, tuple[str, ...]]:
    """Map the original names of a denoiser's modules, behind its prefix, to canonical ones."""
    if denoiser == UNET:
        return {UNET + name: (module,) for name, module in sgm_modules(modules).items()}
    inside = [m.removeprefix(denoiser) for m in modules if m.startswith(denoiser)]
    return {
        denoiser + name: tuple(denoiser + target for target in targets)
        for name, targets in original_modules(inside).items()
    }


def _tokens(name: str) -> list[str]:
    return name.replace("_", ".").split(".")


def _as_kohya(flat: str) -> str:
    for side, prefix in ((TEXT_2, "lora_te2_"), (TEXT, "lora_te_")):
        start = side.replace(".", "_")
        if flat.startswith(start):
            return prefix + _FLAT_TEXT_LEVEL + flat.removeprefix(start)
    return "lora_" + flat
