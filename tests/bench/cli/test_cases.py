"""xbench cases: what a manifest's methods get, and how its photos come here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from tests.plugins_manifest.coco_server import CocoServer

MANIFEST = """\
schema: 1
name: photos
family: sd15-sdxl
plugins:
  - {id: net, kind: controlnet, source: net.safetensors, condition: canny}
cases: {source: coco-val2017}
methods: [{name: base}]
"""


@pytest.fixture
def server(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[CocoServer]:
    server = CocoServer()
    monkeypatch.delenv("XBENCH_COCO", raising=False)
    monkeypatch.setenv("XBENCH_COCO_URL", server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def manifest_path(tmp_path: Path) -> str:
    path = tmp_path / "photos.yaml"
    path.write_text(MANIFEST)
    return str(path)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["cases", *words])


def test_photos_are_listed_once_they_are_fetched(server: CocoServer, manifest_path: str) -> None:
    before = call("list", manifest_path)
    assert before.exit_code == 2 and "xbench cases fetch" in before.stderr
    fetched = call("fetch", manifest_path, "--limit", "3")
    assert fetched.exit_code == 0 and fetched.stdout.startswith("3 photos fetched, 0 existed")
    assert "captions_sha256: " in fetched.stdout
    assert "1 photos fetched, 3 existed" in call("fetch", manifest_path).stdout
    listed = call("list", manifest_path).stdout.splitlines()
    assert len(listed) == 4 and "a cat 139" in listed[0]
    facts = json.loads(call("list", manifest_path, "--json", "--limit", "2").stdout)
    assert [fact["case_id"] for fact in facts] == ["coco-000000000139", "coco-000000000285"]


def test_cases_that_are_no_photos_need_no_fetching(server: CocoServer) -> None:
    result = call("fetch", "pocket-smoke")
    assert result.exit_code == 0 and "nothing to fetch" in result.stdout and not server.requested
    assert "pocket scene" in call("list", "pocket-smoke", "--limit", "1").stdout
