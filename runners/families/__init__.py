"""Pairs of a base and an upgraded model with a mapper; looking one up loads no torch."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names
from runners.families.registry import (
    FamilySource,
    MapperProblem,
    family_fingerprint,
    family_traits,
    find_family,
    load_family,
    reload_mapper,
)
from runners.families.traits import FamilyTraits

if TYPE_CHECKING:
    from runners.families.family import Family as Family
    from runners.families.family import load_from_folders as load_from_folders

__all__ = [
    "Family",
    "FamilySource",
    "FamilyTraits",
    "MapperProblem",
    "family_fingerprint",
    "family_traits",
    "find_family",
    "load_family",
    "load_from_folders",
    "reload_mapper",
]
_FAMILY = "runners.families.family"
__getattr__ = lazy_names(__name__, {"Family": _FAMILY, "load_from_folders": _FAMILY})
