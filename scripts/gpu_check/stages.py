"""Run stages one after the other, each in a process of its own, with limits of time.

A stage is a generator of rows; each row is kept as soon as it is measured. A stage that fails, that
runs out of time or whose process dies is recorded with the reason, and the next one starts on a
fresh device. The processes are forked from a server that has imported the libraries.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from bench.provenance import utc_now, versions
from bench.store.files import write_json
from plugins_manifest.installed import describe_error

Row = dict[str, Any]
Status = Literal["ok", "failed", "out of time"]
LIBRARIES = ("runners.group", "xadapter.pipeline", "diffusers", "transformers")


@dataclass(frozen=True)
class Setting:
    """What all stages share; `ceiling_tflops` is that of the first stage, None if it is missing."""

    device: str
    small: bool
    ceiling_tflops: float | None = None

    @property
    def is_cuda(self) -> bool:
        """Return whether the device is an NVIDIA GPU (or an AMD one, under torch's name)."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Stage:
    """A name, its share of the time in seconds, and what measures its rows."""

    name: str
    seconds: float
    rows: Callable[[Setting], Iterator[Row]]


@dataclass
class Outcome:
    """A stage's record; `reason` belongs to a status other than "ok"."""

    name: str
    status: Status = "ok"
    reason: str | None = None
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)


def run_stages(
    stages: Sequence[Stage],
    setting: Setting,
    *,
    out: Path,
    total_s: float,
    goals: Callable[[Mapping[str, Sequence[Row]]], list[Row]],
    on_end: Callable[[Outcome], None],
    preload: Sequence[str] = LIBRARIES,
) -> dict[str, Any]:
    """Run the stages within `total_s`; write `out` after each and return its content.

    Importing the libraries counts too; time that a stage leaves passes on to those after it.
    """
    started = time.monotonic()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload])
    _run(Stage("start", total_s, _no_rows), setting, context, limit_s=total_s)
    report: dict[str, Any] = {
        "schema": 1,
        "started": utc_now(),
        "device": setting.device,
        "size": "small" if setting.small else "real",
        "limit_s": total_s,
        "versions": versions(),
        "stages": [],
        "goals": [],
    }
    scheduled_s = time.monotonic() - started
    report["start_s"] = round(scheduled_s, 1)
    scale = (total_s - scheduled_s) / sum(stage.seconds for stage in stages)
    found: dict[str, list[Row]] = {}
    for stage in stages:
        scheduled_s += stage.seconds * scale
        outcome = _run(stage, setting, context, limit_s=started + scheduled_s - time.monotonic())
        found[stage.name] = outcome.rows
        ceiling = [row["ceiling_tflops"] for row in outcome.rows if "ceiling_tflops" in row]
        if ceiling:
            setting = Setting(setting.device, setting.small, ceiling[0])
        report["stages"].append(vars(outcome))
        report |= {"goals": goals(found), "seconds": round(time.monotonic() - started, 1)}
        write_json(out, report)
        on_end(outcome)
    return report


def _no_rows(_setting: Setting) -> Iterator[Row]:
    """Yield nothing: the server imports the libraries before its first process."""
    return iter(())


def _run(stage: Stage, setting: Setting, context: Any, *, limit_s: float) -> Outcome:
    """Run one stage in a process, which is killed when its time is up."""
    outcome, started = Outcome(stage.name), time.monotonic()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(stage.rows, setting, writer))
    process.start()
    writer.close()  # or the end of the process would not end the pipe
    try:
        while reader.poll(max(0.0, started + limit_s - time.monotonic())):
            kind, value = reader.recv()
            if kind == "end":
                break
            if kind == "failed":
                outcome.status, outcome.reason = "failed", value
                break
            outcome.rows.append(value)
        else:
            outcome.status = "out of time"
            outcome.reason = f"stopped after {max(0.0, limit_s):.0f} s"
    except EOFError:
        process.join()
        outcome.status = "failed"
        outcome.reason = f"the process ended with code {process.exitcode}"
    finally:
        if outcome.status == "out of time":
            process.kill()
        process.join()
        reader.close()
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _work(
    rows: Callable[[Setting], Iterator[Row]], setting: Setting, connection: Connection
) -> None:
    """Send the rows of a stage, then how it ended."""
    try:
        for row in rows(setting):
            connection.send(("row", row))
    except Exception as error:  # noqa: BLE001 - whatever a device raises is the stage's result
        connection.send(("failed", describe_error(error)))
    else:
        connection.send(("end", None))
