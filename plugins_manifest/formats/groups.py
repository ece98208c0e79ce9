"""The keys of one module: which formula they make, and what is wrong with them.

A module may have one change of its weight and one of its bias. Keys that make no formula are
given back with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from plugins_manifest.formats.formulas import (
    FORMULAS,
    Formula,
    Shape,
    ShapeError,
    Size,
    check_fit,
)
from plugins_manifest.formats.parsed import FormatName, ModuleTable, Problem, TensorInfo
from plugins_manifest.formats.suffixes import ANY, KeyPart

FLOATS = frozenset({"F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
_NUMBERS = FLOATS | {"I64", "I32"}  # LyCORIS stores a whole alpha as an integer
_SCALARS = frozenset({"alpha", "on_input"})
_BIAS: Mapping[str, FormatName] = {"full-bias": "full", "norm-bias": "norm"}
_OLD_GLORA = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}


@dataclass
class Group:
    """Keys of one module as written, by formula family and part; filled while reading."""

    module: str
    families: dict[str, dict[str, str]] = field(default_factory=dict)
    styles: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)

    def add(self, key: str, part: KeyPart) -> None:
        """Take one key in; a second key for the same part is kept apart."""
        parts = self.families.setdefault(part.family, {})
        if part.part in parts:
            self.twice.append(key)
            return
        parts[part.part] = key
        self.styles.add(part.style)

    @property
    def keys(self) -> list[str]:
        """All keys of the module."""
        return [key for parts in self.families.values() for key in parts.values()] + self.twice


@dataclass(frozen=True)
class Candidate:
    """One formula with its keys, before the module is looked up; `param` is weight or bias.

    `module` is the module's name as written.
    """

    module: str
    formula: Formula
    parts: Mapping[str, str]
    param: str


def candidates(
    group: Group, tensors: Mapping[str, TensorInfo]
) -> tuple[list[Candidate], list[Problem]]:
    """The changes that a module's keys make, each complete and of usable dtypes."""
    found, problems = [], []
    for key in group.twice:
        problems.append(Problem("double-target", f"{key}: a second key for the same part", key))
    weight = [name for name in group.families if name != ANY and name not in _BIAS]
    if len(weight) > 1:
        listed = " and ".join(sorted(weight))
        message = f"{group.module}: parts of {listed}"
        problems.append(Problem("mixed-formulas", message, group.module))
    elif weight or ANY in group.families:
        parts = {**group.families.get(ANY, {}), **(group.families[weight[0]] if weight else {})}
        _add(found, problems, _weight_candidate(group.module, weight, parts, tensors), group.module)
    for family, formula in _BIAS.items():
        if family in group.families:
            candidate = Candidate(group.module, FORMULAS[formula], group.families[family], "bias")
            _add(found, problems, candidate, group.module)
    kept = []
    for candidate in found:
        wrong = _wrong_dtypes(candidate, tensors)
        problems.extend(wrong)
        if not wrong:
            kept.append(candidate)
    return kept, problems


def implied_size(candidate: Candidate, tensors: Mapping[str, TensorInfo]) -> Size | None:
    """The size of the parameter that the parts were made for; None where they contradict."""
    try:
        return candidate.formula.size(shapes_of(candidate.parts, tensors))
    except (ShapeError, IndexError):
        return None


def misfit(
    candidate: Candidate, tensors: Mapping[str, TensorInfo], table: ModuleTable, module: str
) -> Problem | None:
    """Why a candidate cannot change its parameter in this model; None where it can."""
    target, written = f"{module}.{candidate.param}", candidate.module
    if target not in table:
        message = f"{module} has no {candidate.param} in the base model"
        return Problem("unmatched-module", message, written)
    for part in _SCALARS & candidate.parts.keys():
        if max(tensors[candidate.parts[part]].shape, default=1) != 1:
            return Problem("bad-shape", f"{candidate.parts[part]} must be one number", written)
    message = check_fit(candidate.formula, shapes_of(candidate.parts, tensors), table[target])
    return None if message is None else Problem("bad-shape", f"{module}: {message}", written)


def shapes_of(parts: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> dict[str, Shape]:
    """Part -> shape, of the parts that are no single numbers."""
    return {part: tensors[key].shape for part, key in parts.items() if part not in _SCALARS}


def _weight_candidate(
    module: str, weight: list[str], parts: dict[str, str], tensors: Mapping[str, TensorInfo]
) -> Candidate | str:
    """The one formula of the weight, or the name of it where it is unknown."""
    if not weight:
        return "a formula for " + ", ".join(sorted(parts))
    name = _formula_name(weight[0], parts, tensors)
    formula = FORMULAS[name]
    if name == "glora":
        parts = _current_glora(parts, tensors)
    return Candidate(module, formula, parts, "weight")


def _formula_name(
    family: str, parts: Mapping[str, str], tensors: Mapping[str, TensorInfo]
) -> FormatName:
    if family == "lora":
        if "mid" in parts:
            return "lora-tucker"
        return "dora" if {"dora_scale", "magnitude"} & parts.keys() else "lora"
    if family == "oft":
        has_steps = "blocks" in parts and len(tensors[parts["blocks"]].shape) == 4
        return "boft" if has_steps else "oft"
    known: dict[str, FormatName] = {
        "loha": "loha",
        "lokr": "lokr",
        "ia3": "ia3",
        "full": "full",
        "norm": "norm",
        "glora": "glora",
    }
    return known[family]


def _current_glora(parts: dict[str, str], tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Early LyCORIS named each pair the other way round; today's names are given back.

    Told by the sides: `a1` is tall today ([i, r]) and was flat, `b2` is flat ([r, i k]) and was
    tall.
    """
    a1, b2 = (tensors[parts[p]].shape if p in parts else () for p in ("a1", "b2"))
    was_flat = len(a1) >= 2 and a1[0] < math.prod(a1[1:])
    was_tall = len(b2) >= 2 and b2[0] > math.prod(b2[1:])
    if was_flat and was_tall:
        return {_OLD_GLORA.get(part, part): key for part, key in parts.items()}
    return parts


def _add(
    found: list[Candidate], problems: list[Problem], candidate: Candidate | str, module: str
) -> None:
    if isinstance(candidate, str):
        problems.append(Problem("missing-part", f"{module}: no parts of {candidate}", module))
        return
    formula, given = candidate.formula, candidate.parts.keys()
    core = given - formula.optional
    if core in formula.needed:
        found.append(candidate)
        return
    nearest = min(formula.needed, key=lambda needed: (len(needed ^ core), sorted(needed)))
    if missing := sorted(nearest - core):
        listed = ", ".join(missing)
        message = f"{module}: {formula.name} without {listed}"
        problems.append(Problem("missing-part", message, module))
    else:
        listed = ", ".join(sorted(core - nearest))
        message = f"{module}: {formula.name} beside {listed}"
        problems.append(Problem("mixed-formulas", message, module))


def _wrong_dtypes(candidate: Candidate, tensors: Mapping[str, TensorInfo]) -> list[Problem]:
    problems = []
    for part, key in candidate.parts.items():
        allowed = _NUMBERS | {"BOOL", "U8", "I8"} if part == "on_input" else FLOATS
        allowed = _NUMBERS if part == "alpha" else allowed
        if tensors[key].dtype not in allowed:
            problems.append(Problem("bad-dtype", f"{key} is of dtype {tensors[key].dtype}", key))
    return problems
