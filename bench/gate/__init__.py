"""Compare two runs and decide whether new adapter weights made anything worse."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.gate.gate import Gate as Gate
    from bench.gate.gate import compare as compare
    from bench.gate.gate import gated_request as gated_request
    from bench.gate.gate import run_gated as run_gated
    from bench.gate.policy import Policy as Policy
    from bench.gate.policy import load_policy as load_policy
    from bench.gate.report import as_junit as as_junit
    from bench.gate.report import as_markdown as as_markdown
    from bench.gate.report import as_text as as_text

_HOMES = {
    "Gate": "bench.gate.gate",
    "compare": "bench.gate.gate",
    "gated_request": "bench.gate.gate",
    "run_gated": "bench.gate.gate",
    "Policy": "bench.gate.policy",
    "load_policy": "bench.gate.policy",
    "as_junit": "bench.gate.report",
    "as_markdown": "bench.gate.report",
    "as_text": "bench.gate.report",
}
__all__ = [
    "Gate",
    "Policy",
    "as_junit",
    "as_markdown",
    "as_text",
    "compare",
    "gated_request",
    "load_policy",
    "run_gated",
]
__getattr__ = lazy_names(__name__, _HOMES)
