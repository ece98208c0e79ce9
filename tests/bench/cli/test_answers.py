"""Claims about what every command answers: JSON on demand, and a line of progress in logs."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from bench.cli import heartbeat
from bench.cli.main import main
from bench.plan import Selection
from bench.plan.speed import record_speed, seconds_range
from bench.run import RunRequest, plan_run
from bench.store import cache_folder
from plugins_manifest.progress import Progress, current

SERVERS = {"xbench leaderboard", "xbench votes collect"}  # they run until they are ended


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def commands(group: click.Group, prefix: str = "xbench") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_every_command_that_ends_answers_in_json() -> None:
    silent = {
        name
        for name, command in commands(main)
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert silent == SERVERS


@pytest.mark.parametrize(
    "words",
    [
        "plan --manifest pocket-smoke",
        "cache info",
        "cache clean",
        "cases list pocket-smoke",
        "cases fetch pocket-smoke",
        "plugins list",
        "plugins show pocket-canny",
        "plugins verify pocket-smoke",
        "metrics list",
        "metrics fetch --list",
        "metrics selftest edge-f1-1px",
    ],
)
def test_an_answer_in_json_is_json_alone(words: str) -> None:
    result = call(*words.split(), "--json")
    assert isinstance(json.loads(result.stdout), dict | list | None), result.output
    assert result.exit_code in (0, 1)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.05)
    yield
    assert current() is None


@pytest.fixture
def slow_command() -> Iterator[str]:
    @main.command("probe")
    @click.option("--silent", is_flag=True)
    def command(silent: bool) -> None:
        time.sleep(0.2)
        with Progress("rendering pocket", unit="image", total=120, silent=silent) as bar:
            bar.to(24)
            bar.detail("net")
            time.sleep(0.2)
            with Progress("loading metrics", silent=silent):
                time.sleep(0.2)

    yield "probe"
    del main.commands["probe"]


def test_a_log_has_lines_of_what_is_done_and_how_far(fast: None, slow_command: str) -> None:
    result = call(slow_command)
    lines = result.stderr.splitlines()
    assert "[0:00] xbench probe" in lines
    counted = [line for line in lines if "rendering pocket: 24 of 120 images, net, about " in line]
    assert counted and re.fullmatch(r".*, about \d+ s left", counted[0])
    assert any(line.endswith(" left; loading metrics") for line in lines)
    assert all(re.fullmatch(r"\[\d+:\d\d\] .*", line) for line in lines) and result.stdout == ""


def test_quiet_commands_and_servers_keep_logs_empty(fast: None, slow_command: str) -> None:
    assert call("-q", slow_command).output == ""
    assert "rendering" not in call(slow_command, "--silent").output


def test_the_line_comes_at_least_every_half_minute() -> None:
    assert heartbeat.SECONDS < 30  # the thread wakes up late on a busy machine


@pytest.mark.usefixtures("pocket_weights")
def test_a_run_in_a_log_names_each_of_its_stages(
    fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.002)
    data = {
        "schema": 1,
        "name": "logged",
        "family": "pocket",
        "plugins": [
            {
                "id": "net",
                "kind": "controlnet",
                "source": "pocket:controlnet-canny",
                "condition": "canny",
            }
        ],
        "cases": {"source": "pocket", "seed": 1, "n": 1},
        "methods": [{"name": "base"}],
        "metrics": ["edge-f1-1px"],
        "settings": {"base_size": [64, 64], "upgraded_size": [128, 128], "steps": 2},
    }
    (tmp_path / "logged.yaml").write_text(yaml.safe_dump(data))
    words = ("run", "--manifest", str(tmp_path / "logged.yaml"), "--out", str(tmp_path / "run"))
    result = call(*words)
    assert result.exit_code == 0, result.output
    for stage in ("rendering logged: 0 of 1 image, net; loading the models of pocket", "writing"):
        assert stage in result.stderr
    plan = call("plan", "--manifest", str(tmp_path / "logged.yaml")).stdout
    assert "measured by runs on this machine" in plan and "estimate" not in plan


def test_a_plan_lists_the_ids_of_its_trials() -> None:
    facts = json.loads(call("plan", "--manifest", "pocket-smoke", "--json").stdout)
    plan = plan_run(RunRequest("pocket-smoke"))
    assert facts["trial_ids"] == [trial.trial_id for trial in plan.trials]
    assert len(set(facts["trial_ids"])) == facts["trials"]


def test_a_plan_with_missing_files_has_no_ids(tmp_path: Path) -> None:
    data = {
        "schema": 1,
        "name": "absent",
        "family": "pocket",
        "plugins": [{"id": "lora", "kind": "lora", "source": "hf://org/name/lora.safetensors"}],
        "cases": {"source": "pocket", "seed": 1, "n": 1},
        "methods": [{"name": "base"}],
    }
    (tmp_path / "absent.yaml").write_text(yaml.safe_dump(data))
    facts = json.loads(call("plan", "--manifest", str(tmp_path / "absent.yaml"), "--json").stdout)
    assert facts["trial_ids"] is None and facts["missing"]


def test_time_is_an_estimate_with_a_range_until_it_was_measured() -> None:
    text = call("plan", "--manifest", "pocket-claims").stdout
    assert re.search(r"time +estimate: .+ to .+ no run has measured this machine yet", text)
    plan = plan_run(RunRequest("pocket-smoke", Selection()))
    low, high, is_measured = seconds_range(plan) or (0.0, 0.0, True)
    assert 0 < low < high and not is_measured
    record_speed(plan, {trial.trial_id: 3.0 for trial in plan.trials})
    total = 3.0 * len(plan.trials)
    assert seconds_range(plan) == (pytest.approx(total), pytest.approx(total), True)
    part = plan.trials[: len(plan.groups[0].trials) - 1]
    record_speed(plan, {trial.trial_id: 900.0 for trial in part})  # no batch is whole
    assert seconds_range(plan) == (pytest.approx(total), pytest.approx(total), True)


@pytest.mark.parametrize("text", ["", "[]", '{"pocket": [0, -1, "x", null]}', '{"pocket": 3}'])
def test_a_damaged_record_of_speeds_is_none(text: str) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "speed.json").write_text(text)
    found = seconds_range(plan_run(RunRequest("pocket-smoke")))
    assert found is not None and not found[2]
