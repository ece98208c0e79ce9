"""Read the pages of a site back: tags, text and links."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

VOID = {"meta", "img", "path", "rect", "circle", "br", "link"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += "\n" if tag == "br" else ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())

    @property
    def links(self) -> list[str]:
        """Every address that the page names, without the drawings that are written into it."""
        return [
            str(value)
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in ("href", "src", "srcset", "action", "poster", "data")
            and not str(value).startswith("data:image/svg+xml,")
        ]

    def target(self, link: str) -> Path:
        """Return the file that a relative link leads to."""
        return (self.path.parent / unquote(urlsplit(link).path)).resolve()

    def meta(self, name: str) -> str | None:
        """Return the content of a meta tag."""
        found = (a for tag, a in self.tags if tag == "meta")
        return next(
            (a["content"] for a in found if name in (a.get("property"), a.get("name"))), None
        )


def pages(site: Path) -> list[Page]:
    return [Page(path) for path in sorted(site.rglob("*.html"))]


def contents(site: Path) -> dict[str, bytes]:
    """Return the bytes of every file by its name."""
    paths = [path for path in site.rglob("*") if path.is_file()]
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in paths}
