"""Addresses inside of a site: relative, so that it opens from a file or below any path."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from bench.errors import UserError
from bench.site.runs import SitePlugin, SiteRun


@dataclass(frozen=True)
class Addresses:
    """Names of files and links to them; `url` is where the site will be, or None."""

    url: str | None = None

    def link(self, name: str, *, page: str) -> str:
        """Return the relative link from a page to a file, both by their names."""
        depth = page.count("/")
        return "../" * depth + quote(name)

    def plugin_page(self, run: SiteRun, plugin: SitePlugin, *, page: str) -> str:
        """Return the link from a page to a plugin's page."""
        return self.link(plugin_file(run, plugin, "index.html"), page=page)

    def home(self, *, page: str) -> str:
        """Return the link from a page to the first page."""
        return self.link("index.html", page=page)

    def shared(self, name: str) -> str | None:
        """Return the full address of a file to copy; None where the site's is not known."""
        return f"{self.url}{quote(name)}" if self.url else None

    def public(self, name: str, *, page: str) -> str:
        """Return the full address of a file, where the site's address is known; else the link."""
        return f"{self.url}{quote(name)}" if self.url else self.link(name, page=page)


def run_file(run: SiteRun, name: str) -> str:
    """Return the name of a run's file."""
    return f"runs/{run.key}/{name}"


def plugin_file(run: SiteRun, plugin: SitePlugin, name: str) -> str:
    """Return the name of a plugin's file."""
    return f"runs/{run.key}/{plugin.folder_name}/{name}"


def checked_url(text: str | None, *, option: str = "--url") -> str | None:
    """Return a site's address with a slash at its end; raise `UserError` if it is not one."""
    if text is None:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(f"{option} {text!r} is not an address of a site: https://HOST/PATH/")
    if parts.username or parts.password or not text.isascii() or any(c in text for c in " <>\"'"):
        raise UserError(f"{option} has characters or a password that a public address cannot have")
    return text.rstrip("/") + "/"
