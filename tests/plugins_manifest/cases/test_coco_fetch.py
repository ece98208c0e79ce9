"""Fetching COCO: captions by ranges out of the zip, photos by id, and nothing wrong is kept."""

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins_manifest.cases.coco import coco_cases
from plugins_manifest.cases.coco_fetch import Fetched, fetch_coco, read_member
from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http.ranged import Mirror
from plugins_manifest.schema.manifest import CocoCases
from tests.plugins_manifest.coco_server import ARCHIVE, CocoServer, Handler, archive, jpeg

HERE = Path(".")
COCO = Path(os.environ.get("XBENCH_COCO", Path(__file__).parents[4] / "shared" / "data" / "coco"))


@pytest.fixture
def server() -> Iterator[CocoServer]:
    server = CocoServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a cache of one's own."""
    for name in ("XBENCH_COCO", "XBENCH_COCO_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "coco"


def mirror_of(server: CocoServer) -> Mirror:
    return Mirror(server.url, setting="XBENCH_COCO_URL", sleep=lambda seconds: None)


def spec(**given: object) -> CocoCases:
    return CocoCases.model_validate({"source": "coco-val2017", **given})


def fetch(server: CocoServer, **given: object) -> Fetched:
    with mirror_of(server) as mirror:
        return fetch_coco(spec(**given), folder=HERE, mirror=mirror)


def hang_up_after(n_bytes: int):
    return lambda handler: handler.send_file(stop_after=n_bytes)


def test_fetched_captions_and_photos_are_the_cases(server: CocoServer, cache: Path) -> None:
    done = fetch(server)
    assert (done.n_fetched, done.n_there) == (4, 0)
    assert done.captions_sha256 == hashlib.sha256(server.captions).hexdigest()
    cases = coco_cases(spec(), folder=HERE)
    assert [c.prompt for c in cases] == ["a cat 139", "a cat 285", "a cat 632", "a cat 724"]
    assert Path(cases[0].image_path or "").read_bytes() == jpeg(139)
    assert not list((cache / "partial").iterdir())


def test_only_the_end_of_the_zip_and_one_member_are_read(server: CocoServer) -> None:
    fetch(server, image_ids=[])
    requested = [span for path, span in server.requested if path == ARCHIVE]
    assert len(requested) == 2 and all(requested)
    assert server.n_bytes_sent < 0.1 * len(server.files[ARCHIVE])


def test_present_files_are_not_downloaded_again_but_changed_ones_are(
    server: CocoServer, cache: Path
) -> None:
    fetch(server, n=2)
    server.requested.clear()
    done = fetch(server)
    assert (done.n_fetched, done.n_there) == (2, 2)
    assert all(path != ARCHIVE for path, _ in server.requested)
    (cache / "val2017" / f"{139:012d}.jpg").write_bytes(b"scribbled over")
    assert fetch(server).n_fetched == 1
    assert (cache / "val2017" / f"{139:012d}.jpg").read_bytes() == jpeg(139)
    checked = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=cache, check=False)
    assert checked.returncode == 0
    assert len((cache / "SHA256SUMS").read_text().splitlines()) == 5


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_busy_server_and_broken_connections_are_tried_again(
    server: CocoServer, has_etags: bool
) -> None:
    server.has_etags = has_etags
    busy = [lambda h: h.send_status(503, {"Retry-After": "1"}), lambda h: h.send_status(500)]
    server.replies.extend([*busy, Handler.send_file, busy[0], hang_up_after(50)])
    fetch(server, image_ids=[139])
    spans = [span or "" for path, span in server.requested if path == ARCHIVE]
    first, last = (int(span.removeprefix("bytes=").partition("-")[0]) for span in spans[-2:])
    assert last - first == 50  # the rest, from where the connection broke


def test_a_stopped_fetch_of_captions_goes_on_in_the_next_process(
    server: CocoServer, cache: Path
) -> None:
    server.replies.extend(
        [Handler.send_file, hang_up_after(40), *[lambda h: h.send_status(503)] * 4]
    )
    with pytest.raises(FetchError, match=r"status 503.*XBENCH_COCO_URL"):
        fetch(server)
    assert (cache / "partial" / "member.part").stat().st_size == 40
    assert not (cache / "captions_val2017.json").exists()
    server.requested.clear()
    server.replies.clear()
    fetch(server, image_ids=[139])
    spans = [span or "" for path, span in server.requested if path == ARCHIVE]
    assert len(spans) == 2
    with zipfile.ZipFile(zip_file := cache / "whole.zip", "w"):
        zip_file.write_bytes(server.files[ARCHIVE])
    start = zipfile.ZipFile(zip_file).getinfo("annotations/captions_val2017.json").header_offset
    assert spans[1].startswith(f"bytes={start + 40}-")


def test_parts_of_two_states_of_the_zip_are_never_joined(server: CocoServer, cache: Path) -> None:
    server.replies.extend(
        [Handler.send_file, hang_up_after(40), *[lambda h: h.send_status(503)] * 4]
    )
    with pytest.raises(FetchError):
        fetch(server)
    server.replies.clear()
    server.files[ARCHIVE] = archive(server.captions, filler_bytes=200_001)
    fetch(server, image_ids=[139])
    assert (cache / "captions_val2017.json").read_bytes() == server.captions


def test_a_zip_that_changes_while_it_is_read_is_refused(server: CocoServer, cache: Path) -> None:
    def change(handler: Handler) -> None:
        server.files[ARCHIVE] = archive(server.captions, filler_bytes=190_000)
        handler.send_file()

    server.replies.extend([Handler.send_file, change])
    with pytest.raises(FetchError, match="changed while it was read"):
        fetch(server)
    assert not (cache / "captions_val2017.json").exists()


def test_a_server_without_ranges_is_reported_at_once(server: CocoServer) -> None:
    server.replies.append(lambda handler: handler.send_file(ranges=False))
    with pytest.raises(FetchError, match=r"does not support ranges.*XBENCH_COCO_URL"):
        fetch(server)
    assert len(server.requested) == 1


def damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def test_a_wrong_crc_is_refused_and_nothing_is_kept(server: CocoServer, cache: Path) -> None:
    whole = server.files[ARCHIVE]
    place = whole.find(b"captions_val2017.json") + 60
    server.files[ARCHIVE] = damaged(whole, place)
    with pytest.raises(FetchError, match="damaged"):
        fetch(server)
    assert not (cache / "captions_val2017.json").exists()
    assert not list((cache / "partial").iterdir())
    server.files[ARCHIVE] = whole
    assert fetch(server).n_fetched == 4


def test_a_file_that_is_not_the_zip_or_lacks_the_member_is_refused(
    server: CocoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = server.files[ARCHIVE]
    for content, text in (
        (whole[:-4000], "damaged"),  # truncated
        (b"<html>" * 99, "web page"),
        (b"", "does not support ranges|damaged|ends"),
        (archive(b"{}").replace(b"captions_val2017", b"captions_val2018"), "has 0 files"),
        (archive(b"{}"), "is not COCO's captions file"),
    ):
        server.files[ARCHIVE] = content
        with pytest.raises(UserError, match=text):
            fetch(server)
    server.files[ARCHIVE] = whole
    monkeypatch.setattr("plugins_manifest.cases.coco_fetch.MOST_CAPTIONS_BYTES", 10)
    with pytest.raises(FetchError, match="another file"):
        fetch(server)


def test_missing_and_wrong_photos_are_reported_together_and_the_rest_is_kept(
    server: CocoServer, cache: Path
) -> None:
    del server.files[f"/val2017/{285:012d}.jpg"]
    server.files[f"/val2017/{632:012d}.jpg"] = jpeg(632)[:-40]
    server.files[f"/val2017/{724:012d}.jpg"] = jpeg(724, (40, 40))
    with pytest.raises(UserError) as caught:
        fetch(server)
    reported = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert (
        "status 404" in reported and "not a complete JPEG" in reported and "40 x 40 px" in reported
    )
    kept = [p.name for p in (cache / "val2017").iterdir()]
    assert kept == [f"{139:012d}.jpg"]


def test_a_photo_of_unlikely_size_is_refused(
    server: CocoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins_manifest.cases.coco_fetch.MOST_PHOTO_BYTES", 100)
    with pytest.raises(UserError, match="not the expected file"):
        fetch(server, n=1)


def test_a_dead_server_ends_the_fetch_and_the_mirror_setting_is_named(server: CocoServer) -> None:
    fetch(server, n=1)
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match=r"connection fails.*XBENCH_COCO_URL"):
        fetch(server)


def test_offline_mode_makes_no_request_and_uses_present_files(
    server: CocoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(server, n=2)
    server.requested.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(server, n=2).n_there == 2
    with pytest.raises(FetchError, match="unset HF_HUB_OFFLINE"):
        fetch(server, n=3)
    assert not server.requested


def test_the_environment_names_the_server(
    server: CocoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_COCO_URL", server.url)
    assert fetch_coco(spec(n=1), folder=HERE).n_fetched == 1
    monkeypatch.setenv("XBENCH_COCO_URL", "file:///etc")
    with pytest.raises(UserError, match="XBENCH_COCO_URL is 'file:///etc'"):
        fetch_coco(spec(), folder=HERE)


def test_nothing_is_written_into_a_folder_of_the_users(server: CocoServer, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    (own / "val2017").mkdir(parents=True)
    (own / "captions_val2017.json").write_bytes(server.captions)
    with pytest.raises(UserError, match="folder of yours"):
        fetch(server, path=str(own), image_ids=[139])
    (own / "val2017").rmdir()
    assert fetch(server, path=str(own)).n_fetched == 4  # photos into the cache
    assert [path.name for path in own.iterdir()] == ["captions_val2017.json"]
    assert len(coco_cases(spec(path=str(own)), folder=HERE)) == 4


@pytest.mark.skipif(not COCO.is_dir(), reason="COCO is not there: set XBENCH_COCO")
def test_the_real_captions_come_out_of_a_zip_unchanged(server: CocoServer, tmp_path: Path) -> None:
    real = (COCO / "captions_val2017.json").read_bytes()
    server.files[ARCHIVE] = archive(real, filler_bytes=100_000)
    with mirror_of(server) as mirror:
        found = read_member(mirror, ARCHIVE[1:], "captions_val2017.json", partial=tmp_path)
    assert found == real
