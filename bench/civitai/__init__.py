"""Render reference pictures with the hosted generator of Civitai."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.civitai.client import Generator, connect, fetch_picture
    from bench.civitai.render import check_request, job_of, render_references, wanted_references

__all__ = [
    "Generator",
    "check_request",
    "connect",
    "fetch_picture",
    "job_of",
    "render_references",
    "wanted_references",
]
_HOMES = {
    "client": ["Generator", "connect", "fetch_picture"],
    "render": ["check_request", "job_of", "render_references", "wanted_references"],
}
__getattr__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
