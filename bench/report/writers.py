"""Write a report's blocks as Markdown, or as one HTML file that loads nothing.

Texts are untrusted: both writers escape every text. The HTML file embeds its pictures and has no
script; the only markup that is passed on is the SVG that `plots` made, and a content policy forbids
everything else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report.blocks import Block, Bullets, Heading, Paragraph, Picture, Span, Strong, Table
from plugins_manifest.outputs import html_text, markdown

if TYPE_CHECKING:
    from jinja2 import Template

_MEDIA_TYPES = {".webp": "image/webp", ".png": "image/png"}


# --- Markdown


def to_markdown(blocks: Iterable[Block], folder: Path) -> str:
    """Return the blocks as Markdown; pictures are named relative to the report's folder."""
    return "\n".join(_markdown(block, folder) for block in blocks)


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {markdown(block.text)}\n"
    if isinstance(block, Paragraph):
        return f"{_markdown_spans(block.spans)}\n"
    if isinstance(block, Bullets):
        return "".join(f"- {_markdown_spans(item)}\n" for item in block.items)
    if isinstance(block, Table):
        return _markdown_table(block)
    return f"![{markdown(block.alt)}]({block.path.relative_to(folder).as_posix()})\n"


def _markdown_spans(spans: Sequence[Span]) -> str:
    joined = ""
    for span in spans:
        text = span.text if isinstance(span, Strong) else span
        inner = markdown(text)
        if not inner:
            joined += " " if text else ""
            continue
        before, after = (" " if text[i].isspace() else "" for i in (0, -1))
        joined += before + (f"**{inner}**" if isinstance(span, Strong) else inner) + after
    return joined


def _markdown_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(markdown(cell) for cell in row) + " |"
        for row in (table.header, *table.rows)
    ]
    lines.insert(1, "| " + " | ".join("---" for _ in table.header) + " |")
    return "\n".join(lines) + "\n"


# --- HTML


def to_html(blocks: Iterable[Block], title: str) -> str:
    """Return the blocks as an HTML page; its level 2 headings are listed at the top."""
    facts = [_html_facts(block) for block in _with_galleries(blocks)]
    sections = [fact for fact in facts if fact["is"] == "heading" and fact["level"] == 2]
    for number, fact in enumerate(sections):
        fact["anchor"] = f"part-{number}"
    return _template().render(title=html_text(title), blocks=facts, sections=sections)


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = files("bench.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _with_galleries(blocks: Iterable[Block]) -> list[Block | list[Picture]]:
    """Group neighboring plots, to be displayed side by side."""
    found: list[Block | list[Picture]] = []
    for block in blocks:
        if not isinstance(block, Picture) or block.svg is None:
            found.append(block)
        elif found and isinstance(found[-1], list):
            found[-1].append(block)
        else:
            found.append([block])
    return found


def _html_facts(block: Block | Sequence[Picture]) -> dict[str, Any]:
    """Return the template's view of a block."""
    if isinstance(block, Heading):
        return {"is": "heading", "level": block.level, "text": html_text(block.text)}
    if isinstance(block, Paragraph):
        return {"is": "paragraph", "spans": _html_spans(block.spans)}
    if isinstance(block, Bullets):
        return {"is": "bullets", "items": [_html_spans(item) for item in block.items]}
    if isinstance(block, Table):
        header, *rows = [[html_text(cell) for cell in row] for row in (block.header, *block.rows)]
        return {"is": "table", "header": header, "rows": rows}
    if isinstance(block, Picture):
        return {"is": "picture", "alt": html_text(block.alt), "source": _data_url(block.path)}
    plots = [{"alt": html_text(plot.alt), "svg": plot.svg} for plot in block]
    return {"is": "plots", "plots": plots}


def _html_spans(spans: Sequence[Span]) -> list[tuple[bool, str]]:
    """Return (is bold, text) of each span."""
    return [
        (True, html_text(span.text)) if isinstance(span, Strong) else (False, html_text(span))
        for span in spans
    ]


def _data_url(path: Path) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{encoded}"
