"""Sources of pictures: what each reads, what it leaves out and why, and mistakes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import UserError
from bench.train import Recipe, load_recipe
from bench.train.schema import ParquetData
from bench.train.sources.links import LinkSource, download_links
from bench.train.sources.open import open_source
from bench.train.sources.tables import Tables
from bench.train.survey import Survey, survey_of, survey_pictures
from plugins_manifest.http import PublicHosts
from tests.bench.train.photos import photo, recipe_file, write_folder, write_tar
from tests.loopback import Loopback, Quiet
from tests.runners.hub_server import HubServer, Repository

HERE = PublicHosts(networks=("127.0.0.0/8",))


def recipe_of(tmp_path: Path, **data: Any) -> Recipe:
    return load_recipe(recipe_file(tmp_path, data))


def surveyed(tmp_path: Path, **data: Any) -> Survey:
    return survey_of(recipe_of(tmp_path, **data), tmp_path / "data")[1]


def reasons(survey: Survey) -> dict[str, str]:
    return {one.name: one.reason for one in survey.skipped}


def captions(survey: Survey) -> list[str]:
    return [one.entry.caption for one in survey.photos]


# --- folders


def test_a_folder_gives_its_good_pictures_and_the_reason_for_each_other(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "photos",
        {
            "a.jpg": photo(1),
            "b.PNG": photo(2, kind="PNG"),
            "cut.png": photo(3, kind="PNG")[:-20],
            "page.jpg": b"<html>not found</html>",
            "tiny.jpg": photo(4, (40, 200)),
        },
    )
    (folder / "b.txt").rename(folder / "b.TXT")
    (folder / "silent.jpg").write_bytes(photo(5))
    (folder / "empty.jpg").write_bytes(photo(6))
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin.jpg").write_bytes(photo(7))
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "film.gif").write_bytes(b"GIF89a")
    (folder / ".DS_Store").write_bytes(b"hidden")
    survey = surveyed(tmp_path, source="folder", path="photos")
    assert captions(survey) == ["a picture a.jpg", "a picture b.PNG"]
    assert reasons(survey) == {
        "cut.png": "broken",
        "page.jpg": "not an image",
        "tiny.jpg": "too small",
        "silent.jpg": "no caption",
        "empty.jpg": "no caption",
        "latin.jpg": "no caption",
        "film.gif": "not an image",
    }
    listed = (tmp_path / "data" / "skipped.tsv").read_text().splitlines()
    assert len(listed) == 7 and "too small\ttiny.jpg\t40 x 200 px, the least side is 64" in listed


def test_metadata_names_captions_of_its_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos" / "inner", {"a.jpg": photo(1)}, captions=False)
    lines = [{"file_name": "a.jpg", "text": "first"}, {"file_name": "b.jpg", "text": "second"}]
    metadata = folder / "metadata.jsonl"
    metadata.write_text("\n".join(map(json.dumps, lines)))
    survey = surveyed(tmp_path, source="folder", path="photos")
    assert captions(survey) == ["first"] and reasons(survey) == {"inner/b.jpg": "missing"}
    (folder / "a.txt").write_text("beside")
    assert captions(surveyed(tmp_path, source="folder", path="photos")) == ["beside"]
    metadata.write_text('{"file_name": "a.jpg"}\n{"file_name": "../../x.jpg", "text": "y"}\n')
    with pytest.raises(UserError, match=r"metadata.jsonl:2: '../../x.jpg' is outside"):
        surveyed(tmp_path, source="folder", path="photos")
    for wrong, message in [
        (b'{"file_name": "a.jpg"\n', r"metadata.jsonl:1"),
        (b'{"file_name": "a.jpg"}\n{"text": "caf\xe9"}\n', r"metadata.jsonl:2: not in UTF-8"),
        (
            b'{"file_name": "a.jpg", "text": "x"}\n{"file_name": "./a.jpg", "text": "y"}\n',
            r"metadata.jsonl:2: './a.jpg' has another caption in .*metadata.jsonl:1: keep",
        ),
    ]:
        metadata.write_bytes(wrong)
        with pytest.raises(UserError, match=message):
            surveyed(tmp_path, source="folder", path="photos")


def test_a_table_names_captions_too(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "photos", {"a.jpg": photo(1), "b.jpg": photo(2)}, captions=False
    )
    table = folder / "metadata.csv"
    table.write_text('\ufefffile_name,text\r\na.jpg,"one, ""two"""\r\n\r\nb.jpg,\r\n')
    survey = surveyed(tmp_path, source="folder", path="photos")
    assert captions(survey) == ['one, "two"'] and reasons(survey) == {"b.jpg": "no caption"}
    (folder / "metadata.jsonl").write_text('{"file_name": "a.jpg", "text": "another"}\n')
    with pytest.raises(UserError, match=r"metadata.jsonl:1: 'a.jpg' has another .*csv:2: keep"):
        surveyed(tmp_path, source="folder", path="photos")
    for wrong, message in [
        ("file_name;text\na.jpg;x\n", r"metadata.csv:1: the columns are file_name;text: name"),
        ("", r"metadata.csv:1: the columns are missing"),
        ("file_name,text\na.jpg,x,y\n,z\n", r"metadata.csv:2: 3 cells, the header has 2"),
        ("file_name,text\n,z\n", r"metadata.csv:2: file_name is missing"),
        ('file_name,text\na.jpg,"x\n', r"metadata.csv:2: not valid CSV"),
    ]:
        table.write_text(wrong)
        with pytest.raises(UserError, match=message):
            surveyed(tmp_path, source="folder", path="photos")


def test_captions_beside_images_have_one_of_two_endings(tmp_path: Path) -> None:
    files = {"a.jpg": photo(1), "b.jpg": photo(2)}
    folder = write_folder(tmp_path / "photos", files, captions=False)
    for name in files:
        (folder / name).with_suffix(".caption").write_text(f"caption of {name}")
    (folder / "a.txt").write_text("text of a.jpg")
    survey = surveyed(tmp_path, source="folder", path="photos")
    assert captions(survey) == ["text of a.jpg", "caption of b.jpg"]


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_folder(tmp_path / "photos", {"a.jpg": photo(1)})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(folder / "a.jpg", exif=exif)
    (found,) = surveyed(tmp_path, source="folder", path="photos").photos
    assert (found.width, found.height) == (100, 200)


def test_no_usable_picture_is_one_clear_error(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a.jpg": b"<html>", "b.jpg": b"", "c.jpg": photo(1, (9, 9))})
    with pytest.raises(UserError) as caught:
        surveyed(tmp_path, source="folder", path="photos")
    assert len(caught.value.problems) == 1
    text = str(caught.value)
    assert "can be used: 1 not an image (a.jpg); 1 broken (b.jpg); 1 too small (c.jpg)" in text
    assert text.endswith("skipped.tsv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="can be used: there is none"):
        surveyed(tmp_path, source="folder", path="empty")
    with pytest.raises(UserError, match="there is no folder"):
        surveyed(tmp_path, source="folder", path="nowhere")


def test_a_survey_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {"a.jpg": photo(1), "b.jpg": photo(2)})
    recipe = recipe_of(tmp_path, source="folder", path="photos")
    reads: list[str] = []

    def survey() -> Survey:
        source: Any = open_source(recipe, tmp_path / "data")
        content = source.content
        source.content = lambda entry: reads.append(entry.name) or content(entry)
        folder = tmp_path / "data"
        return survey_pictures(source, recipe.data, min_side=64, folder=folder)  # type: ignore[arg-type]

    first = survey()
    assert survey() == first and sorted(reads) == ["a.jpg", "b.jpg"]
    (folder / "b.txt").write_text("a longer caption than before")
    changed = survey()
    assert len(reads) == 4 and changed.sha256 != first.sha256


# --- shards


def test_shards_give_pictures_with_texts_or_json(tmp_path: Path) -> None:
    facts = json.dumps({"caption": "from json", "url": "https://example.org"}).encode()
    first = [
        *(("0/a.jpg", photo(1)), ("0/a.txt", b"from text")),
        *(("0/b.png", photo(2, kind="PNG")), ("0/b.json", facts)),
        *(("0/c.jpg", photo(3)), ("0/c.cls", b"7")),
        ("0/d.txt", b"no picture"),
    ]
    write_tar(tmp_path / "shards" / "000.tar", first)
    cut = write_tar(tmp_path / "shards" / "001.tar", [("e.jpg", photo(5)), ("e.txt", b"whole")])
    cut.write_bytes(cut.read_bytes()[:700])
    recipe = recipe_of(tmp_path, source="webdataset", path="shards")
    source, survey = survey_of(recipe, tmp_path / "data")
    assert captions(survey) == ["from text", "from json"]
    assert source.content(survey.photos[1].entry) == photo(2, kind="PNG")
    found = reasons(survey)
    assert found["000.tar/0/c"] == "no caption" and found["000.tar/0/d"] == "not an image"
    assert len(found) > 2 and {found[name] for name in found if name.startswith("001")} <= {
        "broken",
        "no caption",
    }


def test_packed_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"0.tar.gz is compressed"):
        surveyed(tmp_path, source="webdataset", path="shards")


# --- tables


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_a_table_with_image_bytes_is_filtered_and_read_by_row(tmp_path: Path) -> None:
    images = [{"bytes": photo(n), "path": f"{n}.jpg"} for n in range(5)]
    images[4] = {"bytes": None, "path": "4.jpg"}
    columns = {
        "image": images,
        "text": ["zero", "one", "two", None, "four"],
        "aesthetic": [4.0, 6.0, 7.0, 8.0, 9.0],
        "license": ["cc0", "cc0", "by", "cc0", "cc0"],
    }
    write_table(tmp_path / "set" / "train.parquet", columns)
    data = {"source": "parquet", "path": "set"}
    source, survey = survey_of(recipe_of(tmp_path, **data), tmp_path / "data")
    assert captions(survey) == ["zero", "one", "two"]
    assert source.content(survey.photos[2].entry) == photo(2)
    assert sorted(reasons(survey).values()) == ["missing", "no caption"]
    filters = {"min_aesthetic": 5, "licenses": ["cc0"]}
    assert captions(surveyed(tmp_path, **data, **filters)) == ["one"]
    with pytest.raises(UserError, match="no row passes the filters"):
        surveyed(tmp_path, **data, licenses=["mit"])
    with pytest.raises(UserError, match=r"data.caption: .* has no column 'words': use image, text"):
        surveyed(tmp_path, **data, caption="words")


def test_tables_without_pictures_or_captions_name_their_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "a" / "a.parquet", {"text": ["x"], "label": [1]})
    with pytest.raises(UserError, match="neither images nor links among text, label"):
        surveyed(tmp_path, source="parquet", path="a")
    write_table(tmp_path / "b" / "b.parquet", {"url": ["x"], "label": [1]})
    with pytest.raises(UserError, match="no column for the caption among url, label"):
        surveyed(tmp_path, source="parquet", path="b")
    with pytest.raises(UserError, match=r"data.image: column 'url' of .*type string, not of"):
        surveyed(tmp_path, source="parquet", path="b", caption="url", image="url")
    bytes_ = [photo(1)]
    write_table(tmp_path / "d" / "0.parquet", {"jpg": bytes_, "text": ["x"], "aesthetic": ["7"]})
    with pytest.raises(UserError, match="'aesthetic' is of type string, no numbers"):
        surveyed(tmp_path, source="parquet", path="d", min_aesthetic=5)
    write_table(tmp_path / "d" / "1.parquet", {"jpg": bytes_, "words": ["x"]})
    with pytest.raises(UserError, match=r"1\.parquet has no column 'text' as the first file has"):
        surveyed(tmp_path, source="parquet", path="d")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is not a parquet file"):
        surveyed(tmp_path, source="parquet", path="c.parquet")


# --- datasets of the Hub


@pytest.fixture
def hub(tmp_path: Path, online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    folder = tmp_path / "hub"
    for name in ("train-0", "train-1", "test-0"):
        image = [{"bytes": photo(n), "path": None} for n in range(3)]
        columns = {"image": image, "text": [f"{name} {n}" for n in range(3)]}
        write_table(folder / "data" / f"{name}.parquet", columns)
    (folder / "README.md").write_text("a dataset")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer({"me/set": Repository.of_folder(folder, "a" * 40)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_dataset_of_the_hub_is_read_by_its_split(tmp_path: Path, hub: HubServer) -> None:
    data = {"source": "huggingface", "dataset": "me/set"}
    found = captions(surveyed(tmp_path, **data, n_images=2))
    assert found == ["train-0 0", "train-0 1"]
    assert hub.fetched() == {"data/train-0.parquet"}  # only what has these rows
    assert len(captions(surveyed(tmp_path, **data))) == 6
    assert captions(surveyed(tmp_path, **data, split="test"))[0] == "test-0 0"
    with pytest.raises(UserError, match=r"no split 'dev' among data/test-0.parquet"):
        surveyed(tmp_path, **data, split="dev")
    with pytest.raises(UserError, match=r"data.dataset: me/other.* no such repository"):
        surveyed(tmp_path, source="huggingface", dataset="me/other")


# --- links


class _Pictures(Quiet, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        owner = self.server.owner
        with owner.lock:
            owner.requests[self.path] += 1
            owner.active += 1
            owner.most_active = max(owner.most_active, owner.active)
        owner.pause.wait(0.02)
        with owner.lock:  # before the answer, after which the client may send the next request
            owner.active -= 1
        status, body, headers = owner.files.get(self.path, (404, b"", {}))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Pictures(Loopback):
    """Serves pictures and mistakes; counts requests, and how many there were at once."""

    handler = _Pictures

    def __init__(self) -> None:
        self.lock, self.pause = threading.Lock(), threading.Event()
        self.requests: Counter[str] = Counter()
        self.active = self.most_active = 0
        self.files: dict[str, tuple[int, bytes, dict[str, str]]] = {
            f"/{n}.jpg": (200, photo(n), {}) for n in range(8)
        }
        self.files["/page.jpg"] = (200, b"<html>", {"Content-Type": "text/html"})
        self.files["/cut.jpg"] = (200, photo(9)[:-30], {})
        self.files["/closed.jpg"] = (200, photo(9), {"X-Robots-Tag": "noai, noimageai"})


def spec_of(table: Path, **options: Any) -> ParquetData:
    return ParquetData(source="parquet", path=str(table), **options)


def download(table: Path, folder: Path, **options: Any) -> LinkSource:
    spec = spec_of(table, **options)
    return download_links(Tables([table], spec, title="links"), folder, min_side=64, hosts=HERE)


@pytest.mark.usefixtures("online")
def test_links_become_shards_and_dead_ones_a_list(tmp_path: Path) -> None:
    names = [*(f"{n}.jpg" for n in range(8)), "page.jpg", "cut.jpg", "closed.jpg", "gone.jpg"]
    with Pictures() as server:
        columns = {
            "URL": [*(f"{server.url}/{name}" for name in names), "not an address"],
            "TEXT": [f"text of {name}" for name in [*names, ""]],
            "WIDTH": [32, *[128] * (len(names))],
            "HEIGHT": [128] * (len(names) + 1),
        }
        table = write_table(tmp_path / "links.parquet", columns)
        source = download(table, tmp_path / "kept", per_host=2)
        survey = survey_pictures(source, spec_of(table), min_side=64, folder=None)
        assert captions(survey) == [f"text of {n}.jpg" for n in range(1, 8)]
        assert "/0.jpg" not in server.requests  # its width is known to be too small
        assert server.most_active <= 2
        found = {name.rpartition("/")[2]: reason for name, reason in reasons(survey).items()}
        assert found == {
            "page.jpg": "dead link",
            "cut.jpg": "broken",
            "closed.jpg": "dead link",
            "gone.jpg": "dead link",
            "not an address": "dead link",
        }
        before = sum(server.requests.values())
        again = download(table, tmp_path / "kept", per_host=2)
        assert sum(server.requests.values()) == before
        assert again.files() == source.files()


@pytest.mark.usefixtures("online")
def test_an_unreachable_network_is_an_error_and_no_list_of_dead_links(tmp_path: Path) -> None:
    columns = {"url": ["http://127.0.0.1:9/a.jpg"] * 4, "caption": ["x"] * 4}
    table = write_table(tmp_path / "links.parquet", columns)
    with pytest.raises(UserError, match="none of 4 links can be reached"):
        download(table, tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("*.tar"))


@pytest.mark.usefixtures("online")
def test_links_into_private_networks_are_never_requested(tmp_path: Path) -> None:
    with Pictures() as server:
        columns = {"url": [f"{server.url}/1.jpg"], "caption": ["x"]}
        table = write_table(tmp_path / "links.parquet", columns)
        source = download_links(
            Tables([table], spec_of(table), title="links"), tmp_path, min_side=64
        )
        (entry,) = source.entries()
        assert entry.reason == "dead link" and "not on the public internet" in entry.detail
        assert not server.requests
