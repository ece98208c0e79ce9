"""Download the pictures behind a table's links into WebDataset shards, politely and resumably.

A shard is made of the same rows whatever happens and written at once; what is there is not
downloaded again. Links that give no picture are listed beside it with the reason. Addresses are
those of strangers: only public hosts are contacted. Pictures whose host opts out of machine
learning (X-Robots-Tag: noai, noimageai) are left out.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from bench.errors import UserError, disk_error
from bench.train.sources.entry import Entry, Reason, reason_of, stamp_of
from bench.train.sources.shards import ShardSource, write_shard
from bench.train.sources.tables import Tables, filter_columns, passing_rows, text_at
from plugins_manifest.documents import parse_json, read_content
from plugins_manifest.errors import FetchError
from plugins_manifest.files import atomic_write
from plugins_manifest.http import AllowList, Client, PublicHosts
from plugins_manifest.http.ranged import is_offline
from plugins_manifest.http.status import interpret_response
from plugins_manifest.images import ImageError, decode_image
from plugins_manifest.progress import Progress
from plugins_manifest.text import first_line

LINKS_PER_SHARD = 1_000
_N_CONNECTIONS = 32
_MOST_BYTES = 32 << 20
_TIMEOUT_SECONDS, _MAX_TRIES = 15.0, 3
_MAX_FAILURES = 3  # of a host that cannot be reached, one after the other
_OPT_OUT = ("noai", "noimageai")
_SUFFIX_BY_START = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"BM": "bmp"}
_SKIPPED = "skipped.jsonl"


@dataclass(frozen=True)
class Link:
    """A row of a table that passes the filters."""

    number: int
    url: str
    caption: str
    license: str | None

    @property
    def host(self) -> str:
        """The host, empty for what is not an address."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


@dataclass(frozen=True)
class Skip:
    """A link without a picture, and why."""

    url: str
    reason: Reason
    detail: str
    is_unreachable: bool = False


class LinkSource:
    """The downloaded pictures of a table's links, and the links that gave none."""

    def __init__(self, folder: Path, *, title: str) -> None:
        self._shards, self._folder, self._title = ShardSource(folder), folder, title

    @property
    def title(self) -> str:
        """The table."""
        return self._title

    def files(self) -> Sequence[Path]:
        """Return the shards and the lists of links without pictures."""
        return [*self._shards.files(), *self._lists()]

    def entries(self) -> Iterator[Entry]:
        """Yield the pictures, then the links without one."""
        yield from self._shards.entries()
        for path in self._lists():
            for line in read_content(path, name=path.name).splitlines():
                skip = parse_json(line, name=path.name)
                yield Entry(
                    skip["url"], "", str(path), reason=skip["reason"], detail=skip["detail"]
                )

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of a picture."""
        return self._shards.content(entry)

    def _lists(self) -> list[Path]:
        return sorted(self._folder.glob(f"*.{_SKIPPED}"))


def find_links(tables: Tables, *, min_side: int) -> Iterator[Link]:
    """Yield the links of the rows that pass the filters, those for known sizes included."""
    columns, options = tables.columns, tables.options
    assert columns.url is not None, "chosen for its links"
    sizes = (columns.width, columns.height)
    filters = filter_columns(columns, options)
    wanted = dict.fromkeys((columns.caption, columns.url, columns.license, *sizes, *filters))
    number = 0
    for _, _, table in tables.groups(list(wanted)):
        sides = [table[name].to_pylist() for name in sizes if name is not None]
        for row in passing_rows(table, columns, options):
            known = [side[row] for side in sides]
            number += 1
            if any(side is not None and side < min_side for side in known):
                continue
            license_ = text_at(table, columns.license, row) if columns.license else None
            caption = text_at(table, columns.caption, row)
            yield Link(number - 1, text_at(table, columns.url, row), caption, license_)


def download_links(
    tables: Tables, folder: Path, *, min_side: int, hosts: AllowList | None = None
) -> LinkSource:
    """Download what is missing below `folder`; `UserError` if no host can be reached at all."""
    options = tables.options
    filters = (options.min_aesthetic, options.licenses, options.url, options.caption, min_side)
    place = folder / f"links-{stamp_of(tables.paths, *filters)[:16]}"
    links = islice(find_links(tables, min_side=min_side), options.n_images)
    client = Client(
        allow=hosts or PublicHosts(),
        advice="the picture is left out",
        timeout_seconds=_TIMEOUT_SECONDS,
        max_tries=_MAX_TRIES,
        n_connections=_N_CONNECTIONS,
    )
    with client, Progress("downloading pictures", unit="link") as bar:
        for number in range(10**9):
            chunk = list(islice(links, LINKS_PER_SHARD))
            if not chunk:
                break
            path = place / f"{number:06d}.tar"
            if path.exists():
                bar.skip(len(chunk))
            else:
                _fill(path, chunk, client, per_host=options.per_host, bar=bar)
    if not place.exists():
        raise UserError(f"no row of {tables.title} passes the filters: relax them")
    return LinkSource(place, title=tables.title)


def _fill(path: Path, links: list[Link], client: Client, *, per_host: int, bar: Progress) -> None:
    """Download the pictures of a shard and write it, with the list of those that failed."""
    if is_offline():
        raise FetchError(
            "pictures cannot be downloaded: offline mode is on: unset HF_HUB_OFFLINE",
            code="offline",
        )
    found: dict[int, bytes | Skip] = {}
    for link, result in _fetched(links, client, per_host):
        found[link.number] = result
        bar.update()
    skips = [result for _, result in sorted(found.items()) if isinstance(result, Skip)]
    if len(skips) == len(links) and all(skip.is_unreachable for skip in skips):
        raise UserError(
            f"none of {len(links)} links can be reached, the first is {skips[0].detail}: check the "
            "network; what was downloaded is kept"
        )
    members: list[tuple[str, bytes]] = []
    for link in links:
        content = found[link.number]
        if isinstance(content, bytes):
            facts = {"caption": link.caption, "url": link.url, "license": link.license}
            members.append((f"{link.number:09d}.{_suffix(content)}", content))
            members.append((f"{link.number:09d}.json", json.dumps(facts).encode()))
    try:
        lines = [json.dumps(asdict(skip)) for skip in skips]
        atomic_write(path.with_suffix(f".{_SKIPPED}"), "\n".join([*lines, ""]) if lines else "")
        write_shard(path, members)
    except OSError as error:
        raise disk_error(error, path) from error


def _fetched(
    links: Sequence[Link], client: Client, per_host: int
) -> Iterator[tuple[Link, bytes | Skip]]:
    """Yield pictures as they come, with at most `per_host` requests to a host at once."""
    waiting: dict[str, deque[Link]] = {}
    for link in links:
        waiting.setdefault(link.host, deque()).append(link)
    active, failures = Counter[str](), Counter[str]()
    running: dict[Future[bytes | Skip], Link] = {}
    with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
        try:
            while waiting or running:
                for link in _next_links(waiting, active, per_host, _N_CONNECTIONS - len(running)):
                    running[pool.submit(_fetch, link, client, failures)] = link
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    link, result = running.pop(future), future.result()
                    active[link.host] -= 1
                    is_failure = isinstance(result, Skip) and result.is_unreachable
                    failures[link.host] = failures[link.host] + 1 if is_failure else 0
                    yield link, result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _next_links(
    waiting: dict[str, deque[Link]], active: Counter[str], per_host: int, n_free: int
) -> list[Link]:
    """Take the next links of hosts that are not busy."""
    taken: list[Link] = []
    for host in list(waiting):
        while len(taken) < n_free and active[host] < per_host and waiting[host]:
            taken.append(waiting[host].popleft())
            active[host] += 1
        if not waiting[host]:
            del waiting[host]
        if len(taken) == n_free:
            break
    return taken


def _fetch(link: Link, client: Client, failures: Mapping[str, int]) -> bytes | Skip:
    """Return a picture that can be decoded, or why there is none."""
    if not link.host:
        return Skip(link.url, "dead link", "not an address")
    if not link.caption:
        return Skip(link.url, "no caption", "its row has none")
    if failures[link.host] >= _MAX_FAILURES:
        detail = f"{link.host} could not be reached {_MAX_FAILURES} times"
        return Skip(link.url, "dead link", detail, is_unreachable=True)
    try:
        content = client.retry(lambda: _body(link, client))
        decode_image(content, name="the picture")
    except FetchError as error:
        is_unreachable = error.code in ("unreachable", "offline")
        reason: Reason = "too large" if error.code == "too-large" else "dead link"
        return Skip(link.url, reason, first_line(error), is_unreachable=is_unreachable)
    except ImageError as error:
        return Skip(link.url, reason_of(error), first_line(error))
    return content


def _body(link: Link, client: Client) -> bytes:
    with client.open(link.url, what="the picture") as opened:
        if (error := interpret_response(opened.response)) is not None:
            raise error
        tags = opened.response.headers.get("x-robots-tag", "").lower()
        if any(word.strip() in _OPT_OUT for part in tags.split(":") for word in part.split(",")):
            raise FetchError(f"its host opts out ({tags[:60]})", code="refused")
        body = bytearray()
        for chunk in opened.chunks:
            body += chunk
            if len(body) > _MOST_BYTES:
                raise FetchError(f"more than {_MOST_BYTES >> 20} MiB", code="too-large")
    return bytes(body)


def _suffix(content: bytes) -> str:
    return next((s for start, s in _SUFFIX_BY_START.items() if content.startswith(start)), "tif")
