"""IP-Adapters: a UNet's cross-attentions read a reference image next to the text.

Only the plain kind (ip-adapter_sd15: one embedding of the image, a few tokens). The image encoder
is local: image_encoder/ in the plugin's folder (then its bytes are part of the plugin's hash), or
beside the file, or the folder in XBENCH_IMAGE_ENCODER (then it has a hash of its own). Source:
IP-Adapter, arXiv 2308.06721, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import ENCODER_SETTING, IMAGE_ENCODER, encoder_folder
from plugins_manifest.memory import is_out_of_memory
from plugins_manifest.text import first_line
from runners.audit import Audit
from runners.base import PluginFile
from runners.families import Family
from runners.families.family import DTYPES
from runners.plugins.attachment import AttachedImagePrompt, Attachment
from runners.plugins.effect import require_effect
from runners.plugins.ldm_names import renamed
from runners.plugins.network_file import load_strictly, read_weights
from runners.plugins.opened import open_plugin
from xadapter.placement import execution_device

_PROJECTION = "image_proj"
_HID_TYPE = "ip_image_proj"  # diffusers' name for a UNet that takes image embeddings


@dataclass(frozen=True)
class IPAdapterPlugin:
    """An IP-Adapter in memory: the projection, one processor per cross-attention, the encoder."""

    file: PluginFile
    projection: ImageProjection
    processors: Mapping[str, IPAdapterAttnProcessor2_0]
    encoder: CLIPVisionModelWithProjection
    audit: Audit

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Install the processors for image prompts at scale `strength`.

        Raises `UserError` where another IP-Adapter is attached already.
        """
        unet: Any = family.pipe(self.file.side).unet
        if unet.encoder_hid_proj is not None:
            raise UserError(
                f"plugin {self.file.plugin_id!r}: the {self.file.side} model already has another "
                "image prompt: use one IP-Adapter in a stack"
            )
        before, hid_type = dict(unet.attn_processors), unet.config.encoder_hid_dim_type
        for processor in self.processors.values():
            processor.scale[:] = [strength]
        try:
            unet.set_attn_processor({**before, **self.processors})
            unet.encoder_hid_proj = MultiIPAdapterImageProjection([self.projection])
            unet.config.encoder_hid_dim_type = _HID_TYPE
            prompt = AttachedImagePrompt(self.file.plugin_id, self.embed)
            yield Attachment(image_prompts=(prompt,), taken_off=self._taken_off)
        finally:
            unet.set_attn_processor(dict(before))
            unet.encoder_hid_proj = None
            unet.config.encoder_hid_dim_type = hid_type

    @contextmanager
    def _taken_off(self) -> Iterator[None]:
        """Leave the image prompt out for a while: processors skip it at scale 0."""
        own = {name: list(processor.scale) for name, processor in self.processors.items()}
        for processor in self.processors.values():
            processor.scale[:] = [0.0]
        try:
            yield
        finally:
            for name, scale in own.items():
                self.processors[name].scale[:] = scale

    @torch.no_grad()
    def embed(self, references: Sequence[np.ndarray], guided: bool) -> Tensor:
        """Return embeddings [r, 1, d] of b pictures (uint8 RGB), zeros for the unconditional rows.

        Each picture is encoded alone, so that its embedding does not depend on the batch.
        """
        size = self.encoder.config.image_size
        prepare = CLIPImageProcessor(size=size, crop_size=size)
        rows = []
        for reference in references:
            pixels = prepare(Image.fromarray(reference), return_tensors="pt").pixel_values
            pixels = pixels.to(device=execution_device(self.encoder), dtype=self.encoder.dtype)
            rows.append(self.encoder(pixels).image_embeds)
        embeds = torch.stack(rows)
        return torch.cat([torch.zeros_like(embeds), embeds]) if guided else embeds


def load_ip_adapter(file: PluginFile, family: Family) -> IPAdapterPlugin:
    """Read an IP-Adapter and its image encoder, every key strictly.

    Raises `UserError` for missing, unknown and misshapen keys, for another kind of IP-Adapter, for
    an image encoder that is missing or of another width, and for a file that changes nothing.
    """
    unet: Any = family.pipe(file.side).unet
    weights = open_plugin(file, family).weights
    state = read_weights(file, weights)
    names = _cross_attentions(unet)
    parts = _build(file, state, unet, names)
    own = renamed(state, parts.state_dict(), _file_name)
    rows = load_strictly(parts, own, file, what="IP-Adapter")
    parts.eval().requires_grad_(False)
    parts.to(device=family.device, dtype=DTYPES[family.dtype])
    projection: Any = parts[_PROJECTION]
    processors: Any = {name: parts[_slot(i)] for i, name in enumerate(names)}
    encoder = _load_encoder(file, encoder_folder(weights), projection, family)
    plugin = IPAdapterPlugin(file, projection, processors, encoder, Audit(rows))
    return replace(plugin, audit=require_effect(plugin, family, rows))


def _cross_attentions(unet: Any) -> list[str]:
    """Return the names of cross-attention processors, in the order of the files' numbers."""
    return [name for name in unet.attn_processors if not name.endswith("attn1.processor")]


def _slot(index: int) -> str:
    """Return the number of a cross-attention in the files, which count self-attentions too."""
    return str(2 * index + 1)


def _file_name(name: str) -> str:
    """Return the file's name of a parameter of `_build`'s modules."""
    if name.startswith(f"{_PROJECTION}."):
        return name.replace("image_embeds", "proj")
    return "ip_adapter." + name.replace("_ip.0.", "_ip.")


def _build(
    file: PluginFile, state: Mapping[str, Tensor], unet: Any, names: Sequence[str]
) -> nn.ModuleDict:
    """Build modules without weights, sized by the UNet and the file's projection."""
    text_width = unet.config.cross_attention_dim
    weight = state.get(f"{_PROJECTION}.proj.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] % text_width:
        shape = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
        raise UserError(
            f"plugin {file.plugin_id!r}: {_PROJECTION}.proj.weight is {shape}, it must be "
            f"[n x {text_width}, width of the image embedding]: use an IP-Adapter for this model"
        )
    n_tokens = weight.shape[0] // text_width
    modules: dict[str, nn.Module] = {
        _PROJECTION: ImageProjection(weight.shape[1], text_width, n_tokens)
    }
    for index, name in enumerate(names):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        width = attention.to_k.weight.shape[0]
        modules[_slot(index)] = IPAdapterAttnProcessor2_0(width, text_width, (n_tokens,))
    return nn.ModuleDict(modules)


def _load_encoder(file: PluginFile, folder: Path, projection: Any, family: Family) -> Any:
    """Load the CLIP image encoder and check its width against the projection's input."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"plugin {file.plugin_id!r}: there is no image encoder: put its config.json and "
            f"model.safetensors into {IMAGE_ENCODER}/ beside {file.path.name}, or set "
            f"{ENCODER_SETTING} to their folder"
        )
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=DTYPES[family.dtype], use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"plugin {file.plugin_id!r}: the image encoder in {folder.name} cannot be loaded "
            f"({first_line(error)}): fetch it again"
        ) from error
    width, needed = encoder.config.projection_dim, projection.image_embeds.in_features
    if width != needed:
        raise UserError(
            f"plugin {file.plugin_id!r}: the image encoder gives {width} values, the IP-Adapter "
            f"takes {needed}: use the encoder that it was trained with"
        )
    return family.place(encoder, use="conditions")
