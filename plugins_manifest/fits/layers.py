"""The layers that a file changes, as it names them, with the energy of each change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from plugins_manifest.fits.energy import needs_base, row_energies
from plugins_manifest.fits.tensors import TensorReader
from plugins_manifest.formats import Header, ModuleTable
from plugins_manifest.formats.base_model import FilePart, parameter_shapes
from plugins_manifest.formats.formulas import Size, formulas
from plugins_manifest.formats.formulas.spec import ShapeError
from plugins_manifest.formats.groups import Candidate, candidates
from plugins_manifest.formats.names import Name, Names
from plugins_manifest.formats.scales import Scales
from plugins_manifest.formats.weight_parser import grouped

Part = Literal["attention", "feed-forward", "convolution", "text encoder", "other"]
PARTS: tuple[Part, ...] = ("attention", "feed-forward", "convolution", "text encoder", "other")
_NO_SIZE = Size(0, 0)  # of no weight
_FEED_FORWARD = frozenset(
    {"ff", "ff_context", "ffn", "mlp", "img_mlp", "txt_mlp", "feed_forward", "proj_mlp"}
)
_CONVOLUTION = frozenset({"resnets", "downsamplers", "upsamplers", "conv_in", "conv_out"})
_ATTENTION = frozenset({"attn", "attn1", "attn2", "attention", "attentions", "self_attn"})


@dataclass(frozen=True)
class Layer:
    """One layer of the made-for model that a file changes.

    `written` is the file's part that changes it, alone or with others (`qkv`); `energy` is None
    where the base model's weights would be needed.
    """

    written: FilePart
    part: Part
    energy: float | None


def file_parts(header: Header) -> list[tuple[FilePart, Candidate]]:
    """Return the complete changes of a file, with their sizes; `_NO_SIZE` if parts conflict."""
    found = []
    for group in grouped(header)[0].values():
        for candidate in candidates(group, header.tensors)[0]:
            try:
                size = candidate.formula.size(candidate.shapes(header.tensors))
            except (ShapeError, IndexError):
                size = _NO_SIZE
            found.append((FilePart(group.module, candidate.param, size), candidate))
    return found


def file_layers(
    path: Path,
    header: Header,
    parts: Sequence[tuple[FilePart, Candidate]],
    names: Names,
    table: ModuleTable,
) -> list[Layer]:
    """Return every layer that a file changes, by the names of the model it was made for.

    A part whose module that model lacks is one layer.
    """
    scales, found = Scales.of(header), []
    with TensorReader(path, header) as reader:
        for part, candidate in parts:
            name = names.resolve(part.module)
            rows = [shape[0] for shape in parameter_shapes(part, name, table)] or [1]
            scale = 0.0 if part.size is _NO_SIZE else _scale(scales, candidate, name, header)
            energies = _energies(reader, candidate, scale, rows)
            modules = name.modules if len(name.modules) == len(rows) else (part.module,)
            found += [
                Layer(part, part_of(module), energy)
                for module, energy in zip(modules, energies, strict=True)
            ]
    return found


def part_of(module: str) -> Part:
    """Return the part of a model that a canonical module name is in."""
    words = module.replace("_blocks", "").split(".")
    if words[0].startswith(("text_encoder", "lora_te")):
        return "text encoder"
    if _FEED_FORWARD.intersection(words):
        return "feed-forward"
    if _ATTENTION.intersection(words):
        return "attention"
    if _CONVOLUTION.intersection(words):
        return "convolution"
    return "feed-forward" if "single_transformer" in words and "proj_out" in words else "other"


def _energies(
    reader: TensorReader, candidate: Candidate, scale: float | None, rows: Sequence[int]
) -> Iterator[float | None]:
    formula = candidate.formula.name
    if needs_base(formula, candidate.parts) or scale is None:
        yield from (None for _ in rows)
        return
    if scale == 0:
        yield from (0.0 for _ in rows)
        return
    keys = {part: key for part, key in candidate.parts.items() if part != "alpha"}
    values = {part: reader.read(key) for part, key in keys.items()}
    alpha = candidate.parts.get("alpha")
    if alpha is not None and not candidate.formula.ignores_alpha(candidate.parts):
        scale = float(reader.read(alpha).reshape(-1)[0]) * scale
    for energy in row_energies(formula, values, rows):
        scaled = energy * scale**2
        yield scaled if math.isfinite(scaled) else None


def _scale(scales: Scales, candidate: Candidate, name: Name, header: Header) -> float | None:
    """Return what an update is multiplied with, but for an alpha among the file's keys."""
    alpha, factor = scales.of_change(candidate, replace(name, modules=name.modules[:1]))
    spec, parts = formulas()[candidate.formula.name], candidate.parts
    key = next((parts[part] for part in spec.rank_parts if part in parts), None)
    rank = None if key is None else header.tensors[key].shape[0]
    if "alpha" in parts and max(header.tensors[parts["alpha"]].shape, default=1) != 1:
        return None
    if rank is None or spec.ignores_alpha(parts):
        return factor
    if "alpha" in parts:
        return factor / rank
    return factor if alpha is None else factor * alpha / rank
