"""Options of the commands that write a run's tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from metrics.stats.verdicts import Thresholds

mode_option = click.option(
    "--mode",
    type=click.Choice(["honest", "paper"]),
    help="Which reference metrics are computed and reported [manifest].",
)
verdict_policy_option = click.option(
    "--verdict-policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Thresholds of the verdicts works, degraded and lost [shipped].",
)
figures_option = click.option(
    "--figures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write figures and tables for a paper here: PDF, SVG, LaTeX, CSV.",
)


def thresholds_of(policy: Path | None) -> Thresholds | None:
    """Read a user's thresholds before anything runs; None for the shipped ones."""
    from bench.analysis.verdict_policy import load_thresholds

    return None if policy is None else load_thresholds(policy)
