"""The options --engine, --workers and --devices: where images are rendered and scored."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from plugins_manifest.extras import require_extra

if TYPE_CHECKING:
    from bench.render.engine.choice import Count, EngineName, Workers

_MOST_WORKERS = 9999
_LONGEST_NUMBER = 4  # digits


class WorkerCount(click.ParamType):
    """A number of workers, or "auto"."""

    name = "N|auto"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> Count:
        """Return the number or "auto"; fail for anything else."""
        if value == "auto":
            return "auto"
        text = str(value)
        number = int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0
        if not 1 <= number <= _MOST_WORKERS:
            self.fail(f"{value!r} is not auto or a number from 1 to {_MOST_WORKERS}", param, ctx)
        return number


class DeviceList(click.ParamType):
    """GPUs by number, or "cpu" once for each process."""

    name = "0,1|cpu,cpu"

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """Return the names; fail for others, and for GPUs beside CPUs."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        are_gpus = all(n.isdecimal() and len(n) <= _LONGEST_NUMBER for n in names)
        if not are_gpus and set(names) != {"cpu"}:
            self.fail(
                f"{value!r} is not a list of GPUs such as 0,1,2,3, or of CPU processes such as "
                "cpu,cpu",
                param,
                ctx,
            )
        return tuple(str(int(name)) for name in names) if are_gpus else names


def engine_option(*, what: str) -> Callable[..., Callable[..., None]]:
    """Return the option --engine; `what` is done there."""
    return click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help=f"Where {what}: on this machine, or on a Ray cluster (RAY_ADDRESS).",
    )


def count_option(*, what: str) -> Callable[..., Callable[..., None]]:
    """Return the option --workers; `what` names what they do."""
    return click.option(
        "--workers",
        type=WorkerCount(),
        help=f"Processes that {what}; auto: one for each GPU [none: this process; ray: auto].",
    )


def worker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command receives their value as `workers`."""

    @wraps(command)
    def with_workers(
        *args: Any,
        engine: EngineName,
        workers: Count | None,
        devices: tuple[str, ...] | None,
        **given: Any,
    ) -> None:
        chosen = _chosen(engine, workers, devices or (), device=given["device"])
        command(*args, workers=chosen, **given)

    devices = click.option(
        "--devices",
        type=DeviceList(),
        help="A process for each of these GPUs, or for each cpu.",
    )
    count = count_option(what="render and score")
    return engine_option(what="trials are rendered and scored")(count(devices(with_workers)))


def few_worker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --engine and --workers of a command that scores alone, as `workers`."""

    @wraps(command)
    def with_workers(*args: Any, engine: EngineName, workers: Count | None, **given: Any) -> None:
        command(*args, workers=_chosen(engine, workers, (), device="auto"), **given)

    count = count_option(what="score (the scores are the same)")
    return engine_option(what="images are scored")(count(with_workers))


def _chosen(
    engine: EngineName, count: Count | None, devices: tuple[str, ...], *, device: str
) -> Workers:
    from bench.render.engine.choice import Workers

    kind, _, number = device.partition(":")
    if kind == "cuda" and number.isdecimal():
        raise click.UsageError(f"--device {device}: use --devices {number}")
    if devices and (engine != "local" or count is not None or device != "auto"):
        raise click.UsageError("--devices excludes --engine ray, --workers and --device")
    if engine == "ray":
        require_extra("ray")
    return Workers(engine, count, devices)
