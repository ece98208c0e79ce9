"""Common parts of the parsers of networks: the base model, missing and unknown keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plugins_manifest.formats.parsed import BaseModel, Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import CROSS_DIMS, cross_dim

_N_SHOWN = 4


def base_problems(base: BaseModel, table: ModuleTable) -> list[Problem]:
    """Return the problem of a network that was made for another base model, if it was."""
    own = CROSS_DIMS.get(cross_dim(table) or 0, "unknown")
    if "unknown" in (base, own) or base == own:
        return []
    return [Problem("wrong-base", f"made for {base}, by its shapes, not for {own}")]


def missing_problems(missing: Sequence[str], keys: str = "keys") -> list[Problem]:
    """Return one problem for all missing keys, with the first names."""
    if not missing:
        return []
    shown = ", ".join(missing[:_N_SHOWN]) + (", ..." if len(missing) > _N_SHOWN else "")
    return [Problem("missing-key", f"{len(missing)} {keys} are missing: {shown}")]


def shape_problems(
    header: Header,
    expected: Mapping[str, tuple[int, ...] | None],
    found: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Return a problem for each key of another shape; `found` maps expected names to keys."""
    problems = []
    for name, shape in expected.items():
        key = name if found is None else found.get(name, "")
        info = header.tensors.get(key)
        if shape is not None and info is not None and info.shape != shape:
            message = f"{key} is {list(info.shape)}, for this base model it must be {list(shape)}"
            problems.append(Problem("bad-shape", message, key))
    return problems


def network_plugin(
    header: Header,
    *,
    kind: str,
    name: str,
    layout: str,
    base: BaseModel,
    roles: Mapping[str, str],
    problems: Sequence[Problem],
) -> ParsedPlugin:
    """Return the network with the keys of `roles`; all other keys of the file are unknown."""
    unknown = tuple(key for key in header.tensors if key not in roles)
    others = [Problem("unknown-key", f"{key}: no layer of a {name}", key) for key in unknown]
    return ParsedPlugin(
        format=layout,
        kind=kind,
        base_model=base,
        unknown_keys=unknown,
        problems=(*problems, *others),
        other_keys={key: roles[key] for key in header.tensors if key in roles},
    )
