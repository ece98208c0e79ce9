"""Options of the commands that score images."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from bench.cli.workers import few_worker_options


class MetricDevice(click.ParamType):
    """auto, cpu, cuda, cuda:N or mps."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it is; fail for others."""
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(value)):
            self.fail(f"{value!r} is none of auto, cpu, cuda, cuda:1, mps", param, ctx)
        return str(value)


def metric_device_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --metric-device."""
    device = click.option(
        "--metric-device",
        type=MetricDevice(),
        default="auto",
        show_default=True,
        metavar="DEVICE",
        help="Where metrics run: auto (as before, else a GPU), cpu, cuda, cuda:1 or mps.",
    )
    return device(command)


def scoring_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --metric-device, --engine and --workers."""
    return metric_device_option(few_worker_options(command))
