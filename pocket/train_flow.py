"""Train the pocket flow model: rectified flow with logit-normal times (SD3, arXiv 2403.03206)."""

from typing import Any

import torch
from torch import Tensor, nn

from pocket.fit import LossFunction
from pocket.models import FLOW_SHIFT
from pocket.train_unet import N_TIMESTEPS, Latents, Predictor, tokenize


class FlowModel(nn.Module):
    """SD3's transformer and its two CLIP text encoders, which are frozen."""

    def __init__(self, transformer: Any, text_encoder: Any, text_encoder_2: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        self.text_encoder_2 = text_encoder_2.requires_grad_(False).eval()

    @torch.no_grad()
    def text(self, ids_bl: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (B x L x 2W, second to last layers) and pooled vectors (B x 2W)."""
        both = [
            encoder(ids_bl, output_hidden_states=True)
            for encoder in (self.text_encoder, self.text_encoder_2)
        ]
        hidden_bld = torch.cat([found.hidden_states[-2] for found in both], -1)
        return hidden_bld, torch.cat([found.text_embeds for found in both], -1)

    def forward(
        self, x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor
    ) -> Tensor:
        hidden_bld, pooled = self.text(ids_bl)
        return self.transformer(x_bchw, hidden_bld, pooled, timestep_b, return_dict=False)[0]


def flow_loss(predict: Predictor, data: Latents, *, null_share: float) -> LossFunction:
    """Return the squared error of the velocity; times are stratified over the batch."""
    null_ids = tokenize([""])[0]

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(data.z_nchw), (batch_size,), generator=generator)
        z, ids = data.z_nchw[index], data.ids_nl[index].clone()
        ids[torch.rand(batch_size, generator=generator) < null_share] = null_ids
        sigma_b = shifted_times(batch_size, generator)
        sigma = sigma_b.view(-1, 1, 1, 1)
        noise = torch.randn(z.shape, generator=generator)
        # x_t = (1 - t) x0 + t e; its velocity is e - x0 (arXiv 2403.03206, equations 13 and 6)
        x = (1 - sigma) * z + sigma * noise
        return (predict(x, sigma_b * N_TIMESTEPS, ids, index) - (noise - z)).square().mean()

    return loss_at


def shifted_times(batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw one logit-normal noise level from each of `batch_size` equal shares, then shift it."""
    places = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
    share = (places / batch_size).clamp(1e-4, 1 - 1e-4)
    # t = sigmoid(u), u normal (equation 19); t' = s t / (1 + (s - 1) t) (equation 23)
    t = torch.special.ndtri(share).sigmoid()
    return FLOW_SHIFT * t / (1 + (FLOW_SHIFT - 1) * t)
