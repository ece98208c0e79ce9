"""WebDataset shards: tar files whose neighboring members of one name are one picture.

000012.jpg, 000012.txt and 000012.json belong together. Nothing is extracted: members are read
where they are, so that any picture can be read at any time. Format: github.com/webdataset.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.train.sources.entry import IMAGE_SUFFIXES, MAX_CAPTION_BYTES, Entry, caption_in
from plugins_manifest.documents import parse_json
from plugins_manifest.files import replacing
from plugins_manifest.images.decode import MAX_BYTES
from plugins_manifest.text import first_line

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class ShardSource:
    """The pictures of the tar files of a folder, or of one tar file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shards = sorted(path.rglob("*.tar")) if path.is_dir() else [path]
        if not path.exists():
            raise UserError(f"data.path: there is nothing at {shown_path(path)}: check the path")
        packed = [path] if path.is_file() else sorted(path.rglob("*"))
        if compressed := [p for p in packed if p.name.endswith(_COMPRESSED)]:
            raise UserError(
                f"data.path: {shown_path(compressed[0])} is compressed, so that pictures cannot be "
                "read one by one: unpack it to a .tar"
            )
        if not self._shards:
            raise UserError(f"data.path: there are no .tar files in {shown_path(path)}")

    @property
    def title(self) -> str:
        """The folder, or the file."""
        return shown_path(self._path)

    def files(self) -> Sequence[Path]:
        """Return the shards."""
        return self._shards

    def entries(self) -> Iterator[Entry]:
        """Yield the pictures in their order; a damaged shard ends with an entry that names it."""
        for shard in self._shards:
            try:
                with shard.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                    members = (m for m in tar if m.isreg() and m.sparse is None)
                    for key, group in groupby(members, key=_key):
                        parts = {_suffix(member): member for member in group}
                        yield _entry(shard, key, parts)
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                detail = first_line(error)
                yield Entry(shard.name, "", str(shard), reason="broken", detail=detail)

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of a member."""
        return _read(Path(entry.file), entry.at, min(entry.size, MAX_BYTES + 1))


def _key(member: tarfile.TarInfo) -> str:
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _suffix(member: tarfile.TarInfo) -> str:
    return "." + member.name.rpartition("/")[2].partition(".")[2].lower()


def _entry(shard: Path, key: str, parts: Mapping[str, tarfile.TarInfo]) -> Entry:
    name = f"{shard.name}/{key}"
    image = next((parts[suffix] for suffix in parts if suffix in IMAGE_SUFFIXES), None)
    if image is None:
        detail = f"it has {', '.join(parts)}"
        return Entry(name, "", str(shard), reason="not an image", detail=detail)
    caption, detail = "", "neither .txt nor a caption in .json"
    for suffix in (".txt", ".json"):
        member = parts.get(suffix)
        if caption or member is None:
            continue
        try:
            caption = _caption(_read(shard, member.offset_data, member.size), suffix, name)
        except (UserError, UnicodeDecodeError) as error:
            detail = first_line(error)
    place = (image.offset_data, image.size)
    if not caption:
        return Entry(name, "", str(shard), *place, reason="no caption", detail=detail)
    return Entry(name, caption, str(shard), *place)


def _caption(content: bytes, suffix: str, name: str) -> str:
    if len(content) > MAX_CAPTION_BYTES:
        raise UserError(f"{name}{suffix} has more than {MAX_CAPTION_BYTES:,} bytes")
    if suffix == ".json":
        return caption_in(parse_json(content, name=f"{name}.json"))
    return content.decode("utf-8-sig").strip()


def _read(path: Path, start: int, n_bytes: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(n_bytes)


def write_shard(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Write a shard at once, with the same bytes for the same members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, tarfile.open(draft, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
