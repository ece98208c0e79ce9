"""Print what `xbench repair` found and did."""

from __future__ import annotations

import json
from pathlib import Path

from bench.cli.output import echo, echo_lines, note
from bench.cli.repair import Repair
from bench.errors import shown_path


def print_repair(found: Repair, folder: Path, *, is_checked: bool, as_json: bool) -> None:
    """Print a line for each damaged file, then a summary."""
    if as_json:
        echo_lines(json.dumps({"run": shown_path(folder), **found.as_data()}, indent=2))
        return
    for damage in found.damaged:
        echo(f"damaged: {damage}")
    if not is_checked:
        for name in found.repaired:
            echo(f"repaired: {name}")
        for name, why in found.not_repaired.items():
            echo(f"not repaired: {name}: {why}")
    if found.n_unplanned:
        note(f"{found.n_unplanned} results are of trials that the plan does not have")
    if not found.damaged:
        note(f"{shown_path(folder)} is sound")
    elif is_checked:
        note(f"xbench repair {shown_path(folder)} repairs what it can")
