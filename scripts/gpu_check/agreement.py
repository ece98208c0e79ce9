"""Stage `agreement`: the same latents on CPU and GPU, and in a batch of 1 and of 4.

The pocket family in float32, without TF32: stage 1, bridge and stage 2 through `run_group`, with a
ControlNet and a LoRA, in both presets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_check.measure import deviation, mean_deviation
from gpu_check.stages import Row, Setting
from plugins_manifest.schema.words import PresetName
from pocket.conditions import canny
from pocket.scenes import caption, render, scene_at
from pocket.weights import part_path
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.families import Family, load_family
from runners.group import run_group
from runners.methods import XAdapterMethod
from runners.session import GroupSession

LIMIT = 5e-4
# The preset "released" rounds the picture of stage 1 to 8 bit: a value beside a boundary moves by a
# whole level.
LIMIT_8BIT = 1 / 255
# Each step amplifies rounding: after 10 one of these scenes differs by 8e-4 between the batches of
# 1 and 4 of one CPU, after 4 by 3e-5.
_BATCH, _STEPS, _SEED = 4, 4, 4242
_VARIANT = Variant("xadapter", t0=0.8, adapter_scale=1.0)
_PRESETS: tuple[PresetName, ...] = ("sound", "released")


class Recorded(XAdapterMethod):
    """`xadapter` that keeps the latents of its passes."""

    def __init__(self) -> None:
        self.latents: dict[str, Tensor] = {}

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Render as `xadapter` does, and keep the latents on their way to the decoder."""
        self.latents["stage 1"] = session.stage1().latents
        self.latents["bridge"] = session.bridge().upgraded_latents
        decode = session.picture

        def kept(side: Any, latents_bchw: Tensor) -> np.ndarray:
            self.latents["stage 2"] = latents_bchw
            return decode(side, latents_bchw)

        session.picture = kept
        return super().render(session, variant)


def agreement_rows(setting: Setting) -> Iterator[Row]:
    """Yield the deviation of every pass: from the CPU, and of one image alone from its batch."""
    for part in ("matmul", "conv"):
        backend: Any = torch.backends.cuda if part == "matmul" else torch.backends.cudnn
        getattr(backend, part).fp32_precision = "ieee"
    cases = _cases()
    families = [
        load_family("pocket", device=d, dtype="float32", adapter=None)
        for d in ("cpu", setting.device)
    ]
    for plugin in _plugins():
        for preset in _PRESETS:
            settings = RenderSettings(
                base_size_px=(64, 64),
                upgraded_size_px=(128, 128),
                steps=_STEPS,
                guidance_scale=3.0,
                preset=preset,
            )
            on_cpu, on_device = (_latents(f, plugin, cases, settings) for f in families)
            alone = _latents(families[1], plugin, cases[:1], settings)
            facts = {"plugin": plugin.plugin_id, "preset": preset}
            yield from _rows({**facts, "compared": "CPU and device"}, on_device, on_cpu)
            first = {name: value[:1] for name, value in on_device.items()}
            yield from _rows({**facts, "compared": "batch 1 and 4"}, alone, first)


def _rows(facts: Row, found: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[Row]:
    for name, value in expected.items():
        is_rounded = facts["preset"] == "released" and name != "stage 1"
        limit = LIMIT_8BIT if is_rounded else LIMIT
        relative = mean_deviation(found[name], value)
        yield {
            **facts,
            "pass": name,
            "deviation": relative,
            "largest": deviation(found[name], value),
            "agrees": relative <= limit,
        }


def _latents(
    family: Family, plugin: PluginFile, cases: list[RenderCase], settings: RenderSettings
) -> dict[str, Tensor]:
    method = Recorded()
    results = run_group(family, plugin, cases, [_VARIANT], settings, methods={"xadapter": method})
    if errors := [result.error for result in results if result.error]:
        raise RuntimeError(errors[0])
    return method.latents


def _plugins() -> list[PluginFile]:
    return [
        PluginFile("canny", "controlnet", part_path("controlnet-canny"), condition="canny"),
        PluginFile("outline", "lora", part_path("lora-outline")),
    ]


def _cases() -> list[RenderCase]:
    cases = []
    for index in range(_BATCH):
        scene = scene_at(_SEED, index)
        prompt, edges = caption(scene), canny(render(scene, "flat", 64))
        cases.append(RenderCase(f"case-{index}", 0, prompt, prompt, condition=edges))
    return cases
