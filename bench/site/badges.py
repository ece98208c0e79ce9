"""Badges: an SVG file, and the same content as JSON for the endpoint badge of shields.io.

https://shields.io/badges/endpoint-badge describes the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from bench.analysis import Answer
from bench.analysis.words import PluginWord, keeps
from bench.site.runs import SiteRun
from plugins_manifest.outputs import one_line, xml_text

_GRAY = "#57606a"
# white text on each has a contrast of at least 4.5
COLORS: Mapping[PluginWord, str] = {
    "works": "#1a7f37",
    "degraded": "#9a6700",
    "lost": "#cf222e",
    "open": _GRAY,
    "no effect": _GRAY,
    "not measured": _GRAY,
}
_LONGEST = 60  # characters of either side
_FONTS = "Verdana,Geneva,DejaVu Sans,sans-serif"
_CHARACTER_PX, _PADDING_PX = 6.7, 6.0


@dataclass(frozen=True)
class Badge:
    """A label, a message and the message's color."""

    label: str
    message: str
    color: str

    def as_json(self) -> str:
        """Return the content of badge.json."""
        data = {
            "schemaVersion": 1,
            "label": self.label,
            "message": self.message,
            "color": self.color,
        }
        return json.dumps(data, indent=2) + "\n"

    def as_svg(self) -> str:
        """Return the content of badge.svg; it loads nothing."""
        left, right = (_width(text) for text in (self.label, self.message))
        all_px, end = f"{left + right:.1f}", f"{right - 3:.1f}"
        title = quoteattr(xml_text(f"{self.label}: {self.message}"))
        texts = ((self.label, left / 2, left), (self.message, left + right / 2, right))
        body = "".join(
            f'<text x="{middle:.1f}" y="14" textLength="{width - 2 * _PADDING_PX:.1f}" '
            f'lengthAdjust="spacingAndGlyphs">{escape(xml_text(text))}</text>'
            for text, middle, width in texts
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{all_px}" height="20" '
            f'role="img" aria-label={title}>'
            f'<rect width="{all_px}" height="20" rx="3" fill="#3a3f45"/>'
            f'<path d="M{left:.1f} 0h{end}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{end}z" '
            f'fill="{self.color}"/>'
            f'<g fill="#fff" text-anchor="middle" font-family="{_FONTS}" font-size="11">'
            f"{body}</g></svg>\n"
        )


def plugin_badge(answer: Answer) -> Badge:
    """Return a plugin's badge: its verdict and what it keeps."""
    kept = "" if answer.row is None else keeps(answer.row)
    message = f"{answer.word}, {kept}" if kept else answer.word
    return Badge(_cut(answer.plugin), _cut(message), COLORS[answer.word])


def run_badge(run: SiteRun) -> Badge:
    """Return a run's badge: how many plugins work; gray unless all of them do."""
    working = run.is_finished and all(answer.word == "works" for answer in run.answers)
    color = COLORS["works"] if working and run.answers else _GRAY
    return Badge(_cut(run.title), _cut(run.count), color)


def _cut(text: str) -> str:
    return one_line(text, longest=_LONGEST) or "-"


def _width(text: str) -> float:
    return len(text) * _CHARACTER_PX + 2 * _PADDING_PX
