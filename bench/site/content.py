"""The files of a site by name: a build writes all of them, a server makes the one requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.site import cards, data, feed
from bench.site.addresses import Addresses, plugin_file, run_file
from bench.site.badges import plugin_badge, run_badge
from bench.site.pages import ABOUT, ASSETS, INDEX, PREVIEW, Pages, asset
from bench.site.preview import draw_preview
from bench.site.runs import SitePlugin, SiteRun
from bench.site.views import PictureLinks, three

Content = bytes | str
_EVAL_RESULTS = "eval-results.yaml"


class SiteContent:
    """Makes the files of a site; a file that does not exist there is None."""

    def __init__(
        self, pictures: PictureLinks, addresses: Addresses, *, dataset: str | None = None
    ) -> None:
        self._addresses, self._dataset = addresses, dataset
        self._pages = Pages(pictures, addresses)
        self._of_plugin: Mapping[str, Callable[[SiteRun, SitePlugin], Content | None]] = {
            "badge.svg": lambda run, plugin: plugin_badge(plugin.answer).as_svg(),
            "badge.json": lambda run, plugin: plugin_badge(plugin.answer).as_json(),
            "results.json": data.plugin_results,
            "model-card.md": lambda run, plugin: cards.model_card(run, plugin, addresses),
            _EVAL_RESULTS: self._eval_results,
            PREVIEW: lambda run, plugin: _preview(plugin.name, plugin.answer.summary, plugin),
            INDEX: lambda run, plugin: self._pages.plugin(run, plugin, self._names(run, plugin)),
        }
        self._of_run: Mapping[str, Callable[[SiteRun], Content | None]] = {
            "badge.svg": lambda run: run_badge(run).as_svg(),
            "badge.json": lambda run: run_badge(run).as_json(),
            "results.json": data.run_results,
            PREVIEW: _run_preview,
        }
        self._of_site: Mapping[str, Callable[[Sequence[SiteRun]], Content | None]] = {
            **{name: lambda runs, name=name: asset(name) for name in ASSETS},
            "results.json": data.site_results,
            "results.csv": data.results_csv,
            "feed.xml": lambda runs: feed.feed(runs, addresses),
            "robots.txt": lambda runs: feed.robots(addresses),
            "sitemap.xml": self._sitemap,
            ABOUT: self._pages.about,
            INDEX: self._pages.index,
        }

    @property
    def site_names(self) -> tuple[str, ...]:
        """The files of all runs together; the first page is the last."""
        return tuple(self._of_site)

    @property
    def run_names(self) -> tuple[str, ...]:
        """The files of a run."""
        return tuple(self._of_run)

    @property
    def plugin_names(self) -> tuple[str, ...]:
        """The files of a plugin; its page is the last."""
        return tuple(self._of_plugin)

    def of_site(self, runs: Sequence[SiteRun], name: str) -> Content | None:
        """Return a file of all runs."""
        make = self._of_site.get(name)
        return None if make is None else make(runs)

    def of_run(self, run: SiteRun, name: str) -> Content | None:
        """Return a file of a run."""
        make = self._of_run.get(name)
        return None if make is None else make(run)

    def of_plugin(self, run: SiteRun, plugin: SitePlugin, name: str) -> Content | None:
        """Return a file of a plugin."""
        make = self._of_plugin.get(name)
        return None if make is None else make(run, plugin)

    def _names(self, run: SiteRun, plugin: SitePlugin) -> list[str]:
        """Return the files beside a plugin's page."""
        without = set() if self._eval_results(run, plugin) else {_EVAL_RESULTS}
        return [name for name in self.plugin_names if name not in without]

    def _eval_results(self, run: SiteRun, plugin: SitePlugin) -> str | None:
        if self._dataset is None:
            return None
        return cards.eval_results(run, plugin, self._addresses, self._dataset)

    def _sitemap(self, runs: Sequence[SiteRun]) -> str | None:
        if not self._addresses.url:
            return None
        pages = [plugin_file(run, plugin, INDEX) for run in runs for plugin in run.plugins]
        return feed.sitemap([INDEX, ABOUT, *pages], self._addresses)


def files_of(content: SiteContent, runs: Sequence[SiteRun]) -> Iterator[tuple[str, Content]]:
    """Yield name and content of the files that all runs share, the first page last."""
    for name in content.site_names:
        if (made := content.of_site(runs, name)) is not None:
            yield name, made


def files_of_run(content: SiteContent, run: SiteRun) -> Iterator[tuple[str, Content]]:
    """Yield name and content of a run's files, and of those of its plugins."""
    for name in content.run_names:
        if (made := content.of_run(run, name)) is not None:
            yield run_file(run, name), made
    for plugin in run.plugins:
        for name in content.plugin_names:
            if (made := content.of_plugin(run, plugin, name)) is not None:
                yield plugin_file(run, plugin, name), made


def _run_preview(run: SiteRun) -> bytes | None:
    return _preview(run.title, run.sentence, run.plugins[0]) if run.plugins else None


def _preview(title: str, sentence: str, plugin: SitePlugin) -> bytes:
    tiles = [(label, shot.load()) for label, shot in three(plugin) if not shot.missing]
    return draw_preview(title, sentence, tiles)
