"""Claims about what never leaves this machine by `xbench publish`."""

import getpass
import io
import json
import platform
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, PngImagePlugin

from bench.errors import UserError
from bench.publish.publish import publish_run
from bench.publish.redaction import Privacy
from bench.store.files import sha256_of, write_bytes, write_json
from bench.store.run_store import RunStore
from tests.leaderboard.drawn_results import write_gate, write_results

USER, HOME = "wilhelmina", "/home/wilhelmina"
SECRET, TOKEN = "correct-horse-battery", "hf_abcdefghijklmnop"
HOST = platform.node()


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a user with a name, a home and a secret in the environment."""
    monkeypatch.setenv("LOGNAME", USER)
    monkeypatch.setenv("HOME", HOME)
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    assert getpass.getuser() == USER and str(Path.home()) == HOME


def planted(folder: Path) -> RunStore:
    """Return a run with something private in every file and column that can hold any."""
    store = write_results(folder, n_cases=2, n_seeds=1)
    secret = f"{HOME}/project-x/secret.safetensors on {HOST} by {USER} with {TOKEN} {SECRET}"
    command = (
        f"xbench run --manifest {HOME}/project-x/m.yaml --t0 0.5,0.9 --out=/data/project-x/run "
        f"--adapter '{HOME}/project-x/my adapter' --limit 3"
    )
    store.write_run_facts(
        {
            **store.run_facts(),
            "command": command,
            "hostname": HOST,
            "git": {"commit": "c" * 40, "changed": True, "remote": f"https://u:{TOKEN}@x.lan/a"},
            "device": {"kind": "cpu", "name": f"CPU {HOST} ", "threads": 2, "user": USER},
            "selection": {"limit": 3, "adapter": "~/project-x/mapper", "private": secret},
            "versions": {"python": "3.11", "torch": f"file://{HOME}/project-x/torch.whl"},
        }
    )
    _plant_manifest(store, secret)
    _plant_tables(store, secret)
    write_json(store.folder / "cases.json", {"cases": [{"image_path": f"{HOME}/project-x/a.png"}]})
    reason = f"at {HOME}/project-x/a: {secret}"
    identity = {"folder": "~/project-x/baseline", "images": 24}
    tests = [{"plugin": "canny-net", "reason": reason, "difference": 0.1}]
    write_gate(store, {"verdict": "pass", "baseline": identity, "tests": tests, "host": HOST})
    return store


def _plant_manifest(store: RunStore, secret: str) -> None:
    manifest = yaml.safe_load((store.folder / "manifest.yaml").read_text())
    manifest["plugins"][0]["source"] = "../../project-x/net.safetensors"
    manifest["plugins"][0]["reference"] = f"{HOME}/project-x/r.png"
    manifest["plugins"][0]["note"] = secret
    manifest["plugins"][1]["source"] = f"https://user:{TOKEN}@example.org/ink.bin?token={SECRET}"
    manifest["cases"] = [
        {"prompt": "a dog", "image": f"{HOME}/project-x/dog.png", "conditions": {"canny": "/p/x"}}
    ]
    store.write_manifest({**manifest, "secret": secret})


def _plant_tables(store: RunStore, secret: str) -> None:
    trials = store.trials().to_dict("records")
    for row in trials:
        row["base_prompt"] = f"a root on a table {TOKEN} {SECRET} {HOME}/project-x"
    store.write_trials(trials)
    rows = store.results().to_dict("records")
    content = _noted_png(secret)
    for row in rows[:3]:
        write_bytes(store.folder / row["image"], content)
        row["image_sha256"] = sha256_of(content)
    rows[5] |= {"status": "failed", "image": None, "image_sha256": None}
    rows[5]["error"] = f"FileNotFoundError: no '{HOME}/project-x/a' on {HOST}"
    store.write_results("all", rows)
    scores = store.scores().assign(reason=f"OSError: '{HOME}/project-x/b.png' {secret}", value=None)
    for metric, part in scores.groupby("metric"):
        store.write_scores(str(metric), part.assign(recipe=f"{metric}, /opt/project-x/w.pt"))
    for path in set(store.trials()["condition_path"].dropna()):
        write_bytes(store.folder / path, content)


def _noted_png(secret: str) -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", secret)
    picture = Image.fromarray(np.full((16, 16, 3), 77, np.uint8))
    exif = Image.Exif()
    exif[0x010E] = secret
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=notes, exif=exif, icc_profile=secret.encode())
    return buffer.getvalue()


def all_text(board: Path) -> str:
    """Everything in a store: every byte, and what Parquet keeps compressed."""
    texts = []
    for path in board.rglob("*"):
        if not path.is_file():
            continue
        texts.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            texts.append(f"{table.schema.metadata} {table.to_pylist()}")
        if path.suffix in (".webp", ".png"):
            with Image.open(path) as picture:
                texts.append(f"{picture.info} {dict(picture.getexif())}")
    return "\n".join(texts)


@pytest.mark.parametrize("images", [False, True])
def test_nothing_private_is_in_any_published_byte(tmp_path: Path, images: bool) -> None:
    store = planted(tmp_path / "run")
    publish_run(store.folder, str(tmp_path / "board"), images=images)
    found = all_text(tmp_path / "board")
    for private in (HOME, USER, SECRET, TOKEN, f" {HOST} ", f'"{HOST}"', "project-x", "file:///"):
        at = found.find(private)
        assert at < 0, (private, found[max(at - 90, 0) : at + 90])
    assert "a root on a table" in found and "FileNotFoundError" in found


def test_a_published_command_keeps_its_meaning(tmp_path: Path) -> None:
    store = planted(tmp_path / "run")
    publish_run(store.folder, str(tmp_path / "board"))
    index = json.loads((tmp_path / "board" / "index" / "run.json").read_text())
    facts = index["facts"]
    assert facts["command"] == (
        "xbench run --manifest m.yaml --t0 0.5,0.9 --out=run --adapter 'my adapter' --limit 3"
    )
    assert facts["git"] == {"commit": "c" * 40, "changed": True}
    assert facts["versions"] == {"python": "3.11"} and facts["weights"] == {"mapper": "a" * 64}
    assert facts["selection"] == {"limit": 3, "adapter": "mapper"}
    manifest = json.loads((tmp_path / "board" / index["manifest"]).read_text())
    sources = [plugin["source"] for plugin in manifest["plugins"]]
    assert sources == ["net.safetensors", "https://example.org/ink.bin"]
    assert manifest["cases"][0]["image"] == "dog.png"


def test_a_private_name_that_cannot_be_changed_is_refused(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1, n_seeds=1)
    rows = store.trials().to_dict("records")
    rows[0]["case_id"] = f"{HOME}/x"
    store.write_trials(rows)
    with pytest.raises(UserError, match="column case_id contains a path of this machine"):
        publish_run(store.folder, str(tmp_path / "board"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no '/srv/a b/c d.png' here", "no 'c d.png' here"),
        ("in /srv/a/b.py, line 3", "in b.py, line 3"),
        (r"C:\Users\me\x.png and \\host\share\y.png", "x.png and y.png"),
        ("~/a/b and ../c/d and ./e", "b and d and e"),
        ("https://me:pw@example.org/a/b?token=1#x", "https://example.org/a/b"),
        ("http://build-7:8080/x and http://10.1.2.3/y", "… and …"),
        ("Authorization: Bearer abc.def", "Authorization: …"),
        ("password=hunter2 me@example.org 10.0.0.1 box.corp", "password=… … … …"),
        ("AKIAABCDEFGHIJKLMNOP ghp_0123456789abcdef0123", "… …"),
    ],
)
def test_technical_text_keeps_names_of_files_and_loses_where_they_are(text: str, left: str) -> None:
    assert Privacy().technical(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "unbiased MMD^2, kernel (x.y/d+1)^3, full sets up to 5000",
        "f1, within 1 px; cv2 canny on gray, 100/200 (family pocket: 150/300)",
        "root mean square of a/b, 3.11.7",
        "the base model's quality is not measurably below the upgraded model's",
        "https://example.org/weights/v1.pt sha256 abcdef",
    ],
)
def test_recipes_and_reasons_stay_as_they_are(text: str) -> None:
    assert Privacy().technical(text) == text


@pytest.mark.parametrize("text", ["/data/secret-team/a:b.bin", "C:\\secret-team\\a.bin"])
def test_of_a_source_with_a_colon_only_the_file_s_name_is_left(text: str) -> None:
    assert "secret-team" not in Privacy().source(text)
    assert Privacy().source("hf://org/repo@main/a.bin") == "hf://org/repo@main/a.bin"
    assert Privacy().source("pocket:canny") == "pocket:canny"
