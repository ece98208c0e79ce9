"""How a method looks in every plot and chart.

Okabe and Ito's colors (2008, "Color Universal Design"). Color is never the only mark: plots add
markers and dashes.
"""

from __future__ import annotations

from collections.abc import Iterable

GRAY = "#8b8b8b"
METHOD_COLORS = {
    "xadapter": "#0072B2",
    "sdedit": "#E69F00",
    "hires": "#009E73",
    "oracle": "#CC79A7",
    "base": GRAY,
    "floor": GRAY,
}
OTHER_COLORS = ("#D55E00", "#56B4E9", "#B8A800")


def method_colors(methods: Iterable[str]) -> dict[str, str]:
    """The color of each method; the known ones always look the same."""
    names = list(dict.fromkeys(methods))
    others = [name for name in names if name not in METHOD_COLORS]
    mixed = {name: OTHER_COLORS[i % len(OTHER_COLORS)] for i, name in enumerate(others)}
    return {name: METHOD_COLORS.get(name) or mixed[name] for name in names}
