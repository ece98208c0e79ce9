"""Fit a LoRA of the upgraded model to a teacher's pictures, by the usual noise loss.

The teacher keeps the old plugin's effect with the base model beside it at every step; what it draws
from prompts is all that the LoRA sees, so that no data of the plugin's author is needed (ours; the
idea is sequence distillation: Kim and Rush, arXiv 1606.07947). Legend: b images, c channels,
h height, w width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pocket.fit import FitSettings, LossFunction, fit
from pocket.train_lora import add_lora, kohya_state
from runners.convert.request import FitPlan
from runners.convert.text import Captions, predict
from runners.families.family import Pipeline
from xadapter.loss import Prediction, add_noise, stratified_timesteps, target_of
from xadapter.objectives import min_snr_weights

NULL_SHARE = 0.1
MIN_SNR_GAMMA = 5.0
_SMALL = 100_000_000  # parameters; narrow networks take larger steps
_LEARNING_RATES = (2e-3, 1e-4)


def distill(
    pipe: Pipeline,
    latents: Tensor,
    captions: Captions,
    plan: FitPlan,
    *,
    folder: Path,
    has_bar: bool = False,
) -> tuple[dict[str, Tensor], float]:
    """Return a LoRA under kohya's names, and the mean loss of the last tenth of steps.

    `latents` [n, c, h, w] are the scaled ones of the teacher's pictures, `captions` what was
    drawn. The UNet is left as it was. Resumes from the checkpoint in `folder`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        add_lora(pipe.unet, rank=plan.rank)
    try:
        for parameter in pipe.unet.parameters():
            if parameter.requires_grad:  # small steps are lost in 16 bits
                parameter.data = parameter.data.float()
        # on a GPU activations are computed again in the backward pass: memory, not time, is short
        if pipe.unet.device.type == "cuda":
            pipe.unet.enable_gradient_checkpointing()
        loss = fit(
            pipe.unet,
            _noise_loss(pipe, latents, captions),
            settings=_fit_settings(pipe, plan),
            out_dir=folder,
            what="fitting the LoRA",
            has_bar=has_bar,
        )
        return kohya_state(pipe.unet), loss
    finally:
        pipe.unet.disable_gradient_checkpointing()
        pipe.unet.unload_lora()


def _fit_settings(pipe: Pipeline, plan: FitPlan) -> FitSettings:
    n_parameters = sum(p.numel() for p in pipe.unet.parameters())
    return FitSettings(
        plan.steps,
        plan.batch,
        plan.learning_rate or _LEARNING_RATES[n_parameters > _SMALL],
        seed=plan.seed,
        ema_decay=0.99,
        log_every_steps=20,
        checkpoint_every_steps=50,
    )


def _noise_loss(pipe: Pipeline, latents: Tensor, captions: Captions) -> LossFunction:
    """Return the min-SNR weighted loss (arXiv 2303.09556); timesteps are stratified."""
    config = pipe.scheduler.config
    prediction: Prediction = config["prediction_type"]
    abar: Tensor = pipe.scheduler.alphas_cumprod.float().cpu()
    weights = min_snr_weights(abar, MIN_SNR_GAMMA, prediction)

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(latents), (batch_size,), generator=generator)
        is_empty = torch.rand(batch_size, generator=generator) < NULL_SHARE
        t = stratified_timesteps(batch_size, len(abar), generator)
        clean = latents[index]
        noise = torch.randn(clean.shape, generator=generator)
        noisy = add_noise(clean, noise, abar[t])
        target = target_of(clean, noise, abar[t], prediction)
        found = predict(pipe.unet, noisy, t, captions.rows(index, is_empty=is_empty))
        error = (found - target.to(found.device)).square().mean(dim=(1, 2, 3))
        return (error * weights[t].to(found.device)).mean()

    return loss_at
