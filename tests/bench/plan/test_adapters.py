"""Several adapters in one run: their ids, their mistakes, and trials that keep their ids."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from bench.errors import UserError
from bench.plan.adapters import parse_adapters
from bench.plan.checks import preflight
from bench.plan.conditions import ConditionSet
from bench.plan.job import resolve_job
from bench.plan.plan import Plan, make_plan
from bench.plan.resume import locked_manifest, plan_key
from bench.plan.selection import Selection
from plugins_manifest.schema import Manifest, load_manifest
from pocket.weights import part_path
from runners.families.registry import AdapterFile

pytestmark = pytest.mark.usefixtures("pocket_weights")
MANIFEST = {
    "schema": 1,
    "name": "several",
    "family": "pocket",
    "plugins": [{"id": "outline", "kind": "lora", "source": "pocket:lora-outline"}],
    "cases": {"source": "pocket", "seed": 104, "n": 2},
    "methods": [
        {"name": "floor"},
        {"name": "sdedit", "t0": [0.7]},
        {"name": "xadapter", "t0": [0.7], "adapter_scale": [0.5, 1.0]},
    ],
}


def copy_of_mapper(folder: Path, *, factor: float) -> Path:
    """Return the shipped mapper with its convolutions times a factor."""
    shutil.copytree(part_path("mapper"), folder)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        scaled = {k: v * v.dtype.type(factor) if v.ndim == 4 else v for k, v in tensors.items()}
        save_file(scaled, file)
    return folder


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    factors = {"whole": 1.0, "half": 0.5}
    return {n: copy_of_mapper(tmp_path / n / "mapper", factor=f) for n, f in factors.items()}


def manifest_with(folder: Path, **keys: object) -> Manifest:
    path = folder / "several.yaml"
    path.write_text(yaml.safe_dump(MANIFEST | keys))
    return load_manifest(path)


def planned(manifest: Manifest, selection: Selection) -> Plan:
    job = resolve_job(manifest, selection)
    preflight(job)
    return make_plan(job, ConditionSet.of_job(job))


def test_ids_are_names_or_those_of_the_first_folders_above_that_differ(tmp_path: Path) -> None:
    def ids(*texts: str) -> list[str]:
        return [one.id for one in parse_adapters(texts)]

    assert ids("a.safetensors", "b/c.bin") == ["a", "c"]
    assert ids("mappers/sd/mapper", "mappers/pocket/mapper") == ["sd", "pocket"]
    assert ids("mine=x/mapper", "y z!/mapper") == ["mine", "mapper"]
    (named := tmp_path / "a=b").mkdir()
    assert parse_adapters([str(named), "c"])[0].path == named


def test_all_mistakes_of_adapters_are_named_at_once(paths: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    texts = [f"x={paths['whole']}", f"y={paths['whole']}", f"x={paths['half']}"]
    texts += [f"a b={tmp_path / 'empty'}", str(tmp_path / "gone")]
    selection = Selection(adapters=parse_adapters(texts), limit=0)
    with pytest.raises(UserError) as caught:
        preflight(resolve_job(manifest_with(tmp_path), selection))
    text = str(caught.value)
    for part in (
        *("--limit is 0", "have the id 'x'", "'a b' cannot be an id", "adapter 'gone': there is"),
        *("adapters 'x' and 'y' are the same mapper", "holds no mapper"),
    ):
        assert part in text


def test_a_manifest_lists_adapters_once_each_and_existing(tmp_path: Path) -> None:
    twice = [{"id": "a", "path": "a"}, {"id": "a", "path": "b"}]
    with pytest.raises(UserError, match="'a' is listed twice"):
        manifest_with(tmp_path, adapters=twice)
    gone = [{"id": "a", "path": "a"}, {"id": "b", "path": "b"}]
    job = resolve_job(manifest_with(tmp_path, adapters=gone), Selection())
    assert len([p for p in job.problems if "there is nothing at" in p]) == 2


def test_a_trial_of_one_of_several_adapters_has_the_id_of_it_alone(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    manifest = manifest_with(tmp_path)
    several = planned(manifest, Selection(adapters=parse_adapters([*map(str, paths.values())])))
    assert several.counts() == {"floor": 2, "sdedit": 2, "xadapter": 8}
    for name, path in paths.items():
        alone = planned(manifest, Selection(adapter=path))
        assert {trial.adapter for trial in alone.trials} == {None}
        own = {t.trial_id for t in several.trials if t.adapter in (None, name)}
        assert own == {t.trial_id for t in alone.trials}
    assert {t.method for t in several.trials if t.adapter is None} == {"floor", "sdedit"}


def test_a_manifests_adapters_are_those_of_the_command_line(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    listed = [{"id": name, "path": f"{name}/mapper"} for name in paths]
    manifest = manifest_with(tmp_path, adapters=listed)
    own = planned(manifest, Selection())
    given = tuple(AdapterFile(name, path) for name, path in paths.items())
    by_option = planned(manifest_with(tmp_path), Selection(adapters=given))
    assert own.trials == by_option.trials
    single = planned(manifest, Selection(adapter=paths["half"]))
    assert (
        single.trials == planned(manifest_with(tmp_path), Selection(adapter=paths["half"])).trials
    )
    one = planned(manifest_with(tmp_path, adapters=listed[1:]), Selection())
    assert one.trials == single.trials


def test_a_runs_manifest_has_the_adapters_relative_to_it(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    given = tuple(AdapterFile(name, path) for name, path in paths.items())
    plan = planned(manifest_with(tmp_path), Selection(adapters=given))
    data = locked_manifest(plan, tmp_path / "runs" / "one")
    assert data["adapters"] == [{"id": n, "path": f"../../{n}/mapper"} for n in paths]
    assert "adapters" not in locked_manifest(
        planned(manifest_with(tmp_path), Selection(adapter=paths["half"])), tmp_path
    )


def test_a_selection_of_adapters_is_read_back(paths: dict[str, Path]) -> None:
    given = tuple(AdapterFile(name, path) for name, path in paths.items())
    selection = Selection(adapters=given, t0=(0.7,), methods=("xadapter",))
    assert Selection.from_data(selection.as_data()) == selection
    assert "adapters" not in Selection(adapter=paths["half"]).as_data()


def test_another_content_of_an_adapter_is_another_plan(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    given = tuple(AdapterFile(name, path) for name, path in paths.items())
    manifest, selection = manifest_with(tmp_path), Selection(adapters=given)
    before = plan_key(resolve_job(manifest, selection))
    (file,) = paths["half"].glob("*.safetensors")
    tensors = load_file(file)
    save_file({name: value * np.float16(0.9) for name, value in tensors.items()}, file)
    assert before not in (None, plan_key(resolve_job(manifest, selection)))


def test_adapters_without_a_method_that_uses_one_are_a_mistake(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    given = tuple(AdapterFile(name, path) for name, path in paths.items())
    with pytest.raises(UserError, match="2 adapters, but no method uses one"):
        planned(manifest_with(tmp_path), Selection(adapters=given, methods=("floor",)))
