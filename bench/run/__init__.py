"""Run a benchmark from the request to the tables, whole or in shards."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.run.benchmark import (
        RunOutcome,
        RunRequest,
        look_ahead,
        open_job,
        plan_run,
        run_benchmark,
        trial_ids,
    )
    from bench.run.merge import merge_shards
    from bench.run.scores import score_and_tabulate, write_tables

__all__ = [
    "RunOutcome",
    "RunRequest",
    "look_ahead",
    "merge_shards",
    "open_job",
    "plan_run",
    "run_benchmark",
    "score_and_tabulate",
    "trial_ids",
    "write_tables",
]
_HOMES = dict.fromkeys(__all__, "bench.run.benchmark") | {
    "merge_shards": "bench.run.merge",
    "score_and_tabulate": "bench.run.scores",
    "write_tables": "bench.run.scores",
}
__getattr__ = lazy_names(__name__, _HOMES)
