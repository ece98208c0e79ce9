"""The HTML pages of a site. Texts are untrusted: the templates escape all of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bench.analysis.glossary import glossary
from bench.analysis.summary import arm_of
from bench.analysis.words import WORDS
from bench.registry import method_order, method_style
from bench.site.addresses import Addresses, plugin_file, run_file
from bench.site.pictures import Pictures
from bench.site.runs import SitePlugin, SiteRun
from bench.site.views import Views, matrix, settings_table, verdict
from plugins_manifest.outputs import html_text, markdown

if TYPE_CHECKING:
    from jinja2 import Environment

INDEX, ABOUT, PREVIEW = "index.html", "about.html", "preview.jpg"
ASSETS = ("site.css", "site.js")


class Pages:
    """Renders the pages of a site from its runs."""

    def __init__(self, pictures: Pictures, addresses: Addresses) -> None:
        self._pictures, self._addresses = pictures, addresses

    def index(self, runs: Sequence[SiteRun]) -> str:
        """Return the first page: one grid of cards for each run."""
        views = self._views(INDEX)
        parts = [self._run(run, views) for run in runs]
        first = runs[0]
        title = f"{first.title}: {first.count}" if len(runs) == 1 else "Plugins after an upgrade"
        preview = run_file(first, PREVIEW) if first.plugins else None
        sentences = " ".join(run.sentence for run in runs)
        return self._render("index", views, title, sentences, preview, runs=parts)

    def plugin(self, run: SiteRun, plugin: SitePlugin, files: Sequence[str]) -> str:
        """Return the page of one plugin; `files` are those that lie beside it."""
        page = plugin_file(run, plugin, INDEX)
        views = self._views(page)
        answer = plugin.answer
        badge = self._addresses.public(plugin_file(run, plugin, "badge.svg"), page=page)
        own = self._addresses.public(page, page=page)
        return self._render(
            "plugin",
            views,
            f"{plugin.name}: {answer.word}",
            f"{answer.sentence}.",
            plugin_file(run, plugin, PREVIEW),
            card=views.card(run, plugin),
            summary=f"{answer.summary[0].upper()}{answer.summary[1:]}.",
            run={"title": run.title, "key": run.key, "line": line(run)},
            strip=views.strip(plugin),
            settings=settings_table(plugin),
            metric=plugin.shown["function_metric"],
            facts=plugin.facts,
            audit=plugin.audit,
            commands=commands(run, plugin),
            files={name: views.link(plugin_file(run, plugin, name)) for name in files},
            badge_text=f"[![{markdown(plugin.name)}]({badge})]({own})",
        )

    def about(self, runs: Sequence[SiteRun]) -> str:
        """Return the page with the glossary and the methods of the runs."""
        names = method_order(row["method"] for run in runs for row in run.rows)
        methods = [(name, method_style(name).sentence) for name in names]
        text = "What the words and numbers of this site mean, and how they are measured."
        views = self._views(ABOUT)
        return self._render("about", views, "About", text, None, terms=glossary(), methods=methods)

    def _views(self, page: str) -> Views:
        return Views(self._pictures, self._addresses, page)

    def _run(self, run: SiteRun, views: Views) -> dict[str, Any]:
        names = ("results.json", "badge.svg", "badge.json")
        used = {answer.word for answer in run.answers}
        return {
            "key": run.key,
            "title": run.title,
            "sentence": run.sentence,
            "line": line(run),
            "command": run.facts.get("command", ""),
            "is_finished": run.is_finished,
            "cards": [views.card(run, plugin) for plugin in run.plugins],
            "words": [verdict(word) for word in WORDS if word in used],
            "matrix": matrix(run, views),
            "files": {name: views.link(run_file(run, name)) for name in names},
        }

    def _render(
        self,
        name: str,
        views: Views,
        title: str,
        text: str,
        preview: str | None,
        **values: Any,
    ) -> str:
        public = self._addresses.public
        site = ("index.html", "about.html", "results.json", "results.csv", "feed.xml")
        links = {file: views.link(file) for file in (*site, *ASSETS)}
        return (
            _environment()
            .get_template(f"{name}.html.jinja")
            .render(
                title=title,
                description=text,
                canonical=public(views.page, page=views.page) if self._addresses.url else None,
                preview=None if preview is None else public(preview, page=views.page),
                links=links,
                **values,
            )
        )


def line(run: SiteRun) -> str:
    """Return the gray line of a run: names, prompts, seeds, date."""
    date = str(run.facts.get("finished") or run.facts.get("created") or "")[:10]
    n_prompts = f"{run.n_prompts} prompts" if run.n_prompts else ""
    n_seeds = f"{run.n_seeds} {'seed' if run.n_seeds == 1 else 'seeds'}" if run.n_seeds else ""
    names = f"Run {run.key}, manifest {run.title}"
    return ", ".join(part for part in (names, n_prompts, n_seeds, date) if part)


def commands(run: SiteRun, plugin: SitePlugin) -> list[str]:
    """Return the commands that repeat the run, this plugin's part, and one image."""
    manifest = shlex.quote(str(run.facts.get("manifest") or "MANIFEST"))
    own = f"xbench run --manifest {manifest} --plugins {shlex.quote(plugin.name)}"
    after = plugin.examples[0].shot_of(arm_of(plugin.shown)) if plugin.examples else None
    explain = [f"xbench explain {shlex.quote(run.key)} {after.trial_id}"] if after else []
    whole = str(run.facts.get("command") or "")
    return list(dict.fromkeys(part for part in (whole, own, *explain) if part))


def asset(name: str) -> bytes:
    """Return a stylesheet or script of the pages."""
    return files("bench.site").joinpath("assets", name).read_bytes()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_template),
        finalize=_printable,
    )


def _template(name: str) -> str:
    return files("bench.site").joinpath("templates", name).read_text(encoding="utf-8")


def _printable(value: Any) -> Any:
    """Replace controls and marks of text direction in a text; markup of a macro is kept."""
    return html_text(value) if type(value) is str else value
