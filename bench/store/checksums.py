"""checksums.json of a run: the sha256 of its files, written before the files themselves.

A run that is killed between the two leaves a file with its former content, which is accepted for
the file written last. Images and conditions are not listed: the results and the index of the
conditions have their hashes. Runs of earlier versions have no such file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.errors import UserError, disk_error, shown_path
from bench.store.files import sha256_of
from plugins_manifest.sealed import read_sealed, write_sealed

CHECKSUMS_FILE = "checksums.json"
CHECKSUMS_FORMAT = 1


@dataclass
class Checksums:
    """Hashes by path relative to the run directory, in the order of writing.

    `before` is the former hash of the file that was written last. `copies` are the texts of files
    that nothing else can restore. `stale` are files of scores whose images have changed since.
    """

    files: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    def expect(self, name: str, content: bytes, *, with_copy: bool = False) -> None:
        """Record a file that is about to be written."""
        old = self.files.pop(name, None)
        self.files[name] = sha256_of(content)
        self.before = {} if old is None else {name: old}
        if with_copy:
            self.copies[name] = content.decode()
        if name in self.stale:
            self.stale.remove(name)

    def forget(self, name: str) -> None:
        """Remove a file that is deleted on purpose."""
        self.files.pop(name, None)
        self.before.pop(name, None)
        self.copies.pop(name, None)
        self.stale = [one for one in self.stale if one != name]

    def mark_stale(self, names: Iterable[str]) -> None:
        """Record that the images of some scores have changed."""
        self.stale = sorted({*self.stale, *names})

    def accepted(self, name: str) -> set[str]:
        """Return the hashes that a file may have."""
        return {found for book in (self.files, self.before) if (found := book.get(name))}

    def place(self, name: str) -> int:
        """Return the place of a file in the order of writing, -1 if it is not listed."""
        return list(self.files).index(name) if name in self.files else -1


def read_checksums(folder: Path) -> Checksums:
    """Return the checksums of a run, empty if it has none; raise `UserError` for damaged ones."""
    path = folder / CHECKSUMS_FILE
    if not path.exists() and not path.is_symlink():
        return Checksums()
    data = read_sealed(path)
    try:
        if data.pop("format") == CHECKSUMS_FORMAT:
            return Checksums(**data)
    except (AttributeError, KeyError, TypeError):
        pass
    raise UserError(
        f"{shown_path(path)} is damaged: xbench repair {shown_path(folder)} compares the other "
        "files with each other and writes it again"
    )


def write_checksums(folder: Path, sums: Checksums, *, below: Path | None = None) -> None:
    """Replace the checksums of a run."""
    path = folder / CHECKSUMS_FILE
    try:
        write_sealed(path, {"format": CHECKSUMS_FORMAT, **asdict(sums)}, below=below)
    except OSError as error:
        raise disk_error(error, path) from error
