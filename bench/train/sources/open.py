"""Open the source that a recipe names; what has to be downloaded is downloaded."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UserError, shown_path
from bench.train.schema import FolderData, HubData, ParquetData, PicturesData, Recipe, ShardsData
from bench.train.sources.entry import Source
from bench.train.sources.folder import FolderSource
from bench.train.sources.links import download_links
from bench.train.sources.shards import ShardSource
from bench.train.sources.tables import Tables, TableSource


def open_source(recipe: Recipe, folder: Path | None) -> Source:
    """Open the pictures of a recipe; those behind links are kept below `folder`.

    Raises `UserError` for pictures that are not here yet if there is no folder.
    """
    spec = recipe.data
    if isinstance(spec, FolderData):
        return FolderSource(Path(spec.path))
    if isinstance(spec, ShardsData):
        return ShardSource(Path(spec.path))
    if folder is None and isinstance(spec, HubData):
        raise NotHereError(f"the files of {spec.dataset} are not downloaded yet")
    tables = open_tables(spec)
    if tables.columns.image is not None:
        return TableSource(tables)
    if folder is None:
        raise NotHereError(f"the pictures of {tables.title} are not downloaded yet")
    place = cache_folder(recipe, folder)
    return download_links(tables, place, min_side=min_side_of(recipe))


class NotHereError(UserError):
    """Pictures that are downloaded when a training begins, or tables that are to be put there."""


def cache_folder(recipe: Recipe, folder: Path) -> Path:
    """Return where downloads and encoded pictures are kept."""
    cache = getattr(recipe.data, "cache", None)
    return Path(cache) if isinstance(cache, str) else folder


def open_tables(spec: object) -> Tables:
    """Open the parquet files of a source, those of the Hub after their download."""
    if isinstance(spec, HubData):
        from bench.train.sources.hub_dataset import fetch_tables

        return Tables(fetch_tables(spec), spec, title=spec.dataset)
    assert isinstance(spec, ParquetData), "the last source of pictures"
    path = Path(spec.path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise NotHereError(f"data.path: there are no parquet files at {shown_path(path)}")
    return Tables(files, spec, title=shown_path(path))


def min_side_of(recipe: Recipe) -> int:
    """Return the least side of a picture in px: smaller ones are left out."""
    assert isinstance(recipe.data, PicturesData), "a source of pictures"
    return recipe.data.min_side or recipe.size // 2
