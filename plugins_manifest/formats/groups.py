"""The keys of one module: which formula they make, and what is wrong with them.

A module may have one change of its weight and one of its bias. Keys that make no formula are
returned with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from plugins_manifest.formats.formulas.registry import formulas, variant
from plugins_manifest.formats.formulas.spec import (
    SHARED,
    FormulaSpec,
    KeyPart,
    Shape,
    ShapeError,
    Size,
)
from plugins_manifest.formats.parsed import ModuleTable, Problem, TensorInfo

FLOATS = frozenset({"F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
_NUMBERS = FLOATS | {"I64", "I32"}  # LyCORIS stores a whole alpha as an integer
_FLAGS = _NUMBERS | {"BOOL", "U8", "I8"}
_PLAIN = {"lora", SHARED}


@dataclass
class Group:
    """Keys of one module as written, by formula family and part; filled while reading."""

    module: str
    families: dict[str, dict[str, str]] = field(default_factory=dict)
    biases: dict[str, dict[str, str]] = field(default_factory=dict)
    styles: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)

    def add(self, key: str, part: KeyPart) -> None:
        """Add one key; a second key for the same part is kept apart."""
        parts = (self.biases if part.is_bias else self.families).setdefault(part.family, {})
        if part.part in parts:
            self.repeated.append(key)
            return
        parts[part.part] = key
        self.styles.add(part.style)

    @property
    def n_keys(self) -> int:
        """The number of keys of the module."""
        parts = (*self.families.values(), *self.biases.values(), self.repeated)
        return sum(len(keys) for keys in parts)

    @property
    def is_plain_lora(self) -> bool:
        """Whether the module has parts of a LoRA alone."""
        return not self.biases and self.families.keys() <= _PLAIN


@dataclass(frozen=True)
class Candidate:
    """One formula with its keys, before the module is looked up; `param` is weight or bias.

    `module` is the module's name as written.
    """

    module: str
    formula: FormulaSpec
    parts: Mapping[str, str]
    param: str = "weight"

    def shapes(self, tensors: Mapping[str, TensorInfo]) -> dict[str, Shape]:
        """Return the shapes of the parts that are not single numbers."""
        scalars = self.formula.scalars
        return {part: tensors[key].shape for part, key in self.parts.items() if part not in scalars}

    def size(self, tensors: Mapping[str, TensorInfo]) -> Size:
        """Return the size of the parameter that the parts were made for; open if they conflict."""
        try:
            return self.formula.size(self.shapes(tensors))
        except (ShapeError, IndexError):
            return Size(None, None)

    def misfit(
        self, tensors: Mapping[str, TensorInfo], table: ModuleTable, module: str
    ) -> Problem | None:
        """Return why a module of this model cannot be changed; None where it can."""
        target = f"{module}.{self.param}"
        if target not in table:
            message = f"{module} has no {self.param} in the base model"
            return Problem("unmatched-module", message, self.module)
        for part in self.formula.scalars & self.parts.keys():
            if max(tensors[self.parts[part]].shape, default=1) != 1:
                return Problem("bad-shape", f"{self.parts[part]} must be one number", self.module)
        message = self.formula.misfit(self.shapes(tensors), table[target])
        return (
            None if message is None else Problem("bad-shape", f"{module}: {message}", self.module)
        )


def candidates(
    group: Group, tensors: Mapping[str, TensorInfo]
) -> tuple[list[Candidate], list[Problem]]:
    """Return the changes that a module's keys make, each complete and of usable dtypes."""
    found: list[Candidate] = []
    problems = [
        Problem("double-target", f"{key}: a second key for the same part", key)
        for key in group.repeated
    ]
    for candidate in _of_group(group, tensors):
        if isinstance(candidate, Problem):
            problems.append(candidate)
        elif wrong := (
            _wrong_parts(candidate)
            or _wrong_dtypes(candidate, tensors)
            or _empty_parts(candidate, tensors)
        ):
            problems += wrong
        else:
            found.append(candidate)
    return found, problems


def _of_group(group: Group, tensors: Mapping[str, TensorInfo]) -> Iterator[Candidate | Problem]:
    """Yield the change of the weight, then those of the bias, complete or not."""
    module, shared = group.module, group.families.get(SHARED, {})
    names = [name for name in group.families if name != SHARED]
    if len(names) > 1:
        message = f"{module}: parts of {' and '.join(sorted(names))}"
        yield Problem("mixed-formulas", message, module)
    elif names:
        yield _of_weight(module, names[0], {**shared, **group.families[names[0]]}, tensors)
    elif shared:
        message = f"{module}: no parts of a formula for {', '.join(sorted(shared))}"
        yield Problem("missing-part", message, module)
    for name in sorted(group.biases):
        yield Candidate(module, formulas()[name], group.biases[name], "bias")


def _of_weight(
    module: str, family: str, parts: dict[str, str], tensors: Mapping[str, TensorInfo]
) -> Candidate:
    """Choose the formula of a family by its parts' shapes; parts get today's names."""
    shapes = {part: tensors[key].shape for part, key in parts.items()}
    formula = variant(family, shapes)
    renames = {} if formula.renames is None else formula.renames(shapes)
    return Candidate(module, formula, {renames.get(part, part): key for part, key in parts.items()})


def _wrong_parts(candidate: Candidate) -> list[Problem]:
    """Compare the parts with the nearest complete set."""
    formula, module = candidate.formula, candidate.module
    core = candidate.parts.keys() - formula.optional.split()
    sets = [set(names.split()) for names in formula.needed]
    nearest = min(sets, key=lambda needed: (len(needed ^ core), sorted(needed)))
    if core == nearest:
        return []
    if missing := sorted(nearest - core):
        message = f"{module}: {formula.name} without {', '.join(missing)}"
        return [Problem("missing-part", message, module)]
    message = f"{module}: {formula.name} beside {', '.join(sorted(core - nearest))}"
    return [Problem("mixed-formulas", message, module)]


def _empty_parts(candidate: Candidate, tensors: Mapping[str, TensorInfo]) -> list[Problem]:
    shapes = {part: tensors[key].shape for part, key in candidate.parts.items()}
    empty = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items() if 0 in shape)
    message = (
        f"{candidate.module}: empty tensors ({empty}); sharded weights that were never gathered "
        "(DeepSpeed ZeRO-3, FSDP): gather them, and save the plugin again"
    )
    return [Problem("bad-shape", message, candidate.module)] if empty else []


def _wrong_dtypes(candidate: Candidate, tensors: Mapping[str, TensorInfo]) -> list[Problem]:
    formula = candidate.formula
    allowed = {**dict.fromkeys(formula.flags, _FLAGS), "alpha": _NUMBERS}
    return [
        Problem("bad-dtype", f"{key} is of dtype {tensors[key].dtype}", key)
        for part, key in candidate.parts.items()
        if tensors[key].dtype not in allowed.get(part, FLOATS)
    ]
