"""Build a site: read runs, write pictures, pages, badges, data and feed, the first page last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.publish.format import is_key
from bench.site.addresses import Addresses, checked_url
from bench.site.cards import checked_dataset
from bench.site.content import SiteContent, files_of, files_of_run
from bench.site.folder import SiteFolder
from bench.site.pages import INDEX
from bench.site.pictures import Pictures
from bench.site.read import read_run
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
    dataset = checked_dataset(options.dataset)
    keys = _keys(folders)
    refuse_overlap(to, folders, option="--to")
    folder = SiteFolder(to)
    with Progress("reading runs", unit="run", total=len(folders)) as progress:
        runs = []
        for path, key in zip(folders, keys, strict=True):
            runs.append(read_run(path, key, nsfw=options.nsfw))
            progress.update()
    content = SiteContent(Pictures(folder, addresses), addresses, dataset=dataset)
    with Progress("writing pages", unit="run", total=len(runs)) as progress:
        for run in runs:
            for name, made in files_of_run(content, run):
                folder.write(name, made)
            progress.update()
    folder.write(".nojekyll", b"")  # GitHub Pages drops names with a leading underscore without it
    for name, made in files_of(content, runs):
        folder.write(name, made)
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
