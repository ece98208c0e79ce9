"""Render reference pictures with the hosted generator of Civitai."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.civitai.client import Generator as Generator
    from bench.civitai.client import connect as connect
    from bench.civitai.client import fetch_picture as fetch_picture
    from bench.civitai.render import check_request as check_request
    from bench.civitai.render import job_of as job_of
    from bench.civitai.render import render_references as render_references
    from bench.civitai.render import wanted_references as wanted_references

_HOMES = {
    "Generator": "bench.civitai.client",
    "connect": "bench.civitai.client",
    "fetch_picture": "bench.civitai.client",
    "check_request": "bench.civitai.render",
    "job_of": "bench.civitai.render",
    "render_references": "bench.civitai.render",
    "wanted_references": "bench.civitai.render",
}
__all__ = [
    "Generator",
    "check_request",
    "connect",
    "fetch_picture",
    "job_of",
    "render_references",
    "wanted_references",
]
__getattr__ = lazy_names(__name__, _HOMES)
