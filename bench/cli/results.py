"""Print what a run has found: its tables, its answers in words, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.budget import stopped_line
from bench.cli.output import echo, echo_json, echo_lines, note, width

if TYPE_CHECKING:
    from bench.run import RunOutcome, RunRequest
    from bench.store import RunStore

_N_SHARDS = 8  # listed by name


def show_outcome(outcome: RunOutcome, request: RunRequest, *, as_json: bool) -> None:
    """Print the end of a run."""
    from bench.cli.next_steps import failure_lines, next_lines
    from bench.errors import shown_path
    from bench.store import RunStore
    from plugins_manifest.text import duration

    if outcome.shard is not None:
        _show_shard(outcome, as_json=as_json)
        return
    store = RunStore(outcome.folder)
    report = store.report_path()
    if as_json:
        facts = {**vars(outcome), "folder": shown_path(outcome.folder)}
        echo_json({**facts, "report": shown_path(report), **answers_data(store)})
        return
    show_table(outcome.folder)
    done = outcome.n_trials - outcome.n_failed - outcome.n_open
    cached = f" ({outcome.n_cached} from the cache)" if outcome.n_cached else ""
    note(f"\n{done} of {outcome.n_trials} images, {outcome.n_failed} failed{cached}")
    for line in failure_lines(store, is_merged=outcome.is_merged):
        note(line)
    if outcome.stopped:
        echo(stopped_line(outcome), err=True)
    if outcome.was_finished:
        note("nothing was left to do")
    elif outcome.overhead is not None:
        note(
            f"took {duration(outcome.wall_seconds).removeprefix('about ')}, "
            f"{100 * outcome.overhead:.1f} % of it outside models and metrics"
        )
    for line in () if outcome.stopped else next_lines(store, request):
        note(line)


def _show_shard(outcome: RunOutcome, *, as_json: bool) -> None:
    """Print the end of a shard that is not the last one: what it made, and what is left."""
    from bench.cli.next_steps import failure_lines
    from bench.errors import shown_path
    from bench.store import RunStore
    from plugins_manifest.text import duration, shell_command, shortened

    if as_json:
        echo_json({**vars(outcome), "folder": shown_path(outcome.folder)})
        return
    done = outcome.n_trials - outcome.n_failed - outcome.n_open
    cached = f" ({outcome.n_cached} from the cache)" if outcome.n_cached else ""
    echo(
        f"shard {outcome.shard}: {done} of {outcome.n_trials} images, {outcome.n_failed} "
        f"failed{cached}, took {duration(outcome.wall_seconds).removeprefix('about ')}"
    )
    for line in failure_lines(RunStore(outcome.folder)):
        note(line)
    if outcome.stopped:
        echo(stopped_line(outcome), err=True)
    merge = shell_command(["xbench", "merge", outcome.folder.parents[1]])
    if outcome.open_shards:
        note(f"not complete in this folder: shards {shortened(outcome.open_shards, _N_SHARDS)}")
        note(f"the last one writes the tables; of folders apart: {merge} FOLDER...")
    elif not outcome.stopped:
        note(f"another process merges the shards; if it was ended: {merge}")


def show_table(folder: Path) -> None:
    """Print the table of each plugin, then the answers, worst first: the end is read first."""
    from bench.render import remarks
    from bench.report import format_answers, format_summary
    from bench.store import RunStore

    store = RunStore.open(folder)
    compatibility = store.compatibility()
    echo_lines(format_summary(store.summary(), remarks(store), compatibility))
    if text := format_answers(compatibility, width=width()):
        echo_lines(f"\n{text}")


def answers_data(store: RunStore) -> dict[str, Any]:
    """Return the answers for scripts: the same words, in the same order."""
    from bench.analysis import answers, run_sentence
    from bench.store import records

    found = answers(records(store.compatibility()))
    return {"sentence": run_sentence(found), "answers": [answer.as_data() for answer in found]}
