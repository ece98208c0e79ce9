"""The manifest beside a converted file, which compares it with the old plugin and the other ways.

The converted file is the old plugin's `native` partner, so that its row is method `oracle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from runners.families import family_traits, find_family

T0 = 0.9
HEADLINE = "# Method oracle is the upgraded model with the converted file.\n"


def benchmark_text(
    *,
    name: str,
    family: str,
    source: str,
    converted: str,
    trigger: str | None,
    cases: Mapping[str, Any] | list[dict[str, Any]],
    t0: float = T0,
) -> str:
    """Return a manifest as YAML; `source` and `converted` are relative to its folder."""
    words = {} if trigger is None else {"trigger": trigger}
    data = {
        "schema": 1,
        "name": name,
        "family": family,
        "plugins": [
            {"id": "old", "kind": "lora", "source": source, **words, "native": "converted"},
            {"id": "converted", "kind": "lora", "side": "upgraded", "source": converted, **words},
        ],
        "cases": cases,
        "methods": [*_methods(family, t0)],
    }
    return HEADLINE + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _methods(family: str, t0: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "base"}, {"name": "floor"}, {"name": "oracle"}]
    if family_traits(family).one_layout:
        found.append({"name": "direct"})
    found += [{"name": name, "t0": [t0]} for name in ("sdedit", "delta")]
    if find_family(family).mapper_problem(None) is None:
        found.append({"name": "xadapter", "t0": [t0], "adapter_scale": [1.0]})
    return found
