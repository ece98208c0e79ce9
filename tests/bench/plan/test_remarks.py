"""What a plan says of prompts and plugins that run, but not as they are meant."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.errors import UserError
from bench.plan.checks import preflight
from bench.plan.remarks import Remark, job_remarks
from plugins_manifest.schema.load import parse_manifest
from tests.bench.conftest import job_of
from tests.bench.plugin_bytes import plugin_bytes

HEAD = """\
schema: 1
name: small
family: pocket
plugins:
  - {id: lora, kind: lora, source: lora.safetensors, trigger: outline drawing}
PLUGINS
cases: CASES
methods: [{name: base}]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 4, guidance_scale: 3SETTINGS}
"""


def remarks(
    folder: Path, prompts: list[str], *, plugins: str = "", settings: str = "", name: str = "lora"
) -> list[Remark]:
    (folder / f"{name}.safetensors").write_bytes(plugin_bytes("lora"))
    (folder / "easy.safetensors").write_bytes(plugin_bytes("easy"))
    cases = json.dumps([{"prompt": prompt} for prompt in prompts])
    text = HEAD.replace("PLUGINS", plugins).replace("CASES", cases)
    text = text.replace("SETTINGS", settings).replace("lora.safetensors", f"{name}.safetensors")
    return job_remarks(job_of(parse_manifest(text, folder / "small.yaml")))


def test_syntax_is_said_once_for_each_kind_with_its_cases(tmp_path: Path) -> None:
    found = remarks(tmp_path, ["a (red:1.3) circle", "a red circle", "a (blue:1.2) <lora:x:1>"])
    assert [one.kind for one in found] == ["prompt-weight", "prompt-lora"]
    assert "'(red:1.3)'" in found[0].message and "prompt_syntax: weights" in found[0].message
    assert found[0].message.startswith("prompt of cases 'case-") and ", 'case-" in found[0].message
    assert remarks(tmp_path, ["a red circle (large)"]) == []


def test_with_weights_only_what_stays_literal_is_said(tmp_path: Path) -> None:
    prompts = ["a (red:1.3) ((large)) [circle] BREAK a {blue} square"]
    found = remarks(tmp_path, prompts, settings=", prompt_syntax: weights")
    assert [one.kind for one in found] == ["prompt-braces"]


@pytest.mark.parametrize("syntax", ["<lora:x:1>", "[a:b:0.5]", "a AND a"])
def test_weights_refuse_what_they_cannot_do(tmp_path: Path, syntax: str) -> None:
    (tmp_path / "lora.safetensors").write_bytes(plugin_bytes("lora"))
    text = HEAD.replace("PLUGINS", "").replace("SETTINGS", ", prompt_syntax: weights")
    text = text.replace("CASES", json.dumps([{"prompt": f"a {syntax} circle"}]))
    with pytest.raises(UserError, match="prompt of case 'case-"):
        preflight(job_of(parse_manifest(text, tmp_path / "small.yaml")))


def test_names_of_embeddings_that_are_no_tokens_are_said(tmp_path: Path) -> None:
    inversion = "  - {id: e-1, kind: textual_inversion, source: easy.safetensors, token: <ez-neg>}"
    found = remarks(tmp_path, ["a red circle, ez-neg", "easy does it"], plugins=inversion)
    assert [one.kind for one in found] == ["prompt-embedding-name"] * 2
    assert "'<ez-neg>'" in found[0].message
    assert remarks(tmp_path, ["a red circle, <ez-neg>"], plugins=inversion) == []
    found = remarks(tmp_path, ["a red circle, EasyNegative"])
    assert len(found) == 1 and "textual_inversion" in found[0].message


def test_few_step_loras_are_said_at_many_steps_alone(tmp_path: Path) -> None:
    for settings, n in ((", settings: {steps: 30}", 1), (", settings: {guidance_scale: 7}", 1)):
        plugins = f"  - {{id: fast, kind: lora, source: lcm-lora.safetensors{settings}}}"
        (tmp_path / "lcm-lora.safetensors").write_bytes(plugin_bytes("fast"))
        found = remarks(tmp_path, ["a red circle"], plugins=plugins)
        assert [one.kind for one in found] == ["few-steps"] * n
        assert "settings: {steps: 4, guidance_scale: 1, sampler: lcm}" in found[0].message
    plugins = plugins.replace("guidance_scale: 7", "guidance_scale: 1, sampler: lcm")
    assert remarks(tmp_path, ["a red circle"], plugins=plugins) == []


def test_another_clip_skip_than_the_file_s_is_said(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = {"lora_unet_x.lora_down.weight": np.ones((1, 1), np.float32)}
    for stated, settings, n in (
        *(("2", "", 1), ("1", "", 0), ("None", "", 0)),
        *(("2", ", clip_skip: 2", 0), ("1", ", clip_skip: 2", 1)),
    ):
        save_file(weights, tmp_path / "kohya.safetensors", metadata={"ss_clip_skip": stated})
        plugins = "  - {id: k, kind: lora, source: kohya.safetensors}"
        found = remarks(tmp_path, ["a red circle"], plugins=plugins, settings=settings)
        assert [one.kind for one in found] == ["clip-skip"] * n, (stated, settings)


def test_plan_prints_them_and_has_them_as_json(tmp_path: Path) -> None:
    text = HEAD.replace("SETTINGS", ", prompt_syntax: weights").replace("PLUGINS", "")
    text = text.replace("lora.safetensors", "'pocket:lora-outline'")
    text = text.replace("CASES", json.dumps([{"prompt": "a (large:1.2) red circle"}]))
    path = tmp_path / "m.yaml"
    path.write_text(text.replace("small", "weights", 1))
    done = CliRunner().invoke(main, ["plan", "--manifest", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["remarks"] == []
    path.write_text(text.replace("id: lora", "id: lcm-lora").replace("steps: 4", "steps: 40"))
    done = CliRunner().invoke(main, ["plan", "--manifest", str(path), "--json"])
    (remark,) = json.loads(done.stdout)["remarks"]
    assert remark["kind"] == "few-steps" and "lcm-lora" in remark["message"]
