"""Catalog, files and downloads of the metrics' network weights."""

from typing import TYPE_CHECKING

from metrics.weights.catalog import CATALOG
from metrics.weights.files import RemoteFile, Weights, weights_folder
from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from metrics.weights.fetch import fetch_weights as fetch_weights
    from metrics.weights.fetch import find_weights as find_weights

__all__ = [
    "CATALOG",
    "RemoteFile",
    "Weights",
    "fetch_weights",
    "find_weights",
    "weights_folder",
]
_FETCH = "metrics.weights.fetch"
__getattr__ = lazy_names(__name__, {"fetch_weights": _FETCH, "find_weights": _FETCH})
