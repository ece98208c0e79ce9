"""Compare two runs and decide whether new adapter weights made anything worse."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.gate.baseline import manifest_of, open_baseline
    from bench.gate.gate import compare, gated_request, run_gated
    from bench.gate.outlook import gate_outlook
    from bench.gate.policy import load_policy
    from bench.gate.report import as_junit, as_markdown, as_text

__all__ = [
    "as_junit",
    "as_markdown",
    "as_text",
    "compare",
    "gate_outlook",
    "gated_request",
    "load_policy",
    "manifest_of",
    "open_baseline",
    "run_gated",
]
_HOMES = {
    "baseline": ["manifest_of", "open_baseline"],
    "gate": ["compare", "gated_request", "run_gated"],
    "outlook": ["gate_outlook"],
    "policy": ["load_policy"],
    "report": ["as_junit", "as_markdown", "as_text"],
}
__getattr__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
