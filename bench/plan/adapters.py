"""The mappers of a run: the family's, one that replaces it, or several that are compared.

One mapper has no id: trials and tables name an adapter only where a run has several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import UserError, shown_path
from plugins_manifest.schema import Manifest
from plugins_manifest.schema.manifest import MAX_ADAPTERS, AdapterSpec
from plugins_manifest.schema.plugins import ID_PATTERN, MAX_ID_LENGTH
from plugins_manifest.text import shortened
from runners.families import family_fingerprint
from runners.families.registry import AdapterFile

_OUTSIDE = re.compile(r"[^A-Za-z0-9._-]+")


def parse_adapters(texts: Sequence[str]) -> tuple[AdapterFile, ...]:
    """Parse the values of --adapter, each a path or ID=PATH.

    An id is the name of the file or folder by default; where names are alike, that of the nearest
    folders above that are not. `adapter_problems` checks the ids.
    """
    given = [_parts(text) for text in texts]
    bare = [path for name, path in given if name is None]
    names = iter(_names_of(bare))
    return tuple(AdapterFile(next(names) if name is None else name, path) for name, path in given)


def _parts(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        return None, Path(text)
    return name, Path(path)


def _names_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, or of the first level at which all names differ."""
    chains = []
    for path in paths:
        full = path.expanduser().absolute()
        chains.append([_id_of(full.stem), *(_id_of(above.name) for above in full.parents)])
    for level in range(min((len(chain) for chain in chains), default=0)):
        names = [chain[level] for chain in chains]
        if all(names) and len({*names}) == len(names):
            return names
    return [chain[0] for chain in chains]


def _id_of(name: str) -> str:
    return _OUTSIDE.sub("-", name).lstrip("._-")[:MAX_ID_LENGTH]


def adapter_problems(adapters: Sequence[AdapterFile]) -> Iterator[str]:
    """Yield what is wrong with several values of --adapter: their number, ids and files."""
    if len(adapters) > MAX_ADAPTERS:
        yield f"--adapter is given {len(adapters)} times: give at most {MAX_ADAPTERS}"
    for one in adapters:
        if len(one.id) > MAX_ID_LENGTH or not re.fullmatch(ID_PATTERN, one.id):
            yield (
                f"--adapter: {one.id!r} cannot be an id: give ID=PATH, with an id of letters, "
                "digits, '.', '_' and '-'"
            )
    ids = [one.id for one in adapters]
    for name in dict.fromkeys(name for name in ids if ids.count(name) > 1):
        paths = shortened([shown_path(one.path) for one in adapters if one.id == name])
        yield f"--adapter: {paths} have the id {name!r}: give other ids as ID=PATH"
    yield from missing_adapters(adapters)


def one_adapter(manifest: Manifest, replacement: Path | None) -> Path | None:
    """Return the one mapper that replaces the family's; None for the family's own, or several."""
    if replacement is not None:
        return replacement
    only = manifest.adapters[0] if len(manifest.adapters) == 1 else None
    return None if only is None else manifest.folder / only.path


def adapter_of_trial(
    manifest: Manifest, replacement: Path | None, adapter: str | None
) -> Path | None:
    """Return the mapper that a trial of a run is rendered with; None for the family's own."""
    if adapter is None:
        return one_adapter(manifest, replacement)
    found = (one.path.resolve() for one in several_adapters(manifest) if one.id == adapter)
    return next(found, None)


def several_adapters(manifest: Manifest) -> tuple[AdapterFile, ...]:
    """Return the mappers that a selected manifest compares; empty for one or none."""
    if len(manifest.adapters) < 2:
        return ()
    return tuple(AdapterFile(one.id, manifest.folder / one.path) for one in manifest.adapters)


def as_specs(adapters: Sequence[AdapterFile]) -> tuple[AdapterSpec, ...]:
    """Return adapters as entries of a manifest, not validated, with absolute paths."""
    return tuple(
        AdapterSpec.model_construct(id=one.id, path=str(one.path.expanduser().absolute()))
        for one in adapters
    )


def hashed_adapters(
    adapters: Sequence[AdapterFile], family: str, problems: list[str]
) -> tuple[dict[str, str], tuple[AdapterFile, ...]]:
    """Return the family's other weights and the adapters with their sha256.

    Those that are missing are left out. What is no mapper, and one under two ids, is added to the
    problems.
    """
    weights: dict[str, str] = {}
    found: list[AdapterFile] = []
    for one in adapters:
        if not one.path.exists():
            continue
        try:
            weights = family_fingerprint(family, adapter=one.path)
        except UserError as error:
            problems += error.problems
            continue
        found.append(replace(one, sha256=weights.pop("mapper", "")))
    problems += _twins(found)
    return weights, tuple(found)


def missing_adapters(adapters: Sequence[AdapterFile]) -> list[str]:
    """Return a problem for each adapter without a file or folder."""
    return [
        f"adapter {one.id!r}: there is nothing at {shown_path(one.path)}: check the path"
        for one in adapters
        if not one.path.exists()
    ]


def _twins(adapters: Sequence[AdapterFile]) -> Iterator[str]:
    """Find mappers with the same weights: their trials would share ids."""
    seen: dict[str, str] = {}
    for one in adapters:
        twin = seen.setdefault(one.sha256, one.id)
        if twin != one.id:
            yield f"adapters {twin!r} and {one.id!r} are the same mapper: remove one"


def mapper_weights(
    weights: Mapping[str, str], adapters: Sequence[AdapterFile], adapter: str | None
) -> dict[str, str]:
    """Return the weights that decide a variant's pixels: of several mappers its own."""
    if adapter is None:
        return dict(weights)
    return {**weights, "mapper": next(one.sha256 for one in adapters if one.id == adapter)}
