"""A plan lists cost and missing files without any download, and makes no network requests."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import leaderboard
from bench.cli.main import main
from bench.errors import UserError
from bench.plan.conditions import UnmadeConditions
from bench.plan.cost import estimate
from bench.plan.job import Job, resolve_job
from bench.plan.missing import missing_items, with_placeholders
from bench.plan.plan import Group, make_plan
from bench.plan.resume import plan_key
from bench.plan.selection import Selection
from plugins_manifest.schema.load import load_manifest, parse_manifest
from plugins_manifest.schema.manifest import Manifest, Settings
from runners.base import MethodCost, Variant
from runners.families.pocket import PocketFamily
from runners.families.registry import MapperProblem
from runners.methods import BaseModel, Hires, SDEdit, XAdapterMethod
from runners.protocols import cost_of
from tests.bench.conftest import SMALL, job_of

SHIPPED = Path(leaderboard.__file__).parent / "shipped"


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was ever fetched here."""
    monkeypatch.delenv("XBENCH_COCO", raising=False)
    for name in ("XBENCH_STORE", "XBENCH_METRIC_WEIGHTS", "XBENCH_LOCKS"):
        monkeypatch.setenv(name, str(tmp_path / name))


def run_plan(*words: str) -> str:
    done = CliRunner().invoke(main, ["plan", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_papers_plan_names_every_command_that_gets_what_is_missing(bare_machine: None) -> None:
    text = run_plan("--manifest", "paper", "--limit", "5")
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
        assert words in text
    facts = json.loads(run_plan("--manifest", "paper", "--limit", "5", "--json"))
    sizes = [item["megabytes"] for item in facts["missing"]]
    assert facts["downloads_mib"] == round(sum(filter(None, sizes)) * 1e6 / 2**20, 2) > 10_000


def test_conditions_without_a_detector_are_the_users_own(bare_machine: None) -> None:
    facts = json.loads(run_plan("--manifest", "community", "--limit", "1", "--json"))
    own = {item["what"].split()[0] for item in facts["missing"] if item["is_own"]}
    assert {"mlsd", "shuffle", "qrcode"} <= own and not {"canny", "depth", "tile"} & own


def test_mistakes_are_still_an_error(bare_machine: None) -> None:
    words = ["plan", "--manifest", "paper", "--t0", "2", "--plugins", "moxon"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "t0 is 2" in done.stderr and "moxin" in done.stderr


def test_a_complete_job_has_no_placeholders(
    manifest: Manifest, bare_machine: None, pocket_weights: None
) -> None:
    job = resolve_job(manifest, Selection())
    filled = with_placeholders(job)
    unmade = UnmadeConditions.of_job(job)
    assert make_plan(filled, unmade).groups == make_plan(job, unmade).groups
    assert missing_items(job) == [] and not job.problems


def job_with_lora_from(manifest_file: Path, source: str) -> Job:
    text = SMALL.replace("source: lora.bin", f"source: {source}")
    return resolve_job(parse_manifest(text, manifest_file), Selection())


def test_a_plan_needs_every_file(manifest_file: Path, bare_machine: None) -> None:
    job = job_with_lora_from(manifest_file, "hf://org/repo@main/file")
    (item,) = job.missing
    assert item.what == "plugin lora (lora)" and set(job.files) == {"net"}
    assert set(item.as_data()) == {"what", "get", "megabytes", "license", "is_own"}
    with pytest.raises(UserError, match="is not locked and fetched yet"):
        make_plan(job, UnmadeConditions.of_job(job))
    filled = with_placeholders(job)
    assert len(make_plan(filled, UnmadeConditions.of_job(job)).trials) == 27


def test_a_job_with_problems_or_missing_files_has_no_key(
    manifest: Manifest, manifest_file: Path, bare_machine: None, pocket_weights: None
) -> None:
    assert plan_key(resolve_job(manifest, Selection())) is not None
    assert plan_key(resolve_job(manifest, Selection(limit=0))) is None
    assert plan_key(job_with_lora_from(manifest_file, "hf://org/repo@main/file")) is None


def test_a_key_changes_when_a_reference_image_is_deleted(manifest_file: Path) -> None:
    text = SMALL.replace(
        "kind: lora, source: lora.bin, trigger: outline drawing",
        "kind: ip_adapter, source: lora.bin, reference: image.png",
    )
    reference = manifest_file.with_name("image.png")
    reference.write_bytes(b"image")
    manifest = parse_manifest(text, manifest_file)
    before = plan_key(job_of(manifest))
    reference.unlink()
    assert plan_key(job_of(manifest)) != before


def test_operations_are_those_of_the_counted_table(manifest: Manifest) -> None:
    settings = manifest.settings.model_copy(
        update={"base_size": (512, 512), "upgraded_size": (1024, 1024), "steps": 50}
    )
    real = manifest.model_copy(update={"family": "sd15-sdxl", "settings": settings})
    job = job_of(manifest)
    plan = make_plan(job, UnmadeConditions.of_job(job))

    def of(*variants: Variant) -> float:
        group = Group("g", "lora", (("c", 0),), variants, (), real.settings)
        cost = estimate(replace(plan, manifest=real, groups=(group,)))
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
    # UNets 40 x 2 (2 x .80 + 6.76), VAEs 40 x (10.5 + 2 x 4.9 + 2 x 2.5 + 1.1), and as SDEdit
    guided = Variant("delta", t0=0.8, adapter_scale=1.0, adapter="guided")
    assert of(base, guided) - alone == pytest.approx(669 + 1056 + 15, rel=0.01)
    unguided = Variant("delta", t0=0.8, adapter_scale=1.0)
    assert of(base, guided) - of(base, unguided) == pytest.approx(40 * 2 * 0.8)
    off = Variant("delta", t0=0.8, adapter_scale=0.0)
    assert of(base, off) == pytest.approx(of(base, sdedit))
    assert of(sdedit, xadapter) == pytest.approx(of(base, sdedit, xadapter))  # stage 1 is shared


def test_the_estimated_seconds_are_near_those_of_the_recorded_run() -> None:
    index = json.loads((SHIPPED / "index" / "pocket.json").read_text())
    (name,) = index["tables"]["results"]
    results = pq.read_table(SHIPPED / name)
    # beside much other work, which the page of the shipped results says
    measured = sum(results["seconds"].to_pylist())
    job = job_of(load_manifest("pocket-results"))
    plan = make_plan(job, UnmadeConditions.of_job(job))
    seconds = estimate(plan).seconds
    assert len(plan.trials) == results.num_rows
    assert seconds is not None and measured / 8 < seconds < 3 * measured


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
    items = missing_items(resolve_job(manifest, Selection()))
    assert "train one: see the guide" in {item.get for item in items}


def test_a_config_beside_a_plugins_file_changes_the_plan(manifest: Manifest) -> None:
    before = plan_key(job_of(manifest))
    config = {"_class_name": "ControlNetModel", "global_pool_conditions": False}
    (manifest.folder / "net.json").write_text(json.dumps(config))
    assert plan_key(job_of(manifest)) != before
