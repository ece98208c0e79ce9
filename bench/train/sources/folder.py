"""A folder of images with captions: NAME.txt beside NAME.jpg, or in a metadata file.

That is metadata.jsonl or metadata.csv of Hugging Face's imagefolder: `file_name`, relative to the
file, and `text` of each image. A file beside the image wins, .txt before .caption (kohya-ss).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.train.sources.entry import IMAGE_SUFFIXES, Entry
from bench.train.sources.metadata import METADATA, captions_listed
from plugins_manifest.documents import read_content, read_text
from plugins_manifest.images.decode import MAX_BYTES
from plugins_manifest.text import first_line

_CAPTIONS = (".caption", ".txt")  # beside an image, the last one first
_TEXTS = (".txt", ".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".caption")


class FolderSource:
    """The images below a folder, in the order of their paths; hidden files are left out."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"data.path: there is no folder {shown_path(folder)}: check the path")
        self.folder = folder

    @property
    def title(self) -> str:
        """The folder."""
        return shown_path(self.folder)

    @cached_property
    def _paths(self) -> list[Path]:
        found = []
        for place, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [Path(place, name) for name in names if not name.startswith(".")]
        return sorted(found)

    def files(self) -> Sequence[Path]:
        """Return all files, captions included."""
        return [path for path in self._paths if path.exists()]

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for every file that is not a text, and for names without a file."""
        listed = captions_listed(path for path in self._paths if path.name in METADATA)
        # a.jpg -> a.txt or a.TXT, the first of both, or a.caption
        captions = {
            path.with_suffix(""): path
            for suffix in _CAPTIONS
            for path in reversed(self._paths)
            if path.suffix.lower() == suffix
        }
        for path in self._paths:
            if path.suffix.lower() not in _TEXTS:
                yield self._entry(path, listed, captions)
        for path in sorted(listed.keys() - set(self._paths)):
            detail = "a metadata file names it"
            yield Entry(self._name(path), "", str(path), reason="missing", detail=detail)

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of a file."""
        return read_content(Path(entry.file), name=entry.name, most_bytes=MAX_BYTES)

    def _entry(
        self, path: Path, listed: Mapping[Path, str], captions: Mapping[Path, Path]
    ) -> Entry:
        name = self._name(path)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            kinds = "PNG, JPEG, WebP, BMP and TIFF are read"
            return Entry(name, "", str(path), reason="not an image", detail=kinds)
        caption, detail = listed.get(path, ""), f"no {path.stem}.txt, no line in a metadata file"
        beside = captions.get(path.with_suffix(""))
        if beside is not None:
            try:
                caption = read_text(beside, name=self._name(beside)).strip()
                detail = f"{beside.name} is empty"
            except UserError as error:
                caption, detail = "", first_line(error)
        if not caption:
            return Entry(name, "", str(path), reason="no caption", detail=detail)
        return Entry(name, caption, str(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
