"""Write a report's blocks as Markdown, or as one HTML file that loads nothing.

Texts are untrusted: both writers escape every text. The HTML file embeds its pictures and has no
script; the only markup that is passed on is the SVG that `plots` made, and a content policy forbids
everything else. Cards and style are those of a site.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bench.analysis.words import WORDS
from bench.errors import UserError
from bench.publish.pictures import Thumbnails
from bench.report.blocks import (
    Block,
    Bullets,
    Cards,
    Fold,
    Heading,
    Lead,
    Paragraph,
    Picture,
    Span,
    Strong,
    Table,
)
from bench.site.examples import Shot
from bench.site.rendering import part, rendered, stylesheet
from bench.site.views import Picture as Linked
from bench.site.views import card, shot_view, three, verdict
from plugins_manifest.outputs import file_name, markdown

_MEDIA_TYPES = {".webp": "image/webp", ".png": "image/png"}
_CARD_PICTURES = Thumbnails(small_quality=85)


# --- Markdown


def to_markdown(blocks: Iterable[Block], folder: Path) -> str:
    """Return the blocks as Markdown; pictures are named relative to the report's folder."""
    return "\n".join(_markdown(block, folder) for block in blocks if not isinstance(block, Cards))


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading():
            text = f"{'#' * block.level} {markdown(block.text)}\n"
        case Lead():
            text = f"{markdown(block.text)}\n"
        case Fold():
            text = to_markdown([block.heading, *block.blocks], folder)
        case Paragraph():
            text = f"{_markdown_spans(block.spans)}\n"
        case Bullets():
            text = "".join(f"- {_markdown_spans(item)}\n" for item in block.items)
        case Table():
            text = _markdown_table(block)
        case Picture():
            text = f"![{markdown(block.alt)}]({block.path.relative_to(folder).as_posix()})\n"
        case Cards():
            text = ""
    return text


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
    """Return the blocks as an HTML page; its level 2 headings but plugins are listed at the top."""
    facts = [_html_facts(block) for block in blocks]
    headings = [fact.get("heading", fact) for fact in facts if fact["is"] in ("heading", "fold")]
    sections = [fact for fact in headings if fact["level"] == 2 and not fact["anchor"]]
    for number, fact in enumerate(sections):
        fact["anchor"] = f"part-{number}"
    style = stylesheet()
    return rendered("report", title=title, style=style, blocks=facts, sections=sections)


def _html_facts(block: Block) -> dict[str, Any]:
    """Return the template's view of a block."""
    match block:
        case Heading():
            anchor = None if block.plugin is None else _anchor(block.plugin)
            facts = {"is": "heading", "level": block.level, "text": block.text, "anchor": anchor}
        case Lead():
            facts = {"is": "lead", "text": block.text}
        case Cards():
            facts = _html_cards(block)
        case Fold():
            inner = [_html_facts(one) for one in block.blocks]
            facts = {"is": "fold", "heading": _html_facts(block.heading), "blocks": inner}
        case Paragraph():
            facts = {"is": "paragraph", "spans": _html_spans(block.spans)}
        case Bullets():
            facts = {"is": "bullets", "items": [_html_spans(item) for item in block.items]}
        case Table():
            facts = {"is": "table", "header": block.header, "rows": block.rows}
        case Picture():
            facts = _html_picture(block)
    return facts


def _html_picture(picture: Picture) -> dict[str, Any]:
    if not picture.is_embedded:
        return {"is": "named", "alt": picture.alt, "name": picture.path.name}
    if picture.svg is not None:
        return {"is": "plot", "alt": picture.alt, "svg": picture.svg}
    source = _data_url(picture.path.read_bytes(), picture.path.suffix)
    return {"is": "picture", "alt": picture.alt, "source": source}


def _html_cards(cards: Cards) -> dict[str, Any]:
    views = []
    for place, plugin in enumerate(cards.plugins):
        pictures = three(plugin) if place < cards.n_pictured else []
        shots = [shot_view(shot, title, "", _shown(shot)) for title, shot in pictures]
        views.append(card(plugin, shots, href=f"#{_anchor(plugin.name)}"))
    used = {plugin.answer.word for plugin in cards.plugins}
    words = [verdict(word) for word in WORDS if word in used]
    listed = part("cards", cards=views, level=2, eager=True)
    return {"is": "cards", "legend": part("legend", words=words), "cards": listed}


def _shown(shot: Shot) -> Linked | None:
    """Return an image as a small data URL; None if it is missing or unreadable."""
    if shot.missing:
        return None
    try:
        pixels = Image.fromarray(shot.load())
    except UserError:
        return None
    source = _data_url(_CARD_PICTURES.encode(pixels), ".webp")
    return Linked(source, source, *pixels.size)


def _anchor(plugin: str) -> str:
    return f"plugin-{file_name(plugin)}"


def _html_spans(spans: Sequence[Span]) -> list[tuple[bool, str]]:
    """Return (is bold, text) of each span."""
    return [(True, s.text) if isinstance(s, Strong) else (False, s) for s in spans]


def _data_url(content: bytes, suffix: str) -> str:
    return f"data:{_MEDIA_TYPES[suffix]};base64,{base64.b64encode(content).decode()}"
