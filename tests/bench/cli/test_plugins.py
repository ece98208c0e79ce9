"""xbench plugins lock, fetch, verify from end to end: processes, kills, and servers that fail."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench.cli.main import main
from plugins_manifest.sources.civitai import TOKEN_NAMES
from tests.plugins_manifest.cli_driver import open_supply
from tests.plugins_manifest.servers import (
    SIGNATURE,
    SITE,
    SITE_ADDRESS,
    STORAGE,
    STORAGE_ADDRESS,
    TOKEN,
    Handler,
    Request,
    World,
    lora_bytes,
    safetensors_bytes,
    send_file,
)

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[3]
BIG = safetensors_bytes(n_floats=1_000_000)
BIG_SHA256 = hashlib.sha256(BIG).hexdigest()
SMALL = lora_bytes()
MANIFEST = """\
schema: 1
name: mine
family: pocket
plugins:
  - {id: big, kind: lora, source: "urn:air:sd1:lora:civitai:1@10", trigger: outline drawing}
  - {id: small, kind: lora, source: "urn:air:sd1:lora:civitai:2@20"}
cases: {source: pocket, seed: 5, n: 1}
methods: [{name: base}]
"""


class Shell:
    """Calls the command line in processes of their own, in one folder."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.store = folder / "store"
        (folder / "mine.yaml").write_text(MANIFEST)
        settings = {
            "rules": [dataclasses.asdict(rule) for rule in world.rules],
            "addresses": {SITE: SITE_ADDRESS, STORAGE: STORAGE_ADDRESS},
            "ca": str(world.ca_path),
            "base_url": world.base_url,
        }
        (folder / "settings.json").write_text(json.dumps(settings))

    def start(self, *words: str, token: str | None = TOKEN) -> "subprocess.Popen[str]":
        named = {"CIVITAI_TOKEN": token} if token else {}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CIVITAI")}
        environment = (
            kept
            | named
            | {
                "XBENCH_STORE": str(self.store),
                "PYTHONPATH": str(ROOT),
            }
        )
        driver = [sys.executable, "-m", "tests.plugins_manifest.cli_driver", "settings.json"]
        return subprocess.Popen(
            [*driver, *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, code: int = 0, token: str | None = TOKEN) -> tuple[str, str]:
        """As `start`, in this process: what it prints, after a check of its exit code."""
        settings = json.loads((self.folder / "settings.json").read_text())
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("XBENCH_STORE", str(self.store))
            for name in TOKEN_NAMES:
                patch.delenv(name, raising=False)
            if token:
                patch.setenv("CIVITAI_TOKEN", token)
            done = CliRunner().invoke(
                main, words, obj=lambda **choices: open_supply(settings, **choices)
            )
        assert done.exit_code == code, done.output
        for secret in (TOKEN, SIGNATURE):
            assert secret not in done.output
        return done.stdout, done.stderr

    def stored(self) -> set[str]:
        return {path.parent.name for path in self.store.glob("sha256/*/*/file.*")}

    def lock_text(self) -> str:
        return (self.folder / "mine.lock.yaml").read_text()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.add(1, 10, BIG)
    world.add(2, 20, SMALL)
    yield world
    world.close()


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


def slowly(handler: Handler, request: Request) -> None:
    send_file(handler, request, BIG, pause_seconds=0.1)


def wait_for_part(store: Path, *, n_bytes: int) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for part in store.glob("partial/*.part"):
            if part.stat().st_size >= n_bytes:
                return part
        time.sleep(0.02)
    raise AssertionError("no download began")


def test_lock_fetch_verify_on_two_machines(shell: Shell, world: World, tmp_path: Path) -> None:
    out, err = shell.call("plugins", "fetch", "mine.yaml", "--dry-run")
    assert "2 to fetch, 1.9 MiB" in out and "commercial use: Image, RentCivit" in out
    assert not shell.store.exists() and not (shell.folder / "mine.lock.yaml").exists()

    out, err = shell.call("plugins", "lock", "mine.yaml")
    assert (
        "small  locked" in out and "kohya for sd1, PROBLEM: wrong-base" in out
    )  # judged for pocket
    assert err == ""  # no progress bar where nobody watches
    assert shell.stored() == {BIG_SHA256, hashlib.sha256(SMALL).hexdigest()}
    lock = yaml.safe_load(shell.lock_text())
    assert [entry["sha256"] for entry in lock["plugins"]] == [
        BIG_SHA256,
        hashlib.sha256(SMALL).hexdigest(),
    ]
    assert TOKEN not in shell.lock_text() and SIGNATURE not in shell.lock_text()

    shell.store = tmp_path / "other machine"
    out, err = shell.call("plugins", "verify", "mine.yaml", code=1)
    assert "not here" in out and "run: xbench plugins fetch" in out
    out, err = shell.call("plugins", "fetch", "mine.yaml", "--json")
    assert [row["state"] for row in json.loads(out)["plugins"]] == ["fetched", "fetched"]
    world.close()
    out, err = shell.call("plugins", "verify", "mine.yaml")
    assert out.count("ok:") == 2
    shell.call("plugins", "fetch", "mine.yaml", token=None)  # nothing left to do: no network
    entry = json.loads(shell.call("plugins", "show", "big", "--manifest", "mine.yaml")[0])
    assert entry["sha256"] == BIG_SHA256 and entry["lock"]["origin"]["version_id"] == 10
    assert (
        f"locked {BIG_SHA256[:12]}" in shell.call("plugins", "list", "--manifest", "mine.yaml")[0]
    )


@pytest.mark.parametrize("command", ["lock", "fetch"])
def test_killed_download_goes_on_in_the_next_command(
    shell: Shell, world: World, command: str
) -> None:
    world.storage.script.append(slowly)
    process = shell.start("plugins", command, "mine.yaml")
    part = wait_for_part(shell.store, n_bytes=300_000)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert shell.stored() == set() and not (shell.folder / "mine.lock.yaml").exists()
    kept = part.stat().st_size
    assert 0 < kept < len(BIG)
    shell.call("plugins", command, "mine.yaml")
    resumed = [r for r in world.storage.requests if r.path == "/10.bin"][-1]
    assert resumed.headers["range"] == f"bytes={kept}-" and "if-range" in resumed.headers
    assert len(shell.stored()) == 2 and not list(shell.store.glob("partial/*.part"))
    shell.call("plugins", "verify", "mine.yaml")


def test_interrupted_download_exits_130_and_keeps_its_part(shell: Shell, world: World) -> None:
    world.storage.script.append(slowly)
    process = shell.start("plugins", "fetch", "mine.yaml")
    wait_for_part(shell.store, n_bytes=100_000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "run the same command again" in err
    assert "Traceback" not in err
    shell.call("plugins", "fetch", "mine.yaml")
    assert len(shell.stored()) == 2


def test_two_processes_at_once_download_once_and_agree(shell: Shell, world: World) -> None:
    world.storage.script.append(slowly)
    processes = [shell.start("plugins", "lock", "mine.yaml") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert sum(request.path == "/10.bin" for request in world.storage.requests) == 1
    assert len(shell.stored()) == 2
    shell.call("plugins", "verify", "mine.yaml")


def test_what_fails_is_told_at_the_end_and_a_rerun_completes(shell: Shell, world: World) -> None:
    damaged = bytearray(BIG)
    damaged[1_000_000] ^= 1
    world.storage.script.append(lambda h, r: send_file(h, r, bytes(damaged)))
    _, err = shell.call("plugins", "fetch", "mine.yaml", code=2)
    assert "plugin 'big'" in err and err.count("Error:") == 1
    assert shell.stored() == {hashlib.sha256(SMALL).hexdigest()}
    assert "id: small" in shell.lock_text() and "id: big" not in shell.lock_text()
    shell.call("plugins", "fetch", "mine.yaml")
    assert len(shell.stored()) == 2


def test_missing_token_is_one_clear_message(shell: Shell) -> None:
    _, err = shell.call("plugins", "lock", "mine.yaml", code=2, token=None)
    assert err.count("set CIVITAI_TOKEN") == 2
    assert shell.stored() == set()


def test_gated_plugins_are_skipped_with_exit_code_1(shell: Shell, world: World) -> None:
    world.versions[10]["usageControl"] = "Generation"
    out, _ = shell.call("plugins", "lock", "mine.yaml", code=1)
    assert "skipped:gated" in out and "small  locked" in out


def test_plugins_are_found_after_the_fetch_without_network(shell: Shell, world: World) -> None:
    show = ("plugins", "show", "big", "--manifest", "mine.yaml")
    before = json.loads(shell.call(*show)[0])
    assert before["file"] is None and "sha256" not in before["note"]
    assert "not locked and fetched yet: run: xbench plugins fetch mine.yaml" in before["note"]
    shell.call("plugins", "lock", "mine.yaml", "--no-download")
    assert "is not locked and fetched yet" in json.loads(shell.call(*show)[0])["note"]
    shell.call("plugins", "fetch", "mine.yaml")
    n_requests = len(world.site.requests)
    after = json.loads(shell.call(*show)[0])
    assert after["sha256"] == BIG_SHA256 and after["file"].endswith("file.safetensors")
    assert len(world.site.requests) == n_requests


def test_locked_but_missing_file_names_the_fetch(shell: Shell, tmp_path: Path) -> None:
    shell.call("plugins", "lock", "mine.yaml")
    shell.store = tmp_path / "other machine"
    entry = json.loads(shell.call("plugins", "show", "big", "--manifest", "mine.yaml")[0])
    assert "is not fetched yet: run: xbench plugins fetch mine.yaml" in entry["note"]


def test_manifest_with_a_hash_needs_no_lock(shell: Shell) -> None:
    shell.call("plugins", "fetch", "mine.yaml")
    (shell.folder / "mine.lock.yaml").unlink()
    text = MANIFEST.replace("1@10", '1@10", sha256: "' + BIG_SHA256)
    (shell.folder / "mine.yaml").write_text(text)
    entry = json.loads(shell.call("plugins", "show", "big", "--manifest", "mine.yaml")[0])
    assert entry["sha256"] == BIG_SHA256


def test_damaged_store_is_noticed_wherever_a_plugin_is_used(shell: Shell) -> None:
    shell.call("plugins", "fetch", "mine.yaml")
    (path,) = shell.store.glob(f"sha256/*/{BIG_SHA256}/file.safetensors")
    path.write_bytes(SMALL)
    entry = json.loads(shell.call("plugins", "show", "big", "--manifest", "mine.yaml")[0])
    assert "the store is damaged" in entry["note"] and "fetch mine.yaml" in entry["note"]


def test_run_with_fetch_fetches_first_and_stops_where_it_cannot(shell: Shell) -> None:
    _, err = shell.call("run", "--manifest", "mine.yaml", "--fetch", code=2, token=None)
    assert err.count("set CIVITAI_TOKEN") == 2
    assert not (shell.folder / "runs").exists()


@pytest.mark.slow
def test_pickle_becomes_safetensors_without_being_trusted(shell: Shell) -> None:
    import torch

    torch.save({"weight": torch.zeros(2, 3)}, shell.folder / "old.pt")
    out, _ = shell.call("plugins", "convert", "old.pt", "new.safetensors")
    assert "1 tensors in new.safetensors" in out
    _, err = shell.call("plugins", "convert", "old.pt", "new.safetensors", code=2)
    assert "name a new file" in err


def test_fetching_leaves_torch_out() -> None:
    modules = (
        "bench.cli.plugins",
        "bench.plan.plugin_files",
        "plugins_manifest.supply.resolve",
    )
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    subprocess.run(
        [sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True, cwd=ROOT
    )


def test_unknown_hosts_need_to_be_allowed(shell: Shell) -> None:
    text = MANIFEST.replace("urn:air:sd1:lora:civitai:1@10", "https://evil.test/x.safetensors")
    (shell.folder / "mine.yaml").write_text(text)
    _, err = shell.call("plugins", "lock", "mine.yaml", code=2)
    assert "'evil.test' (port 443) is not on the list" in err and "--allow-host evil.test" in err
