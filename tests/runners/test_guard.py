"""A method of another package cannot change what others share, nor pass on what is no image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from runners.base import RenderCase, Variant
from runners.checksum import checksum
from runners.families.family import Family, load_from_folders
from runners.group import run_group
from runners.guard import ModelsChangedError, checked_images, is_own, models_state
from runners.methods.base import BaseModel
from runners.methods.floor import Floor
from runners.session import GroupSession
from tests.runners.conftest import METHODS, SETTINGS

Change = Callable[[GroupSession], object]


class Foreign(BaseModel):
    name = "foreign"
    change: ClassVar[Change]

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        type(self).change(session)
        return super().render(session, variant)


def run(family: Family, cases: list[RenderCase], change: Change) -> list[Any]:
    kind = type("Changing", (Foreign,), {"change": staticmethod(change)})
    variants = [Variant("foreign"), Variant("base")]
    methods = {**METHODS, "foreign": kind()}
    return list(run_group(family, None, cases[:1], variants, SETTINGS, methods=methods))


def halve(weight: nn.Parameter) -> Change:
    def change(session: GroupSession) -> None:
        with torch.no_grad():
            weight.mul_(0.5)

    return change


@pytest.mark.parametrize(
    ("part", "side"),
    [
        ("unet", "base"),
        ("vae", "base"),
        ("text_encoder", "base"),
        ("unet", "upgraded"),
        ("vae", "upgraded"),
        ("text_encoder_2", "upgraded"),
    ],
)
def test_a_changed_weight_is_noticed_in_every_part(
    family: Family, cases: list[RenderCase], part: str, side: str
) -> None:
    weight = list(getattr(getattr(family, side), part).parameters())[-1]
    kept = weight.detach().clone()
    try:
        with pytest.raises(ModelsChangedError, match=f"changed the {side} {part}"):
            run(family, cases, halve(weight) if kept.any() else lambda _: weight.data.add_(1))
    finally:
        weight.data.copy_(kept)


def test_a_hook_another_mode_and_torch_s_settings_are_noticed(
    family: Family, cases: list[RenderCase]
) -> None:
    unet = family.base.unet
    with pytest.raises(ModelsChangedError, match="base unet"):
        run(family, cases, lambda _: unet.register_forward_hook(lambda *_: None))
    next(iter(unet._forward_hooks.values()))
    unet._forward_hooks.clear()
    with pytest.raises(ModelsChangedError, match="base unet"):
        run(family, cases, lambda _: unet.train())
    unet.eval()
    threads = torch.get_num_threads()
    with pytest.raises(ModelsChangedError, match="torch's settings"):
        run(family, cases, lambda _: torch.set_num_threads(threads + 1))
    assert torch.get_num_threads() == threads


def test_a_change_of_a_shared_result_is_noticed(family: Family, cases: list[RenderCase]) -> None:
    with pytest.raises(ModelsChangedError, match="shared results of stage1_picture"):
        run(family, cases, lambda session: session.stage1_picture().clamp_(0, 0.1))


def test_what_a_method_does_to_its_session_reaches_no_other(
    family: Family, cases: list[RenderCase]
) -> None:
    def change(session: GroupSession) -> None:
        session.noise.base_start.zero_()
        session.cases = ()
        session.non_finite.add(0)

    expected = run(family, cases, lambda _: None)
    found = run(family, cases, change)
    assert np.array_equal(found[-1].image, expected[-1].image)
    assert found[-1].error is None and found[0].error is not None


def test_the_methods_of_the_project_are_not_checked() -> None:
    assert all(is_own(method) for method in METHODS.values())
    assert not is_own(Foreign())


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (None, "NoneType"),
        ([np.zeros((2, 4, 3), np.uint8)], "list"),
        (torch.zeros(1, 2, 4, 3, dtype=torch.uint8), "Tensor"),
        (np.full((1, 2, 4, 3), np.nan), "float64"),
        (np.zeros((2, 2, 4, 3), np.uint8), r"\(2, 2, 4, 3\)"),
        (np.zeros((1, 4, 2, 3), np.uint8), r"\(1, 4, 2, 3\)"),
        (np.zeros((1, 2, 4), np.uint8), r"\(1, 2, 4\)"),
        (np.zeros((1, 2, 4, 4), np.uint8), r"\(1, 2, 4, 4\)"),
        (np.zeros((1, 2, 4, 3), bool), "bool"),
    ],
)
def test_anything_but_the_images_is_refused_with_what_it_is(images: object, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        checked_images(images, n_images=1, size_px=(4, 2))


def test_images_are_copied_from_the_method_s_buffer() -> None:
    buffer = np.zeros((1, 2, 4, 3), np.uint8)
    images = checked_images(buffer, n_images=1, size_px=(4, 2))
    buffer[:] = 9
    assert not images.any()


def test_the_checksum_changes_with_any_bit_and_with_places() -> None:
    x = torch.randn(5, 4)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        kept = x.to(dtype)
        first = checksum([kept])
        assert first == checksum([kept.clone()])
        assert first != checksum([kept[:4]])
        assert first != checksum([kept.flip(0)])
        bits = kept.clone()
        bits.view(torch.uint8)[3, 1] ^= 1
        assert first != checksum([bits])
    other = torch.randn(5, 4)
    assert checksum([x, other]) != checksum([other, x])
    assert checksum([torch.full((2,), float("nan"))]) != checksum([torch.zeros(2)])


def test_the_state_of_untouched_models_is_the_same(family: Family) -> None:
    assert models_state(family).changed_since(models_state(family)) is None


def test_the_first_reader_of_a_text_is_not_blamed_for_the_library_s_hooks(
    folders: Path, cases: list[RenderCase]
) -> None:
    unused = load_from_folders(
        "pocket",
        base=folders / "base",
        upgraded=folders / "upgraded",
        mapper=None,
        device="cpu",
        dtype="float32",
    )
    kind = type("First", (Floor,), {"__module__": "elsewhere"})
    methods = {**METHODS, "floor": kind()}
    results = list(
        run_group(unused, None, cases[:1], [Variant("floor")], SETTINGS, methods=methods)
    )
    assert [result.error for result in results] == [None]
