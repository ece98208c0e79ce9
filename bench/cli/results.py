"""Print what a run has found: its tables, its answers in words, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.budget import stopped_line
from bench.cli.output import echo, echo_json, echo_lines, note, width

if TYPE_CHECKING:
    from bench.run import RunOutcome, RunRequest
    from bench.store import RunStore


def show_outcome(outcome: RunOutcome, request: RunRequest, *, as_json: bool) -> None:
    """Print the end of a run."""
    from bench.cli.next_steps import failure_lines, next_lines
    from bench.errors import shown_path
    from bench.store import RunStore
    from plugins_manifest.text import duration

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
    for line in failure_lines(store):
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
