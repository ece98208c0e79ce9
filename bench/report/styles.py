"""How a method looks in every plot, chart and table.

The colors of installed methods are Okabe and Ito's (2008, "Color Universal Design"), the light ones
darkened: each has a contrast of at least 3:1 (WCAG 2.2, 1.4.11) to white and to dark pages. Color
is never the only mark: plots add markers and dashes, charts shapes.
"""

from collections.abc import Mapping

from bench.analysis.words import PluginWord
from bench.registry import method_order, method_style

__all__ = ["GRAY", "VERDICT_COLORS", "method_order", "method_style"]

GRAY = "#8b8b8b"
_UNDECIDED = "#57606a"
# as on badges: white text on each has a contrast of at least 4.5
VERDICT_COLORS: Mapping[PluginWord, str] = {
    "works": "#1a7f37",
    "degraded": "#9a6700",
    "lost": "#cf222e",
    **dict.fromkeys(("open", "no effect", "not measured"), _UNDECIDED),
}
