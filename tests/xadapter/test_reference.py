"""`XAdapter` gives what the reference script gives; the script runs from the command line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.xadapter.conftest import new_mapper
from tests.xadapter.pipelines import SOLVERS, new_solver, tiny_base_pipe, with_scheduler
from tests.xadapter.worlds import deviation
from xadapter import XAdapter
from xadapter.noise import named_generators
from xadapter.reference import generate, main

N_STEPS, SIZE_PX = 3, (32, 24)
LIMIT = 1e-5


def reference(base_pipe: Any, upgraded_pipe: Any, **settings: Any) -> Any:
    return generate(
        base_pipe,
        upgraded_pipe,
        new_mapper(),
        "a cat",
        n_steps=N_STEPS,
        size_px=SIZE_PX,
        **{"t0": 0.7} | settings,
    )


def render(joined: XAdapter, **settings: Any) -> Any:
    sizes = {"steps": N_STEPS, "height": SIZE_PX[0], "width": SIZE_PX[1]}
    return joined("a cat", **sizes | {"t0": 0.7} | settings)


def same_picture(left: Image.Image, right: Image.Image) -> bool:
    """Whether two pictures agree up to the rounding to 8 bit."""
    return np.allclose(np.asarray(left, dtype=int), np.asarray(right, dtype=int), atol=1)


ALIKE = ("dpm++ karras", "euler karras", "unipc", "deis")  # multistep and sigmas as others


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind in ALIKE else ()) for kind in SOLVERS],
)
def test_xadapter_equals_the_reference_with_the_users_scheduler(
    base_pipe: Any, upgraded_pipe: Any, kind: str
) -> None:
    pipe = with_scheduler(upgraded_pipe, new_solver(kind))
    generator = named_generators([0], "solver steps")[0] if "ancestral" in kind else None
    expected = reference(base_pipe, pipe, step_generator=generator)
    by_pipeline = render(XAdapter.from_pipelines(base_pipe, pipe, new_mapper()))
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper())
    as_instance = render(joined, scheduler=new_solver(kind))
    for result in (by_pipeline, as_instance):
        assert deviation(result.latents, expected[1]) < LIMIT
        assert same_picture(result.images[0], expected[0])


@pytest.mark.parametrize("t0", [0.3, 1.0])
def test_xadapter_equals_the_reference_at_other_settings(
    models: Any, upgraded_pipe: Any, t0: float
) -> None:
    base_pipe = tiny_base_pipe(models, prediction_type="v_prediction")
    settings = {"t0": t0, "seed": 5, "adapter_scale": 1.5, "negative_prompt": "a dog"}
    expected = reference(base_pipe, upgraded_pipe, guidance=3.0, **settings)[1]
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper())
    seeds = [settings.pop("seed")]
    result = render(joined, guidance_scale=3.0, seeds=seeds, **settings)
    assert deviation(result.latents, expected) < LIMIT


def test_reference_removes_its_hooks(base_pipe: Any, upgraded_pipe: Any) -> None:
    with pytest.raises(IndexError):  # no offset for the upgraded UNet's last site
        generate(base_pipe, upgraded_pipe, lambda _: [], "a cat", n_steps=N_STEPS, size_px=SIZE_PX)
    for pipe in (base_pipe, upgraded_pipe):
        assert not any(module._forward_hooks for module in pipe.unet.modules())


def test_reference_runs_from_the_command_line(
    tmp_path: Path, base_pipe: Any, upgraded_pipe: Any
) -> None:
    folders = [str(tmp_path / name) for name in ("base", "upgraded", "mapper")]
    for part, folder in zip((base_pipe, upgraded_pipe, new_mapper()), folders, strict=True):
        part.save_pretrained(folder)
    out = tmp_path / "cat.png"
    options = ["--t0=0.7", f"--steps={N_STEPS}", "--size", "32", "24", f"--out={out}"]
    main([*folders, "a cat", *options])
    assert same_picture(Image.open(out), reference(base_pipe, upgraded_pipe)[0])


def test_method_page_shows_the_reference() -> None:
    page = Path(__file__).parents[2] / "docs" / "method.md"
    assert inspect.getsource(generate) in page.read_text(encoding="utf-8")
