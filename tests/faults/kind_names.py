"""Names that lead out of a folder: refused, or a file inside of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import yaml

from plugins_manifest.errors import UserError
from plugins_manifest.schema import load_manifest
from tests.faults.base import Fault, Kind

_PARTS = ("..", "../..", "/", "//", "\\", "..\\", "~", "C:", "\0", "\n", "\r", "\u202e", "a" * 300)
_PARTS += ("%2e%2e", "．．", ".", "", " ", "CON", "x/../../y", "-rf", "$(id)", "`id`", "|id", "*")  # noqa: RUF001


def _name(rng: Random) -> str:
    return "".join(rng.choice((*_PARTS, "etc", "passwd", "a")) for _ in range(rng.randint(1, 4)))


def _manifest(name: str, place: str) -> dict[str, object]:
    plugin = {"id": "p", "kind": "lora", "source": "pocket:ink-lora"}
    case = {"prompt": "a red circle", "id": "c"}
    if place == "plugin id":
        plugin["id"] = name
    elif place == "case id":
        case["id"] = name
    return {
        "schema": 1,
        "name": name if place == "manifest name" else "names",
        "family": "pocket",
        "plugins": [plugin],
        "cases": [case],
        "seeds": [0],
    }


def _in_manifest(folder: Path, *, name: str, place: str) -> None:
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump(_manifest(name, place)), "utf-8")
    try:
        load_manifest(path)
    except UserError:
        return
    # an accepted name is one component of a path
    parts = Path(name).parts
    assert len(parts) == 1 and parts[0] not in {".", ".."} and name.isprintable(), repr(name)


_PLACES: tuple[str, ...] = ("plugin id", "case id", "manifest name")


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        name, place = _name(rng), rng.choice(_PLACES)
        yield Fault(f"{place} {name!r}"[:120], partial(_in_manifest, name=name, place=place))


KIND = Kind("names", "B files", "a name never leads out of its folder", _faults, count=200)
