"""What a run refuses in a file, by its keys: one rule for inspection and for the loaders."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from plugins_manifest.formats.parsed import ParsedPlugin

_POOLING = "shuffle"  # the one published ControlNet that pools its condition
_TITLES = ("modelspec.title", "ss_output_name", "title", "name")
_POOLS = ("global_pool_conditions", "global_average_pooling")


def refusal(parsed: ParsedPlugin, kinds: Collection[str]) -> str | None:
    """Return why a file cannot be one of `kinds` (labels with hyphens), None where it can."""
    if parsed.kind.startswith("unsupported:"):
        return parsed.problems[0].message if parsed.problems else parsed.kind
    if parsed.kind not in kinds:
        return (
            f"a file of kind {parsed.kind}, not {' or '.join(kinds)}: correct its kind in the "
            "manifest"
        )
    configs = (p.message for p in parsed.problems if p.reason == "bad-config")
    return next(configs, None)


def pooling_problem(
    weights: Path, metadata: Mapping[str, str], *, condition: str | None = None
) -> str | None:
    """Return why a ControlNet without a configuration cannot be loaded; None where it can.

    No tensor shows whether it pools its condition over the whole image, as the shuffle ControlNet
    does: its name, its condition or its metadata do.
    """
    titles = [weights.stem, condition or "", *(metadata.get(name, "") for name in _TITLES)]
    pools = any(metadata.get(name, "").lower() in ("true", "1") for name in _POOLS)
    if not pools and not any(_POOLING in title.lower() for title in titles):
        return None
    return (
        "a shuffle ControlNet pools its condition (global_pool_conditions), which its "
        "configuration states alone: give the folder as diffusers writes it, or put its config "
        f"beside it as {weights.stem}.json"
    )
