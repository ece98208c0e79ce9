"""Installed methods and metrics, and the names that a manifest may use."""

from __future__ import annotations

import colorsys
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast, get_args

from bench.errors import UserError
from metrics.base import Better, ImageMetric, Level, Metric, traits_of
from plugins_manifest.installed import (
    ExtensionError,
    describe_entry,
    extension_errors,
    installed,
    load_entry,
    require_contract,
)
from plugins_manifest.schema.manifest import KnownNames
from plugins_manifest.schema.words import FINISHED_CONDITIONS
from runners.base import SAMPLERS, Marker, MethodStyle
from runners.protocols import find_method

__all__ = [
    "CONDITION_METRICS",
    "extension_problems",
    "find_method",
    "find_metric",
    "installed",
    "known_names",
    "line_of",
    "line_styles",
    "load_entry",
    "method_order",
    "method_style",
    "metrics_of",
    "parts_of_line",
    "peek_metric",
]

REFERENCES = ("base", "floor", "oracle", "base-floor")  # never ranked, recommended or judged
# in a list of metrics: all metrics of the plugins' conditions
CONDITION_METRICS = "condition"
_LOG = logging.getLogger(__name__)
_OTHER_ORDER = 85  # after every method with a plugin of the base model, before `floor`
_LINE = re.compile(r"(.+) \((.+)\)", re.DOTALL)  # a method and one of several adapters
_GOLDEN = 0.382  # of a turn: hues that are never near
_OTHER_COLORS = ("#D55E00", "#3A94C8", "#9A8C00")
_OTHER_MARKERS: tuple[Marker, ...] = ("x", "octagon")


@lru_cache(maxsize=256)  # names of published runs are untrusted
def method_style(name: str) -> MethodStyle:
    """Return the style that a method declares, else one that depends on its name alone.

    Results of a method are shown where it is not installed, or where its module cannot be imported
    because torch is missing.
    """
    if name in installed("methods"):
        try:
            style = getattr(find_method(name), "style", None)
        except UserError:
            style = None
        if style is not None:
            return style
    number = zlib.crc32(name.encode())
    color = _OTHER_COLORS[number % len(_OTHER_COLORS)]
    marker = _OTHER_MARKERS[number // len(_OTHER_COLORS) % len(_OTHER_MARKERS)]
    return MethodStyle(_OTHER_ORDER, color, marker, "a method without a description")


def line_of(method: str, adapter: str | None) -> str:
    """Return the line of tables and charts that a method has: one for each adapter of several."""
    return method if adapter is None else f"{method} ({adapter})"


def parts_of_line(line: str) -> tuple[str, str | None]:
    """Return the method of a line, and its adapter."""
    found = _LINE.fullmatch(line)
    return (line, None) if found is None else (found[1], found[2])


def line_styles(lines: Iterable[str]) -> dict[str, MethodStyle]:
    """Return the style of each line, in the order of legends.

    The adapters of a method have its marker in turn with others, and colors of other hues that are
    as light as its own.
    """
    found: dict[str, MethodStyle] = {}
    places: dict[str, int] = {}
    for line in method_order(lines):
        method, adapter = parts_of_line(line)
        style, place = method_style(method), places.get(method, 0)
        places[method] = place + 1
        if adapter is not None and place:
            markers: tuple[Marker, ...] = get_args(Marker)
            marker = markers[(markers.index(style.marker) + place) % len(markers)]
            style = replace(style, color=_turned(style.color, place), marker=marker)
        found[line] = style
    return found


def _turned(color: str, n: int) -> str:
    """Return a color n golden angles away in hue, with the relative luminance of WCAG 2.2."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    wanted, low, high = _luminance((red, green, blue)), 0.0, 1.0
    turned = red, green, blue
    for _ in range(16):  # luminance grows with lightness
        middle = (low + high) / 2
        turned = colorsys.hls_to_rgb((hue + n * _GOLDEN) % 1, middle, max(saturation, 0.6))
        low, high = (middle, high) if _luminance(turned) < wanted else (low, middle)
    return "#" + "".join(f"{round(255 * part):02x}" for part in turned)


def _luminance(rgb: tuple[float, float, float]) -> float:
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def method_order(names: Iterable[str]) -> list[str]:
    """Return methods or lines, each once, in the order of tables and legends."""
    return sorted(set(names), key=lambda name: (method_style(parts_of_line(name)[0]).order, name))


def find_metric(name: str) -> Metric:
    """Return a metric; its entry point is an instance, or a callable that returns one."""
    return _metric(name, takes_part=True)


def _metric(name: str, *, takes_part: bool) -> Metric:
    found: Any = load_entry("metrics", name, takes_part=takes_part)
    what = describe_entry("metrics", name)
    with extension_errors(what, "cannot be made"):
        metric = cast(Metric, found() if callable(found) else found)
    require_contract("metrics", name, metric, ImageMetric)  # a SetMetric has the same members
    if metric.level not in get_args(Level) or metric.better not in get_args(Better):
        raise ExtensionError(
            f"{what} has level {metric.level!r} and better {metric.better!r}: use one of "
            f"{', '.join(get_args(Level))} and one of {', '.join(get_args(Better))}"
        )
    return metric


def peek_metric(name: str) -> Metric:
    """Return a metric that is looked at and takes no part in the run."""
    return _metric(name, takes_part=False)


def extension_problems(methods: Iterable[str], metrics: Iterable[str]) -> list[str]:
    """Return why installed methods and metrics cannot take part in a run."""
    problems: list[str] = []
    for name in dict.fromkeys(name for name in methods if name in installed("methods")):
        with _collected(problems):
            find_method(name)
    for name in dict.fromkeys(name for name in metrics if name in installed("metrics")):
        with _collected(problems):
            find_metric(name)
    return problems


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        problems += error.problems


def metrics_of(condition: str) -> list[str]:
    """Return the names of the installed metrics of a condition, by rank.

    A metric that cannot be imported is left out, with a warning.
    """
    known = {}
    for name in installed("metrics"):
        try:
            known[name] = traits_of(peek_metric(name))
        except UserError as error:
            _LOG.warning("not used for the condition %r: %s", condition, error)
    names = [name for name, traits in known.items() if traits.condition == condition]
    return sorted(names, key=lambda name: (known[name].rank, name))


def known_names() -> KnownNames:
    """Return every name that a manifest may use, for the checks of `load_manifest`."""
    return {
        "family": tuple(installed("families")),
        "method": tuple(installed("methods")),
        "metric": (CONDITION_METRICS, *installed("metrics")),
        "detector": (*installed("detectors"), *FINISHED_CONDITIONS),
        "sampler": tuple(SAMPLERS),
        "source": tuple(installed("sources")),
    }
