"""`xbench merge`, the option --shard, and what is printed at the end of a shard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import is_quiet, json_option
from bench.cli.scoring import scoring_options
from bench.cli.tables import thresholds_of, verdict_policy_option
from plugins_manifest.errors import UserError
from plugins_manifest.extras import require_extra

if TYPE_CHECKING:
    from bench.plan.shards import Shard
    from bench.render.engine.choice import Workers


class ShardType(click.ParamType):
    """A shard such as 2/8."""

    name = "shard"

    def convert(
        self, value: str | Shard, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Return the shard; fail for any other text."""
        from bench.plan.shards import Shard

        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


class RunFolder(click.Path):
    """A run directory of this machine."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail for a URL, which would become the name of a folder."""
        if "://" in str(value):
            self.fail(
                f"{str(value)!r} is a URL: render into a folder, of a mounted bucket if need be; "
                "xbench merge makes one run of several, xbench publish uploads it",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@click.command()
@click.argument("out", type=RunFolder())
@click.argument("shards", metavar="[SHARD]...", nargs=-1, type=RunFolder())
@scoring_options
@verdict_policy_option
@json_option
def merge(
    out: Path,
    shards: tuple[Path, ...],
    *,
    metric_device: str,
    workers: Workers,
    verdict_policy: Path | None,
    as_json: bool,
) -> None:
    """Make one run of the shards in OUT and in other folders, and score it.

    SHARD is the --out of `xbench run --shard I/N`, copied from another machine, say. The shards are
    not changed.
    """
    from bench.cli.results import show_outcome
    from bench.run import RunRequest, merge_shards
    from bench.store import RunStore

    require_extra("render")
    outcome = merge_shards(
        out,
        shards,
        thresholds=thresholds_of(verdict_policy),
        show_progress=not (as_json or is_quiet()),
        metric_device=metric_device,
        workers=workers,
    )
    show_outcome(outcome, RunRequest(str(RunStore(out).manifest_path)), as_json=as_json)
    if outcome.n_failed:
        finish(NEGATIVE)
