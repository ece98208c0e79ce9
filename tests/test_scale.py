"""Claims about docs/scale.md: its examples can be pasted."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bench.cli.main import main
from plugins_manifest.documents import parse_yaml
from plugins_manifest.schema import load_manifest

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
JOBS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    """Return the words of every xbench command of the page that has options."""
    job = parse_yaml(JOBS[0], name="the SkyPilot job")
    text = "\n".join([*SCRIPTS, job["run"], job["setup"], *re.findall(r"`(xbench [^`]+)`", PAGE)])
    return [*map(shlex.split, re.findall(r"xbench (?:run|merge|plugins) [^`'#:\n]*", text))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda text: text.split("\n")[0][:40])
def test_scripts_are_valid_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_job_is_valid_yaml_with_valid_bash() -> None:
    assert len(JOBS) == 1 and len(SCRIPTS) == 7
    job = parse_yaml(JOBS[0], name="the SkyPilot job")
    assert {"resources", "num_nodes", "file_mounts", "setup", "run"} <= job.keys()
    test_scripts_are_valid_bash(job["setup"] + job["run"])


def test_commands_of_the_page_have_only_options_and_manifests_that_exist() -> None:
    assert len(commands()) > 8
    for words in commands():
        known = {o for p in main.commands[words[1]].params for o in p.opts}
        assert {word for word in words if word.startswith("--")} <= known, words
        if "--manifest" in words:
            load_manifest(words[words.index("--manifest") + 1])


def test_the_shards_of_an_example_are_complete() -> None:
    assert re.findall(r"runs/pocket --shard (\S+)", PAGE)[:3] == ["1/3", "2/3", "3/3"]
    assert "--array=1-8" in PAGE
