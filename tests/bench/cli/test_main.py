"""The command line: quick, without torch until it renders, one clear message for every mistake."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from tests.bench.conftest import SMALL

ROOT = Path(__file__).parents[3]
TORCH_FREE = (
    "plugins_manifest.schema.manifest",
    "plugins_manifest.schema.load",
    "plugins_manifest.cases.cases",
    "bench.cli.main",
    "bench.errors",
    "bench.store.run_store",
    "bench.store.schema",
    "bench.plan.plan",
    "bench.plan.checks",
    "bench.analysis.summary",
    "bench.render.execute",
    "bench.run.benchmark",
    "bench.run.merge",
    "bench.cli.explain",
    "bench.store.image_cache",
    "runners.base",
    "runners.families.registry",
    "pocket.weights",
    "pocket.scenes",
    "pocket.conditions",
)


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def refused(*words: str) -> str:
    """Return the message of a user error: exit code 2, one message, no traceback."""
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("Error:") == 1
    assert "Traceback" not in result.output
    return result.stderr


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, in the project's folder."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )


def test_help_is_quick_and_leaves_torch_out() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys\nfrom bench.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'pydantic') if m in sys.modules])"
    )
    output = python(code).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "xbench run --manifest pocket" in output
    assert output.rstrip().endswith("[]")
    assert after.ru_utime - before.ru_utime < 0.5


def test_modules_that_plan_and_read_leave_torch_out() -> None:
    code = f"import sys, importlib\nfor m in {TORCH_FREE!r}:\n importlib.import_module(m)\n"
    output = python(code + " assert 'torch' not in sys.modules, m\nprint('none')").stdout
    assert output.strip() == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--manifest", "pockt"], "unknown manifest 'pockt': use pocket"),
        (["run", "--manifest", "pocket", "--t0", "1.5"], "t0 is 1.5"),
        (["run", "--manifest", "pocket", "--t0", "x"], "--t0 is 'x': give numbers"),
        (
            ["run", "--manifest", "pocket", "--methods", "sdedt"],
            "unknown method 'sdedt': use sdedit",
        ),
        (["run", "--manifest", "pocket", "--limit", "0"], "--limit is 0"),
        (["run", "--manifest", "pocket", "--adapter", "no"], "--adapter: there is nothing at no"),
        (["plan", "--manifest", "pocket", "--t0", "0"], "t0 is 0"),
        (["score", "nowhere"], "there is no run directory nowhere"),
        (["explain", "nowhere", "abc"], "there is no run directory nowhere"),
        (["report", "."], "has no run.json"),
        (["conditions", "nowhere", "--detector", "canny", "--out", "o"], "there is no folder"),
        (["conditions", ".", "--detector", "cany", "--out", "o"], "unknown detector 'cany'"),
        (["plugins", "show", "pocket-cany"], "unknown plugin 'pocket-cany': use pocket-canny"),
        (["run", "--manifest", "pocket", "--engine", "rey"], "'rey' is not one of 'local', 'ray'"),
        (["run"], "Missing option '--manifest'"),
        (["rum"], "No such command 'rum'"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(words: list[str], message: str) -> None:
    assert message in refused(*words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: base", "name: bass", "mine.yaml:9: methods[0].name: unknown method 'bass'"),
        ("steps: 4", "stepps: 4", "unknown key 'stepps': use steps"),
        ("family: pocket", "metrics: [edg]\nfamily: pocket", "unknown metric 'edg': use edge-f1"),
        ("[64, 64]", "[60, 64]", "60 px is not a multiple of 8: use 64"),
        ("source: lora.bin", "source: lora.bin, sha256: " + "a" * 64, "the manifest says aaaa"),
        ("trigger: outline drawing", "trigger: " + "red " * 12, "pocket reads 18"),
    ],
)
def test_mistakes_in_a_manifest_are_found_before_anything_runs(
    manifest_file: Path, old: str, new: str, message: str
) -> None:
    path = manifest_file.with_name("mine.yaml")
    path.write_text(SMALL.replace(old, new))
    assert message in refused("run", "--manifest", str(path))
    assert not Path("runs").exists()


def test_folder_in_the_way_is_refused(pocket_weights: None) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("words")
    assert "not a run directory" in refused("run", "--manifest", "pocket-smoke", "--out", "mine")
    assert "is a file" in refused("run", "--manifest", "pocket-smoke", "--out", "mine/thesis.tex")


def test_dry_run_and_plan_say_the_same_and_write_nothing(pocket_weights: None) -> None:
    plan = call("plan", "--manifest", "pocket", "--json")
    dry = call("run", "--manifest", "pocket", "--dry-run", "--json")
    facts = json.loads(plan.stdout)
    assert facts == json.loads(dry.stdout)
    assert facts["trials"] == sum(facts["methods"].values()) == 792
    assert facts["downloads_mib"] == 0
    assert "sdedit     288" in call("plan", "--manifest", "pocket").stdout
    assert not Path("runs").exists()


def test_plugins_are_listed_and_shown(pocket_weights: None) -> None:
    listed = json.loads(call("plugins", "list", "--json").stdout)
    entry = json.loads(call("plugins", "show", listed[0]["id"]).stdout)
    assert len(entry["sha256"]) == 64


def test_a_list_shows_stacks_and_what_is_special_in_straight_columns() -> None:
    lines = call("plugins", "list", "--manifest", "community").stdout.splitlines()
    (moxin,) = (line for line in lines if line.startswith("moxin"))
    (stack,) = (line for line in lines if line.startswith("anime-outline-under-canny"))
    (embedding,) = (line for line in lines if line.startswith("easynegative"))
    assert moxin.endswith("urn:air:sd1:lora:civitai:12597@14856  (weight 0.6)")
    assert stack.endswith("  stack              anime-outline + cn11-canny x 0.8")
    assert embedding.index("urn:") == moxin.index("urn:") == stack.index("anime-outline +")


def test_metrics_are_listed_with_their_direction() -> None:
    listed = json.loads(call("metrics", "list", "--json").stdout)
    assert {"edge-f1", "pocket-kid"} <= {fact["name"] for fact in listed}


def test_cache_commands_show_and_empty_it(own_cache: Path) -> None:
    assert json.loads(call("cache", "info", "--json").stdout)["images"] == 0
    assert "removed 0 images" in call("cache", "clean").stdout


def test_interrupted_command_exits_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.run.run_benchmark", interrupt)
    result = call("run", "--manifest", "pocket")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr


@pytest.mark.parametrize("number", ["0", "13", "-1", "many", "9" * 5000])
def test_a_batch_is_auto_or_at_most_what_is_planned_together(number: str) -> None:
    message = refused("run", "--manifest", "pocket", "--dry-run", f"--batch={number}")
    assert "is not auto or a number from 1 to 12" in message


@pytest.mark.parametrize("number", ["1", "12", "auto"])
def test_a_batch_that_can_be_chosen_is_accepted(number: str) -> None:
    assert call("run", "--manifest", "pocket", "--dry-run", "--batch", number).exit_code == 0
