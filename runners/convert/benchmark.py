"""The manifest beside a converted file, which compares it with the old plugin and the other ways.

The converted file is the old plugin's partner of method `converted`; a native twin, if there is
one, is that of `oracle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from runners.families import family_traits, find_family

T0 = 0.9
HEADLINE = "# Written by xbench convert: method converted renders the file that it made.\n"


def benchmark_text(
    *,
    name: str,
    family: str,
    source: str,
    converted: str,
    native: str | None,
    trigger: str | None,
    cases: Mapping[str, Any] | list[dict[str, Any]],
    t0: float = T0,
) -> str:
    """Return a manifest as YAML; `source` and `converted` are relative to its folder.

    `native` is the source of a plugin that was made for the upgraded model itself.
    """
    words = {} if trigger is None else {"trigger": trigger}
    old = {"id": "old", "kind": "lora", "source": source, **words, "converted": "converted"}
    others = {"converted": converted} | ({} if native is None else {"native": native})
    data = {
        "schema": 1,
        "name": name,
        "family": family,
        "plugins": [
            old if native is None else {**old, "native": "native"},
            *(
                {"id": key, "kind": "lora", "side": "upgraded", "source": path, **words}
                for key, path in others.items()
            ),
        ],
        "cases": cases,
        "methods": _methods(family, t0, has_native=native is not None),
    }
    return HEADLINE + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _methods(family: str, t0: float, *, has_native: bool) -> list[dict[str, Any]]:
    names = ["base", *(["oracle"] if has_native else []), "floor", "converted"]
    if family_traits(family).one_layout:
        names.append("direct")
    found: list[dict[str, Any]] = [{"name": name} for name in names]
    found += [{"name": name, "t0": [t0]} for name in ("sdedit", "delta")]
    if find_family(family).mapper_problem(None) is None:
        found.append({"name": "xadapter", "t0": [t0], "adapter_scale": [1.0]})
    return found
