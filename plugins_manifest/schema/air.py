"""AIR: the resource names of Civitai, urn:air:ecosystem:type:source:id@version+file.format.

Grammar: Civitai's developer documentation, site/guide/air.md; types: its src/shared/utils/air.ts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from plugins_manifest.errors import UserError

_WORD = re.compile(r"[\w-]+")
_TAIL = re.compile(r"(?P<id>[^@+]+)(?:@(?P<version>[^@+.]*))?(?:\+(?P<file_id>[^@+.]*))?")
_HUB_SOURCES = ("huggingface",)
_ECOSYSTEM_ALIASES = {"sd15": "sd1", "sd1.5": "sd1"}
# Labels of the site -> the type that an AIR writes.
TYPES = {
    "checkpoint": "checkpoint",
    "lora": "lora",
    "locon": "lycoris",
    "lycoris": "lycoris",
    "dora": "dora",
    "textualinversion": "embedding",
    "embedding": "embedding",
    "hypernetwork": "hypernet",
    "hypernet": "hypernet",
    "aestheticgradient": "ag",
    "ag": "ag",
    "motionmodule": "motion",
    "motion": "motion",
    "vae": "vae",
    "controlnet": "controlnet",
    "upscaler": "upscaler",
    "other": "other",
    "unknown": "unknown",
}
_FORM = "urn:air:ECOSYSTEM:TYPE:SOURCE:ID@VERSION, e.g. urn:air:sd1:lora:civitai:82098@87153"


@dataclass(frozen=True)
class Air:
    """One name; parts that a short form omits are None."""

    scheme: ClassVar[str] = "urn"
    source: str
    id: str
    ecosystem: str | None = None
    type: str | None = None
    version: str | None = None
    file_id: str | None = None
    format: str | None = None

    def __str__(self) -> str:
        """Return the full form, as the site writes it."""
        head = f"urn:air:{self.ecosystem or 'other'}:{self.type or 'unknown'}:{self.source}"
        version = f"@{self.version}" if self.version else ""
        file_id = f"+{self.file_id}" if self.file_id else ""
        ending = f".{self.format}" if self.format else ""
        return f"{head}:{self.id}{version}{file_id}{ending}"


def parse_air(text: str) -> Air:
    """Parse a full or short form; `UserError` lists every problem."""
    *heads, tail = _strip_prefix(text.strip()).split(":")
    if not 1 <= len(heads) <= 3:
        raise UserError(f"{text!r} is not an AIR: write {_FORM}")
    source = heads.pop().lower()
    ecosystem, type_ = _ecosystem_and_type(heads)
    air = replace(_parse_tail(text, source, tail), ecosystem=ecosystem, type=type_)
    problems = [
        f"{text!r}: the {what} {value!r} is empty or has characters other than letters, digits, "
        f"'-' and '_': write {_FORM}"
        for what, value, pattern in _parts(air)
        if value is not None and not pattern.fullmatch(value)
    ]
    if problems:
        raise UserError.collect(problems)
    return air


def pinned_air(text: str) -> Air:
    """Parse an AIR that names exactly one version; `UserError` for a floating one."""
    air = parse_air(text)
    if air.version is None:
        raise UserError(
            f"{text!r} names no version, so it floats: add one, e.g. {text}@VERSION "
            "(the number after modelVersionId= on the model's page)"
        )
    if air.source == "civitai":
        numbers = {"id": air.id, "version": air.version, "file id": air.file_id}
        wrong = [
            f"{text!r}: the {what} {value!r} is not a number: Civitai's are, e.g. 82098"
            for what, value in numbers.items()
            if value is not None and not (value.isascii() and value.isdigit())
        ]
        if wrong:
            raise UserError.collect(wrong)
    return air


def _strip_prefix(text: str) -> str:
    for prefix in ("urn:", "air:"):
        if text[: len(prefix)].lower() == prefix:
            text = text[len(prefix) :]
    return text


def _ecosystem_and_type(heads: list[str]) -> tuple[str | None, str | None]:
    words = [word.lower() for word in heads]
    if len(words) == 1 and words[0] in TYPES:
        words.insert(0, "")
    ecosystem, type_ = (*words, "", "")[:2]
    known = TYPES.get(type_, type_)
    return _ECOSYSTEM_ALIASES.get(ecosystem, ecosystem) or None, known or None


def _parse_tail(text: str, source: str, tail: str) -> Air:
    """Parse id, version, file and format; only ids of the Hub may contain a dot, up to the '@'."""
    ending: str | None = None
    body = tail
    if source not in _HUB_SOURCES or "@" in tail:
        start = tail.rfind("@") + 1 if source in _HUB_SOURCES else 0
        stem, dot, last = tail[start:].partition(".")
        body, ending = tail[:start] + stem, last if dot else None
    match = _TAIL.fullmatch(body)
    if match is None:
        raise UserError(f"{text!r} is not an AIR: write {_FORM}")
    return Air(source, match["id"], None, None, match["version"], match["file_id"], ending)


def _parts(air: Air) -> tuple[tuple[str, str | None, re.Pattern[str]], ...]:
    is_hub = air.source in _HUB_SOURCES
    ids = re.compile(r"[\w.-]+/[\w.-]+") if is_hub else re.compile(r"[\w/-]+")
    paths = re.compile(r"[\w/-]+")
    return (
        ("ecosystem", air.ecosystem, paths),
        ("type", air.type, paths),
        ("source", air.source, _WORD),
        ("id", air.id, ids),
        ("version", air.version, _WORD),
        ("file id", air.file_id, _WORD),
        ("format", air.format, _WORD),
    )
