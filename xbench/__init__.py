"""The public names for authors of methods, metrics and families; importing it loads no torch.

A name's module is imported when the name is first used. Optional attributes of an extension have
their types in `xbench.traits`; what plugin sites, weight formulas and pages of the leaderboard are
made of is in `xbench.sources`, `xbench.formulas` and `xbench.pages`, of mappers in
`xbench.mappers`. docs/extending.md describes every name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.base import ImageMetric as ImageMetric
    from metrics.base import Metric as Metric
    from metrics.base import References as References
    from metrics.base import Score as Score
    from metrics.base import ScoredImage as ScoredImage
    from metrics.base import SetMetric as SetMetric
    from metrics.base import expect as expect
    from plugins_manifest.errors import UserError as UserError
    from runners.base import Variant as Variant
    from runners.families import Family as Family
    from runners.families import FamilySource as FamilySource
    from runners.families import find_family as find_family
    from runners.families import load_from_folders as load_from_folders
    from runners.protocols import Method as Method
    from runners.session import GroupSession as GroupSession

__all__ = [
    "Family",
    "FamilySource",
    "GroupSession",
    "ImageMetric",
    "Method",
    "Metric",
    "References",
    "Score",
    "ScoredImage",
    "SetMetric",
    "UserError",
    "Variant",
    "expect",
    "find_family",
    "load_from_folders",
]
_HOMES = {
    "metrics.base": (
        *("ImageMetric", "Metric", "References", "Score", "ScoredImage", "SetMetric", "expect"),
    ),
    "plugins_manifest.errors": ("UserError",),
    "runners.base": ("Variant",),
    "runners.families": ("Family", "FamilySource", "find_family", "load_from_folders"),
    "runners.protocols": ("Method",),
    "runners.session": ("GroupSession",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            from xbench.packages import collision

            if (problem := collision()) is not None:
                raise ImportError(problem)
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'xbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
