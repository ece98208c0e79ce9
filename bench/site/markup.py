"""The environment that templates of pages are rendered in: strict, and every text is escaped."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from plugins_manifest.outputs import html_text

if TYPE_CHECKING:
    from jinja2 import Environment

# packages with templates -> their folder; names of templates are unique over all of them
_FOLDERS = {"bench.site": "templates", "bench.report": "."}


@cache
def environment() -> Environment:
    """Return the environment; undefined values are errors, controls in texts are spaces."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_template),
        finalize=_printable,
    )


def stylesheet() -> str:
    """Return the style of all pages."""
    return files("bench.site").joinpath("assets", "site.css").read_text(encoding="utf-8")


def _template(name: str) -> str | None:
    for package, folder in _FOLDERS.items():
        path = files(package).joinpath(folder, name)
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def _printable(value: Any) -> Any:
    """Replace controls and marks of text direction in a text; markup of a macro is kept."""
    return html_text(value) if type(value) is str else value
