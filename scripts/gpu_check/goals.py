"""The goals that the rows are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpu_check.stages import Row

SHARE, LATER_SHARE = 0.5, 0.6  # of the ceiling, compiled
TIMES_RELEASED = 2.0
IDLE = 0.1


def goals_of(rows: Mapping[str, Sequence[Row]], *, small: bool) -> list[Row]:
    """Return each goal, what was measured, and whether it is met; None where it is missing.

    Of several measurements the one of the largest batch counts, which is the last. Speed is judged
    on models of real size alone.
    """
    share = _last(rows, "compiled", "share_of_ceiling")
    times = _last(rows, "released", "times_faster")
    idle = _last(rows, "end-to-end", "idle_share")
    found = [
        _goal(f"compiled share of the ceiling >= {SHARE}, later {LATER_SHARE}", share, SHARE),
        _goal(f"times faster than the released loop >= {TIMES_RELEASED:g}", times, TIMES_RELEASED),
        _goal(f"idle share <= {IDLE}", idle, -IDLE),
    ]
    if small:
        found = [{**goal, "is_met": None} for goal in found]
    return [
        *found,
        _held("CPU and device agree, and every batch", rows, "agreement", ("agrees",)),
        _held(
            "compiled offsets act, equal to eager",
            rows,
            "compiled",
            ("offsets_act", "equals_eager"),
        ),
    ]


def _last(rows: Mapping[str, Sequence[Row]], stage: str, name: str) -> float | None:
    found = [row[name] for row in rows.get(stage, ()) if row.get(name) is not None]
    return found[-1] if found else None


def _goal(text: str, measured: float | None, least: float) -> Row:
    """Return a goal; a negative `least` is a limit from above."""
    is_met = None
    if measured is not None:
        is_met = measured >= least if least > 0 else measured <= -least
    return {"goal": text, "measured": measured, "is_met": is_met}


def _held(text: str, rows: Mapping[str, Sequence[Row]], stage: str, names: Sequence[str]) -> Row:
    found = [row[name] for row in rows.get(stage, ()) for name in names if name in row]
    n_true = sum(found)
    return {
        "goal": text,
        "measured": f"{n_true} of {len(found)}" if found else None,
        "is_met": n_true == len(found) if found else None,
    }
