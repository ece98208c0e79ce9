"""Parts of the pages as HTML. Texts are untrusted: the templates escape all of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.glossary import glossary
from bench.analysis.summary import arm_of
from bench.analysis.words import WORDS, label_of
from bench.registry import method_order, method_style
from bench.site.addresses import Addresses, plugin_file, run_file
from bench.site.rendering import part
from bench.site.runs import SitePlugin, SiteRun
from bench.site.sources import source_page
from bench.site.views import PictureLinks, Views, charts, matrix, settings_table, verdict
from plugins_manifest.outputs import markdown

if TYPE_CHECKING:
    from markupsafe import Markup


class Parts:
    """Renders the parts of one page; links are relative to it."""

    def __init__(self, pictures: PictureLinks, addresses: Addresses, page: str) -> None:
        self._views = Views(pictures, addresses, page)
        self._addresses, self._page = addresses, page

    def link(self, name: str) -> str:
        """Return the link to a file of the site."""
        return self._views.link(name)

    def run_head(self, run: SiteRun, *, level: int) -> Markup:
        """Return a run's sentence as a heading, and the line below it."""
        shown = {"key": run.key, "sentence": run.sentence, "line": line(run)}
        return part("run_head", run={**shown, "command": _command(run)}, level=level)

    def legend(self, run: SiteRun) -> Markup:
        """Return what the verdicts of a run mean."""
        used = {answer.word for answer in run.answers}
        return part("legend", words=[verdict(word) for word in WORDS if word in used])

    def cards(
        self, run: SiteRun, plugins: Sequence[SitePlugin], *, level: int, eager: bool = False
    ) -> Markup:
        """Return a grid of plugins; the first pictures are loaded at once if `eager`."""
        cards = [self._views.card(run, plugin) for plugin in plugins]
        return part("cards", cards=cards, level=level, eager=eager)

    def matrix(self, run: SiteRun, plugins: Sequence[SitePlugin]) -> Markup:
        """Return the table of plugins by methods."""
        return part("matrix", matrix=matrix(run, plugins, self._views))

    def run_files(self, run: SiteRun) -> Markup:
        """Return links to the data and the badge of a run."""
        names = ("results.json", "badge.svg", "badge.json")
        files = {name: self.link(run_file(run, name)) for name in names}
        files["results.csv"] = self.link("results.csv")
        return part("run_files", run={"title": run.title}, files=files)

    def plugin_head(
        self, run: SiteRun, plugin: SitePlugin, names: Sequence[str], *, has_crumb: bool = True
    ) -> Markup:
        """Return name, verdict, sentence and links of a plugin; `names` are files beside it."""
        crumb = f"{self._addresses.home(page=self._page)}#{run.key}" if has_crumb else None
        summary = plugin.answer.summary
        return part(
            "plugin_head",
            card=self._views.card(run, plugin),
            summary=f"{summary[0].upper()}{summary[1:]}.",
            run={"title": run.title, "key": run.key, "line": line(run)},
            crumb=crumb,
            share=self._addresses.shared(plugin_file(run, plugin, "index.html")),
            files={name: self.link(plugin_file(run, plugin, name)) for name in names},
        )

    def plugin_pictures(self, run: SiteRun, plugin: SitePlugin) -> Markup:
        """Return the picture strip of a plugin, its charts and its largest losses."""
        strip = self._views.strip(plugin)
        return part(
            "plugin_pictures",
            run={"key": run.key},
            strip=strip,
            metric=plugin.shown["function_metric"],
            charts=charts(plugin),
            losses=self._views.losses(plugin, strip),
            label=label_of(plugin.shown),
        )

    def plugin_facts(self, run: SiteRun, plugin: SitePlugin) -> Markup:
        """Return settings, facts of the file, and the commands that repeat a plugin's part."""
        own, badge = (plugin_file(run, plugin, name) for name in ("index.html", "badge.svg"))
        places = [self._addresses.public(name, page=self._page) for name in (badge, own)]
        text = f"[![{markdown(plugin.name)}]({places[0]})]({places[1]})"
        return part(
            "plugin_facts",
            settings=settings_table(plugin),
            metric=plugin.shown["function_metric"],
            facts=plugin.facts,
            source_page=source_page(plugin.facts.get("source")),
            audit=plugin.audit,
            commands=commands(run, plugin),
            badge_text=text if self._addresses.url else None,
        )

    def terms(self, runs: Sequence[SiteRun]) -> Markup:
        """Return the glossary, and the methods of runs as commands name them."""
        names = method_order(row["method"] for run in runs for row in run.rows)
        methods = [(name, method_style(name).sentence) for name in names]
        return part("terms", terms=glossary(), methods=methods)


def plugin_title(plugin: SitePlugin) -> str:
    """Return the title of a plugin's page."""
    return f"{plugin.name}: {plugin.answer.word}"


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
    after = plugin.typical and plugin.typical.shot_of(arm_of(plugin.shown))
    explain = [f"xbench explain {shlex.quote(run.key)} {after.trial_id}"] if after else []
    return list(dict.fromkeys(text for text in (_command(run), own, *explain) if text))


def _command(run: SiteRun) -> str:
    return str(run.facts.get("command") or "")
