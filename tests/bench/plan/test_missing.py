"""A plan says what it would take before anything is here, and asks no network."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import leaderboard
from bench.cli.main import main
from bench.plan.conditions import UnmadeConditions
from bench.plan.cost import estimate
from bench.plan.missing import outline
from bench.plan.plan import Group, make_plan
from bench.plan.selection import Selection
from plugins_manifest.schema.load import load_manifest
from plugins_manifest.schema.manifest import Manifest, Settings
from runners.base import MethodCost, Variant
from runners.families.pocket import PocketFamily
from runners.families.registry import MapperProblem
from runners.methods import BaseModel, Hires, SDEdit, XAdapterMethod
from runners.protocols import cost_of
from tests.bench.conftest import WEIGHTS

SHIPPED = Path(leaderboard.__file__).parent / "shipped"


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was ever fetched here."""
    monkeypatch.delenv("XBENCH_COCO", raising=False)
    for name in ("XBENCH_STORE", "XBENCH_METRIC_WEIGHTS", "XBENCH_LOCKS"):
        monkeypatch.setenv(name, str(tmp_path / name))


def plan(*words: str) -> str:
    done = CliRunner().invoke(main, ["plan", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_papers_plan_names_every_command_that_gets_what_is_missing(bare_machine: None) -> None:
    told = plan("--manifest", "paper", "--limit", "5")
    for words in (
        "2,035 images",
        "xbench plugins fetch paper",
        "xbench cases fetch paper --limit 5",
        "5 photos of COCO val2017, and their captions",
        "xbench metrics fetch dpt-large",
        "xbench metrics fetch clip-vit-l-14",
        "Lingmin-Ran/X-Adapter",
        "CreativeML Open RAIL",
        "GPU-hours",
        "of unknown size",
    ):
        assert words in told
    facts = json.loads(plan("--manifest", "paper", "--limit", "5", "--json"))
    sizes = [need["megabytes"] for need in facts["missing"]]
    assert facts["downloads_mib"] == round(sum(filter(None, sizes)) * 1e6 / 2**20, 2) > 10_000


def test_conditions_that_nobody_makes_are_to_be_brought(bare_machine: None) -> None:
    facts = json.loads(plan("--manifest", "community", "--limit", "1", "--json"))
    own = {need["what"].split()[0] for need in facts["missing"] if need["is_own"]}
    assert {"mlsd", "shuffle", "qrcode"} <= own and not {"canny", "depth", "tile"} & own


def test_what_is_wrong_is_still_an_error(bare_machine: None) -> None:
    words = ["plan", "--manifest", "paper", "--t0", "2", "--plugins", "moxon"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "t0 is 2" in done.stderr and "moxin" in done.stderr


def test_an_outline_has_the_trials_of_the_plan(
    manifest: Manifest, bare_machine: None, pocket_weights: None
) -> None:
    outlined, needs = outline(manifest, Selection())
    unmade = UnmadeConditions("pocket", (64, 64), upgraded_size_px=(128, 128))
    planned = make_plan(manifest, Selection(), unmade, weights=outlined.weights)
    assert outlined.groups == planned.groups and not needs


def test_operations_are_those_of_the_counted_table(manifest: Manifest) -> None:
    settings = manifest.settings.model_copy(
        update={"base_size": (512, 512), "upgraded_size": (1024, 1024), "steps": 50}
    )
    real = manifest.model_copy(update={"family": "sd15-sdxl", "settings": settings})
    unmade = UnmadeConditions("pocket", (64, 64), upgraded_size_px=(128, 128))
    whole = make_plan(manifest, Selection(), unmade, weights=WEIGHTS)

    def of(*variants: Variant) -> float:
        group = Group("g", "lora", (("c", 0),), variants, ())
        cost = estimate(replace(whole, manifest=real, groups=(group,)))
        assert cost.tera_operations is not None
        return cost.tera_operations

    base, sdedit = Variant("base"), Variant("sdedit", t0=0.8)
    xadapter = Variant("xadapter", t0=0.8, adapter_scale=1.0)
    alone = of(base)
    assert alone == pytest.approx(83, rel=0.01)
    assert of(Variant("floor")) == pytest.approx(687, rel=0.01)
    assert of(base, sdedit) - alone == pytest.approx(556, rel=0.01)
    assert of(base, xadapter) - alone == pytest.approx(763, rel=0.01)
    assert of(base, Variant("hires", t0=0.8)) - alone == pytest.approx(300, rel=0.01)
    assert of(sdedit, xadapter) == pytest.approx(of(base, sdedit, xadapter))  # stage 1 is shared


def test_the_estimated_seconds_are_near_those_of_the_recorded_run() -> None:
    tables = [pq.read_table(path) for path in SHIPPED.rglob("*.parquet")]
    (results,) = [t for t in tables if {"trial_id", "seconds"} <= set(t.column_names)]
    measured = sum(results["seconds"].to_pylist())  # on two cores
    plan, _ = outline(load_manifest("pocket"), Selection())
    seconds = estimate(plan).seconds
    assert len(plan.trials) == results.num_rows
    assert seconds is not None and measured < seconds < 3 * measured


def test_a_method_without_a_cost_takes_a_stage_2_and_its_own_cost_counts() -> None:
    settings = Settings()
    assert cost_of(SDEdit(), settings) == MethodCost(upgraded_calls=1, n_encodes=1, n_decodes=1)
    assert cost_of(XAdapterMethod(), settings).mapper_calls == 1
    assert cost_of(BaseModel(), settings) == MethodCost()
    assert cost_of(Hires(), settings).enlarged_calls == 1


def test_how_to_get_a_mapper_is_the_same_whatever_the_problem_is_called(
    manifest: Manifest, pocket_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = MapperProblem("no mapper: none was published", "train one: see the guide")
    monkeypatch.setattr(PocketFamily, "mapper_problem", lambda self, adapter: problem)
    _, needs = outline(manifest, Selection())
    assert "train one: see the guide" in {need.get for need in needs}
