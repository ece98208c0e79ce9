"""Every architecture trains, is saved with its configuration, loads, and samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench.train import load_recipe
from bench.train.mappers import build_mapper
from plugins_manifest.errors import UserError
from plugins_manifest.installed import installed
from tests.xadapter.conftest import tiny_base_unet, tiny_upgraded_unet
from tests.xadapter.training import ABAR, null_text, tiny_data
from tests.xadapter.worlds import World, drawn, make_world
from xadapter.data import TrainBatch
from xadapter.errors import MapperFileError, MapperFitError, SettingError
from xadapter.handover import start_from_noise
from xadapter.kinds import Architecture, architecture_of, build, configured
from xadapter.layout import FOLDER_WEIGHTS
from xadapter.load import load_mapper, save_mapper
from xadapter.loss import FrozenModels, mapper_losses
from xadapter.mapper import Mapper
from xadapter.modular_config import Fusion
from xadapter.sampling import Stage2Trial, run_stage2_together
from xadapter.sites import check_fit
from xadapter.train import TrainSettings, train_mapper

pytestmark = pytest.mark.system

FUSIONS = get_args(Fusion)
PLACES = ("decoder", "encoder", "both")
VARIANTS: list[dict[str, Any]] = [
    *({"fusion": "add", "read": place} for place in PLACES),
    *({"fusion": fusion, "read": "both"} for fusion in FUSIONS if fusion != "add"),
    {"fusion": "spade", "read": "both", "inject": "both", "time": True},
    {"fusion": "cross-attention", "read": "encoder", "inject": "encoder", "time": True},
    {"read": {"levels": ["fine"]}, "inject": {"levels": ["coarse"]}, "width": 6},
    {"read": {"levels": ["coarse"]}, "inject": {"levels": ["coarse", "fine"]}, "blocks": 2},
]
SETTINGS = TrainSettings(
    steps=3, batch_size=2, learning_rate=1e-2, warmup_share=0.0, weighting="paper"
)


def name_of(variant: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in variant.items())


def new_mapper(base: Any, upgraded: Any, *, name: str = "modular", **options: Any) -> Any:
    torch.manual_seed(0)
    if name == "modular":
        options = {"blocks": 1, **options}
    return build(configured(name, base, upgraded, options))


def disturbed(mapper: Any) -> Any:
    """Give the layers that start at zero weights that change something."""
    torch.manual_seed(1)
    for weight in mapper.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    return mapper.eval().requires_grad_(False)


def train(mapper: Any, models: Any, folder: Path) -> Any:
    return train_mapper(
        mapper,
        base_unet=models.base_unet,
        upgraded_unet=models.upgraded_unet,
        upgraded_null=null_text(),
        data=tiny_data(4),
        alphas_cumprod=ABAR,
        settings=SETTINGS,
        out_dir=folder,
        progress=False,
    )


def sample(world: World, mapper: Any, scales: list[float | None], *, most: int = 1) -> Any:
    """Return the final latents of stage 2 from noise; scale None is SDEdit."""
    start = start_from_noise(
        upgraded=world.upgraded,
        upgraded_noise=world.noise.upgraded_noise,
        n_steps=2,
        base=world.base,
        base_noise=world.noise.base_start,
    )
    trials = [Stage2Trial(start, scale) for scale in scales]
    return run_stage2_together(world.upgraded, trials, base=world.base, mapper=mapper, most=most)


@pytest.fixture(scope="module")
def plain(models: Any) -> Any:
    torch.set_num_threads(1)
    return sample(make_world(models), None, [None])[0]


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_an_architecture_trains_loads_from_its_file_and_samples(
    variant: dict[str, Any], models: Any, plain: Any, tmp_path: Path
) -> None:
    world = make_world(models)
    mapper = new_mapper(models.base_unet, models.upgraded_unet, **variant)
    check_fit(mapper, models.base_unet, models.upgraded_unet)
    assert torch.equal(sample(world, mapper, [1.0])[0], plain)  # a new mapper changes nothing
    result = train(mapper, models, tmp_path)
    trained = load_mapper(result.mapper_path)
    assert architecture_of(trained) == architecture_of(mapper)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            trained.state_dict().values(), result.mapper.state_dict().values(), strict=True
        )
    )
    off, on = sample(world, trained, [0.0, 1.0])
    assert torch.equal(off, plain)
    assert torch.isfinite(on).all() and not torch.equal(on, plain)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_scales_share_calls_and_have_the_latents_of_each_alone(fusion: str, models: Any) -> None:
    world = make_world(models, seeds=[0, 1])
    mapper = disturbed(new_mapper(models.base_unet, models.upgraded_unet, fusion=fusion, time=True))
    alone = [sample(world, mapper, [scale])[0] for scale in (0.5, 1.0)]
    assert not torch.allclose(*alone, atol=1e-3)
    shared = sample(world, mapper, [0.5, 1.0])
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    together = sample(world, mapper, [0.5, 1.0], most=2)
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_bfloat16_and_checkpointing_train_every_fusion(fusion: str) -> None:
    base, upgraded = tiny_base_unet(), tiny_upgraded_unet().bfloat16()
    upgraded.enable_gradient_checkpointing()
    mapper = disturbed(new_mapper(base, upgraded, fusion=fusion, time=True)).requires_grad_(True)
    data = tiny_data(2)
    errors = mapper_losses(
        mapper,
        FrozenModels(base, upgraded, null_text(), ABAR),
        TrainBatch(data.base_latents, data.upgraded_latents, data.base_text),
        timesteps=torch.tensor([10, 900]),
        base_noise=drawn(1, *data.base_latents.shape),
        upgraded_noise=drawn(2, *data.upgraded_latents.shape),
        dtype=torch.bfloat16,
        is_checkpointed=True,
    )
    errors.sum().backward()
    lacking = [name for name, w in mapper.named_parameters() if w.grad is None or not w.grad.any()]
    assert torch.isfinite(errors).all() and lacking == []


def test_the_default_sites_are_those_of_the_paper(models: Any) -> None:
    mapper = new_mapper(models.base_unet, models.upgraded_unet)
    released = new_mapper(models.base_unet, models.upgraded_unet, name="xadapter")
    assert mapper.reads == ("up_blocks.1", "up_blocks.2", "up_blocks.3")
    assert mapper.writes == ("mid_block", "up_blocks.0", "up_blocks.1")
    assert (mapper.in_channels, mapper.out_channels) == (
        released.in_channels,
        released.out_channels,
    )
    assert [branch.doublings for branch in mapper.config.branches] == [0, 0, 1]


def test_both_halves_are_joined_or_kept_apart(models: Any) -> None:
    unets = models.base_unet, models.upgraded_unet
    joined = new_mapper(*unets, read="both").config.branches
    assert [len(branch.reads) for branch in joined] == [2, 2, 2]
    apart = new_mapper(*unets, read="both", inject="both").config.branches
    assert [branch.reads[0].name.split(".")[0] for branch in apart] == [
        *("down_blocks", "down_blocks", "conv_in"),
        *("up_blocks", "up_blocks", "up_blocks"),
    ]
    assert [len(branch.reads) for branch in apart] == [1] * 6


def test_time_changes_the_signals(models: Any) -> None:
    mapper = disturbed(new_mapper(models.base_unet, models.upgraded_unet, time=True))
    features = [torch.ones(1, 12, 4, 4), torch.ones(1, 8, 8, 8), torch.ones(1, 4, 8, 8)]
    early, late = (mapper(features, torch.tensor([t])) for t in (10, 900))
    assert not torch.allclose(early[0], late[0])


def test_a_mapper_of_other_widths_does_not_fit(models: Any) -> None:
    mapper = new_mapper(models.base_unet, models.upgraded_unet, fusion="spade")
    architecture = architecture_of(mapper)
    assert architecture is not None
    text = architecture.to_json().replace('"channels": 12', '"channels": 13')
    other = build(Architecture(**json.loads(text)))
    with pytest.raises(MapperFitError, match=r"takes widths \(13, 8, 4\).*gives \(12, 8, 4\)"):
        check_fit(other, models.base_unet, models.upgraded_unet)
    text = architecture.to_json().replace('"doublings": 1', '"doublings": 2')
    other = build(Architecture(**json.loads(text)))
    with pytest.raises(MapperFitError, match=r"sides \(64, 64\)"):
        check_fit(other, models.base_unet, models.upgraded_unet)


def test_a_fusion_weight_needs_offsets(models: Any) -> None:
    mapper = new_mapper(models.base_unet, models.upgraded_unet, fusion="film")
    with pytest.raises(SettingError, match="this mapper has no offsets"):
        make_world(models).render(mapper, fusion=0.5)


def test_the_released_layout_keeps_its_file(models: Any, tmp_path: Path) -> None:
    mapper = new_mapper(models.base_unet, models.upgraded_unet, name="xadapter", n_blocks=1)
    save_mapper(mapper, tmp_path)
    with safe_open(tmp_path / FOLDER_WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert isinstance(load_mapper(tmp_path), Mapper)


def test_tied_weights_are_saved_twice(models: Any, tmp_path: Path) -> None:
    mapper: Any = new_mapper(models.base_unet, models.upgraded_unet, fusion="film")
    mapper.tied = next(mapper.children())
    save_mapper(mapper, tmp_path)
    with safe_open(tmp_path / FOLDER_WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == set(mapper.state_dict())


def test_a_mapper_without_an_architecture_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(MapperFileError, match="a Conv2d cannot be saved"):
        save_mapper(torch.nn.Conv2d(1, 1, 1), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "modulr"}, "unknown mapper 'modulr': use modular, xadapter"),
        ({"version": 2}, "is of version 2 of 'modular', version 1 is installed"),
        ({"version": "1"}, "is not a name, a version and a config"),
        ({"config": {}}, "cannot be built from this configuration"),
        ({"config": {"blocks": 10**9}}, "less than or equal to 16"),
        ({"config": {"branches": [{"doublings": 60}]}}, "less than or equal to 3"),
        ({"config": {"fusion": "film"}}, "wrong shapes"),
        ({"config": {"width": 8000}}, "wrong shapes"),
        ({"config": {"time": True}}, "missing"),
        ({"config": {"more": "x" * 70_000}}, "at most 65536"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_damaged_architectures_are_one_clear_error(
    change: dict[str, Any], message: str, models: Any, tmp_path: Path
) -> None:
    save_mapper(new_mapper(models.base_unet, models.upgraded_unet), tmp_path)
    path = tmp_path / FOLDER_WEIGHTS
    with safe_open(path, framework="pt") as file:
        data = json.loads(file.metadata()["mapper"])
    config = {**data["config"], **change["config"]} if change.get("config") else {}
    data |= {**change, "config": config} if "config" in change else change
    save_file(load_file(path), path, metadata={"mapper": json.dumps(data)})
    with pytest.raises((MapperFileError, UserError), match=message) as caught:
        load_mapper(tmp_path)
    assert isinstance(caught.value, MapperFileError)


RECIPE = """\
schema: 1
name: mine
family: pocket
size: 130
data: {source: pocket, n_images: 64}
schedule: {steps: 10}
mapper:
  name: modular
  read: {levels: [coarse, coarse], levl: 2}
  fusion: spad
  widht: 3
  options:
    blocks: 99
"""
OWN = """
import torch
from torch import nn


class Gate(nn.Module):
    reads, writes = ("mid_block",), ("up_blocks.0",)

    def __init__(self, channels, out):
        super().__init__()
        self.layer = nn.Conv2d(channels, out, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features):
        return [self.layer(features[0]).mean((2, 3), keepdim=True)]

    def change(self, i, hidden, signals):
        return torch.tanh(signals[i]) * hidden
"""
KIND = """
class Kind:
    name, version = "gate", 3

    def configure(self, base_unet, upgraded_unet, options):
        from xbench.mappers import site_shapes

        base = site_shapes(base_unet, ("mid_block",))
        upgraded = site_shapes(upgraded_unet, ("up_blocks.0",))
        return {"channels": base.channels[0], "out": upgraded.channels[0], **options}

    def build(self, config):
        from gate_mapper.net import Gate

        return Gate(**config)


GATE = Kind()
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a kind of mapper."""
    package, facts = tmp_path / "gate_mapper", tmp_path / "gate_mapper-1.0.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text(KIND)
    (package / "net.py").write_text(OWN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: gate-mapper\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[xbench.mappers]\ngate = gate_mapper:GATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    yield
    installed.cache_clear()


@pytest.mark.usefixtures("own_package")
def test_a_class_of_another_package_is_trained_saved_and_sampled(
    models: Any, plain: Any, tmp_path: Path
) -> None:
    unets, world = (models.base_unet, models.upgraded_unet), make_world(models)
    recipe = load_recipe("pocket", {"mapper": {"name": "gate"}})
    mapper = build_mapper(recipe.mapper, *unets, seed=0)
    check_fit(mapper, *unets)
    assert torch.equal(sample(world, mapper, [1.0])[0], plain)
    trained = train(mapper, models, tmp_path / "out")
    off, on = sample(world, load_mapper(trained.mapper_path), [0.0, 1.0])
    assert torch.equal(off, plain) and not torch.equal(on, plain)
    wrong = load_recipe("pocket", {"mapper": {"name": "gate", "size": 3}})
    with pytest.raises(UserError, match=r"mapper 'gate' of gate-mapper 1.0 .*size"):
        build_mapper(wrong.mapper, *unets, seed=0)
    installed.cache_clear()
    (tmp_path / "gate_mapper-1.0.dist-info" / "entry_points.txt").unlink()
    with pytest.raises(MapperFileError, match="unknown mapper 'gate': use modular, xadapter"):
        load_mapper(trained.mapper_path)


def test_mistakes_in_a_recipe_come_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert caught.value.problems == (
        "mine.yaml:4: size: use a multiple of 16 (it is 130)",
        "mine.yaml:9: mapper.read.levels: coarse, coarse: name each level once",
        "mine.yaml:9: unknown key 'levl': use levels, place (in mapper.read.levl)",
        "mine.yaml:10: mapper.fusion: use 'add', 'spade', 'film' or 'cross-attention' "
        "(it is 'spad')",
        "mine.yaml:11: unknown key 'widht': use width, inject, time (in mapper.widht)",
        "mine.yaml:13: mapper.options.blocks: use 16 or less (it is 99)",
    )
    with pytest.raises(UserError, match="unknown key 'fusion': use n_blocks, name, options"):
        load_recipe("pocket", {"mapper.fusion": "spade"})
    with pytest.raises(UserError, match="fusion: write it once, beside name or in options"):
        load_recipe("pocket", {"mapper": {"fusion": "add", "options": {"fusion": "add"}}})
