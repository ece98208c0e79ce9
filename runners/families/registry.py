"""Families: what an entry point of group `xbench.families` provides, and how it is looked up.

Imports no torch, so that a plan can be made at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from plugins_manifest.content import ChangedFileError, load_as_planned, require_same
from plugins_manifest.errors import UserError
from plugins_manifest.installed import extension_errors, installed, load_entry
from runners.families.traits import FamilyTraits

if TYPE_CHECKING:
    from runners.families.family import Family

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class AdapterFile:
    """One of several mappers of a run: a folder or a file, with its sha256 once it is known."""

    id: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class MapperProblem:
    """Why a family has no mapper here, how to get one, and the size of its file."""

    what: str
    how: str
    megabytes: int | None = None

    def __str__(self) -> str:
        """Return both as one message."""
        return f"{self.what}: {self.how}"


def no_mapper_between(family: str) -> MapperProblem:
    """Return why a family whose sides have one layout has no mapper."""
    what = f"both models of {family!r} have one layout, so there is no mapper between them"
    return MapperProblem(what, "load the plugins with the method 'direct'")


def no_sites(family: str) -> MapperProblem:
    """Return why a family whose upgraded model is no UNet has no mapper."""
    what = (
        f"the upgraded model of {family!r} is a transformer, and X-Adapter's mapper changes the "
        "features of a UNet"
    )
    return MapperProblem(what, "use the methods 'sdedit' and 'delta', which need no mapper")


def never_a_mapper(family: str) -> MapperProblem | None:
    """Return why there can be no mapper between a family's models; None if there can."""
    traits = family_traits(family)
    if traits.one_layout:
        return no_mapper_between(family)
    return None if traits.takes_mapper else no_sites(family)


class FamilySource(Protocol):
    """A family before it is loaded; importing its module loads no torch.

    Attributes named as those of `runners.families.traits.FamilyTraits` are optional.
    """

    name: str

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return part name -> sha256 of everything of the family that decides pixels."""
        ...

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return why a method that needs a mapper cannot run; None if there is a mapper."""
        ...

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load both pipelines and the mapper; raise `UserError` for what is missing."""
        ...


def find_family(name: str) -> FamilySource:
    """Look a family up among the installed ones; `UserError` names the nearest."""
    found: FamilySource = load_entry("families", name, contract=FamilySource)
    return found


@cache
def family_traits(name: str) -> FamilyTraits:
    """Return the traits of a family; those that it does not declare, or all if it is not installed,
    have their defaults.
    """
    if name not in installed("families"):
        return FamilyTraits()
    source = find_family(name)
    names = [field.name for field in fields(FamilyTraits)]
    with extension_errors(f"family {name!r}", "has broken traits"):
        own = {name: getattr(source, name) for name in names if hasattr(source, name)}
        return FamilyTraits(**own)


def family_fingerprint(name: str, *, adapter: Path | None = None) -> dict[str, str]:
    """Return part name (base, upgraded, mapper) -> sha256; `adapter` replaces the family's mapper.

    Raises `UserError` for an unknown family and for a missing adapter.
    """
    source = find_family(name)
    with extension_errors(f"family {name!r}", "has no fingerprint"):
        found = source.fingerprint(adapter)
        are_hashes = isinstance(found, dict) and all(isinstance(v, str) for v in found.values())
        if not are_hashes or not {"base", "upgraded"} <= found.keys():
            raise TypeError(f"it returned {found!r}, not the sha256 of base and upgraded")
    return found


def load_family(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    adapter: Path | None = None,
    planned: Mapping[str, str] | None = None,
    adapters: Sequence[AdapterFile] = (),
) -> Family:
    """Load a family by name; `adapter` replaces its mapper (a folder, .safetensors or .bin).

    `adapters` are several mappers in its place: the first is loaded with the models, the others
    beside them. Those with a sha256 are loaded only as planned.

    Raises `UserError` for unknown names, missing files, and a mapper that does not fit;
    `ChangedFileError` for parts whose hashes are not the `planned` fingerprint.
    """
    if adapters:
        return _with_adapters(name, adapters, device=device, dtype=dtype, planned=planned)
    source = find_family(name)

    def load() -> Family:
        with extension_errors(f"family {name!r}", "cannot be loaded"):
            return source.load(device=device, dtype=dtype, adapter=adapter)

    if planned is None:
        return load()
    _require_parts(name, planned, adapter)
    if adapter is None or "mapper" not in planned:
        loaded = load()
    else:
        loaded = _as_planned(name, adapter, planned["mapper"], load, what="the mapper")
    _require_parts(name, planned, adapter)
    return loaded


def reload_mapper(family: Family, adapter: Path, *, planned: Mapping[str, str]) -> Family:
    """Return a loaded family with the mapper of another file; it shares the models.

    Raises `UserError` and `ChangedFileError` as `load_family` does.
    """
    from runners.families.family import load_mapper_of

    _require_parts(family.name, planned, adapter)
    load = partial(load_mapper_of, family, adapter)
    mapper = _as_planned(family.name, adapter, planned["mapper"], load, what="the mapper")
    return replace(family, mapper=mapper)


def _with_adapters(
    name: str,
    adapters: Sequence[AdapterFile],
    *,
    device: str,
    dtype: str,
    planned: Mapping[str, str] | None,
) -> Family:
    from runners.families.family import load_mapper_of

    first, *others = adapters
    parts = planned if planned is None or not first.sha256 else {**planned, "mapper": first.sha256}
    family = load_family(name, device=device, dtype=dtype, adapter=first.path, planned=parts)
    if family.mapper is None:
        raise UserError(f"family {name!r} loads no mapper: it takes no --adapter")
    mappers = {first.id: family.mapper}
    for one in others:
        load, what = partial(load_mapper_of, family, one.path), f"the adapter {one.id!r}"
        mappers[one.id] = (
            _as_planned(name, one.path, one.sha256, load, what=what) if one.sha256 else load()
        )
    return replace(family, mapper=None, mappers=mappers)


def _as_planned(
    name: str, path: Path, sha256: str, load: Callable[[], Loaded], *, what: str
) -> Loaded:
    """Load what has a mapper in it, from a path whose hash must be the planned one."""

    def hash_of(path: Path) -> str:
        return family_fingerprint(name, adapter=path)["mapper"]

    what = f"{what} of family {name!r}"
    return load_as_planned(load, path, sha256, what=what, hash_of=hash_of)


def _require_parts(name: str, planned: Mapping[str, str], adapter: Path | None) -> None:
    try:
        found = family_fingerprint(name, adapter=adapter)
    except UserError as error:
        raise ChangedFileError(
            f"the planned weights of family {name!r} are not here any more: {error}"
        ) from error
    for part, sha256 in planned.items():
        where = f" at {adapter}" if part == "mapper" and adapter is not None else ""
        require_same(f"the {part} of family {name!r}{where}", sha256, found.get(part, "none"))
