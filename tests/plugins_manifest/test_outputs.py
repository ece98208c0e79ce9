"""Claims about untrusted text in terminals, Markdown, HTML, XML, CSV and names of files."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from plugins_manifest.outputs import (
    csv_cell,
    escaped_line,
    file_name,
    html_text,
    markdown,
    one_line,
    terminal,
    terminal_line,
    xml_text,
)

# in the order: terminal codes, fake lines, bidirectional, halves of pairs, markup of each format
HOSTILE = [
    "\x1b[2J\x1b]0;title\x07\x9b31m\x7f",
    "ok\r\nverdict: pass\rdone\n",
    "abc\u202e\u2066txt.exe\u200f\ufeff\U000e0041",
    "half \ud800 pair \udfff and \ufffe \x00",
    "# PASS\n\n## PASS\n===\n---\n> quote\n- item\n1. item\n2) item",
    "```\ncode\n``` ~~~ `x` | cell | ![a](http://evil.example/a.png) [b](javascript:alert(1))",
    "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt; <!-- ]]> <![CDATA[",
    "www.evil.example https://evil.example mailto:a@evil.example @someone #1 GH-12 :smile:",
    "=cmd|' /C calc'!A0\n+1+1\t@SUM(A1)\n-2+3",
    "$\\frac{1}{0}$ *bold* _it_ ~~no~~ \\ [x]: http://evil.example",
    "[^1]: note <https://evil.example> a@evil.example HTTP://EVIL.EXAMPLE",
]
PARSER = MarkdownIt("gfm-like", {"linkify": False, "html": True})


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_gets_no_codes_and_a_line_stays_one(text: str) -> None:
    for safe in (terminal(text), terminal_line(text)):
        assert all(c.isprintable() or c in "\n\t" for c in safe)
    assert "\n" not in terminal_line(text) and "\t" not in terminal_line(text)
    assert terminal(text).encode() and terminal_line(terminal_line(text)) == terminal_line(text)


def test_texts_of_all_scripts_are_printed_as_they_are() -> None:
    for text in ("Größe 3 µm", "東京\u3000タワー", "naïve \xa0 café", "مرحبا", "🎨 art\n\ttabbed"):
        assert terminal(text) == text


def test_json_needs_no_function() -> None:
    for text in HOSTILE:
        encoded = json.dumps({"text": text}, indent=2)
        assert terminal(encoded) == encoded and json.loads(encoded) == {"text": text}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("frame", ["{}", "# {}", "- {}", "| {} | end |\n|---|---|", "**{}** x"])
def test_markdown_displays_text_literally(text: str, frame: str) -> None:
    def tags(inner: str) -> list[str]:
        tokens = PARSER.parse(f"before\n\n{frame.format(inner)}\n\nafter\n")
        every = [t for token in tokens for t in (token, *(token.children or ()))]
        return [t.type for t in every if t.type != "softbreak"]

    assert tags(markdown(text)) == tags("x")


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_reads_as_the_text_after_parsing(text: str) -> None:
    (_, inline, _) = PARSER.parse(markdown(text))
    read = "".join(child.content for child in inline.children or ())
    assert read.replace("\u2060", "") == one_line(text)


def test_nothing_in_markdown_is_a_mention_or_address_after_parsing() -> None:
    read = PARSER.parse(markdown(HOSTILE[7]))[1].children or ()
    text = "".join(child.content for child in read)
    for part in ("www.", "://", "mailto:a", "@someone", "#1", "GH-12", ":smile:", "@evil"):
        assert part.replace("://", "s://") not in text


def test_numbers_and_ordinary_words_stay_readable_in_markdown() -> None:
    for text in ("-0.12 [-0.30, 0.05]", "pocket-canny (controlnet)", "t0 0.5; why: no, x=1"):
        assert markdown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_xml_parses_and_returns_the_text(text: str) -> None:
    node = ElementTree.Element("a", message=xml_text(text))
    node.text = xml_text(text)
    read = ElementTree.fromstring(ElementTree.tostring(node, encoding="unicode"))
    assert read.text == xml_text(text)
    assert "\ufffd" in read.text or text.translate({9: "", 10: ""}).isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_html_has_no_controls(text: str) -> None:
    assert html_text(text).isprintable()


@pytest.mark.parametrize("text", [*HOSTILE, " =1", "\t=1", "\n=1", "\x00=1", "\uff1d1", "+x", "@x"])
def test_no_cell_of_a_csv_file_is_a_formula_or_breaks_its_line(text: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text), csv_cell("end")])
    assert stream.getvalue().count("\n") == 1 and "\0" not in stream.getvalue()
    ((cell, end),) = csv.reader(io.StringIO(stream.getvalue()))
    assert end == "end"
    assert cell.strip()[:1] not in ("=", "+", "-", "@", "\uff1d")


def test_numbers_stay_numbers_in_csv() -> None:
    assert [csv_cell(v) for v in (-1.5, None, True, "-1.5", "+3e-7", "x")] == [
        *(-1.5, None, True),
        *("-1.5", "+3e-7", "x"),
    ]


def test_names_of_files_stay_in_their_folder_and_apart() -> None:
    plain = ["pocket-canny", "a.b_c+d", "9x"]
    assert [file_name(name) for name in plain] == plain
    hostile = [*HOSTILE, "../../etc", "a/b", "a_b", "a\\b", ".hidden", "", "x" * 300, "-rf", "CON "]
    names = [file_name(text) for text in hostile]
    assert len(set(names)) == len(names)
    for name in names:
        assert not set(name) & set("/\\\0 \n") and name[0] not in ".-" and len(name) < 100


def test_long_text_is_cut_and_its_length_named() -> None:
    assert escaped_line("x" * 500, longest=10) == "x" * 10 + "... (500 characters)"
    assert escaped_line("a\x1b[31mb\u202ec\ud800<") == "a\\x1b[31mb\\u202ec\\ud800\\u003c"
    assert one_line("x" * 500, longest=10) == "x" * 10
