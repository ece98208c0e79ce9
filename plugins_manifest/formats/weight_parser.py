"""Parse files that change weights: every formula in every style of module names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plugins_manifest.formats.base_model import base_of, base_problem
from plugins_manifest.formats.embeddings import token_problems
from plugins_manifest.formats.formulas.registry import formulas, split_key
from plugins_manifest.formats.formulas.spec import Size
from plugins_manifest.formats.groups import Candidate, Group, candidates
from plugins_manifest.formats.layouts import WEIGHT_LAYOUTS, weight_layout
from plugins_manifest.formats.names import names_of
from plugins_manifest.formats.parsed import (
    FileParser,
    Header,
    ModuleChange,
    ModuleTable,
    ParsedPlugin,
    Problem,
)
from plugins_manifest.formats.peft_settings import alpha_of, read_settings
from plugins_manifest.formats.table import cross_dim

_BUNDLED = re.compile(r"bundle_emb\.(?P<token>.+?)\.(?:string_to_param\.\*|emb_params|clip_l)")
_N_NEAREST = 12  # unmatched modules with nearest names; a file for another model has hundreds


@dataclass
class _Reading:
    """Results while a file is read."""

    changes: list[ModuleChange] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unmatched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: list[tuple[str, Size]] = field(default_factory=list)
    layouts: Counter[str] = field(default_factory=Counter)
    targets: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Place:
    """The file and the model that it is attached to."""

    header: Header
    table: ModuleTable
    settings: Mapping[str, Any]


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for a key that is a part of a formula."""
    return any(split_key(key, header.tensors) is not None for key in header.tensors)


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Parse LoRA and LyCORIS files, with the embeddings that may be bundled in them."""
    groups, embeddings = _grouped(header)
    settings, problems = read_settings(header.metadata)
    names, reading = names_of(table), _Reading(problems=list(problems))
    place = _Place(header, table, settings)
    for group in groups.values():
        name = names.resolve(group.module)
        reading.layouts[weight_layout(group, name)] += group.n_keys
        found, wrong = candidates(group, header.tensors)
        for candidate in found:
            reading.sizes.append((group.module, candidate.size(header.tensors)))
        if name.module is None:
            is_shown = len(reading.unmatched) < _N_NEAREST
            reading.unmatched[group.module] = names.nearest(group.module) if is_shown else ()
            continue
        reading.problems.extend(wrong)
        for candidate in found:
            _take(reading, candidate, module=name.module, place=place)
    return _result(header, table, reading, embeddings)


def _grouped(header: Header) -> tuple[dict[str, Group], dict[str, str]]:
    groups: dict[str, Group] = {}
    embeddings = {}
    for key in header.tensors:
        if match := _BUNDLED.fullmatch(key):
            embeddings[key] = f"embedding:{match['token']}"
        elif part := split_key(key, header.tensors.keys()):
            groups.setdefault(part.module, Group(part.module)).add(key, part)
    return groups, embeddings


def _take(reading: _Reading, candidate: Candidate, *, module: str, place: _Place) -> None:
    tensors = place.header.tensors
    problem = candidate.misfit(tensors, place.table, module)
    target = f"{module}.{candidate.param}"
    if problem is None and target in reading.targets:
        problem = Problem("double-target", f"{target} is changed twice", candidate.module)
    if problem is not None:
        reading.problems.append(problem)
        return
    alpha, formula = None, candidate.formula
    if place.settings and formula.reads_settings and "alpha" not in candidate.parts:
        rank = tensors[candidate.parts[formula.rank_parts[0]]].shape[0]
        alpha = alpha_of(place.settings, module, rank)
    reading.targets.add(target)
    reading.changes.append(ModuleChange(target, formula.name, dict(candidate.parts), alpha))


def _result(
    header: Header, table: ModuleTable, reading: _Reading, embeddings: dict[str, str]
) -> ParsedPlugin:
    used = {key for change in reading.changes for key in change.parts.values()} | set(embeddings)
    unknown = tuple(key for key in header.tensors if key not in used)
    own = cross_dim(table)
    base = base_of(reading.sizes, own)
    kinds = {formulas()[change.formula].kind for change in reading.changes}
    wrong_base = base_problem(base, own)
    problems = [] if wrong_base is None else [wrong_base]
    problems += [*reading.problems, *token_problems(embeddings.values())]
    return ParsedPlugin(
        format=reading.layouts.most_common(1)[0][0] if reading.layouts else "unknown",
        kind="lycoris" if "lycoris" in kinds else "lora",
        base_model=base.name,
        changes=tuple(reading.changes),
        unknown_keys=unknown,
        unmatched=reading.unmatched,
        problems=(*problems, *_key_problems(header, reading, unknown)),
        other_keys=embeddings,
    )


def _key_problems(header: Header, reading: _Reading, unknown: tuple[str, ...]) -> Iterable[Problem]:
    for module, nearest in reading.unmatched.items():
        hint = f" (nearest: {', '.join(nearest)})" if nearest else ""
        yield Problem("unmatched-module", f"{module} is not in the base model{hint}", module)
    for key in unknown:
        if split_key(key, header.tensors.keys()) is None:
            yield Problem("unknown-key", f"{key}: no formula has such a part", key)


PARSER = FileParser(layouts=WEIGHT_LAYOUTS, recognizes=_recognizes, parse=_parse)
