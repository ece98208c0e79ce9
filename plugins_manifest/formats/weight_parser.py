"""Parse files that change weights: every formula in every style of module names."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from plugins_manifest.formats.base_model import FilePart, base_of, base_problem
from plugins_manifest.formats.embeddings import token_problems
from plugins_manifest.formats.foreign import find_sign
from plugins_manifest.formats.formulas.registry import formulas, split_key
from plugins_manifest.formats.groups import Candidate, Group, candidates
from plugins_manifest.formats.layouts import WEIGHT_LAYOUTS, weight_layout
from plugins_manifest.formats.names import Name, Names, names_of
from plugins_manifest.formats.parsed import (
    FileParser,
    Header,
    ModuleChange,
    ModuleTable,
    ParsedPlugin,
    Problem,
)
from plugins_manifest.formats.scales import Scales
from plugins_manifest.formats.table import UNET

_BUNDLED = re.compile(r"bundle_emb\.(?P<token>.+?)\.(?:string_to_param\.\*|emb_params|clip_l)")
_N_NEAREST = 12  # unmatched modules with nearest names; a file for another model has hundreds


# Input channels of UNets that were made for another task, and that task.
_TASKS = {
    5: "depth-to-image model",
    7: "4x upscaler",
    8: "InstructPix2Pix model (editing)",
    9: "inpainting model",
}
_CONV_IN = UNET + "conv_in"


@dataclass
class _Reading:
    """Results while a file is read."""

    header: Header
    table: ModuleTable
    scales: Scales
    changes: list[ModuleChange] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unmatched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parts: list[FilePart] = field(default_factory=list)
    layouts: Counter[str] = field(default_factory=Counter)
    targets: set[str] = field(default_factory=set)


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for a key that is a part of a formula."""
    return any(
        split_key(key, header.tensors) is not None and find_sign(key) is None
        for key in header.tensors
    )


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Parse LoRA and LyCORIS files, with the embeddings that may be bundled in them."""
    groups, embeddings = grouped(header)
    names, reading = names_of(table), _Reading(header, table, Scales.of(header))
    for group in groups.values():
        name = names.resolve(group.module)
        reading.layouts[weight_layout(group, name)] += group.n_keys
        found, wrong = candidates(group, header.tensors)
        for candidate in found:
            size = candidate.size(header.tensors)
            reading.parts.append(FilePart(group.module, candidate.param, size))
        if name.module is None:
            is_shown = len(reading.unmatched) < _N_NEAREST
            reading.unmatched[group.module] = names.nearest(group.module) if is_shown else ()
            continue
        reading.problems.extend(wrong)
        for candidate in found:
            _take(reading, candidate, name)
    return _result(reading, names, embeddings)


def grouped(header: Header) -> tuple[dict[str, Group], dict[str, str]]:
    """Return the keys of each module, and the roles of bundled embeddings."""
    groups: dict[str, Group] = {}
    embeddings = {}
    for key in header.tensors:
        if match := _BUNDLED.fullmatch(key):
            embeddings[key] = f"embedding:{match['token']}"
        elif find_sign(key) is None and (part := split_key(key, header.tensors.keys())):
            groups.setdefault(part.module, Group(part.module)).add(key, part)
    return groups, embeddings


def _take(reading: _Reading, candidate: Candidate, name: Name) -> None:
    tensors, module = reading.header.tensors, name.module or ""
    problem = candidate.misfit(tensors, reading.table, module)
    target = f"{module}.{candidate.param}"
    if problem is None and target in reading.targets:
        problem = Problem("double-target", f"{target} is changed twice", candidate.module)
    if problem is not None:
        reading.problems.append(_of_other_task(problem, candidate, reading, target))
        return
    alpha, factor = reading.scales.of_change(candidate, name)
    reading.targets.add(target)
    formula, parts = candidate.formula.name, dict(candidate.parts)
    reading.changes.append(ModuleChange(target, formula, parts, alpha, factor))


def _of_other_task(
    problem: Problem, candidate: Candidate, reading: _Reading, target: str
) -> Problem:
    """Return the problem of the first convolution with the task that its channels are of."""
    columns, shape = candidate.size(reading.header.tensors).n_in_flat, reading.table.get(target)
    if target != f"{_CONV_IN}.weight" or columns is None or shape is None:
        return problem
    channels = columns // math.prod(shape[2:])
    task = _TASKS.get(channels)
    if task is None or channels == shape[1]:
        return problem
    message = (
        f"{_CONV_IN} reads {channels} channels, the base model's {shape[1]}: made for the {task}; "
        "all other layers may fit"
    )
    return replace(problem, message=message)


def _result(reading: _Reading, names: Names, embeddings: dict[str, str]) -> ParsedPlugin:
    header = reading.header
    used = {key for change in reading.changes for key in change.parts.values()} | set(embeddings)
    unknown = tuple(key for key in header.tensors if key not in used)
    base = base_of(reading.parts, names, reading.table)
    kinds = {formulas()[change.formula].kind for change in reading.changes}
    wrong_base = base_problem(base, reading.table)
    problems = [] if wrong_base is None else [wrong_base]
    problems += [*reading.scales.problems.values(), *reading.problems]
    problems += token_problems(embeddings.values())
    return ParsedPlugin(
        format=reading.layouts.most_common(1)[0][0] if reading.layouts else "unknown",
        kind="lycoris" if "lycoris" in kinds else "lora",
        base_model=base.name,
        changes=tuple(reading.changes),
        unknown_keys=unknown,
        unmatched=reading.unmatched,
        problems=(*problems, *_key_problems(header, reading, unknown)),
        other_keys=embeddings,
        notes=tuple(reading.scales.notes),
    )


def _key_problems(header: Header, reading: _Reading, unknown: tuple[str, ...]) -> Iterable[Problem]:
    for module, nearest in reading.unmatched.items():
        hint = f" (nearest: {', '.join(nearest)})" if nearest else ""
        yield Problem("unmatched-module", f"{module} is not in the base model{hint}", module)
    for key in unknown:
        if sign := find_sign(key):
            yield Problem("unknown-key", f"{key}: {sign.why}", key)
        elif split_key(key, header.tensors.keys()) is None:
            yield Problem("unknown-key", f"{key}: no formula has such a part", key)


PARSER = FileParser(layouts=WEIGHT_LAYOUTS, recognizes=_recognizes, parse=_parse)
