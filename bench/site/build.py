"""Build a site: read runs, write pictures, pages, badges, data and feed, the first page last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.publish.format import is_key
from bench.site import cards, data, feed
from bench.site.addresses import Addresses, checked_url, plugin_file, run_file
from bench.site.badges import plugin_badge, run_badge
from bench.site.folder import SiteFolder
from bench.site.pages import ABOUT, ASSETS, INDEX, PREVIEW, Pages, asset
from bench.site.pictures import Pictures
from bench.site.preview import draw_preview
from bench.site.runs import SitePlugin, SiteRun, read_run
from bench.site.views import three
from plugins_manifest.folders import refuse_overlap
from plugins_manifest.progress import Progress


@dataclass(frozen=True)
class SiteOptions:
    """Where the site will be, the Hub's data set of its results, and whether nsfw is shown."""

    url: str | None = None
    dataset: str | None = None
    nsfw: bool = False


@dataclass(frozen=True)
class SiteSummary:
    """What was written."""

    first_page: Path
    n_runs: int
    n_unfinished: int
    n_plugins: int
    n_files: int
    n_bytes: int

    def as_data(self) -> dict[str, Any]:
        """Return plain data for scripts."""
        return {**asdict(self), "first_page": str(self.first_page)}


def build_site(folders: Sequence[Path], to: Path, options: SiteOptions) -> SiteSummary:
    """Write the site of runs into a folder; raise one `UserError` for what is in the way.

    The same runs and options give the same bytes.
    """
    addresses = Addresses(checked_url(options.url))
    dataset = cards.checked_dataset(options.dataset)
    keys = _keys(folders)
    refuse_overlap(to, folders, option="--to")
    folder = SiteFolder(to)
    with Progress("reading runs", unit="run", total=len(folders)) as progress:
        runs = []
        for path, key in zip(folders, keys, strict=True):
            runs.append(read_run(path, key, nsfw=options.nsfw))
            progress.update()
    builder = _Builder(folder, addresses, dataset)
    with Progress("writing pages", unit="run", total=len(runs)) as progress:
        for run in runs:
            builder.write_run(run)
            progress.update()
    builder.write_site(runs)
    folder.close()
    return SiteSummary(
        first_page=to / INDEX,
        n_runs=len(runs),
        n_unfinished=sum(not run.is_finished for run in runs),
        n_plugins=sum(len(run.plugins) for run in runs),
        n_files=len(folder.names),
        n_bytes=folder.n_bytes,
    )


def _keys(folders: Sequence[Path]) -> list[str]:
    """Return the name of each run in addresses: its folder's."""
    keys = [folder.resolve().name for folder in folders]
    problems = [
        f"{key!r} cannot be a part of an address: rename the run" for key in keys if not is_key(key)
    ]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    problems += [f"two runs are named {key!r}: rename one of their folders" for key in doubled]
    if problems:
        raise UserError.collect(problems)
    return keys


class _Builder:
    """Writes the parts of a site."""

    def __init__(self, folder: SiteFolder, addresses: Addresses, dataset: str | None) -> None:
        self._folder, self._addresses, self._dataset = folder, addresses, dataset
        self._pages = Pages(Pictures(folder), addresses)

    def write_run(self, run: SiteRun) -> None:
        """Write a run's badge and data, and the folder of each of its plugins."""
        badge = run_badge(run)
        self._folder.write(run_file(run, "badge.svg"), badge.as_svg())
        self._folder.write(run_file(run, "badge.json"), badge.as_json())
        self._folder.write(run_file(run, "results.json"), data.run_results(run))
        if run.plugins:
            self._write_preview(run_file(run, PREVIEW), run.title, run.sentence, run.plugins[0])
        for plugin in run.plugins:
            self._write_plugin(run, plugin)

    def write_site(self, runs: Sequence[SiteRun]) -> None:
        """Write what all runs share; the first page last."""
        write = self._folder.write
        for name in ASSETS:
            write(name, asset(name))
        write("results.json", data.site_results(runs))
        write("results.csv", data.results_csv(runs))
        write("feed.xml", feed.feed(runs, self._addresses))
        write("robots.txt", feed.robots(self._addresses))
        write(".nojekyll", b"")  # GitHub Pages drops names with a leading underscore without it
        if self._addresses.url:
            pages = [plugin_file(run, p, INDEX) for run in runs for p in run.plugins]
            write("sitemap.xml", feed.sitemap([INDEX, ABOUT, *pages], self._addresses))
        write(ABOUT, self._pages.about(runs))
        write(INDEX, self._pages.index(runs))

    def _write_plugin(self, run: SiteRun, plugin: SitePlugin) -> None:
        files: list[str] = []

        def write(name: str, content: bytes | str) -> None:
            self._folder.write(plugin_file(run, plugin, name), content)
            files.append(name)

        badge = plugin_badge(plugin.answer)
        write("badge.svg", badge.as_svg())
        write("badge.json", badge.as_json())
        write("results.json", data.plugin_results(run, plugin))
        write("model-card.md", cards.model_card(run, plugin, self._addresses))
        if self._dataset:
            results = cards.eval_results(run, plugin, self._addresses, self._dataset)
            if results is not None:
                write("eval-results.yaml", results)
        name = plugin_file(run, plugin, PREVIEW)
        self._write_preview(name, plugin.name, plugin.answer.summary, plugin)
        write(INDEX, self._pages.plugin(run, plugin, files))

    def _write_preview(self, name: str, title: str, sentence: str, plugin: SitePlugin) -> None:
        tiles = [(label, shot.load()) for label, shot in three(plugin) if not shot.missing]
        self._folder.write(name, draw_preview(title, sentence, tiles))
