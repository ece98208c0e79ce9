"""The base model of a plugin, by the names and shapes of its tensors and never by a label.

Every part of a plugin is compared with the parameters of all known models: the one that most parts
fit is the base, whichever parts the file has (self-attentions alone, convolutions alone, a text
encoder alone). Parts that several models have in common fit the model that the plugin is attached
to. Stable Diffusion 1.5 attends to text of width 768, 2.x to 1024, SDXL to 2048.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plugins_manifest.formats.formulas.spec import Shape, Size
from plugins_manifest.formats.names import Name, Names, model_names
from plugins_manifest.formats.parsed import BaseModel, ModuleTable, Problem
from plugins_manifest.formats.table import (
    BASES,
    CROSS_DIMS,
    ModelName,
    cross_dim,
    model_table,
    modules_of,
)

_COVERED = 0.8
_MANY, _SAMPLE = 2_000, 250
_CROSS = re.compile(r".*attn2[._](?:processor[._])?to_[kv]")


@dataclass(frozen=True)
class FilePart:
    """A change as written in the file: module, parameter, and the size of what it changes."""

    module: str
    param: str
    size: Size


@dataclass(frozen=True)
class Base:
    """A base model, and the text width of the file's cross-attentions, None if it has none.

    `also` are models that fit as well.
    """

    name: BaseModel
    cross_dim: int | None = None
    also: tuple[BaseModel, ...] = ()


def base_of(parts: Sequence[FilePart], names: Names, table: ModuleTable) -> Base:
    """Return the base model of a file's parts; `table` and `names` are of the model at hand."""
    own = base_of_table(table)
    cross = Counter(
        part.size.n_in_flat
        for part in parts
        if part.size.n_in_flat is not None and _CROSS.fullmatch(part.module)
    )
    width = cross.most_common(1)[0][0] if cross else None
    n_own = n_fitting(parts, names, table)
    if parts and n_own == len(parts):
        return Base(own, width)
    counts: dict[BaseModel, int] = {
        base: n_fitting(parts, model_names(model), model_table(model))
        for base, model in BASES.items()
    }
    best = max(counts.values())
    if best <= n_own:
        return Base(own if n_own else CROSS_DIMS.get(width or 0, "unknown"), width)
    fitting: list[BaseModel] = [base for base in BASES if counts[base] == best]
    first = next((base for base in fitting if _is_covered(parts, BASES[base])), fitting[0])
    return Base(first, width, tuple(base for base in fitting if base != first))


def base_of_table(table: ModuleTable) -> BaseModel:
    """Return the base model that a table is of: a shipped one, else by the width of its text."""
    return shipped_base(table) or CROSS_DIMS.get(cross_dim(table) or 0, "unknown")


def shipped_base(table: ModuleTable) -> BaseModel | None:
    """Return the base model of a shipped table; None for any other table."""
    return next((base for base, model in BASES.items() if model_table(model) is table), None)


def _is_covered(parts: Sequence[FilePart], model: ModelName) -> bool:
    """Return whether a file changes most layers of a model, of the kinds that it changes at all.

    A file for a model is one for each larger model with the same layers, too: a LoRA of SSD-1B fits
    half of SDXL.
    """
    names = model_names(model)
    changed = {m for part in parts for m in names.resolve(part.module).modules}
    kinds = {_kind(module) for module in changed}
    layers = [m for m in modules_of(model_table(model)) if _kind(m) in kinds]
    return len(changed) >= _COVERED * len(layers)


def _kind(module: str) -> str:
    return ".".join(word for word in module.split(".") if not word.isdigit())


def base_problem(base: Base, table: ModuleTable) -> Problem | None:
    """Return the problem of a file that was made for another base model; None if it was not."""
    own_dim = cross_dim(table)
    own = base_of_table(table)
    if base.cross_dim is not None and base.cross_dim != own_dim:
        made_for = base.name if base.name != "unknown" else "another model"
        return Problem(
            "wrong-base",
            f"made for {made_for}: its cross-attentions read text of width {base.cross_dim}, "
            f"those of the base model {own_dim}",
        )
    if base.name not in ("unknown", own):
        model = "this model" if own == "unknown" else own
        made_for = " or ".join((base.name, *base.also))
        return Problem("wrong-base", f"made for {made_for}, by its layers, not for {model}")
    return None


def n_fitting(parts: Sequence[FilePart], names: Names, table: ModuleTable) -> int:
    """Count the parts whose parameter a model has, in the same size.

    Of a file with very many parts, a model that has none of a sample counts as unrelated.
    """
    if len(parts) > _MANY:
        sample = parts[:: len(parts) // _SAMPLE]
        if not any(names.resolve(part.module).modules for part in sample):
            return 0
    return sum(fits(part, names, table) for part in parts)


def fits(part: FilePart, names: Names, table: ModuleTable) -> bool:
    """Return whether a model has the parameter of a part, in the same size."""
    return fits_shapes(part.size, parameter_shapes(part, names.resolve(part.module), table))


def parameter_shapes(part: FilePart, name: Name, table: ModuleTable) -> tuple[Shape, ...]:
    """Return the shapes of the parameters that a part changes; none if the model lacks any."""
    found = [table.get(f"{module}.{part.param}") for module in name.modules]
    return tuple(shape for shape in found if shape is not None) if None not in found else ()


def fits_shapes(size: Size, shapes: Sequence[Shape]) -> bool:
    """Return whether a size is that of parameters whose rows are stacked; False for none."""
    if not shapes or len({shape[1:] for shape in shapes}) > 1:
        return False
    return _fits(size, (sum(shape[0] for shape in shapes), *shapes[0][1:]))


def _fits(size: Size, shape: Shape) -> bool:
    is_known = size.kernel is not None and len(size.kernel) == len(shape) - 2
    return (
        size.n_out in (None, shape[0])
        and size.n_in_flat in (None, math.prod(shape[1:]))
        and (not is_known or size.kernel == shape[2:])
    )
