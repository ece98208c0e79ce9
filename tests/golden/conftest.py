"""Golden cases: every file of a folder recorded from the reference implementation."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from xadapter.mapper import Mapper

ROOT = Path(__file__).resolve().parents[2]
FORWARD_LIMIT = 2e-4  # absolute, single forwards (the folder's README)
FINAL_LIMIT = 5e-4  # of the largest absolute value, latents of a pipeline


def golden_folder() -> Path:
    """$XBENCH_GOLDEN, by default ../shared/golden beside the project."""
    given = os.environ.get("XBENCH_GOLDEN")
    return Path(given) if given else ROOT.parent / "shared" / "golden"


def case_names(kind: str) -> list[str]:
    """Names of all cases of a kind: files with a json and a safetensors part."""
    found = sorted((golden_folder() / kind).glob("*.safetensors"))
    return [path.stem for path in found if path.with_suffix(".json").exists()]


def case_params(kind: str) -> list[Any]:
    """Return the cases as pytest parameters; one skipped parameter where the folder is missing."""
    names = case_names(kind)
    if names:
        return list(names)
    reason = f"no recorded cases under {golden_folder() / kind}; set XBENCH_GOLDEN"
    return [pytest.param("none", marks=pytest.mark.skip(reason=reason))]


@dataclass(frozen=True)
class Case:
    """One recorded case."""

    kind: str
    name: str

    @property
    def path(self) -> Path:
        return golden_folder() / self.kind / self.name

    @cached_property
    def json(self) -> dict[str, Any]:
        return json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path.with_suffix(".safetensors"))


def require(kind: str, name: str) -> Case:
    """Return a case, or a skip with the reason where the folder is missing."""
    case = Case(kind, name)
    if not case.path.with_suffix(".safetensors").exists():
        pytest.skip(f"no {kind}/{name} under {golden_folder()}; set XBENCH_GOLDEN")
    return case


@cache
def model(name: str) -> Any:
    """Return a recorded model, loaded with strict keys, frozen."""
    case = Case("models", name)
    config = case.json["config"]
    if name == "mapper":
        built: Any = mapper_like(config)
    else:
        classes = {
            "unet": UNet2DConditionModel,
            "vae": AutoencoderKL,
            "controlnet": ControlNetModel,
        }
        built = classes[name.rpartition("_")[2]].from_config(config)
    built.load_state_dict(case.tensors)
    return built.eval().requires_grad_(False)


def mapper_like(config: dict[str, Any]) -> Mapper:
    """Return a mapper of the recorded widths and depth."""
    return Mapper(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        n_blocks=config["nums_rb"],
    )


def worst(ours: Tensor, recorded: Tensor) -> float:
    """Largest absolute deviation."""
    assert ours.shape == recorded.shape
    return float((ours.double() - recorded.double()).abs().max())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
