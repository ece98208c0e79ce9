"""The command line. Every command imports its modules when it runs, so that help is fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from bench.cli.budget import BatchSizeOption, Duration
from bench.cli.cases import cases
from bench.cli.config import config
from bench.cli.convert import convert
from bench.cli.exits import INCONCLUSIVE, NEGATIVE, finish, guarded
from bench.cli.gate import GateFiles, gate, gate_files, policy_option
from bench.cli.gpus import device_options, gpu_options
from bench.cli.heartbeat import heartbeat
from bench.cli.inspect import inspect_plugin
from bench.cli.leaderboard import leaderboard, votes
from bench.cli.merge import RunFolder, ShardType, merge
from bench.cli.metrics import metrics
from bench.cli.new import new
from bench.cli.output import (
    accept_all_text,
    apply_options,
    echo_json,
    echo_lines,
    is_quiet,
    json_option,
    note,
)
from bench.cli.plugins import plugins
from bench.cli.publish import publish
from bench.cli.reference import reference
from bench.cli.results import answers_data, show_outcome, show_table
from bench.cli.scoring import metric_device_option, scoring_options
from bench.cli.site import site
from bench.cli.tables import figures_option, mode_option, thresholds_of, verdict_policy_option
from bench.cli.tools import cache, conditions, doctor, pocket
from bench.cli.train import train
from bench.cli.user_config import read_config
from bench.cli.will_it_work import will_it_work
from bench.cli.workers import worker_options
from plugins_manifest.extras import require_extra

if TYPE_CHECKING:
    from bench.plan.gpus import Gpus
    from bench.plan.metrics import Mode
    from bench.plan.shards import Shard
    from bench.render.engine.choice import Workers
    from bench.run import RunRequest
    from runners.base import Batch
    from runners.options import DeviceOptions

P = ParamSpec("P")


class Commands(click.Group):
    """The commands in sections; failures and interruptions are one clear message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, tuple[click.Command, ...]] = {}

    def add_sections(self, sections: Mapping[str, tuple[click.Command, ...]]) -> None:
        """Add commands under titles of the help."""
        self._sections.update(sections)
        for command in (command for commands in sections.values() for command in commands):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, in one column for all sections."""
        longest = max(map(len, self.commands))
        for title, commands in self._sections.items():
            lines = [
                (
                    f"{command.name:<{longest}}",
                    command.get_short_help_str(formatter.width - longest - 6),
                )
                for command in commands
            ]
            with formatter.section(title):
                formatter.write_dl(lines)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line of `xbench` itself."""
        accept_all_text()
        with guarded():
            context = super().make_context(*args, **kwargs)
            defaults = read_config(self)
            defaults.apply()
            context.default_map = defaults.default_map()
            return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever ends it early is one message and an exit code."""
        with guarded(), heartbeat(ctx):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xbench", prog_name="xbench")
@click.option("-v", "--verbose", count=True, help="Print the log too; -vv also its details.")
@click.option("-q", "--quiet", is_flag=True, help="Print results, warnings and errors alone.")
@click.pass_context
def main(ctx: click.Context, *, verbose: int, quiet: bool) -> None:
    """Do Stable Diffusion 1.5 plugins still work after an upgrade? Measure it.

    Start with:  xbench run --manifest pocket
    """
    apply_options(ctx, verbose=verbose, quiet=quiet)


def run_options(command: Callable[P, None]) -> Callable[P, None]:
    """Add the options that `run` and `plan` share."""
    options = (
        click.option("--manifest", metavar="NAME|PATH", help="What to evaluate."),
        click.option("--methods", multiple=True, metavar="A,B", help="Only these methods."),
        click.option("--t0", multiple=True, metavar="X,Y", help="Only these hand-over times."),
        click.option("--limit", type=int, metavar="N", help="Only the first N cases."),
        click.option("--seeds", multiple=True, metavar="A,B", help="Other seeds."),
        click.option(
            "--plugins", multiple=True, metavar="A,B", help="Only these plugins and stacks."
        ),
        click.option(
            "--adapter",
            multiple=True,
            metavar="[ID=]PATH",
            help="Another mapper: folder or file; given more than once, all are compared.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="TRIAL",
            help="Only this trial, by id or its beginning.",
        ),
        mode_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return wraps(command)(command)


@click.command()
@run_options
@click.option("--out", type=RunFolder(), help="Run directory [runs/NAME].")
@worker_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@device_options
@click.option("--cache/--no-cache", default=True, help="Use the image cache of all runs.")
@click.option("--fetch", is_flag=True, help="First download missing plugins and photos.")
@click.option(
    "--batch",
    type=BatchSizeOption(),
    help="Images in one call of the models [auto on a GPU, 12 on a CPU].",
)
@click.option(
    "--batch-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Fail a batch, or a metric, that hangs for longer than this [never].",
)
@click.option(
    "--max-time",
    type=Duration(),
    metavar="20m",
    help="Stop rendering after this time (90s, 20m, 1h30m); the same command goes on.",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after rendering N images, and those of the batch's step; the same command goes on.",
)
@click.option(
    "--shard",
    type=ShardType(),
    metavar="I/N",
    help="Render part I of N alone, into a folder that all parts may share; see xbench merge.",
)
@metric_device_option
@click.option("--dry-run", is_flag=True, help="Only print the plan.")
@click.option(
    "--baseline",
    metavar="RUN|URL",
    help="Compare with this run and stop once the gate is decided [manifest: that run's].",
)
@policy_option
@verdict_policy_option
@gate_files
@click.pass_context
def run(
    ctx: click.Context,
    *,
    as_json: bool,
    out: Path | None,
    fetch: bool,
    dry_run: bool,
    baseline: str | None,
    policy: Path | None,
    junit: Path | None,
    markdown: Path | None,
    pictures_url: str | None,
    **given: Any,
) -> None:
    """Render, score and compare; the same command resumes a run.

    Exit code 0: success; 1: some trials failed; 2: something to fix; 3: --max-time or --max-images
    was reached; 70: unexpected failure; 130: interrupted. With --baseline the codes are those of
    `xbench gate`, and the baseline is a run directory or what `xbench publish` wrote: URL#KEY, or
    URL#KEY@sha256:... for exactly those bytes.
    """
    if baseline is not None and given["shard"] is not None:
        raise click.UsageError("--shard excludes --baseline: merge, then xbench gate BASELINE RUN")
    compared = None
    files = GateFiles(junit, markdown, pictures_url)
    if baseline is None and files != GateFiles():
        raise click.UsageError("--junit, --markdown and --pictures-url need a --baseline")
    if baseline is not None:
        from bench.gate import manifest_of, open_baseline

        compared = open_baseline(baseline)
        given["manifest"] = given["manifest"] or manifest_of(compared)
    request = _request(out=out, show_progress=not (as_json or is_quiet()), **given)
    if not dry_run:
        require_extra("render")
    if fetch and not dry_run:
        from bench.cli.plugins import fetch_quietly

        fetch_quietly(given["manifest"], ctx.obj, limit=given["limit"])
    outlook = None
    if compared is not None:
        from bench.cli.gate import outlook_of, prepare_gate, run_and_gate

        if not dry_run:
            run_and_gate(request, compared, policy=policy, as_json=as_json, files=files)
        request = prepare_gate(request, compared, policy=policy)
        outlook = outlook_of(compared, policy=policy, limit=given["limit"])
    if dry_run:
        from bench.cli.plan import show_plan

        show_plan(request, as_json=as_json, outlook=outlook)
        return
    from bench.run import run_benchmark

    outcome = run_benchmark(request)
    show_outcome(outcome, request, as_json=as_json)
    if outcome.stopped:
        finish(INCONCLUSIVE)
    if outcome.n_failed:
        finish(NEGATIVE)


@click.command()
@run_options
@click.option(
    "--baseline", metavar="RUN|URL", help="Also print what a gate with it can decide [manifest]."
)
@policy_option
@gpu_options
def plan(
    *, as_json: bool, baseline: str | None, policy: Path | None, gpus: Gpus | None, **given: Any
) -> None:
    """Estimate the cost of a run and list missing downloads (offline).

    With --gpu also the time on such GPUs: counted operations at half of the type's peak, an
    assumption until --tflops gives the measured rate.

    With --baseline also list, for each test of the policy, how many prompts the baseline has, how
    many a pass needs, and whether one is possible.
    """
    from bench.cli.plan import show_plan

    outlook = None
    if policy is not None and baseline is None:
        raise click.UsageError("--policy needs a --baseline")
    if baseline is not None:
        from bench.cli.gate import outlook_of
        from bench.gate import manifest_of, open_baseline

        compared = open_baseline(baseline)
        given["manifest"] = given["manifest"] or manifest_of(compared)
        outlook = outlook_of(compared, policy=policy, limit=given["limit"])
    show_plan(_request(**given), as_json=as_json, outlook=outlook, gpus=gpus)


def _request(
    *,
    manifest: str | None,
    methods: Sequence[str],
    t0: Sequence[str],
    limit: int | None,
    seeds: Sequence[str],
    plugins: Sequence[str],
    adapter: Sequence[str],
    only: Sequence[str],
    mode: Mode | None,
    out: Path | None = None,
    device: str = "auto",
    cache: bool = True,
    show_progress: bool = True,
    verdict_policy: Path | None = None,
    batch: Batch = None,
    options: DeviceOptions | None = None,
    batch_timeout: float | None = None,
    max_time: float | None = None,
    max_images: int | None = None,
    shard: Shard | None = None,
    workers: Workers | None = None,
    metric_device: str = "auto",
) -> RunRequest:
    from bench.plan import Selection
    from bench.plan.adapters import parse_adapters
    from bench.plan.selection import parse_list
    from bench.render import Budget
    from bench.render.engine.choice import Workers
    from bench.run import RunRequest
    from runners.options import DeviceOptions

    if manifest is None:
        raise click.UsageError("Missing option '--manifest': try --manifest pocket")
    adapters = parse_adapters(adapter)
    selection = Selection(
        methods=parse_list(methods, str, option="--methods"),
        t0=parse_list(t0, float, option="--t0"),
        limit=limit,
        seeds=parse_list(seeds, int, option="--seeds"),
        adapter=adapters[0].path if len(adapters) == 1 else None,
        adapters=adapters if len(adapters) > 1 else None,
        plugins=parse_list(plugins, str, option="--plugins"),
        only=parse_list(only, str, option="--only"),
        mode=mode,
    )
    started = _process_start()
    age = max(0.0, time.time() - started)
    return RunRequest(
        manifest=manifest,
        selection=selection,
        out=out,
        device=device,
        use_cache=cache,
        show_progress=show_progress,
        thresholds=thresholds_of(verdict_policy),
        started=started,
        batch=batch,
        options=options or DeviceOptions(),
        batch_timeout=batch_timeout,
        budget=Budget(max_time, max_images, started=time.monotonic() - age),
        shard=shard,
        workers=workers or Workers(),
        metric_device=metric_device,
    )


def _process_start() -> float:
    import psutil

    return psutil.Process().create_time()


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--metrics", multiple=True, metavar="A,B", help="Only these metrics.")
@mode_option
@scoring_options
@verdict_policy_option
@json_option
def score(
    *,
    run_dir: Path,
    metrics: Sequence[str],
    mode: Mode | None,
    metric_device: str,
    workers: Workers,
    verdict_policy: Path | None,
    as_json: bool,
) -> None:
    """Score the images of a run again and write its tables."""
    from bench.plan.selection import parse_list
    from bench.run import score_and_tabulate
    from bench.store import RunStore

    require_extra("render")  # without it, every score would be missing
    seconds = score_and_tabulate(
        run_dir,
        metrics=parse_list(metrics, str, option="--metrics"),
        mode=mode,
        thresholds=thresholds_of(verdict_policy),
        show_progress=not (as_json or is_quiet()),
        metric_device=metric_device,
        workers=workers,
    )
    if as_json:
        echo_json({"seconds_in_metrics": seconds, **answers_data(RunStore.open(run_dir))})
    else:
        show_table(run_dir)


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@mode_option
@verdict_policy_option
@figures_option
@json_option
def report(
    *,
    run_dir: Path,
    mode: Mode | None,
    verdict_policy: Path | None,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Write a run's tables, report and plots again and print the tables."""
    from bench.errors import shown_path
    from bench.report.figures import open_figures, write_figures
    from bench.run import write_tables
    from bench.store import RunStore
    from bench.store.verify import TO_REPORT, require_sound

    thresholds = thresholds_of(verdict_policy)
    store = RunStore.open(run_dir)
    target = None if figures is None else open_figures(figures, store.folder)
    with store.lock():
        require_sound(store, TO_REPORT)
        write_tables(store, mode=mode, thresholds=thresholds)
        n_figures = 0 if target is None else write_figures(store, target)
    if as_json:
        from bench.store import records

        tables = {"summary": store.summary(), "compatibility": store.compatibility()}
        found = {name: records(frame) for name, frame in tables.items()}
        more = {} if figures is None else {"figures": str(figures), "n_figures": n_figures}
        echo_json({"report": str(store.report_path()), **more, **answers_data(store), **found})
    else:
        show_table(run_dir)
        if figures is not None:
            note(f"figures: {n_figures} files in {shown_path(figures)}")


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial")
@click.option("--python", is_flag=True, help="Print code that makes the image with diffusers.")
@json_option
def explain(run_dir: Path, trial: str, *, python: bool, as_json: bool) -> None:
    """Print one image's scores and settings, and how to render it again.

    TRIAL is the beginning of its id, or the path of its picture. --json prints everything.
    """
    from bench.cli.explain import explain_trial, find_trial
    from bench.cli.explain_output import trial_lines
    from bench.store import RunStore

    store = RunStore.open(run_dir)
    if python:
        from bench.cli.python_code import python_code

        echo_lines(python_code(store, find_trial(store, trial)).rstrip())
    elif as_json:
        echo_json(explain_trial(store, trial))
    else:
        echo_lines("\n".join(trial_lines(store, trial)))


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only verify; exit with 1 if anything is damaged.")
@json_option
def repair(run_dir: Path, check: bool, as_json: bool) -> None:
    """Verify every file of a run and repair what is damaged.

    Exit code 0: everything is sound; 1: something is damaged and was not repaired.
    """
    from bench.cli.repair import check_run, repair_run
    from bench.cli.repair_output import print_repair

    is_shown = not (as_json or is_quiet())
    found = check_run(run_dir) if check else repair_run(run_dir, show_progress=is_shown)
    print_repair(found, run_dir, is_checked=check, as_json=as_json)
    if found.not_repaired:
        finish(NEGATIVE)


plugins.add_command(inspect_plugin)
main.add_sections(
    {
        "Run": (plan, run, merge, score, report, explain, repair, gate),
        "Plugins and prompts": (will_it_work, convert, plugins, cases, conditions, reference),
        "Results": (site, publish, leaderboard, votes),
        "Tools": (metrics, new, train, pocket, config, cache, doctor),
    }
)


if __name__ == "__main__":
    main()
