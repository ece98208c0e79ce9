"""Print a plan: images, time, disk, downloads, and what a gate can decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.cli.output import echo, echo_json, echo_lines
from plugins_manifest.text import duration, shortened

if TYPE_CHECKING:
    from bench.plan import MissingItem
    from bench.plan.gpus import Gpus
    from bench.plan.judges import Judge
    from bench.run import RunRequest

_N_LISTED = 6


def show_plan(
    request: RunRequest,
    *,
    as_json: bool,
    outlook: Mapping[str, Any] | None = None,
    gpus: Gpus | None = None,
) -> None:
    """Print the cost of a run and the missing files; raise `UserError` for mistakes.

    `outlook` is what a gate with a baseline can decide, `gpus` where the run is to be estimated.
    """
    from bench.cli.gpus import gpu_lines, memory_lines
    from bench.plan import estimate
    from bench.plan.cost import cost_facts
    from bench.plan.gpus import gpu_facts
    from bench.plan.judges import judge_remarks, judges
    from bench.plan.memory import memory_facts
    from bench.plan.speed import seconds_range
    from bench.run import look_ahead, trial_ids

    plan, missing = look_ahead(request)
    facts = cost_facts(plan)
    on_gpus = None if gpus is None else gpu_facts(plan, gpus)
    memory = memory_facts(plan, gpus)
    megabytes = sum(item.megabytes or 0 for item in missing)
    judged = judges(plan.manifest)
    if as_json:
        facts["judged_by"] = {
            name: {judge.role: judge.as_data() for judge in roles} for name, roles in judged.items()
        }
        facts["not_measured"] = [*judge_remarks(plan.manifest)]
        listed = [item.as_data() for item in missing]
        facts |= {"downloads_mib": round(megabytes * 1e6 / 2**20, 2), "missing": listed}
        low, high, is_measured = seconds_range(plan) or (None, None, False)
        facts |= {"seconds_low": low, "seconds_high": high, "is_measured": is_measured}
        facts |= {} if outlook is None else {"gate": outlook}
        facts |= {"engine": str(request.workers)}
        facts |= {} if on_gpus is None else {"gpus": on_gpus}
        facts |= {} if memory is None else {"memory": memory}
        echo_json({**facts, "trial_ids": trial_ids(request)})
        return
    echo(f"{plan.title}: {facts['trials']:,} images in {facts['batches']:,} batches")
    for method, count in facts["methods"].items():
        echo(f"  {method:<10} {count:,}")
    if plan.adapters:
        names = [one.id for one in plan.adapters]
        echo(f"adapters   {len(names)}: {shortened(names, _N_LISTED)}")
    if not request.workers.is_here:
        echo(f"engine     {request.workers}")
    echo(f"time       {_time(seconds_range(plan), estimate(plan).gpu_hours)}")
    for line in [] if on_gpus is None else gpu_lines(on_gpus):
        echo(line)
    for line in [] if memory is None else memory_lines(memory):
        echo(line)
    echo(f"disk       {_size(facts['disk_mib'] * 2**20 / 1e6)} of pictures")
    unknown = sum(item.megabytes is None and not item.is_own for item in missing)
    more = f", and {unknown} of unknown size" if unknown else ""
    echo(f"downloads  {'about ' if megabytes else ''}{_size(megabytes)}{more}")
    for line in _judged_lines(judged, [*judge_remarks(plan.manifest)]):
        echo(line)
    for line in [] if outlook is None else _outlook_lines(outlook):
        echo(line)
    if missing:
        echo_lines("\nMissing on this machine:")
        for line in _lines(missing):
            echo(line)


def _outlook_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return an outlook as an aligned table with its meaning below."""
    from bench.report import aligned, number

    tests: Sequence[Mapping[str, Any]] = facts["tests"]
    if not tests:
        return [f"gate       nothing to test: {facts['baseline']} has no scores of the policy"]
    header = ("plugin", "metric", "margin", "spread", "prompts", "needed", "can pass")
    rows = [
        (
            *(test["plugin"], test["metric"], number(test["margin"])),
            "unknown" if test["spread"] is None else f"at least {number(test['spread'])}",
            *(str(test["n_prompts"]), f"{test['needed_prompts']:,}"),
            "yes" if test["can_pass"] else "no",
        )
        for test in tests
    ]
    lines = [f"gate       against {facts['baseline']}", *aligned([header, *rows], indent="  ")]
    n = min(test["n_prompts"] for test in tests)
    if not facts["can_pass"]:
        needed = f"{facts['needed_prompts']:,}"
        lines.append(f"           {n} prompts cannot pass: make a baseline of {needed}")
    least = facts["min_prompts_regression"]
    found = "can be" if n >= least else f"needs {least} prompts to be"
    lines.append(
        f"           a regression {found} found; identical images are recognized at any number"
    )
    return lines


def _judged_lines(judged: Mapping[str, Sequence[Judge]], remarks: Sequence[str]) -> Iterator[str]:
    """Yield a line for all plugins with the same judges, and what is not measured."""
    plugins: dict[str, list[str]] = {}
    for name, roles in judged.items():
        found = [
            f"{judge.role} {judge.metric}{'' if judge.measures else ' (weights missing)'}"
            for judge in roles
            if judge.metric
        ]
        plugins.setdefault(", ".join(found) or "nothing", []).append(name)
    for i, (text, names) in enumerate(plugins.items()):
        yield f"{'judged by' if i == 0 else '':<10} {text}: {shortened(names, _N_LISTED)}"
    for remark in remarks:
        yield f"{'':<10} {remark}"


def _lines(missing: Sequence[MissingItem]) -> list[str]:
    """Return the missing items by the command that fetches them."""
    by_command: dict[str, list[MissingItem]] = {}
    for item in missing:
        by_command.setdefault(item.get, []).append(item)
    lines = []
    for command, group in by_command.items():
        lines.append(f"  {command}")
        listed = group if len(group) <= _N_LISTED + 1 else group[:_N_LISTED]
        lines += [f"    {_line(item)}" for item in listed]
        if len(listed) < len(group):
            rest = group[len(listed) :]
            megabytes = sum(item.megabytes or 0 for item in rest)
            size = f", at least {_size(megabytes)}" if megabytes else ""
            lines.append(f"    and {len(rest)} more{size} (--json lists all)")
    return lines


def _line(item: MissingItem) -> str:
    size = f"about {_size(item.megabytes)}" if item.megabytes else "size unknown"
    notes = [] if item.is_own else [size]
    notes += [f"license: {item.license}"] if item.license else []
    return f"{item.what}  ({'; '.join(notes)})" if notes else item.what


def _time(found: tuple[float, float, bool] | None, gpu_hours: float | None) -> str:
    """Return a range of time; it is an estimate until this machine has rendered the family."""
    if found is None:
        return "not measured yet"
    low, high, is_measured = found
    ends = [duration(max(1.0, end)).removeprefix("about ") for end in (low, high)]
    text = " to ".join(dict.fromkeys(ends))
    if is_measured:
        return f"about {text}, as measured by runs on this machine"
    if gpu_hours is None:
        return f"estimate: {text}; no run has measured this machine yet"
    from bench.plan.cost import GPU_TFLOPS

    return (
        f"estimate: {text}; {gpu_hours:.2g} GPU-hours at {GPU_TFLOPS:.0f} TFLOP/s, half of an "
        "A100's peak; from counted operations, no run has measured this machine yet"
    )


def _size(megabytes: float) -> str:
    if megabytes >= 10_000:
        return f"{megabytes / 1000:.0f} GB"
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.1f} MB" if 0 < megabytes < 10 else f"{megabytes:.0f} MB"
