"""A report as one HTML file that loads nothing: pictures are part of it, and there is no script.

All texts go through the template's automatic escaping; the only markup that is passed on is the
SVG that `plots` made. A content policy forbids everything else.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report.blocks import Block, Bullets, Heading, Paragraph, Picture, Strong, Table

if TYPE_CHECKING:
    from jinja2 import Template

_TYPES = {".webp": "image/webp", ".png": "image/png"}


def to_html(blocks: Iterable[Block], title: str) -> str:
    """The page; its first heading of each level 2 section is listed at the top."""
    shown = [_facts(block) for block in _with_galleries(blocks)]
    sections = [fact for fact in shown if fact["is"] == "heading" and fact["level"] == 2]
    for number, fact in enumerate(sections):
        fact["anchor"] = f"part-{number}"
    return _template().render(title=_plain(title), blocks=shown, sections=sections)


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = files("bench").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _with_galleries(blocks: Iterable[Block]) -> list[Block | list[Picture]]:
    """Neighboring plots side by side, everything else as it is."""
    found: list[Block | list[Picture]] = []
    for block in blocks:
        if not isinstance(block, Picture) or block.svg is None:
            found.append(block)
        elif found and isinstance(found[-1], list):
            found[-1].append(block)
        else:
            found.append([block])
    return found


def _facts(block: Block | Sequence[Picture]) -> dict[str, Any]:
    """What the template needs of a block."""
    if isinstance(block, Heading):
        return {"is": "heading", "level": block.level, "text": _plain(block.text)}
    if isinstance(block, Paragraph):
        return {"is": "paragraph", "spans": _spans(block.spans)}
    if isinstance(block, Bullets):
        return {"is": "bullets", "items": [_spans(item) for item in block.items]}
    if isinstance(block, Table):
        rows = [[_plain(cell) for cell in row] for row in block.rows]
        return {"is": "table", "header": [_plain(cell) for cell in block.header], "rows": rows}
    if isinstance(block, Picture):
        return {"is": "picture", "alt": _plain(block.alt), "source": _data(block.path)}
    plots = [{"alt": _plain(plot.alt), "svg": plot.svg} for plot in block]
    return {"is": "plots", "plots": plots}


def _spans(spans: Sequence[str | Strong]) -> list[tuple[bool, str]]:
    return [(True, _plain(s.text)) if isinstance(s, Strong) else (False, _plain(s)) for s in spans]


def _plain(text: str) -> str:
    """Text without control characters and marks that turn its direction."""
    return "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)


def _data(path: Path) -> str:
    """An image file as a data address."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
