"""X-Adapter (arXiv 2312.02238, section 3.3) on one page, to read from top to bottom.

Two diffusers pipelines (Stable Diffusion 1.x and SDXL) in float32, a mapper, one picture.
`xadapter.XAdapter` gives the same latents (a test compares them) and adds batches, ControlNets,
source images, half precision and other starts of stage 2. Run it with three folders:

    python -m xadapter.reference BASE UPGRADED MAPPER "a fox in the snow" --out fox.png

Legend: z and z_up are the latents [1, 4, h, w] of the base and the upgraded model. A UNet runs on
two rows, the negative prompt and the prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from plugins_manifest.files import replacing
from xadapter.load import load_mapper
from xadapter.mapper import Mapper

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline


@torch.no_grad()
def generate(
    base: StableDiffusionPipeline,
    upgraded: StableDiffusionXLPipeline,
    mapper: Mapper,
    prompt: str,
    *,
    negative_prompt: str | None = None,
    t0: float = 0.8,
    n_steps: int = 50,
    guidance: float = 7.5,
    adapter_scale: float = 1.0,
    size_px: tuple[int, int] = (1024, 1024),
    seed: int = 0,
    step_generator: torch.Generator | None = None,
) -> tuple[Image.Image, Tensor]:
    """Return a picture of `size_px` (height, width) and its latents; stage 2 is the share `t0`."""
    device, random = upgraded.unet.device, torch.Generator().manual_seed(seed)
    normal = partial(randn_tensor, generator=random, device=device)
    denoise = partial(denoising_step, guidance=guidance, generator=step_generator)

    # Texts, by the pipelines' own encoders: LoRAs and textual inversions of both sides act here.
    base_text = encode_base(base, prompt, negative_prompt)
    upgraded_text = encode_upgraded(upgraded, prompt, negative_prompt, size_px)

    # Stage 1: the base model, with its plugins, goes from noise to a clean latent of half the side.
    height, width = (side // upgraded.vae_scale_factor // 2 for side in size_px)
    solver = solver_of(base, like=upgraded, n_steps=n_steps)
    z = normal((1, 4, height, width)) * solver.init_noise_sigma
    for t in solver.timesteps:
        z = denoise(base.unet, solver, z, t, text=base_text)

    # Hand-over, equation 5: z_up = E_up(D_base(z)), the picture resized in between.
    image = base.vae.decode(z / base.vae.config.scaling_factor).sample.clamp(-1, 1)
    image = F.interpolate(image, size=size_px, mode="bicubic", antialias=True)
    posterior = upgraded.vae.encode(image).latent_dist
    z_up = posterior.sample(random) * upgraded.vae.config.scaling_factor

    # Both latents are noised to the first of the last M = max(1, round(N t0)) timesteps.
    n_last = max(1, round(n_steps * t0))
    base_solver, solver = (solver_of(p, like=upgraded, n_steps=n_steps) for p in (base, upgraded))
    timesteps = solver.timesteps[(n_steps - n_last) * solver.order :]
    z_up = solver.add_noise(z_up, normal(z_up.shape), timesteps[:1])
    z = base_solver.add_noise(z, normal(z.shape), timesteps[:1])

    # Stage 2, in lock-step: forward hooks read the base decoder and add to the upgraded decoder.
    features: list[Tensor] = []
    offsets: list[Tensor] = []
    with ExitStack() as hooks:
        for block in base.unet.up_blocks[1:]:
            read = block.register_forward_hook(lambda _block, _inputs, h: features.append(h))
            hooks.enter_context(read)
        for block in (upgraded.unet.mid_block, *upgraded.unet.up_blocks[:2]):
            add = block.register_forward_hook(lambda _block, _inputs, h: h + offsets.pop(0))
            hooks.enter_context(add)
        for t in timesteps:
            z = denoise(base.unet, base_solver, z, t, text=base_text)
            offsets += [adapter_scale * offset for offset in mapper(features)]  # equation 2
            features.clear()
            z_up = denoise(upgraded.unet, solver, z_up, t, text=upgraded_text)  # equation 3

    # The picture is D_up(z_up).
    image = upgraded.vae.decode(z_up / upgraded.vae.config.scaling_factor).sample
    picture: Any = upgraded.image_processor.postprocess(image)
    return picture[0], z_up


def encode_base(pipe: Any, prompt: str, negative_prompt: str | None) -> dict[str, Any]:
    """Return the base UNet's text arguments: the rows of the negative prompt and the prompt."""
    text, negative = pipe.encode_prompt(prompt, pipe.unet.device, 1, True, negative_prompt)
    return {"encoder_hidden_states": torch.cat([negative, text])}


def encode_upgraded(
    pipe: Any, prompt: str, negative_prompt: str | None, size_px: tuple[int, int]
) -> dict[str, Any]:
    """Return the upgraded UNet's: the same two rows, pooled texts, and sizes (SDXL, 2307.01952)."""
    text, negative, pooled, negative_pooled = pipe.encode_prompt(
        prompt, device=pipe.unet.device, negative_prompt=negative_prompt
    )
    added = {
        "text_embeds": torch.cat([negative_pooled, pooled]),
        # original size, crop from the top left, target size: height before width
        "time_ids": torch.tensor([[*size_px, 0.0, 0.0, *size_px]] * 2, device=pipe.unet.device),
    }
    return {"encoder_hidden_states": torch.cat([negative, text]), "added_cond_kwargs": added}


def denoising_step(
    unet: Any,
    solver: Any,
    z: Tensor,
    t: Tensor,
    *,
    text: dict[str, Any],
    guidance: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Take one step with classifier-free guidance, u + g (c - u) (2207.12598, equation 6)."""
    rows = torch.cat([solver.scale_model_input(z, t)] * 2)
    u, c = unet(rows, t, **text).sample.chunk(2)
    options = {} if generator is None else {"generator": generator}  # stochastic solvers only
    return solver.step(u + guidance * (c - u), t, z, **options).prev_sample


def solver_of(pipe: Any, *, like: Any, n_steps: int) -> Any:
    """Build a solver of the class and grid of `like`, with the noise schedule of `pipe`."""
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    own = {name: pipe.scheduler.config[name] for name in names}
    solver = type(like.scheduler).from_config(dict(like.scheduler.config), **own)
    solver.set_timesteps(n_steps, device=pipe.unet.device)
    return solver


def main(arguments: Sequence[str] | None = None) -> None:
    """Render one picture from two pipeline folders and a mapper."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    parser = argparse.ArgumentParser(prog="python -m xadapter.reference", description=__doc__)
    for name in ("base", "upgraded", "mapper", "prompt"):
        parser.add_argument(name)
    parser.add_argument("--out", default="out.png")
    parser.add_argument("--t0", type=float, default=0.8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 1024), help="height width")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    mapper = load_mapper(given.mapper)
    if not isinstance(mapper, Mapper):
        parser.error(f"{given.mapper}: this page has the released layout only; use XAdapter")
    image, _ = generate(
        StableDiffusionPipeline.from_pretrained(given.base),
        StableDiffusionXLPipeline.from_pretrained(given.upgraded),
        mapper,
        given.prompt,
        t0=given.t0,
        n_steps=given.steps,
        size_px=tuple(given.size),
        seed=given.seed,
    )
    with replacing(Path(given.out)) as draft:
        image.save(draft)


if __name__ == "__main__":
    main()
