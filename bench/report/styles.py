"""How a method looks in every plot, chart and table.

The colors of installed methods are Okabe and Ito's (2008, "Color Universal Design"), the light ones
darkened: each has a contrast of at least 3:1 (WCAG 2.2, 1.4.11) to white and to dark pages. Color
is never the only mark: plots add markers and dashes, charts shapes.
"""

from bench.registry import line_styles, method_order, method_style

__all__ = ["GRAY", "line_styles", "method_order", "method_style"]

GRAY = "#8b8b8b"
