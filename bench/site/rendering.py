"""Render the templates of pages and drawings. Texts are untrusted: all of them are escaped."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from plugins_manifest.outputs import html_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# packages with templates -> their folder; names of templates are unique over all of them
_FOLDERS = {"bench.site": "templates", "bench.report": "."}
_IN_DATA = " /=;,()#!*'"  # written as they are in the address of a drawing


def part(name: str, **values: Any) -> Markup:
    """Return a template's HTML as markup, which other templates do not escape again."""
    from markupsafe import Markup

    return Markup(rendered(name, **values))


def rendered(name: str, **values: Any) -> str:
    """Return a template's HTML."""
    return _environment().get_template(f"{name}.html.jinja").render(**values)


def drawing(name: str, **values: Any) -> str:
    """Return a drawing as the address of an image, which runs no script and loads nothing.

    Its colors follow the scheme, light or dark, of the page that shows it.
    """
    lines = (line.strip() for line in rendered(name, **values).splitlines())
    return f"data:image/svg+xml,{quote(''.join(lines), safe=_IN_DATA).replace('#', '%23')}"


def stylesheet() -> str:
    """Return the style of all pages."""
    folder = files("bench.site").joinpath("assets")
    return "".join(folder.joinpath(f"{n}.css").read_text("utf-8") for n in ("parts", "site"))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_template),
        finalize=_printable,
    )


def _template(name: str) -> str | None:
    for package, folder in _FOLDERS.items():
        path = files(package).joinpath(folder, name)
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def _printable(value: Any) -> Any:
    """Replace controls and marks of text direction in a text; markup of a macro is kept."""
    return html_text(value) if type(value) is str else value
