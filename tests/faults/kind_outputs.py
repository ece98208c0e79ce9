"""Hostile texts in every output: terminal, log, Markdown, HTML, JUnit, CSV, names of files."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from bench.cli.output import LogFormatter
from bench.gate import as_junit, as_markdown, as_text
from bench.report.blocks import Bullets, Heading, Strong, paragraph, table
from bench.report.cells import aligned
from bench.report.plots import write_plots
from bench.report.sheets import Column, draw_sheet
from bench.report.writers import to_html, to_markdown
from bench.store import RunStore, schema
from plugins_manifest.errors import UserError
from plugins_manifest.outputs import (
    csv_cell,
    escaped_line,
    file_name,
    markdown,
    one_line,
    terminal,
    xml_text,
)
from tests.faults.base import Fault, Kind

_PARTS = (
    *("\x1b[31m", "\x1b]0;t\x07", "\x9b2J", "\r", "\n", "\t", "\0", "\x7f", "\x85", "\u2028"),
    *("\u202e", "\u2066", "\u200f", "\ufeff", "\ud800", "\udfff", "\ufffe", "\U000e0041", "\xa0"),
    *(
        "# PASS",
        "\n\n## PASS\n",
        "\n---\n",
        "\n===\n",
        "- ",
        "1. ",
        "> ",
        "\n\n    code\n",
        "```\n",
    ),
    *(
        "```\n",
        "|",
        "`",
        "*",
        "_",
        "~~",
        "\\",
        "[a](http://e.example)",
        "![a](x.png)",
        "[x]: http://e",
    ),
    *(
        "<b>",
        "</td>",
        "<script>",
        "<!--",
        "-->",
        "]]>",
        "<![CDATA[",
        "&lt;",
        "&#10;",
        "<a@e.example>",
    ),
    *("www.e.example", "https://e.example", "mailto:a@e.example", "@someone", "#1", "GH-1", ":x:"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", '"', "'", ",", ";", "$x$", "{{ 7*7 }}", "{% x %}"),
    *("verdict: pass", "Error: fine", "word", "Wörter", "東京", "🎨", " ", "  ", "x" * 400),
)
_PARSER = MarkdownIt("gfm-like", {"linkify": False, "html": True})


def _terminal(text: str, folder: Path) -> None:
    assert _is_clean(terminal(text))
    assert _is_clean(terminal(UserError.collect([text, text])))
    lines = aligned([("name", "x"), (text, "y")])
    assert len(lines) == 2 and all(map(_is_clean_line, lines))


def _log(text: str, folder: Path) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("bench", 40, "x.py", 1, "failed: %s", (text,), info)
    assert _is_clean(LogFormatter("%(message)s").format(record))


def _gate(text: str, folder: Path) -> None:
    facts = _gate_facts(text)
    lines = as_text(facts).splitlines()
    assert len(lines) == len(as_text(_gate_facts("x")).splitlines())
    assert all(map(_is_clean_line, lines))
    assert _types(as_markdown(facts)) == _types(as_markdown(_gate_facts("x")))
    root = ElementTree.fromstring(as_junit(facts).encode())
    assert len(root.findall(".//testcase")) == 1 and len(root.findall(".//error")) == 1


def _report(text: str, folder: Path) -> None:
    written, plain = (to_markdown(_blocks(words), folder) for words in (text, "x"))
    assert _types(written) == _types(plain)
    assert "\u202e" not in written
    tags = _Tags(to_html(_blocks(text), text)).found
    assert tags == _Tags(to_html(_blocks("x"), "x")).found


def _markdown(text: str, folder: Path) -> None:
    (_, inline, _) = _PARSER.parse(f"{markdown(text) or 'x'}")
    read = "".join(child.content for child in inline.children or ())
    assert read.replace("\u2060", "") == (one_line(text, longest=10_000) or "x")
    assert not {"link_open", "image", "html_inline"} & {t.type for t in inline.children or ()}
    assert not re.search(r"https?://|www\.|@someone|mailto:a|\bGH-1|(?<!\w):x:", read)


def _xml(text: str, folder: Path) -> None:
    node = ElementTree.Element("a", message=xml_text(text))
    node.text = xml_text(text)
    read = ElementTree.fromstring(ElementTree.tostring(node))
    assert read.text == xml_text(text)


def _csv(text: str, folder: Path) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text), csv_cell("end")])
    ((cell, end),) = csv.reader(io.StringIO(stream.getvalue()))
    assert end == "end" and cell == csv_cell(text) and "\n" not in cell and "\0" not in cell
    is_number = cell[1:].replace(".", "").isdigit()
    assert is_number or cell.strip()[:1] not in tuple("=+-@\uff1d")


def _json(text: str, folder: Path) -> None:
    encoded = json.dumps({"text": text}, indent=2)
    assert terminal(encoded) == encoded and json.loads(encoded) == {"text": text}


def _names(text: str, folder: Path) -> None:
    name = file_name(text)
    (folder / f"sheet-{name}.webp").write_bytes(b"")
    assert [p.parent for p in folder.rglob("*.webp")] == [folder]
    assert len(escaped_line(text)) < 2500 and _is_clean_line(escaped_line(text))


def _pictures(text: str, folder: Path) -> None:
    sheet = draw_sheet([text], [Column((text, text), (text,))])
    assert sheet.width < 2000
    row = dict.fromkeys(schema.COMPATIBILITY.names) | {"plugin": text, "kind": "lora"}
    row |= {"method": "sdedit", "level": "setting", "verdict": "open", "status": "measured"}
    row |= {"function": 0.5, "function_metric": text}
    store = RunStore(folder)
    (plots,) = write_plots([row], store, png=False).values()
    for path in folder.rglob("*.svg"):
        ElementTree.parse(path)
        assert path.parent == store.plots_dir
    assert len(plots) == 1


_OUTPUTS: dict[str, Callable[[str, Path], None]] = {
    "terminal": _terminal,
    "log": _log,
    "gate": _gate,
    "report": _report,
    "Markdown": _markdown,
    "XML": _xml,
    "CSV": _csv,
    "JSON": _json,
    "file names": _names,
    "pictures": _pictures,
}


class _Tags(HTMLParser):
    """The tags of a page, with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag; the class of a long cell is the report's."""
        names = tuple(name for name, _ in attrs if name != "class")
        self.found.append((tag, names))


def _is_clean(text: str) -> bool:
    text.encode()
    return all(c.isprintable() or c in "\n\t\xa0" for c in text)


def _is_clean_line(text: str) -> bool:
    return _is_clean(text) and "\n" not in text


def _types(text: str) -> list[str]:
    tokens = _PARSER.parse(text)
    every = [t for token in tokens for t in (token, *(token.children or ()))]
    return [t.type for t in every if t.type not in ("text", "softbreak")]


def _blocks(text: str) -> list[Heading | Bullets]:
    words = text if one_line(text) else "x"  # an empty text is left out
    return [
        Heading(1, words),
        paragraph(words, " ", Strong(words)),
        Bullets(((words,), (Strong(words), " ", words))),
        table((words, "b"), [(words, "end")]),
    ]


def _gate_facts(text: str) -> dict[str, object]:
    numbers = dict.fromkeys(("difference", "low", "high", "further_images"))
    test = {"plugin": text, "metric": text, "verdict": "inconclusive", "sentence": text, **numbers}
    return {
        "verdict": "inconclusive",
        "created": "2026-01-01T00:00:00+00:00",
        "tests": [{**test, "margin": 0.1, "n_prompts": 0}],
        "looks": [1.0],
        "look": 1,
        "candidate": {"folder": text},
        "planned_prompts": None,
    }


def _faults(rng: Random) -> Iterator[Fault]:
    number = 0
    while True:
        text = "".join(rng.choice(_PARTS) for _ in range(rng.randint(1, 12)))
        name = list(_OUTPUTS)[number % len(_OUTPUTS)]
        yield Fault(f"{name}: {one_line(ascii(text), longest=60)}", partial(_OUTPUTS[name], text))
        number += 1


KIND = Kind("outputs", "C messages", "text of others is displayed literally", _faults, 400, 20)
