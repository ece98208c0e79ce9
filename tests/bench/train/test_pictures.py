"""Training on pictures: one command, buckets, encoded shards, damage, a full disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL

from bench.cli.main import main
from bench.errors import UserError
from bench.train import Recipe, load_recipe, train_recipe
from bench.train.buckets import BucketOrder, buckets_for
from bench.train.cost import cost_facts, cost_lines
from bench.train.data import opened_data
from bench.train.models import Models, load_models
from tests.bench.train.photos import photo, recipe_file, write_folder
from xadapter.data import TrainBatch

pytestmark = pytest.mark.system

WIDE, TALL = (384, 128), (128, 384)
NAMES = ("base_latents", "upgraded_latents", "base_text", "time_ids")


@pytest.fixture(scope="module")
def models() -> Models:
    torch.set_num_threads(1)
    return load_models(load_recipe("pocket"), device="cpu")


def recipe_of(tmp_path: Path, *, cache: bool | str = True, **more: Any) -> Recipe:
    data = {"source": "folder", "path": "photos", "cache": cache}
    return load_recipe(recipe_file(tmp_path, data, **more))


@contextmanager
def opened(recipe: Recipe, models: Models, folder: Path, n_steps: int = 6) -> Iterator[Any]:
    with opened_data(recipe, models, folder, n_steps=n_steps) as data:
        yield data


def assert_equal(one: TrainBatch, other: TrainBatch) -> None:
    for name in NAMES:
        assert torch.equal(getattr(one, name), getattr(other, name))


@contextmanager
def counted_encodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    calls: list[int] = []
    encode = AutoencoderKL.encode

    def counting(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(x))
        return encode(self, x, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderKL, "encode", counting)
        yield calls


def test_a_folder_of_200_pictures_trains_a_mapper_by_one_command(tmp_path: Path) -> None:
    sizes = [(128, 128), (150, 130), WIDE, TALL]
    photos = {f"{n:03d}.jpg": photo(n, sizes[n % 4]) for n in range(200)}
    folder = write_folder(tmp_path / "photos", photos)
    for name in ("000.jpg", "004.jpg"):
        (folder / name).write_bytes(photos[name][:400])
    (folder / "001.txt").unlink()
    recipe = recipe_file(tmp_path, {"source": "folder", "path": "photos"})
    out = tmp_path / "out"
    found = CliRunner().invoke(main, ["train", str(recipe), "--out", str(out), "--device", "cpu"])
    assert found.exit_code == 0, found.output
    assert (out / "mapper" / "config.json").exists()
    assert "encoding 6 pictures into 0.0" in found.output
    assert "pictures of 128 x 128, 192 x 64, 64 x 192 px" in found.output
    assert "no caption (001.jpg)" in found.output


def test_a_batch_has_one_size_and_does_not_depend_on_who_makes_it(
    models: Models, tmp_path: Path
) -> None:
    photos = {f"{n}.jpg": photo(n, ((128, 128), WIDE)[n % 3 == 0]) for n in range(9)}
    write_folder(tmp_path / "photos", photos)
    kept, fresh = recipe_of(tmp_path), recipe_of(tmp_path, cache=False)
    shapes = set()
    with opened(kept, models, tmp_path / "a") as one, opened(fresh, models, tmp_path / "b") as two:
        for step in (5, 0, 1, 2, 3, 4):
            whole = one.batch_at(step, range(2), 2)
            assert_equal(whole, two.batch_at(step, range(2), 2))
            half = two.batch_at(step, range(1, 2), 2)
            assert torch.equal(whole.upgraded_latents[1:], half.upgraded_latents)
            (_, _, height, width) = whole.upgraded_latents.shape
            assert whole.base_latents.shape[2:] == (height // 2, width // 2)
            size = [height * 8.0, width * 8.0]
            assert whole.time_ids[0].tolist() == [*size, 0, 0, *size]
            shapes.add((height, width))
        assert shapes == {(16, 16), (8, 24)}
        generator = torch.Generator().manual_seed(0)
        assert len(one.sample(16, generator).base_latents) == 16  # from a bucket of six


def test_encoded_pictures_are_the_vaes_means(models: Models, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a.png": photo(3, kind="PNG")})
    with opened(recipe_of(tmp_path), models, tmp_path / "kept") as data:
        found = data.batch_at(0, range(1), 1)
    from plugins_manifest.images import decode_image

    pixels = torch.from_numpy(decode_image(photo(3, kind="PNG"), name="it")).permute(2, 0, 1)
    vae = models.family.upgraded.vae
    with torch.no_grad():
        mean = vae.encode(pixels[None] / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(
        found.upgraded_latents, mean * vae.config["scaling_factor"], atol=2e-3, rtol=2e-3
    )
    torch.testing.assert_close(
        found.base_text, models.base_text(["a picture a.png"]), atol=2e-3, rtol=2e-3
    )


def test_a_damaged_picture_is_replaced_alike_kept_or_not(models: Models, tmp_path: Path) -> None:
    photos = {f"{n}.jpg": photo(n) for n in range(4)}
    photos["2.jpg"] = photos["2.jpg"][:400]
    photos["wide.jpg"] = photo(9, WIDE)[:400]  # the only one of its bucket
    write_folder(tmp_path / "photos", photos)
    kept, fresh = recipe_of(tmp_path), recipe_of(tmp_path, cache=False)
    with opened(kept, models, tmp_path / "a") as one, opened(fresh, models, tmp_path / "b") as two:
        for step in range(6):
            assert_equal(one.batch_at(step, range(2), 2), two.batch_at(step, range(2), 2))
    for folder in ("a", "b"):
        listed = (tmp_path / folder / "skipped.tsv").read_text()
        assert "broken\t2.jpg" in listed and "broken\twide.jpg" in listed


def test_only_damaged_pictures_are_one_clear_error(models: Models, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n)[:400] for n in range(3)})
    for cache in (True, False):
        with (
            pytest.raises(UserError, match=r"can be used: 3 broken \(0.jpg, 1.jpg, 2.jpg\)"),
            opened(recipe_of(tmp_path, cache=cache), models, tmp_path / f"{cache}") as data,
        ):
            data.batch_at(0, range(2), 2)


def test_encoded_pictures_are_used_again_by_other_trainings(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n) for n in range(5)})
    recipe = recipe_of(tmp_path, cache="encoded")
    with counted_encodes(monkeypatch) as calls:
        with opened(recipe, models, tmp_path / "a") as data:
            first = data.batch_at(0, range(2), 2)
        assert sum(calls) == 2 * 5  # both sides
        with opened(recipe, models, tmp_path / "b") as data:
            assert_equal(first, data.batch_at(0, range(2), 2))
        assert sum(calls) == 2 * 5
        (folder / "0.jpg").write_bytes(photo(100))
        with opened(recipe, models, tmp_path / "c") as data:
            data.batch_at(0, range(2), 2)
        assert sum(calls) == 2 * 6
    assert recipe.data.cache == str(tmp_path / "encoded")  # type: ignore[union-attr]


def test_only_pictures_of_the_steps_are_encoded(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n) for n in range(20)})
    with (
        counted_encodes(monkeypatch) as calls,
        opened(recipe_of(tmp_path), models, tmp_path / "kept", 2) as data,
    ):
        for step in range(2):
            data.batch_at(step, range(2), 2)
        assert sum(calls) == 2 * 4


def test_a_full_disk_is_one_message_and_what_is_encoded_stays(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n) for n in range(20)})
    recipe, kept = recipe_of(tmp_path), tmp_path / "kept"
    with opened(recipe, models, kept, 2):
        pass
    shards = sorted(kept.glob("latents-*/*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(UserError, match="no room left to write"), opened(recipe, models, kept):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(kept.glob("latents-*/*")) == shards and len(shards) == 1
    with counted_encodes(monkeypatch) as calls, opened(recipe, models, kept):
        assert sum(calls) == 2 * (12 - 4)


def test_too_little_room_is_noticed_before_anything_is_encoded(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n) for n in range(4)})
    monkeypatch.setattr("bench.train.latents.free_bytes", lambda folder: 1_000)
    with (
        counted_encodes(monkeypatch) as calls,
        pytest.raises(UserError, match=r"set data.cache to a folder of another disk"),
        opened(recipe_of(tmp_path), models, tmp_path / "kept"),
    ):
        pass
    assert calls == []


def test_a_training_goes_on_only_with_the_same_pictures(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {f"{n}.jpg": photo(n) for n in range(4)})
    recipe = recipe_of(tmp_path, schedule={"steps": 2})
    train_recipe(recipe, out_dir=tmp_path / "out", progress=False, stop_after=1)
    (folder / "1.txt").write_text("another caption")
    with pytest.raises(UserError, match="a training with other images"):
        train_recipe(recipe, out_dir=tmp_path / "out", progress=False)


def test_a_dry_run_counts_pictures_and_writes_nothing(tmp_path: Path) -> None:
    photos = {f"{n}.jpg": photo(n, ((128, 128), WIDE)[n % 2]) for n in range(6)}
    write_folder(tmp_path / "photos", {**photos, "tiny.jpg": photo(7, (8, 8))})
    epochs = recipe_of(tmp_path, schedule={"epochs": 3})
    facts = cost_facts(epochs, tmp_path / "out", n_processes=1, gpus=None)
    assert facts["steps"] == 9
    pictures = facts["pictures"]
    assert pictures["usable"] == 6 and pictures["left_out"] == {"too small": 1}
    assert pictures["buckets"] == {"128 x 128": 3, "192 x 64": 3}
    # latents of both sides and 20 tokens of 64 numbers
    n_bytes = 2 * sum(4 * (a + a // 4) + 20 * 64 for a in (16 * 16, 24 * 8)) * 3
    assert pictures["encoded_gib"] * 2**30 == pytest.approx(n_bytes)
    lines = list(cost_lines(facts, epochs, tmp_path / "out"))
    assert lines[1].endswith("photos: 3 of 128 x 128, 3 of 192 x 64 px")
    assert lines[2].split() == ["left", "out:", "1", "too", "small", "(tiny.jpg)"]
    assert lines[3].startswith("encoded 0.0")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_links_without_a_download(tmp_path: Path) -> None:
    table = pa.table({"url": ["http://example.org/a.jpg"] * 5, "caption": ["x"] * 5})
    pq.write_table(table, tmp_path / "links.parquet")
    data = {"source": "parquet", "path": "links.parquet"}
    recipe = load_recipe(recipe_file(tmp_path, data, schedule={"epochs": 2}))
    facts = cost_facts(recipe, tmp_path / "out", n_processes=1, gpus=None)
    assert facts["pictures"]["links"] == 5 and facts["steps"] == 5
    assert "5 links" in list(cost_lines(facts, recipe, tmp_path))[1]
    hub = {"source": "huggingface", "dataset": "me/set"}
    recipe = load_recipe(recipe_file(tmp_path, hub, schedule={"epochs": 2}))
    with pytest.raises(UserError, match=r"set data.n_images or schedule.steps"):
        cost_facts(recipe, tmp_path / "out", n_processes=1, gpus=None)


# --- buckets


def test_buckets_of_1024_px_are_sdxls() -> None:
    assert set(buckets_for(1024, 64)) == {
        *((1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216)),
        *((1344, 768), (768, 1344), (1536, 640), (640, 1536)),
    }


@pytest.mark.parametrize(("size", "step"), [(128, 64), (768, 128), (512, 64), (1040, 64)])
def test_buckets_are_whole_steps_of_at_most_the_squares_pixels(size: int, step: int) -> None:
    square, *others = buckets_for(size, step)
    assert square == (size, size) and len(others) >= 2
    for width, height in others:
        assert width % step == height % step == 0 and width * height <= size**2


def test_buckets_take_turns_in_proportion_and_by_the_seed() -> None:
    counts = (700, 290, 10)
    order = BucketOrder(counts, 16, seed=3)
    steps = [order.at(step) for step in range(630)]  # ten epochs
    for bucket, count in enumerate(counts):
        turns = [turn for found, turn in steps if found == bucket]
        assert turns == list(range(len(turns)))
        assert len(turns) == pytest.approx(630 * count / 1000, abs=1)
    assert BucketOrder(counts, 16, seed=3).at(400) == steps[400]
    other = BucketOrder(counts, 16, seed=4)
    assert [other.at(step) for step in range(630)] != steps
