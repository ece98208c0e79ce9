"""How a method looks in every plot, chart and table.

The colors of installed methods are Okabe and Ito's (2008, "Color Universal Design"). Color is never
the only mark: plots add markers and dashes, charts shapes.
"""

from bench.registry import method_order, method_style

__all__ = ["GRAY", "method_order", "method_style"]

GRAY = "#8b8b8b"
