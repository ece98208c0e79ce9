from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.civitai.client import Generator, connect, fetch_picture
from bench.civitai.render import (
    INDEX,
    check_request,
    job_of,
    render_references,
    wanted_references,
)
from bench.cli.main import main
from bench.errors import UserError
from plugins_manifest.http.hosts import Token
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.sources.civitai import TOKEN_NAMES
from tests.bench.civitai.generator_server import TOKEN, GeneratorServer

MODEL = "urn:air:sd1:checkpoint:civitai:4384@128713"
TEXT = """\
schema: 1
name: hosted
family: sd15-sdxl
plugins:
  - id: moxin
    kind: lora
    source: "urn:air:sd1:lora:civitai:12597@14856"
    weight: 0.8
    trigger: shuimobysim
  - id: easy-negative
    kind: textual_inversion
    source: "urn:air:sd1:embedding:civitai:7808@9208"
    token: easynegative
    polarity: negative
  - {id: canny, kind: controlnet, source: "hf://a/b@0000000000000000000000000000000000000001/",
     condition: canny}
  - {id: mine, kind: lora, source: mine.safetensors}
cases:
  - {id: cat, prompt: a cat, negative_prompt: blurry, image: cat.png}
  - {id: dog, prompt: a dog, image: dog.png}
seeds: [7]
methods: [{name: base}]
settings: {base_size: [512, 640], steps: 20, guidance_scale: 6.5, sampler: euler}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    for name in ("cat", "dog"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    path = tmp_path / "hosted.yaml"
    path.write_text(TEXT)
    return parse_manifest(TEXT, path)


@pytest.fixture
def server() -> Iterator[GeneratorServer]:
    with GeneratorServer() as running:
        yield running


def generator_of(server: GeneratorServer, *, timeout_seconds: float = 60.0) -> Generator:
    return Generator(
        connect(Token(TOKEN), endpoint=server.url),
        lambda url: httpx.get(url).content,
        sleep=lambda _: None,
        timeout_seconds=timeout_seconds,
    )


def render(manifest: Manifest, server: GeneratorServer, out: Path, **kwargs: float) -> list[str]:
    wanted = wanted_references(manifest, plugins=["moxin"], limit=None)
    model = check_request(MODEL, manifest.settings, wanted)
    done = render_references(
        wanted,
        out,
        generator=generator_of(server, **kwargs),
        model=model,
        settings=manifest.settings,
    )
    return [one.file_name for one in done]


def test_a_job_says_what_the_base_method_renders(manifest: Manifest) -> None:
    wanted = wanted_references(manifest, plugins=[], limit=1)
    assert [one.file_name for one in wanted] == ["moxin/cat-7.png", "easy-negative/cat-7.png"]
    model = check_request(MODEL, manifest.settings, wanted)
    lora, inversion = (job_of(one, model, manifest.settings) for one in wanted)
    assert lora == {
        "model": MODEL,
        "params": {
            "prompt": "a cat, shuimobysim",
            "negativePrompt": "blurry",
            "scheduler": "Euler",
            "steps": 20,
            "cfgScale": 6.5,
            "width": 512,
            "height": 640,
            "seed": 7,
            "clipSkip": 1,
        },
        "additionalNetworks": {
            "urn:air:sd1:lora:civitai:12597@14856": {"type": "Lora", "strength": 0.8}
        },
    }
    assert "easynegative" in inversion["params"]["negativePrompt"]
    (network,) = inversion["additionalNetworks"].values()
    assert network == {
        "type": "TextualInversion",
        "strength": 1.0,
        "triggerWord": "easynegative",
    }


def test_a_picture_of_the_user_is_never_overwritten_nor_paid_for(
    manifest: Manifest, server: GeneratorServer, tmp_path: Path
) -> None:
    mine = tmp_path / "references" / "moxin" / "cat-7.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"cat-7\.png exists and was not written by this command"):
        render(manifest, server, tmp_path / "references")
    assert mine.read_bytes() == b"mine" and server.jobs == []
    (tmp_path / "references" / INDEX).write_text('{"title": "my references"}')
    with pytest.raises(UserError, match="has other content"):
        render(manifest, server, tmp_path / "references")


def test_pictures_are_asked_for_waited_for_kept_and_never_bought_twice(
    manifest: Manifest, server: GeneratorServer, tmp_path: Path
) -> None:
    out = tmp_path / "references"
    names = ["moxin/cat-7.png", "moxin/dog-7.png"]
    assert render(manifest, server, out) == names
    assert server.authorizations == {f"Bearer {TOKEN}"}
    assert server.jobs[0]["baseModel"] == "SD_1_5"
    assert list(server.polls.values()) == [2, 2]
    records = json.loads((out / INDEX).read_text())
    assert records["pending"] == {}
    assert records["references"][names[0]]["cost_buzz"] == 4.0
    assert records["references"][names[0]]["reproducible"] is False
    assert "Signature" not in (out / INDEX).read_text()
    assert TOKEN not in (out / INDEX).read_text()
    with Image.open(out / names[1]) as picture:
        assert picture.format == "PNG"
    assert render(manifest, server, out) == names
    assert len(server.jobs) == 2
    other = manifest.model_copy(
        update={"settings": manifest.settings.model_copy(update={"steps": 9})}
    )
    render(other, server, out)
    assert len(server.jobs) == 4  # other settings are other pictures


def test_a_job_that_is_late_is_found_again(
    manifest: Manifest, server: GeneratorServer, tmp_path: Path
) -> None:
    server.n_polls = 10**6
    with pytest.raises(UserError, match="run the same command later, it resumes the job"):
        render(manifest, server, tmp_path, timeout_seconds=20.0)
    server.n_polls = 1
    assert len(render(manifest, server, tmp_path)) == 2
    assert len(server.jobs) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "valid token"), (402, "too little Buzz"), (429, "too many requests"), (503, "503")],
)
def test_refusals_say_what_to_do_and_hide_the_token(
    manifest: Manifest, server: GeneratorServer, tmp_path: Path, status: int, message: str
) -> None:
    server.status = status
    with pytest.raises(UserError, match=message) as raised:
        render(manifest, server, tmp_path)
    assert TOKEN not in str(raised.value)


def test_an_answer_that_is_no_picture_is_not_kept(
    manifest: Manifest, server: GeneratorServer, tmp_path: Path
) -> None:
    server.picture = b"<!DOCTYPE html><p>expired</p>"
    with pytest.raises(UserError, match="not a readable image"):
        render(manifest, server, tmp_path)
    assert not list(tmp_path.rglob("moxin/*"))


def test_a_generator_that_cannot_be_reached_is_one_message(
    manifest: Manifest, tmp_path: Path
) -> None:
    with GeneratorServer() as gone:
        pass
    with pytest.raises(UserError, match="cannot be reached"):
        render(manifest, gone, tmp_path)


def test_everything_that_the_generator_cannot_do_is_told_at_once(manifest: Manifest) -> None:
    settings = manifest.settings.model_copy(update={"base_size": (2048, 512)})
    with pytest.raises(UserError) as raised:
        check_request("urn:air:sdxl:checkpoint:civitai:1@2", settings, [])
    for words in ("nothing to render", "2048 px", "Stable Diffusion 1.5"):
        assert words in str(raised.value)
    with pytest.raises(UserError, match="names no version"):
        check_request("urn:air:sd1:checkpoint:civitai:4384", settings, [])
    with pytest.raises(UserError, match=r"unknown plugin 'moxi': use .*moxin"):
        wanted_references(manifest, plugins=["moxi"], limit=None)


@pytest.mark.parametrize("url", ["http://civitai.com/x.png", "https://127.0.0.1/x.png"])
def test_pictures_come_over_https_from_public_addresses(url: str) -> None:
    with pytest.raises(UserError):
        fetch_picture(url)


def test_the_command_asks_for_a_token_and_for_leave(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TOKEN_NAMES:
        monkeypatch.delenv(name, raising=False)
    words = ["reference", "--manifest", str(tmp_path / "hosted.yaml"), "--model", MODEL]
    listed = CliRunner().invoke(main, [*words, "--dry-run", "--limit", "1"])
    assert json.loads(listed.stdout).keys() == {"moxin/cat-7.png", "easy-negative/cat-7.png"}
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "set CIVITAI_API_TOKEN" in refused.stderr
    monkeypatch.setenv("CIVITAI_TOKEN", TOKEN)
    declined = CliRunner().invoke(main, words, input="n\n")
    assert declined.exit_code == 2
    assert "Render 4 pictures?" in declined.output


def test_the_client_is_imported_by_this_command_alone() -> None:
    """Importing civitai-py without a token raises, so nothing else may do it."""
    code = (
        "import sys, bench.cli.main, bench.civitai.render, bench.civitai.client, bench.cli.doctor\n"
        "assert 'civitai' not in sys.modules\n"
        "try:\n    import civitai\n"
        "except ValueError as error:\n    assert 'CIVITAI_API_TOKEN' in str(error)\n"
        "else:\n    raise SystemExit('it can be imported now')\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env={"PATH": ""}, check=True)


def test_the_token_is_in_the_environment_only_while_connecting(
    server: GeneratorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIVITAI_API_TOKEN", raising=False)
    assert connect(Token(TOKEN), endpoint=server.url).api_token == TOKEN
    assert "CIVITAI_API_TOKEN" not in os.environ
    assert replace(generator_of(server), timeout_seconds=1.0).client.base_path == server.url
