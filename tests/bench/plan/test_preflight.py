"""Every problem that can be found before a model loads is reported at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.errors import UserError
from bench.plan.checks import (
    check_room,
    mapper_channels,
    preflight,
)
from bench.plan.plugin_files import resolve_plugin
from bench.plan.selection import parse_list
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from pocket.weights import part_path
from tests.bench.conftest import SMALL, job_of
from tests.bench.plugin_bytes import plugin_bytes
from xadapter.errors import MapperFileError
from xadapter.layout import FOLDER_WEIGHTS, mapper_shapes
from xadapter.load import load_mapper


def problems_of(text: str, file: Path, **chosen: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        preflight(job_of(parse_manifest(text, file), **chosen))
    return caught.value.problems


def test_good_manifest_passes(manifest: Manifest) -> None:
    assert preflight(job_of(manifest)) is None


def test_all_problems_come_together(manifest_file: Path) -> None:
    text = SMALL.replace("lora.bin", "gone.bin").replace(
        "cases: {source: pocket, seed: 5, n: 3}", "cases: [{prompt: a red dog}]"
    )
    problems = problems_of(text, manifest_file, t0=(2.0,), methods=("xadaptr",), limit=0)
    text = "\n".join(problems)
    for part in ("gone.bin", "t0 is 2", "unknown method 'xadaptr': use xadapter", "--limit is 0"):
        assert part in text
    assert "has no picture" not in text  # limit 0 leaves no case to look at


def test_wrong_sha256_names_both_and_the_fix(manifest_file: Path) -> None:
    text = SMALL.replace("source: net.bin", f"source: net.bin, sha256: {'a' * 64}")
    (problem,) = problems_of(text, manifest_file)
    assert "plugin 'net'" in problem
    assert "the manifest says aaa" in problem


@pytest.mark.parametrize(
    ("family", "hint"), [("sd15-sd21", "train one"), ("sd15-sdxl", "X_Adapter")]
)
def test_a_family_without_a_mapper_is_refused_before_any_download(
    manifest_file: Path, tmp_path: Path, family: str, hint: str
) -> None:
    text = SMALL.replace("family: pocket", f"family: {family}")
    net = next(line for line in SMALL.splitlines(keepends=True) if "controlnet" in line)
    text = text.replace(net, "")
    (manifest_file.parent / "lora.bin").write_bytes(plugin_bytes("lora", family))
    (problem,) = problems_of(text, manifest_file)
    assert problem.startswith(f"xadapter needs a mapper: the family '{family}' comes without")
    assert hint in problem and "--adapter " in problem
    manifest = parse_manifest(text, manifest_file)
    preflight(job_of(manifest, methods=("base", "sdedit", "floor")))
    preflight(job_of(manifest, adapter=tmp_path))


def test_condition_without_picture_is_refused(manifest_file: Path) -> None:
    text = SMALL.replace("cases: {source: pocket, seed: 5, n: 3}", "cases: [{prompt: a circle}]")
    (problem,) = problems_of(text, manifest_file)
    assert "has no picture" in problem


def test_every_unusable_file_is_listed_in_one_line_before_models_load(
    manifest_file: Path,
) -> None:
    folder = manifest_file.parent
    (folder / "lora.bin").write_text("<!DOCTYPE html><html>Log in</html>")
    problems = problems_of(SMALL, manifest_file)
    assert [p for p in problems if p.startswith("plugin 'lora': lora.bin: ")]
    assert any("--plugins net" in problem for problem in problems)
    (folder / "net.bin").write_bytes(plugin_bytes("other"))
    problems = problems_of(SMALL, manifest_file)
    assert len(problems) == 2
    assert "a file of kind lora, not controlnet" in problems[1]
    partial = plugin_bytes("other").replace(b"attn1_to_q.lora_up", b"attn1_to_z.lora_up")
    (folder / "lora.bin").write_bytes(partial)
    assert "plugin 'lora'" in problems_of(SMALL, manifest_file)[0]


def test_method_without_t0_is_refused(manifest_file: Path) -> None:
    (problem,) = problems_of(SMALL.replace(", t0: [0.5, 1.0]", ""), manifest_file)
    assert "method 'sdedit' needs t0" in problem


def test_settings_of_delta_alone_are_refused_elsewhere_all_at_once(manifest_file: Path) -> None:
    own = "route: [latent], schedule: [constant], strength: [0.5]"
    text = SMALL.replace(", t0: [0.5, 1.0]", f", {own}")
    problems = "\n".join(problems_of(text, manifest_file))
    for part in ("needs t0", "has no 'route', it is set to [latent]", "'schedule'", "'strength'"):
        assert part in problems


def test_unknown_settings_of_delta_are_refused_all_at_once(manifest_file: Path) -> None:
    own = "{name: delta, t0: [0.7], route: [pixels], schedule: [never], strength: [often]}"
    text = SMALL.replace("methods:", f"methods:\n  - {own}", 1)
    with pytest.raises(UserError) as caught:
        parse_manifest(text, manifest_file)
    problems = "\n".join(caught.value.problems)
    for part in ("route", "pixels", "latent", "schedule", "never", "constant", "strength"):
        assert part in problems


def test_plugins_that_are_not_fetched_are_listed_in_one_message(manifest_file: Path) -> None:
    text = SMALL.replace("source: lora.bin", "source: urn:air:sd1:lora:civitai:1@2")
    text = text.replace("source: net.bin", "source: hf://org/repo@main/file")
    (problem,) = problems_of(text, manifest_file)
    assert problem.startswith("2 of 2 plugins are not on this machine yet ('lora', 'net'): run: ")
    assert "xbench plugins fetch " in problem


def test_conditions_that_no_detector_makes_need_finished_images(manifest_file: Path) -> None:
    text = SMALL.replace("condition: canny", "condition: mlsd")
    (problem,) = problems_of(text, manifest_file)
    assert "there are no mlsd images of 'pocket-5-0000'" in problem
    assert "condition_images" in problem


def test_detectors_without_weights_are_listed_once_before_anything_is_rendered(
    manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(manifest_file.parent / "no-weights"))
    for name in ("other", "third"):
        config = {"_class_name": "ControlNetModel", "name": name}
        (manifest_file.parent / f"{name}.json").write_text(json.dumps(config))
        (manifest_file.parent / f"{name}.bin").write_bytes(plugin_bytes("net"))
    other = "  - {id: other, kind: controlnet, source: other.bin, condition: depth}\n"
    third = "  - {id: third, kind: controlnet, source: third.bin, condition: hed}\n"
    text = SMALL.replace("condition: canny", "condition: depth")
    text = text.replace("cases: {", f"{other}{third}cases: {{")
    depth, hed = problems_of(text, manifest_file)
    assert depth.startswith("plugins 'net', 'other': there are no depth images")
    assert "xbench metrics fetch dpt-large" in depth and "1,372 MB" in depth
    assert "xbench metrics fetch hed" in hed
    preflight(job_of(parse_manifest(text, manifest_file)), allow_missing=True)


def test_an_image_prompt_without_picture_is_refused(manifest_file: Path) -> None:
    text = SMALL.replace(
        "kind: lora, source: lora.bin, trigger: outline drawing",
        "kind: ip_adapter, source: lora.bin, reference: none.png",
    )
    problems = problems_of(text, manifest_file)
    assert any("there is no image" in problem for problem in problems)
    blank = text.replace(", reference: none.png", "").replace(
        "cases: {source: pocket, seed: 5, n: 3}", "cases: [{prompt: a large red circle}]"
    )
    problems = problems_of(blank, manifest_file)
    assert any("needs a reference image" in problem for problem in problems)


def test_equal_stacks_are_refused(manifest_file: Path) -> None:
    stack = "  - {id: NAME, plugins: [{id: lora}, {id: net, scale: 0.5}]}\n"
    text = SMALL + "stacks:\n" + stack.replace("NAME", "one") + stack.replace("NAME", "two")
    (problem,) = problems_of(text, manifest_file)
    assert problem.startswith("stacks 'one' and 'two' are the same")


def test_sources_that_are_not_fetched_are_named_with_the_command(manifest: Manifest) -> None:
    spec = manifest.plugins[0]
    for source in ("hf://org/repo@main/file", "urn:air:sd1:lora:civitai:1@2"):
        with pytest.raises(UserError, match="not locked and fetched yet: run: xbench plugins"):
            resolve_plugin(spec.model_copy(update={"source": source}), manifest)
    with pytest.raises(UserError, match="unknown source 'ftp': use https, hf, pocket"):
        resolve_plugin(spec.model_copy(update={"source": "ftp:x"}), manifest)
    with pytest.raises(UserError, match="no pocket weights named 'lora-x'"):
        resolve_plugin(spec.model_copy(update={"source": "pocket:lora-x"}), manifest)


def save_mapper(file: Path, *, prefix: str = "", without: str | None = None) -> None:
    """Return a mapper that fits no family: channels (4, 2, 1) into (4, 8, 3)."""
    shapes = mapper_shapes((4, 2, 1), (4, 8, 3), 1)
    tensors = {prefix + k: np.zeros(v, np.float32) for k, v in shapes.items() if k != without}
    save_file(tensors, file)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "state_dict.", "state_dict.module."])
def test_preflight_accepts_the_prefixes_that_the_loader_accepts(
    tmp_path: Path, prefix: str
) -> None:
    file = tmp_path / "mapper.safetensors"
    save_mapper(file, prefix=prefix)
    assert mapper_channels(file) == ((4, 2, 1), (4, 8, 3))
    mapper = load_mapper(file)
    assert (mapper.in_channels, mapper.out_channels) == mapper_channels(file)


def test_fitting_mapper_with_prefixed_keys_passes(
    manifest: Manifest, tmp_path: Path, pocket_weights: None
) -> None:
    state = load_file(part_path("mapper") / FOLDER_WEIGHTS)
    file = tmp_path / "mapper.safetensors"
    save_file({f"module.{key}": value for key, value in state.items()}, file)
    assert preflight(job_of(manifest, adapter=file)) is None


def test_mapper_folder_needs_weights_and_no_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"in_channels": [4, 2, 1], "out_channels": [4, 8, 3]}')
    for read in (mapper_channels, load_mapper):
        with pytest.raises(MapperFileError, match="there is no mapper at"):
            read(tmp_path)
    (tmp_path / "config.json").unlink()
    save_mapper(tmp_path / FOLDER_WEIGHTS)
    assert mapper_channels(tmp_path) == ((4, 2, 1), (4, 8, 3))
    assert load_mapper(tmp_path).in_channels == (4, 2, 1)


def test_pickled_mapper_is_left_to_the_loader(tmp_path: Path) -> None:
    for suffix in (".bin", ".ckpt", ".pt", ".pth"):
        file = tmp_path / f"mapper{suffix}"
        file.touch()
        assert mapper_channels(file) is None


@pytest.mark.parametrize("name", ["notes.txt", "damaged.safetensors", "part.safetensors"])
def test_wrong_mapper_file_is_refused_by_preflight_and_loader(
    manifest_file: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    if name.startswith("part"):
        save_mapper(file, prefix="module.", without="body.1.block1.bias")
    else:
        file.write_bytes(b"not a mapper")
    (problem,) = problems_of(SMALL, manifest_file, adapter=file)
    assert "holds no mapper" in problem
    with pytest.raises(MapperFileError) as caught:
        load_mapper(file)
    if name.startswith("part"):
        assert "missing body.1.block1.bias" in problem
        assert "missing body.1.block1.bias" in str(caught.value)


def test_mapper_that_does_not_fit_is_refused(
    manifest_file: Path, tmp_path: Path, pocket_weights: None
) -> None:
    folder = tmp_path / "mapper"
    folder.mkdir()
    (problem,) = problems_of(SMALL, manifest_file, adapter=folder)
    assert "holds no mapper" in problem
    (folder / "mapper").mkdir()
    save_mapper(folder / "mapper" / FOLDER_WEIGHTS)
    (problem,) = problems_of(SMALL, manifest_file, adapter=folder)
    assert problem.endswith(f"the folder of a training: use {folder / 'mapper'}")
    save_mapper(folder / FOLDER_WEIGHTS)
    (problem,) = problems_of(SMALL, manifest_file, adapter=folder)
    assert "channels (4, 2, 1) into (4, 8, 3), family 'pocket' needs" in problem


def test_missing_adapter_is_refused(manifest_file: Path) -> None:
    (problem,) = problems_of(SMALL, manifest_file, adapter=Path("no/mapper"))
    assert problem == "--adapter: there is nothing at no/mapper: check the path"


def test_room_is_checked_where_the_run_will_be_written(tmp_path: Path) -> None:
    assert check_room(tmp_path / "new" / "run", needed_mib=1) == []
    assert "MiB are free" in check_room(tmp_path, needed_mib=1e12)[0]
    (tmp_path / "file").write_text("")
    assert "is a file" in check_room(tmp_path / "file" / "run", needed_mib=1)[0]


def test_option_lists_take_commas_and_repetition() -> None:
    assert parse_list(["0.5,0.7", "0.5"], float, option="--t0") == (0.5, 0.7)
    assert parse_list([], float, option="--t0") is None
    with pytest.raises(UserError, match="--t0 is 'x': give numbers"):
        parse_list(["x"], float, option="--t0")
