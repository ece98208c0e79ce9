"""Build a site: read runs, write pictures, pages, badges, data and feed, the first page last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.publish import download_images, download_run, local_folder, parse_address
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


def build_site(runs: Sequence[Path | str], to: Path, options: SiteOptions) -> SiteSummary:
    """Write the site of runs into a folder; raise one `UserError` for what is in the way.

    A run is a run directory, or the address of a run that was published with its images. The same
    runs and options give the same bytes.
    """
    addresses = Addresses(checked_url(options.url))
    dataset = checked_dataset(options.dataset)
    opened = [_opened(str(run)) for run in runs]
    folders = [folder for folder, _ in opened]
    keys = _checked([key for _, key in opened])
    refuse_overlap(to, folders, option="--to")
    folder = SiteFolder(to)
    with Progress("reading runs", unit="run", total=len(folders)) as progress:
        read = []
        for path, key in zip(folders, keys, strict=True):
            read.append(read_run(path, key, nsfw=options.nsfw))
            progress.update()
    content = SiteContent(Pictures(folder, addresses), addresses, dataset=dataset)
    with Progress("writing pages", unit="run", total=len(read)) as progress:
        for run in read:
            for name, made in files_of_run(content, run):
                folder.write(name, made)
            progress.update()
    folder.write(".nojekyll", b"")  # GitHub Pages drops names with a leading underscore without it
    for name, made in files_of(content, read):
        folder.write(name, made)
    folder.close()
    return SiteSummary(
        first_page=to / INDEX,
        n_runs=len(read),
        n_unfinished=sum(not run.is_finished for run in read),
        n_plugins=sum(len(run.plugins) for run in read),
        n_files=len(folder.names),
        n_bytes=folder.n_bytes,
    )


def _opened(run: str) -> tuple[Path, str]:
    """Return a run's directory, downloaded if it is published, and its name in addresses."""
    address = parse_address(run)
    if address is None:
        folder = local_folder(run)
        return folder, folder.resolve().name
    store = download_run(address)
    origin = store.run_facts()["published"]
    if not origin["has_images"]:
        raise UserError(
            f"{run} was published without its images: publish it with --images, or show it with "
            f"`xbench leaderboard {address.store}`"
        )
    download_images(store, {case.case_id for case in store.cases().values()})
    found = parse_address(origin["address"])
    return store.folder, (found and found.key) or "run"


def _checked(keys: list[str]) -> list[str]:
    """Return the names of runs if they can be parts of addresses, each once."""
    problems = [
        f"{key!r} cannot be a part of an address: rename the run" for key in keys if not is_key(key)
    ]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    problems += [f"two runs are named {key!r}: rename one of their folders" for key in doubled]
    if problems:
        raise UserError.collect(problems)
    return keys
