"""xbench convert: what is wrong is one message before anything loads; the result can be run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.registry import known_names
from plugins_manifest.schema import load_manifest
from pocket.weights import part_path
from tests.plugins_manifest.fits.files import lora
from tests.plugins_manifest.zoo.files import pack

QUICK = ("--pictures", 2, "--render-steps", 1, "--steps", 1, "--rank", 2, "--device", "cpu")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pocket:controlnet-canny", "--to", "pocket"), "lora"),
        (("pocket:upgraded-lora-outline", "--to", "pocket"), "made for"),
        (("missing.safetensors", "--to", "pocket"), "no file or folder"),
        (("pocket:lora-outline", "--to", "poket"), "pocket"),
        (("pocket:lora-outline", "--to", "pocket", "--method", "copy"), "one layout"),
        (("pocket:lora-outline", "--to", "pocket", "--method", "prolora"), "one layout"),
        (("pocket:lora-outline", "--to", "pocket-near", "--teacher", "xadapter"), "no mapper"),
        (("pocket:lora-outline", "--to", "pocket-flow"), "not a UNet"),
        (("pocket:lora-outline", "--to", "pocket", "--out", "here.pt"), ".safetensors"),
        (("pocket:lora-outline", "--to", "pocket", "--trigger", "nonsense"), "pocket word"),
        (("hf://a/b@c/d.safetensors", "--to", "pocket"), "not on this machine"),
    ],
)
def test_bad_input_is_one_message(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert message in done.output


def test_a_family_without_weights_is_one_message(tmp_path: Path) -> None:
    plugin, prompts = tmp_path / "style.safetensors", tmp_path / "prompts.txt"
    plugin.write_bytes(pack(lora("sd15", "kohya"), {}))
    prompts.write_text("a house\n" * 5)
    done = run(plugin, "--to", "sd15-finetune", "--prompts", prompts, *QUICK)
    assert done.exit_code == 2 and "XBENCH_SD15_FINETUNE_UPGRADED" in done.output


def test_what_is_wrong_is_found_before_torch_loads() -> None:
    code = "import sys\nfrom bench.cli.main import main\n"
    code += "words = ['convert', 'pocket:upgraded-lora-outline', '--to', 'pocket']\n"
    code += "try:\n    main(words)\nexcept SystemExit as stop:\n    assert stop.code == 2\n"
    code += "assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_out_file_of_others_is_kept(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(part_path("lora-outline").read_bytes())
    done = run("pocket:lora-outline", "--to", "pocket", "--out", mine, *QUICK)
    assert done.exit_code == 2 and "was not written by this command" in done.output


def test_prompts_of_a_file_are_split(tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("a large red circle\n")
    done = run("pocket:lora-outline", "--to", "pocket", "--prompts", few, *QUICK)
    assert done.exit_code == 2 and "at least 5" in done.output


def test_the_result_is_a_file_and_a_manifest_that_runs_it(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "new.safetensors"
    colors = ("red", "green", "blue", "yellow", "purple")
    prompts.write_text("".join(f"a large {color} circle\n" for color in colors))
    words = ("--method", "copy", "--prompts", prompts, "--out", out, "--json", *QUICK)
    done = run("pocket:lora-outline", "--to", "pocket-near", *words)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["audit"]["complete"] and facts["method"] == "copy"
    assert facts["trigger"] == "outline drawing"
    assert facts["next"].endswith("new.yaml")
    manifest = load_manifest(facts["manifest"], known=known_names())
    old, converted = manifest.plugins
    assert old.converted == "converted" and converted.source == "new.safetensors"
    assert [m.name for m in manifest.methods] == [
        *("base", "floor", "converted", "direct", "sdedit", "delta")
    ]
    assert "a large purple circle" in out.with_suffix(".yaml").read_text()
    again = run("pocket:lora-outline", "--to", "pocket-near", *words)
    assert again.exit_code == 0, again.output
