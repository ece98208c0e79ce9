"""Claims about what the console tells people: the end of a run, one image, one machine."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import fetch_output, output
from bench.cli.doctor import Finding
from bench.cli.main import main
from bench.cli.next_steps import next_lines
from bench.cli.readiness import conclude
from bench.plan import Selection
from bench.run import RunRequest
from bench.store import RunStore, records
from plugins_manifest.text import duration, shell_command


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pocket_weights: None) -> RunStore:
    out = tmp_path_factory.mktemp("console") / "my run"
    words = ("run", "--manifest", "pocket-smoke", "--out", out, "--limit", 1)
    result = call(*words)
    assert result.exit_code == 0, result.output
    (out.parent / "log").write_text(result.stdout)
    return RunStore.open(out)


def test_a_run_ends_with_the_answers_and_commands_that_parse(run: RunStore) -> None:
    text = (run.folder.parent / "log").read_text()
    sentences, steps = text.index("0 of 2 plugins"), text.index("\nnext:\n")
    assert text.index("pocket-canny (controlnet)") < sentences < steps
    commands = [line for line in text[steps:].splitlines() if "xbench " in line]
    assert len(commands) >= 4
    for line in commands:
        words = shlex.split(line[line.index("xbench ") :])
        command = main.commands[words[1]]
        command.make_context(words[1], words[2:], resilient_parsing=True)
    assert f"xbench leaderboard {shell_command([run.folder])}\n" in text[steps:]


def test_more_prompts_are_the_limit_or_a_copy_of_the_manifest(
    run: RunStore, tmp_path: Path
) -> None:
    copied = "\n".join(next_lines(run, RunRequest("pocket-smoke", Selection(t0=(0.7,)))))
    (n,) = re.findall(r"^  (\d+) prompts decide pocket-canny, pocket-outline:$", copied, re.M)
    assert f"sed 's/^  n: 2$/  n: {n}/'" in copied
    assert re.search(r"^  n: 2$", run.manifest_path.read_text(), re.M)  # what sed finds
    name = f"pocket-smoke-{n}"
    again = f"    xbench run --manifest {name}.yaml --t0 0.7 --out runs/{name}"
    assert copied.splitlines()[-1] == again

    larger = RunStore(shutil.copytree(run.folder, tmp_path / "larger"))
    text = larger.manifest_path.read_text().replace("  n: 2\n", "  n: 60\n")
    larger.manifest_path.write_text(text)
    limited = "\n".join(next_lines(larger, RunRequest("pocket-smoke", Selection(limit=1))))
    assert limited.endswith(f"--manifest pocket-smoke --limit {n} --out {tmp_path / 'larger'}")


def test_an_image_is_explained_in_three_lines(run: RunStore) -> None:
    trials = records(run.trials())
    one = next(t for t in trials if t["method"] == "xadapter" and t["plugin"] == "pocket-canny")
    lines = call("explain", run.folder, one["trial_id"]).stdout.splitlines()
    facts = json.loads(call("explain", run.folder, one["trial_id"], "--json").stdout)
    value = next(row["value"] for row in facts["scores"] if row["metric"] == "edge-f1")
    assert lines[0].startswith(f'pocket-canny, X-Adapter at t0 0.7, "{one["upgraded_prompt"][:20]}')
    assert lines[0].endswith(f"edge-f1 {value:.2f} (higher is better)")
    assert re.search(r"base model \d\.\d\d, without plugin \d\.\d\d$", lines[1])
    assert lines[2] == f"render it again: {facts['render_again']}" and lines[3] == ""
    picture = run.image_path(one["trial_id"])
    assert call("explain", run.folder, picture).stdout.splitlines() == lines
    floor = next(t for t in trials if t["method"] == "floor")
    text = call("explain", run.folder, floor["trial_id"]).stdout
    assert text.startswith("Without plugin, ") and "pocket-outline (" in text.splitlines()[1]


def test_commands_can_be_pasted_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "my runs").mkdir()
    assert shell_command(["xbench", tmp_path / "my runs"]) == "xbench ~/'my runs'"
    monkeypatch.chdir(tmp_path)
    assert shell_command(["xbench", tmp_path / "my runs"]) == "xbench 'my runs'"


def test_doctor_concludes_for_every_family_and_keeps_its_findings() -> None:
    result = call("doctor")
    rows = json.loads(call("doctor", "--json").stdout)
    findings = [row for row in rows if not row["name"].startswith("can run ")]
    conclusions = rows[len(findings) :]
    assert [row["name"] for row in conclusions] == [
        "can run pocket",
        "can run pocket-far",
        "can run pocket-flow",
        "can run pocket-near",
        "can run pocket-v",
        "can run sd15-finetune",
        "can run sd15-sd21",
        "can run sd15-sdxl",
        "can run sdxl-finetune",
    ]
    assert result.exit_code == int(any(row["state"] != "ok" for row in findings))
    for row in conclusions:
        assert f"\n{row['name']}: {row['detail']}" in result.stdout


def test_a_problem_is_why_no_family_can_run() -> None:
    found = [*conclude([Finding("extra render", "problem", "torch is missing", "install it")])]
    assert found and all(
        a.answer == "no, because of extra render: torch is missing" and a.steps == ("install it",)
        for a in found
    )
    found = [*conclude([Finding("pocket weights", "problem", "damaged")])]
    assert [a.family for a in found if a.answer.startswith("no")][:1] == ["pocket"]
    assert any(not a.answer.startswith("no, because of") for a in found)


def test_terminals_get_headers_and_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = call("plugins", "list").stdout.splitlines()
    assert piped[0].split() == ["pocket-canny", "controlnet", "pocket:controlnet-canny"]
    monkeypatch.setattr(fetch_output, "is_terminal", lambda: True)
    shown = call("plugins", "list").stdout.splitlines()
    assert (
        shown[0].split() == ["PLUGIN", "KIND", "NOTES", "SOURCE"] and len(shown) == len(piped) + 1
    )
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    text = call("doctor").stdout
    words = [line for line in text.splitlines() if " " in line.strip()]
    assert max(map(len, words)) <= 80


def test_durations_are_words() -> None:
    assert [duration(s) for s in (9, 200, 9000)] == ["about 9 s", "about 3 min 20 s", "about 2.5 h"]
