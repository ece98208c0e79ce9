"""All formulas: the modules of this folder, and those that other packages install.

Every module here lists its formulas in `SPECS`. Another package names each `FormulaSpec` in an
entry point of group `xbench.formulas`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType

from plugins_manifest.errors import UserError
from plugins_manifest.formats.formulas.spec import SHARED, SHARED_KEYS, FormulaSpec, KeyPart, Shapes
from plugins_manifest.installed import installed, load_entry


@cache
def formulas() -> Mapping[str, FormulaSpec]:
    """Return every formula by name, those of this folder first.

    Raises `UserError` for an installed formula that cannot be imported, or that takes the name or
    a key of another one.
    """
    found: dict[str, FormulaSpec] = {}
    for spec, origin in (*_built_in(), *_installed()):
        taken = [end for end in (*spec.keys, *spec.bias_keys) if end in _endings(found.values())]
        if spec.name in found or taken:
            what = f"the name {spec.name!r}" if spec.name in found else f"the key {taken[0]!r}"
            raise UserError(f"formula {spec.name!r} ({origin}): {what} is taken: choose another")
        found[spec.name] = spec
    for spec in found.values():
        if spec.family not in found:
            raise UserError(f"formula {spec.name!r}: there is no formula {spec.family!r}")
    return MappingProxyType(found)


def variant(family: str, shapes: Shapes) -> FormulaSpec:
    """Return the formula of a family that parts of these shapes make."""
    for spec in formulas().values():
        if spec.family == family and spec.applies is not None and spec.applies(shapes):
            return spec
    return formulas()[family]


def split_key(key: str, keys: Collection[str]) -> KeyPart | None:
    """Take a key apart; None where no formula has such a part. `keys` are all keys of the file."""
    endings = _all_endings()
    for n_dots in (1, 2):
        module, *end = key.rsplit(".", n_dots)
        family, part, is_bias = endings.get("." + ".".join(end), ("", "", False))
        if part and module:
            return KeyPart(module, family, part, "kohya", is_bias)
    found = (split(key, keys) for split in _splitters())
    return next((part for part in found if part is not None), None)


def _built_in() -> Iterator[tuple[FormulaSpec, str]]:
    package = __name__.rpartition(".")[0]
    for info in iter_modules([str(Path(__file__).parent)], f"{package}."):
        for spec in getattr(import_module(info.name), "SPECS", ()):
            yield spec, info.name


def _installed() -> Iterator[tuple[FormulaSpec, str]]:
    for name, point in sorted(installed("formulas").items()):
        spec = load_entry("formulas", name)
        if not isinstance(spec, FormulaSpec):
            raise UserError(f"formula {name!r} ({point.value}) is not a FormulaSpec")
        yield spec, point.value


def _endings(specs: Collection[FormulaSpec]) -> dict[str, tuple[str, str, bool]]:
    """Map the end of a key to (family, part, whether it changes the bias)."""
    found = {end: (SHARED, part, False) for end, part in SHARED_KEYS.items()}
    for spec in specs:
        found |= {end: (spec.family, part, False) for end, part in spec.keys.items()}
        found |= {end: (spec.family, part, True) for end, part in spec.bias_keys.items()}
    return found


@cache
def _all_endings() -> Mapping[str, tuple[str, str, bool]]:
    return MappingProxyType(_endings(formulas().values()))


@cache
def _splitters() -> tuple[Callable[[str, Collection[str]], KeyPart | None], ...]:
    return tuple(spec.split for spec in formulas().values() if spec.split is not None)
