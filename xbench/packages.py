"""Whether the packages that Python imports are xbench's own, and whose they are otherwise.

xbench's distribution has packages with common names, such as `metrics`; another distribution or
folder can hide or overwrite one of them. Imports the standard library alone: nothing else of
xbench may be importable.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution

NAMES = (
    *("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter"),
    "xbench",
)
_ROOT = Path(__file__).resolve().parents[1]
_OWN_PLACE = (
    "install xbench in an environment of its own (`uv tool install`, `uvx`, or a new virtual "
    "environment)"
)
_INSTALL_AGAIN = "install xbench again"


@dataclass(frozen=True)
class Problem:
    """A package of xbench that is hidden, overwritten or missing, and what to do."""

    what: str
    fix: str


class Recorded(NamedTuple):
    """A file that the installer wrote: its path, its hash in base64, its size."""

    path: Path
    sha256: str
    n_bytes: int


def collision() -> str | None:
    """Return one message about every package that is not xbench's own; None if all are."""
    own = [_first_file(name) for name in NAMES]
    changed = _changed(file for file in _recorded() if file.path in own)
    if not (found := [*_hidden(), *_overwritten(changed)]):
        return None
    whats = dict.fromkeys(problem.what for problem in found)
    fixes = dict.fromkeys(problem.fix for problem in found)
    return f"{'; '.join(whats)}. To fix it, {'; '.join(fixes)}, or {_OWN_PLACE}"


def package_problems() -> list[Problem]:
    """Return every problem with the packages; each installed file is compared with its hash."""
    changed = _changed(_recorded())
    found = [*_hidden(), *_overwritten(changed)]
    if unclaimed := [path for path in changed if not _owners(path)]:
        found.append(Problem(f"{_counted(unclaimed)} changed or missing", _INSTALL_AGAIN))
    claimed: dict[str, list[Path]] = {}
    for path, owners in _claims().items():
        if path.is_relative_to(_ROOT) and path not in changed:
            for owner in owners:
                claimed.setdefault(owner, []).append(path)
    for owner, paths in claimed.items():
        what = f"{owner} claims the same file as xbench: {_counted(paths)}"
        found.append(Problem(what, f"uninstall {owner} and {_INSTALL_AGAIN}"))
    return found


def _first_file(name: str) -> Path:
    return _ROOT / name / "__init__.py"


def _hidden() -> Iterator[Problem]:
    """Find the packages that Python would import from elsewhere, or not at all."""
    for name in NAMES:
        spec = _spec_of(name)
        if spec is None or spec.origin is None:  # nothing, or a folder without __init__.py
            yield Problem(f"xbench's file {_shown(_first_file(name))} is missing", _INSTALL_AGAIN)
        elif Path(spec.origin).resolve() != _first_file(name):
            owners = _owners(Path(spec.origin).resolve())
            whose = f" ({' and '.join(owners)})" if owners else ""
            what = f"{_shown(spec.origin)}{whose} hides xbench's own package {name!r}"
            yield Problem(what, _remedy(Path(spec.origin), owners))


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module without a spec is in its place
        return None


def _remedy(origin: Path, owners: list[str]) -> str:
    """Return how to stop a file from being imported in the place of a package of xbench."""
    module = origin.parent if origin.name == "__init__.py" else origin
    entry = module.parent.resolve()
    searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if any(part and Path(part).resolve() == entry for part in searched):
        return f"remove {_shown(entry)} from PYTHONPATH"
    if owners:
        return f"uninstall {' and '.join(owners)}"
    if entry == Path.cwd():
        return "run it in another folder"
    return f"rename {_shown(module)}"


def _overwritten(changed: Iterable[Path]) -> Iterator[Problem]:
    """Find the distributions that have overwritten files of xbench."""
    by_owners: dict[str, list[Path]] = {}
    for path in changed:
        if owners := _owners(path):
            by_owners.setdefault(" and ".join(owners), []).append(path)
    for owners, paths in by_owners.items():
        fix = f"uninstall {owners} and {_INSTALL_AGAIN}"
        yield Problem(f"{owners} has overwritten {_counted(paths)} of xbench", fix)


def _counted(paths: list[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{_shown(paths[0])}{more}"


def _changed(files: Iterable[Recorded]) -> list[Path]:
    return [file.path for file in files if not _is_unchanged(file)]


def _recorded() -> Iterator[Recorded]:
    """Read the installer's list of xbench's files; empty for a checkout."""
    for record in _ROOT.glob("xbench-*.dist-info/RECORD"):
        for line in record.read_text(encoding="utf-8").splitlines():
            path, _, rest = line.partition(",sha256=")
            sha256, _, size = rest.partition(",")
            if size.isdecimal() and path.partition("/")[0] in NAMES:
                yield Recorded(_ROOT / path, sha256, int(size))


def _is_unchanged(file: Recorded) -> bool:
    try:
        if file.path.stat().st_size != file.n_bytes:
            return False
        digest = hashlib.sha256(file.path.read_bytes()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.sha256


def _owners(path: Path) -> list[str]:
    """Return name and version of the other distributions that a resolved path belongs to."""
    editable = [label for folder, label in _editable().items() if path.is_relative_to(folder)]
    return sorted({*_claims().get(path, ()), *editable})


@cache
def _others() -> list[tuple[str, Distribution]]:
    from importlib.metadata import distributions

    found = [(f"{d.name} {d.version}", d) for d in distributions()]
    return [(label, d) for label, d in found if not label.lower().startswith("xbench ")]


@cache
def _claims() -> dict[Path, list[str]]:
    """Map files named as xbench's packages to the other distributions that installed them."""
    found: dict[Path, list[str]] = {}
    for label, distribution in _others():
        for file in distribution.files or ():
            if file.parts[0].partition(".")[0] in NAMES and file.suffix != ".pyc":
                path = Path(str(distribution.locate_file(file))).resolve()
                found.setdefault(path, []).append(label)
    return found


@cache
def _editable() -> dict[Path, str]:
    """Map the folders of editable installs to their distributions."""
    found = {}
    for label, distribution in _others():
        try:
            origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        except ValueError:
            continue
        url = urlsplit(str(origin.get("url", "")))
        if url.scheme == "file" and origin.get("dir_info", {}).get("editable"):
            found[Path(unquote(url.path)).resolve()] = label
    return found


def _shown(path: Path | str) -> str:
    return ascii(str(path))  # without terminal codes
