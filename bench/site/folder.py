"""The folder of a site: every file that is written is recorded, so that a new build can clear it.

`site.json` lists the files, and other names those of other folders that a command makes anew. A
folder with other content is refused; files of an earlier build that the new one does not have are
removed after everything else is written.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.publish.format import file_inside
from bench.store.files import json_bytes, sha256_of, write_bytes
from plugins_manifest.documents import parse_json


@dataclass(frozen=True)
class FolderKind:
    """What a folder holds: the option that names it, its list of files, and that list's format."""

    option: str
    list_file: str
    format: str


SITE = FolderKind("--to", "site.json", "xbench-site-1")


class SiteFolder:
    """Writes the files of one build; raises `UserError` for a folder with files of others."""

    def __init__(self, folder: Path, kind: FolderKind = SITE) -> None:
        self.folder, self._kind = folder, kind
        self._old = _listed(folder, kind)
        self._new: dict[str, int] = {}  # name -> bytes

    @property
    def n_bytes(self) -> int:
        """The size of all files of this build."""
        return sum(self._new.values())

    @property
    def names(self) -> list[str]:
        """The files of this build, sorted."""
        return sorted(self._new)

    def write(self, name: str, content: bytes | str) -> str:
        """Write a file by its name inside of the folder; return the name."""
        data = content.encode() if isinstance(content, str) else content
        write_bytes(self.folder / name, data, durable=False)
        self._new[name] = len(data)
        return name

    def write_picture(self, content: bytes, ending: str) -> str:
        """Write a picture under a name of its content, each content once; return the name."""
        name = f"pictures/{sha256_of(content)[:20]}.{ending}"
        return name if name in self._new else self.write(name, content)

    def close(self) -> None:
        """Write the list of files and remove those of an earlier build alone."""
        content = json_bytes({"format": self._kind.format, "files": self.names})
        write_bytes(self.folder / self._kind.list_file, content, durable=False)
        for name in sorted(self._old - self._new.keys(), reverse=True):
            if path := file_inside(self.folder, name):
                path.unlink()
                self._remove_empty(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):  # not empty
            while folder != self.folder.resolve():
                folder.rmdir()
                folder = folder.parent


def _listed(folder: Path, kind: FolderKind) -> set[str]:
    """Return the files of an earlier build."""
    if not folder.exists():
        return set()
    if not folder.is_dir():
        raise UserError(f"{kind.option} {shown_path(folder)} is a file: choose a folder")
    path = folder / kind.list_file
    if not path.is_file():
        if any(folder.iterdir()):
            raise UserError(
                f"{kind.option} {shown_path(folder)} has files of others (it has no "
                f"{kind.list_file}): choose another or an empty folder"
            )
        return set()
    data = parse_json(path.read_bytes(), name=kind.list_file)
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list) or data.get("format") != kind.format:
        raise UserError(f"{kind.option} {shown_path(path)} is not a list of its files: remove it")
    return {name for name in files if isinstance(name, str)}
