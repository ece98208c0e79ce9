"""xbench plugins inspect: the format of a file and the part of it that would be applied."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo_lines, json_option

if TYPE_CHECKING:
    from plugins_manifest.formats import ModuleTable
    from runners.families.traits import Side


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Convert a pickled file in a process without rights, and inspect the result.",
)
@click.option(
    "--family",
    default="sd15",
    show_default=True,
    metavar="NAME",
    help="The family to attach it to; sd15 is the base model of several.",
)
@click.option(
    "--side",
    type=click.Choice(["base", "upgraded"]),
    default="base",
    show_default=True,
    help="The side of the family.",
)
def inspect_plugin(
    file: Path, *, as_json: bool, allow_pickle: bool, family: str, side: Side
) -> None:
    """Print the format of a plugin file, its safety, and what would be applied.

    Nothing in the file is executed. Exit code 0: all of it can be applied; 1: a part, or nothing.
    """
    from bench.errors import UserError
    from plugins_manifest.inspect import facts, inspect_file

    if not file.exists():
        raise UserError(f"{str(file)!r} is not a file: give a plugin's file or folder")
    found = facts(inspect_file(file, table=_table(family, side), allow_pickle=allow_pickle))
    if as_json:
        echo_lines(json.dumps(found, indent=2))
    else:
        echo_lines("\n".join(_lines(found)))
    if found["verdict"] != "ok":
        finish(NEGATIVE)


def _table(family: str, side: Side) -> ModuleTable:
    """Return the parameters of a side of a family, without loading torch."""
    from plugins_manifest.errors import UserError, unknown_name
    from plugins_manifest.formats import sd15_table
    from plugins_manifest.installed import installed
    from runners.families import family_traits

    if family == "sd15" and side == "base":
        return sd15_table()
    if family not in installed("families"):
        raise UserError(unknown_name("family", family, ["sd15", *installed("families")]))
    table = family_traits(family).module_table(side)
    if table is None:
        raise UserError(f"the parameters of family {family!r} are not known before it is loaded")
    return table


def _lines(found: Mapping[str, Any]) -> list[str]:
    """Return the facts as lines for people; the verdict is the last one."""
    lines = [
        f"file        {found['file']} ({found['bytes'] / 2**20:.2f} MiB)",
        f"safety      {_SAFETY[found['safety']]}",
    ]
    if "format" in found:
        lines += _content(found)
    for problem in found["problems"]:
        lines.append(f"problem     {problem['reason']}: {problem['message']}")
    listed = Counter(problem["reason"] for problem in found["problems"])
    more = {reason: n - listed[reason] for reason, n in found["n_problems_of"].items()}
    lines += [f"            and {n} more: {reason}" for reason, n in more.items() if n]
    return [*lines, f"verdict     {found['verdict']}: {_VERDICTS[found['verdict']]}"]


def _content(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"format      {found['format']}: {found['format_note']}",
        f"kind        {found['kind']}",
        f"base model  {found['base_model']} (by the tensors' shapes)",
        f"tensors     {found['n_tensors']}: {_counted(found['dtypes'])}",
        f"used        {found['keys_used']} keys used, {found['keys_unused']} not",
    ]
    if found["n_changes"]:
        with_alpha = f"{found['n_with_alpha']} of {found['n_changes']} with alpha"
        lines.append(f"changes     {_counted(found['formulas'])}; {with_alpha}")
        lines += [f"            {count:>4} {layer}" for layer, count in found["targets"].items()]
    if found["ranks"]:
        lines.append(f"rank        {', '.join(found['ranks'])}")
    for token, n_vectors in found["embeddings"].items():
        lines.append(f"embedding   {token}: {n_vectors} vectors")
    for name, value in found["metadata"].items():
        lines.append(f"metadata    {name} = {value}")
    lines += [f"note        {note}" for note in found["notes"]]
    if found["n_metadata"] > len(found["metadata"]):
        lines.append(f"            and {found['n_metadata'] - len(found['metadata'])} more")
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


_SAFETY = {
    "data-only": "safetensors: data only, no code",
    "converted": "a pickle, converted without running its code; use the safetensors file",
    "pickle": "a pickle: it may run code and was not opened (--allow-pickle converts it)",
    "refused": "refused: not a well-formed safetensors file",
}
_VERDICTS = {
    "ok": "everything in it can be applied",
    "partial": "only a part can be applied; a run refuses it unless allow_partial is true",
    "wrong-base": "made for another base model",
    "no-change": "attaching it would change nothing",
    "unsupported": "a kind of file that cannot be attached",
    "broken": "no part of it is readable; fetch it again",
    "unsafe": "it may run code; look for a safetensors version",
}
