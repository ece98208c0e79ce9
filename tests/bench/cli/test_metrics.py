import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["metrics", *words])


def test_the_list_tells_what_runs_here_from_what_wants_weights() -> None:
    lines = call("list").stdout.splitlines()
    titles = [line for line in lines if not line.startswith("  ")]
    assert len(titles) == 4 and "`condition`" in titles[3]
    needy = lines[lines.index(titles[2]) :]
    place = next(i for i, line in enumerate(needy) if "fetch clip-vit-l-14 " in line)
    assert "MIT, about 1,710 MB" in needy[place]
    assert needy[place + 1].startswith("    clip-i ")
    assert not any("edge-f1" in line for line in needy)
    assert max(map(len, lines)) <= 120


def test_self_tests_of_all_end_with_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import registry

    chosen = {n: p for n, p in registry.installed("metrics").items() if n in ("edge-f1", "fid")}
    monkeypatch.setattr("bench.scoring.suite.installed", lambda group: chosen)
    done = call("selftest")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "edge-f1                 ok",
        "fid                     not tested, needs inception-2015-12-05",
        "1 ok, 0 wrong",
        "the others need weights: xbench metrics fetch inception-2015-12-05",
    ]


def test_the_list_as_json_has_the_message_about_weights(no_weights: Path) -> None:
    facts = {fact["name"]: fact for fact in json.loads(call("list", "--json").stdout)}
    assert facts["fid"]["level"] == "group" and facts["fid"]["recipe"] is None
    assert str(no_weights) in facts["fid"]["unavailable"]
    assert facts["edge-f1"]["unavailable"] is None


def test_a_self_test_without_weights_fails_only_where_it_is_asked_for() -> None:
    good = call("selftest", "edge-f1", "tile-psnr")
    assert good.exit_code == 0 and good.stdout.split() == ["edge-f1", "ok", "tile-psnr", "ok"]
    named = call("selftest", "fid")
    assert named.exit_code == 1 and "xbench metrics fetch inception-2015-12-05" in named.stdout
    assert call("selftest", "no-such").exit_code == 2


def test_fetch_lists_what_there_is_and_refuses_unknown_names(no_weights: Path) -> None:
    listed = call("fetch", "--list").stdout
    assert "dinov2-large" in listed and "Apache-2.0" in listed
    refused = call("fetch", "dinov3")
    assert refused.exit_code == 2 and "dinov2-large" in refused.stderr
    assert not no_weights.exists()
