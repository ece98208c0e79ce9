"""The HTML pages of a site: parts in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from bench.site.addresses import Addresses, plugin_file, run_file
from bench.site.parts import Parts, plugin_title
from bench.site.rendering import rendered
from bench.site.runs import SitePlugin, SiteRun
from bench.site.views import PictureLinks

INDEX, ABOUT, PREVIEW = "index.html", "about.html", "preview.jpg"
MAX_CARDS = 60  # of a run, worst first: the table below them has all plugins
ASSETS = ("parts.css", "site.css", "pictures.js", "site.js")


class Pages:
    """Renders the pages of a site from its runs."""

    def __init__(self, pictures: PictureLinks, addresses: Addresses) -> None:
        self._pictures, self._addresses = pictures, addresses

    def index(self, runs: Sequence[SiteRun]) -> str:
        """Return the first page: one grid of cards for each run."""
        parts = Parts(self._pictures, self._addresses, INDEX)
        sections = [_section(run, parts, is_first=i == 0) for i, run in enumerate(runs)]
        first = runs[0]
        title = f"{first.title}: {first.count}" if len(runs) == 1 else "Plugins after an upgrade"
        preview = run_file(first, PREVIEW) if first.plugins else None
        sentences = " ".join(run.sentence for run in runs)
        return self._render("index", INDEX, title, sentences, preview, runs=sections)

    def plugin(self, run: SiteRun, plugin: SitePlugin, files: Sequence[str]) -> str:
        """Return the page of one plugin; `files` are those that lie beside it."""
        page = plugin_file(run, plugin, INDEX)
        parts = Parts(self._pictures, self._addresses, page)
        listed = (
            parts.plugin_head(run, plugin, files),
            parts.plugin_pictures(run, plugin),
            parts.plugin_facts(run, plugin),
        )
        title, preview = plugin_title(plugin), plugin_file(run, plugin, PREVIEW)
        return self._render(
            "page", page, title, f"{plugin.answer.sentence}.", preview, heading="", parts=listed
        )

    def about(self, runs: Sequence[SiteRun]) -> str:
        """Return the page with the glossary and the methods of the runs."""
        text = "What the words and numbers of this site mean, and how they are measured."
        terms = Parts(self._pictures, self._addresses, ABOUT).terms(runs)
        return self._render("page", ABOUT, "About", text, None, heading="About", parts=[terms])

    def _render(
        self, name: str, page: str, title: str, text: str, preview: str | None, **values: Any
    ) -> str:
        public = self._addresses.public
        site = ("index.html", "about.html", "results.json", "results.csv", "feed.xml")
        return rendered(
            name,
            title=title,
            description=text,
            canonical=public(page, page=page) if self._addresses.url else None,
            preview=None if preview is None else public(preview, page=page),
            links={file: self._addresses.link(file, page=page) for file in (*site, *ASSETS)},
            **values,
        )


def _section(run: SiteRun, parts: Parts, *, is_first: bool) -> dict[str, Any]:
    """Return what the first page shows of one run."""
    shown, level = run.plugins[:MAX_CARDS], 1 if is_first else 2
    return {
        "key": run.key,
        "is_finished": run.is_finished,
        "head": parts.run_head(run, level=level),
        "legend": parts.legend(run),
        "cards": parts.cards(run, shown, level=2 if is_first else 3, eager=is_first)
        if shown
        else "",
        "n_cards": len(shown),
        "n_more": len(run.plugins) - len(shown),
        "matrix": parts.matrix(run, run.plugins),
        "files": parts.run_files(run),
    }


def asset(name: str) -> bytes:
    """Return a stylesheet or script of the pages."""
    return files("bench.site").joinpath("assets", name).read_bytes()
