"""Advice for errors of the Hub is the same wherever the Hub is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.runners.hub_server import HubServer

CODE = """
import json
from bench.publish.locations import open_location
from metrics.weights.fetch import fetch_weights
from metrics.weights.files import RemoteFile, Weights
from plugins_manifest.errors import UserError
from plugins_manifest.sources.hub import Hub, HubReference
from runners.families.hub import HubModel, fetch_file
weights = Weights("w", "W", (RemoteFile("x.bin", "hf://owner/none/x.bin"),), "MIT")
uses = {
    "plugins": lambda: Hub().find(HubReference("owner/none", None, ""), what="plugin 'p'"),
    "weights": lambda: fetch_weights(weights),
    "families": lambda: fetch_file(HubModel("owner/none", "a" * 40, "x.bin"), setting="X"),
    "publish": lambda: open_location("hf://datasets/owner/none").read("x", limit_bytes=9),
}
messages = {}
for name, use in uses.items():
    try:
        use()
    except UserError as error:
        messages[name] = str(error)
print(json.dumps(messages))
"""


def messages_of(tmp_path: Path, endpoint: str, **changed: str) -> dict[str, str]:
    """Return what each use of the Hub reports, in a process with these settings."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "XBENCH_METRIC_WEIGHTS": str(tmp_path / "weights"),
        **changed,
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        env={**own, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_missing_repository_has_one_advice_for_all_uses(tmp_path: Path) -> None:
    with HubServer({}) as server:
        messages = messages_of(tmp_path, server.url)
    assert messages.keys() == {"plugins", "weights", "families", "publish"}
    for message in messages.values():
        assert (
            "there is no such repository, or it is private: check the name, or set HF_TOKEN"
        ) in message
    assert "X=owner/repository@COMMIT" in messages["families"]
    assert "create the dataset" in messages["publish"]


def test_offline_mode_is_named_by_all_uses(tmp_path: Path) -> None:
    messages = messages_of(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert len(messages) == 4
    for message in messages.values():
        assert "is not in the local cache" in message and "HF_HUB_OFFLINE" in message
