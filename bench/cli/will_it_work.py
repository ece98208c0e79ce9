"""xbench will-it-work: for which model a plugin file was made, and how much of it others load."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo_json, echo_lines, json_option, wrapped
from bench.errors import UserError

if TYPE_CHECKING:
    from plugins_manifest.fits import FileFit, Target, TargetFit
    from plugins_manifest.fits.advice import Upgrade
    from plugins_manifest.fits.file_fit import Share

SCHEMA = 1
_RESULTS = "XBENCH_RESULTS"
_PARTS = ("attention", "feed-forward", "convolution", "text encoder", "other")


@click.command("will-it-work")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--on",
    multiple=True,
    metavar="MODEL",
    help="The model to load it on, such as sdxl, pony, flux1-krea; several are possible "
    "[the model it was made for, and those that xbench upgrades it to].",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Convert a pickled file in a process without rights, and read the result.",
)
@json_option
def will_it_work(file: Path, *, on: Sequence[str], allow_pickle: bool, as_json: bool) -> None:
    """Print for which model a plugin FILE was made, and how much of it another model would load.

    Reads names, shapes and numbers of the file; nothing in it is executed, no model is loaded and
    no network request is made. Exit code 0: it fits; 1: not all of it, or no model is known for it.
    """
    from plugins_manifest.content import hash_path
    from plugins_manifest.fits import catalog_target, fit_file

    if not file.exists():
        raise UserError(f"{str(file)!r} is not a file: give a plugin's file or folder")
    others, upgrades = _families()
    targets = [catalog_target(word, others) for word in on]
    with _readable(file, allow_pickle=allow_pickle) as weights:
        found = fit_file(weights, on=targets, others=others, upgrades=upgrades, name=file)
    digest = hash_path(file)
    facts = as_data(found, sha256=digest, results=_results(digest))
    if as_json:
        echo_json(facts)
    else:
        echo_lines("\n".join(_lines(facts)))
    own = [fit for fit in found.targets if on or _is_own(found, fit)]
    if not own or any(fit.verdict != "fits" for fit in own):
        finish(NEGATIVE)


@contextmanager
def _readable(file: Path, *, allow_pickle: bool) -> Iterator[Path]:
    """Yield the file, or a conversion of a pickled one that lives as long as the context."""
    from plugins_manifest.formats import UnsafeFile
    from plugins_manifest.formats.magic import PICKLED, sniff
    from plugins_manifest.formats.side_files import weights_file
    from plugins_manifest.inspect import convert_pickle

    weights = weights_file(file)
    if sniff(weights) not in PICKLED:
        yield weights
        return
    if not allow_pickle:
        raise UnsafeFile(
            sniff(weights),
            f"{weights.name!a} is a pickle, which may run code, and was not opened: "
            "--allow-pickle converts it in a process without rights",
        )
    with tempfile.TemporaryDirectory(prefix="xbench-fits-") as folder:
        converted = Path(folder) / "converted.safetensors"
        convert_pickle(weights, converted)
        yield converted


def _families() -> tuple[list[Target], list[Upgrade]]:
    """Return the models of families that are not in the catalog, and the upgrades of all."""
    from plugins_manifest.fits import Target
    from plugins_manifest.fits.advice import Upgrade
    from plugins_manifest.formats.base_model import shipped_base
    from plugins_manifest.installed import installed
    from runners.families import family_traits

    models, upgrades = [], []
    for family in installed("families"):
        traits, bases = family_traits(family), []
        for side in ("base", "upgraded"):
            table = traits.module_table(side)
            if table is None:
                break
            name = f"{family}-{side}"
            known = next((model.name for model in models if model.table == table), name)
            bases.append(shipped_base(table) or known)
            if bases[-1] == name:
                models.append(Target(name, f"{family}'s {side} model", table))
        else:
            methods = {} if traits.takes_mapper else {"methods": "sdedit and delta"}
            upgrades.append(Upgrade(family, *bases, **methods))
    return models, upgrades


def _results(sha256: str) -> list[dict[str, Any]]:
    """Return what the shipped results, and those of XBENCH_RESULTS, measured of the file."""
    from bench.publish.measured import measured

    spec = find_spec("leaderboard")
    folders = [Path(spec.origin).parent / "shipped"] if spec and spec.origin else []
    named = os.environ.get(_RESULTS)
    if named and "://" not in named:
        folders.append(Path(named).expanduser())
    return [vars(row) for folder in folders for row in measured(sha256, folder)]


def as_data(found: FileFit, *, sha256: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all findings as JSON types; docs/will-it-work.md has the schema."""
    from plugins_manifest.outputs import escaped_line

    made_for = found.made_for
    return {
        "schema": SCHEMA,
        "file": escaped_line(found.path.name),
        "sha256": sha256,
        "kind": found.kind,
        "format": found.format,
        "formulas": found.formulas,
        "made_for": None
        if made_for is None
        else {
            "model": made_for.target.name,
            "title": made_for.target.title,
            "also": list(made_for.also),
            "note": made_for.target.note,
            "evidence": list(made_for.evidence),
        },
        "energy": found.energy,
        "targets": [_target_data(fit) for fit in found.targets],
        "results": [dict(row) for row in results],
        "problems": [
            {"reason": problem.reason, "message": escaped_line(problem.message, longest=400)}
            for problem in found.problems
        ],
    }


def _target_data(fit: TargetFit) -> dict[str, Any]:
    return {
        "model": fit.target.name,
        "title": fit.target.title,
        "verdict": fit.verdict,
        "words": fit.words,
        **_share_data(fit.total),
        "other_shape": fit.other_shape,
        "missing": fit.missing,
        "parts": {part: _share_data(share) for part, share in fit.parts.items()},
        "diffusers": fit.diffusers,
        "next": fit.advice,
    }


def _share_data(share: Share) -> dict[str, Any]:
    ratio = share.loaded / share.layers if share.layers else 0.0
    return {
        "layers": share.layers,
        "loaded": share.loaded,
        "share": ratio,
        "energy_share": share.energy,
    }


def _is_own(found: FileFit, fit: TargetFit) -> bool:
    return found.made_for is not None and found.made_for.target.name == fit.target.name


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """Return a sentence, a table of the models, and what to do on each."""
    made_for, targets = facts["made_for"], facts["targets"]
    lines = [wrapped(_sentence(facts))]
    if made_for is not None:
        lines += [wrapped(f"  {reason}") for reason in made_for["evidence"]]
        if made_for["note"]:
            lines.append(wrapped(f"  {made_for['note']}"))
    lines += [wrapped(f"  {p['reason']}: {p['message']}") for p in facts["problems"][:4]]
    if targets:
        lines += ["", *_table(targets), ""]
        lines += [wrapped(f"{fit['model']}: {fit['next']}") for fit in targets]
    lines += [wrapped(_measured_line(row)) for row in facts["results"]]
    return lines


def _sentence(facts: Mapping[str, Any]) -> str:
    made_for, what = facts["made_for"], f"{facts['kind']}, layout {facts['format']}"
    if made_for is None:
        return f"{facts['file']} ({what}) was made for none of the known models."
    also = f" (or {', '.join(made_for['also'])})" if made_for["also"] else ""
    return f"{facts['file']} ({what}) was made for {made_for['title']}{also}."


def _table(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    from bench.report import aligned

    parts = [p for p in _PARTS if any(p in fit["parts"] for fit in targets)]
    rows = [["model", "verdict", "layers", "update", *parts]]
    for fit in targets:
        cells = [_of(fit["parts"][p]) if p in fit["parts"] else "" for p in parts]
        energy = fit["energy_share"]
        update = "" if energy is None else _percent(energy)
        rows.append([fit["model"], fit["words"], _of(fit), update, *cells])
    return aligned(rows)


def _of(share: Mapping[str, Any]) -> str:
    return f"{share['loaded']} of {share['layers']}"


def _percent(share: float) -> str:
    """Return a share in whole percent; 100 % is all of it, 0 % nothing."""
    percent = share * 100
    if 0 < percent < 1:
        return "< 1 %"
    return f"{math.floor(percent) if percent < 100 else 100} %"


def _measured_line(row: Mapping[str, Any]) -> str:
    ends = "" if row["low"] is None else f" ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
    return (
        f"measured: {row['method']} keeps {100 * row['retention']:.0f} %{ends} of its function in "
        f"family {row['family']} (run {row['run']}, verdict {row['verdict']})"
    )
