"""Text encoders are on the GPU while they encode, and on the CPU while a model samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from runners import session
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family, text_encoders
from runners.group import run_group
from runners.plugins import effect
from tests.runners.conftest import METHODS, SETTINGS


class Located(nn.Module):
    """A model that records where it is."""

    place = "cpu"

    def to(self, device: Any) -> Located:
        self.place = str(device)
        return self


def pipeline_on(device: str) -> Any:
    unet = SimpleNamespace(device=torch.device(device))
    return SimpleNamespace(unet=unet, text_encoder=Located(), text_encoder_2=Located())


@pytest.mark.parametrize("device", ["cuda:1", "mps", "cpu"])
def test_encoders_are_beside_the_unet_inside_and_on_the_cpu_outside(device: str) -> None:
    pipe = pipeline_on(device)
    with text_encoders(pipe):
        assert {pipe.text_encoder.place, pipe.text_encoder_2.place} == {device}
    assert {pipe.text_encoder.place, pipe.text_encoder_2.place} == {"cpu"}


def test_encoders_leave_the_gpu_after_an_error() -> None:
    pipe = pipeline_on("cuda:0")
    context = text_encoders(pipe)
    context.__enter__()
    assert not context.__exit__(ValueError, ValueError("too long"), None)
    assert pipe.text_encoder.place == "cpu"


def test_every_call_of_an_encoder_is_inside(
    family: Family,
    lora: PluginFile,
    cases: list[RenderCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_pipes: list[object] = []

    @contextmanager
    def recorded(pipe: Any) -> Iterator[None]:
        with text_encoders(pipe):
            open_pipes.append(pipe)
            yield
            open_pipes.remove(pipe)

    for module in (session, effect):
        monkeypatch.setattr(module, "text_encoders", recorded)
    called = []
    handles = []
    for pipe in (family.base, family.upgraded):
        for name in ("text_encoder", "text_encoder_2"):
            if (encoder := getattr(pipe, name, None)) is not None:

                def check(*_: object, pipe: object = pipe, name: str = name) -> None:
                    called.append(name)
                    assert pipe in open_pipes

                handles.append(encoder.register_forward_hook(check))
    variants = [Variant("base"), Variant("xadapter", t0=0.7), Variant("floor")]
    try:
        results = list(run_group(family, lora, cases, variants, SETTINGS, methods=METHODS))
    finally:
        for handle in handles:
            handle.remove()
    assert [result.error for result in results] == [None] * len(results)
    assert {"text_encoder", "text_encoder_2"} == set(called)
