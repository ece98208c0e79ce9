"""Inspect a plugin file without torch: what it is, if it is safe, what of it would be applied.

Nothing in the file is executed. A pickle is only detected or, with `allow_pickle`, converted in a
separate process.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from plugins_manifest.formats import (
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
    UnsafeFile,
    parse,
)
from plugins_manifest.formats.magic import PICKLED
from plugins_manifest.formats.side_files import network_config, read_plugin, weights_file
from plugins_manifest.formats.usable import pooling_problem
from plugins_manifest.formats.values import read_values, value_problems
from plugins_manifest.inspect.pickle_convert import convert_pickle

Safety = Literal["data-only", "converted", "pickle", "refused"]
Verdict = Literal["ok", "partial", "wrong-base", "no-change", "unsupported", "broken", "unsafe"]

_BROKEN = {"non-finite", "missing-key", "no-tensors"}


@dataclass(frozen=True)
class Inspection:
    """The findings about one file; `header` and `parsed` are None if it was not read.

    `safety`: data-only (safetensors), converted (a pickle, as temporary safetensors), pickle (not
    opened), refused (not weights, or an invalid header). `n_bytes` is the file's size, `folder` the
    name of the folder that holds it.
    """

    name: str
    folder: str
    n_bytes: int
    safety: Safety
    verdict: Verdict
    problems: tuple[Problem, ...] = ()
    header: Header | None = None
    parsed: ParsedPlugin | None = None
    formulas: Counter[str] = field(default_factory=Counter)

    @property
    def n_used(self) -> int:
        """The number of keys that are used."""
        return 0 if self.header is None else len(self.header.tensors) - self.n_unused

    @property
    def n_unused(self) -> int:
        """The number of unused keys."""
        return 0 if self.parsed is None else len(self.parsed.unknown_keys)


def inspect_file(
    path: Path,
    *,
    table: ModuleTable | None = None,
    allow_pickle: bool = False,
    condition: str | None = None,
) -> Inspection:
    """Inspect a file, or the one file of weights of a folder, against a model (SD1.5 for None).

    A pickle is opened only with `allow_pickle`, by a converter in a separate process. `condition`
    is what a ControlNet follows, where it is known. Raises `UserError` if the file cannot be read,
    and for a folder without one file of weights.
    """
    path = weights_file(path)
    try:
        return _inspect(path, path, table, safety="data-only", condition=condition)
    except UnsafeFile as error:
        if error.code not in PICKLED or not allow_pickle:
            return _refused(path, error)
    with tempfile.TemporaryDirectory(prefix="xbench-inspect-") as folder:
        converted = Path(folder) / "converted.safetensors"
        try:
            convert_pickle(path, converted)
            return _inspect(path, converted, table, safety="converted", condition=condition)
        except UnsafeFile as error:
            return _refused(path, error)


def _inspect(
    path: Path, weights: Path, table: ModuleTable | None, *, safety: Safety, condition: str | None
) -> Inspection:
    header = read_plugin(weights)
    parsed = parse(header, table)
    of_values = value_problems(read_values(weights, header), parsed)
    problems = (*parsed.problems, *_unpooled(path, header, parsed, condition), *of_values)
    return Inspection(
        name=path.name,
        folder=path.absolute().parent.name,
        n_bytes=path.stat().st_size,
        safety=safety,
        verdict=verdict_of(parsed, problems),
        problems=problems,
        header=header,
        parsed=parsed,
        formulas=Counter(change.formula for change in parsed.changes),
    )


def _unpooled(
    path: Path, header: Header, parsed: ParsedPlugin, condition: str | None
) -> list[Problem]:
    """Return the problem of a ControlNet that pools its condition and has no configuration."""
    if parsed.kind != "controlnet" or network_config(path, parsed.kind) is not None:
        return []
    why = pooling_problem(path, header.metadata, condition=condition)
    return [] if why is None else [Problem("bad-config", why)]


def verdict_of(parsed: ParsedPlugin, problems: tuple[Problem, ...]) -> Verdict:
    """Return the verdict of the worst finding, for a file that is safe to read."""
    reasons = {problem.reason for problem in problems}
    if reasons & _BROKEN:
        return "broken"
    if parsed.kind.startswith("unsupported:") or "bad-config" in reasons:
        return "unsupported"
    if "wrong-base" in reasons:
        return "wrong-base"
    if not parsed.changes and not parsed.other_keys:
        return "broken"
    if "no-change" in reasons:
        return "no-change"
    return "partial" if reasons or parsed.unknown_keys else "ok"


def _refused(path: Path, error: UnsafeFile) -> Inspection:
    is_pickle = error.code in PICKLED
    return Inspection(
        name=path.name,
        folder=path.absolute().parent.name,
        n_bytes=path.stat().st_size,
        safety="pickle" if is_pickle else "refused",
        verdict="unsafe" if is_pickle or error.code == "conversion-failed" else "broken",
        problems=(Problem(error.code, str(error)),),
    )
