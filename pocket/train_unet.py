"""Train the pocket diffusion models with min-SNR weights (arXiv 2303.09556)."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pocket.fit import LossFunction
from pocket.models import UPGRADED_SIZE_PX, Prediction, alphas_cumprod
from pocket.tokenizer import build_tokenizer

N_TIMESTEPS = 1000
MIN_SNR_GAMMA = 5.0


class Predictor(Protocol):
    """Predicts the noise, or v, in `x_bchw` at `timestep_b` for the captions `ids_bl`."""

    def __call__(
        self, x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor
    ) -> Tensor: ...


class BaseModel(nn.Module):
    """Base UNet and its text encoder, trained together."""

    def __init__(self, unet: Any, text_encoder: Any) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def conditions(self, ids_bl: Tensor) -> tuple[Tensor, None]:
        """Return hidden states (B x L x D) and no added conditions."""
        return self.text_encoder(ids_bl).last_hidden_state, None

    def forward(
        self, x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor
    ) -> Tensor:
        text_bld, _ = self.conditions(ids_bl)
        return self.unet(x_bchw, timestep_b, text_bld, return_dict=False)[0]


class UpgradedModel(nn.Module):
    """Upgraded UNet and its two text encoders, trained together."""

    def __init__(
        self,
        unet: Any,
        text_encoder: Any,
        text_encoder_2: Any,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def text(self, ids_bl: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (B x L x 2W, second to last layers) and pooled vector (B x W)."""
        first = self.text_encoder(ids_bl, output_hidden_states=True)
        second = self.text_encoder_2(ids_bl, output_hidden_states=True)
        hidden_bld = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return hidden_bld, second.text_embeds

    def conditions(self, ids_bl: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return hidden states (B x L x 2W), pooled vector and size conditioning."""
        hidden_bld, pooled = self.text(ids_bl)
        return hidden_bld, {"text_embeds": pooled, "time_ids": upgraded_time_ids(len(ids_bl))}

    def forward(
        self, x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor
    ) -> Tensor:
        text_bld, added = self.conditions(ids_bl)
        return self.unet(x_bchw, timestep_b, text_bld, added_cond_kwargs=added, return_dict=False)[
            0
        ]


FrozenModel = BaseModel | UpgradedModel


class Controlled(nn.Module):
    """A trainable ControlNet on a frozen model; `conditions` are uint8 N x H x W."""

    def __init__(self, model: FrozenModel, controlnet: Any, conditions: Tensor) -> None:
        super().__init__()
        self.controlnet = controlnet.requires_grad_(True)
        self.frozen = [model.requires_grad_(False).eval()]  # in a list: not a submodule
        self.conditions = conditions

    def forward(
        self, x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor
    ) -> Tensor:
        model = self.frozen[0]
        with torch.no_grad():
            text_bld, added = model.conditions(ids_bl)
        condition_bchw = (self.conditions[index_b].float() / 255)[:, None].expand(-1, 3, -1, -1)
        down, middle = self.controlnet(
            x_bchw,
            timestep_b,
            text_bld,
            controlnet_cond=condition_bchw,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return model.unet(
            x_bchw,
            timestep_b,
            text_bld,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


@dataclass(frozen=True)
class Latents:
    """Scaled latents (N x 4 x h x w) and the token ids of their captions (N x L)."""

    z_nchw: Tensor
    ids_nl: Tensor


def tokenize(captions: list[str]) -> Tensor:
    """Return token ids of captions, padded to the tokenizer's full length, N x L."""
    tokenizer = build_tokenizer()
    batch = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return batch.input_ids


def upgraded_time_ids(n: int) -> Tensor:
    """Return SDXL's size conditioning of an uncropped picture: h, w, 0, 0, h, w."""
    side = float(UPGRADED_SIZE_PX)
    return torch.tensor([[side, side, 0.0, 0.0, side, side]]).expand(n, -1)


def noise_loss(
    predict: Predictor, data: Latents, *, null_share: float, prediction: Prediction = "epsilon"
) -> LossFunction:
    """Return the min-SNR weighted loss; timesteps are stratified over the batch."""
    abar = alphas_cumprod()
    snr = abar / (1 - abar)
    # the squared error of z_0 is that of e over the SNR, and that of v over the SNR plus 1
    per_unit = snr if prediction == "epsilon" else snr + 1
    weight = 2 * snr.clamp(max=MIN_SNR_GAMMA) / per_unit
    null_ids = tokenize([""])[0]

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(data.z_nchw), (batch_size,), generator=generator)
        z, ids = data.z_nchw[index], data.ids_nl[index].clone()
        ids[torch.rand(batch_size, generator=generator) < null_share] = null_ids
        t = stratified_timesteps(batch_size, generator)
        signal = abar[t].sqrt().view(-1, 1, 1, 1)
        spread = (1 - abar[t]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(z.shape, generator=generator)
        x = (signal * z + spread * noise).contiguous(memory_format=torch.channels_last)
        # v: Salimans and Ho, arXiv 2202.00512, section 4
        target = noise if prediction == "epsilon" else signal * noise - spread * z
        error = (predict(x, t, ids, index) - target).square().mean((1, 2, 3))
        return (error * weight[t]).mean()

    return loss_at


def stratified_timesteps(batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw one timestep from each of `batch_size` equal slices of 0..999."""
    places = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
    return (places / batch_size * N_TIMESTEPS).long().clamp(max=N_TIMESTEPS - 1)
