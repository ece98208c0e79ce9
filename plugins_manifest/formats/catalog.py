"""The base models whose parameters are shipped, as data: names, what has the same shapes, source.

`scripts/make-model-tables` builds each of them in the configuration of its source. The order is
that of preference where the tensors of a file fit several models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType


@dataclass(frozen=True)
class CatalogModel:
    """A base model: its table's name, title, architecture, and the repository it is published in.

    `label` is its name in `ParsedPlugin.base_model`. `twins` maps models of the same names and
    shapes to the word for them in `--on`: no tensor of a plugin can tell them apart. `note` is what
    a reader should know about the shapes.
    """

    name: str
    title: str
    architecture: str
    source: str
    label: str = ""
    twins: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every word that `--on` takes for the model."""
        return (self.name, *filter(None, (self.label,)), *self.twins)


_SAME = "no tensor tells them apart"
CATALOG: tuple[CatalogModel, ...] = (
    CatalogModel(
        name="sd15",
        title="Stable Diffusion 1.5",
        architecture="unet",
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        label="sd1",
        twins={"dreamshaper": "DreamShaper", "realistic-vision": "Realistic Vision"},
        note=f"all fine-tunes of 1.x have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="sd21",
        title="Stable Diffusion 2.1",
        architecture="unet",
        source="stabilityai/stable-diffusion-2-1",
        label="sd2",
        note=f"2.0 and 2.1, with and without v-prediction, have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="sdxl",
        title="SDXL",
        architecture="unet",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        label="sdxl",
        twins={
            "pony": "Pony Diffusion V6 XL",
            "illustrious": "Illustrious XL",
            "noobai": "NoobAI XL",
            "animagine": "Animagine XL",
            "playground25": "Playground v2.5",
            "sdxl-turbo": "SDXL Turbo",
        },
        note=f"Pony, Illustrious and NoobAI are fine-tunes of SDXL with its shapes: {_SAME}",
    ),
    CatalogModel(
        name="ssd-1b",
        title="SSD-1B",
        architecture="unet",
        source="segmind/SSD-1B",
        note="SDXL with 34 of its 70 transformer blocks",
    ),
    CatalogModel(
        name="flux1-dev",
        title="FLUX.1-dev",
        architecture="flux1",
        source="black-forest-labs/FLUX.1-dev",
        twins={"flux1-krea": "FLUX.1-Krea-dev", "flux1-kontext": "FLUX.1-Kontext-dev"},
        note=(
            f"dev, Krea and Kontext have the same shapes: {_SAME}; Fill, Canny and Depth differ in "
            "x_embedder alone"
        ),
    ),
    CatalogModel(
        name="flux1-schnell",
        title="FLUX.1-schnell",
        architecture="flux1",
        source="black-forest-labs/FLUX.1-schnell",
        note="FLUX.1-dev without the two layers that embed the guidance",
    ),
    CatalogModel(
        name="chroma",
        title="Chroma1-HD",
        architecture="flux1",
        source="lodestones/Chroma1-HD",
        note="FLUX.1-schnell without the modulation layers of its blocks (norm1, norm)",
    ),
    CatalogModel(
        name="flux2-dev",
        title="FLUX.2-dev",
        architecture="flux2",
        source="black-forest-labs/FLUX.2-dev",
    ),
    CatalogModel(
        name="flux2-klein-9b",
        title="FLUX.2-klein-9B",
        architecture="flux2",
        source="black-forest-labs/FLUX.2-klein-9B",
        twins={"flux2-klein-base-9b": "FLUX.2-klein-base-9B"},
        note=f"the distilled model and its base have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="flux2-klein-4b",
        title="FLUX.2-klein-4B",
        architecture="flux2",
        source="black-forest-labs/FLUX.2-klein-4B",
        twins={"flux2-klein-base-4b": "FLUX.2-klein-base-4B"},
        note=f"the distilled model and its base have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="sd3",
        title="Stable Diffusion 3 Medium",
        architecture="sd3",
        source="stabilityai/stable-diffusion-3-medium-diffusers",
    ),
    CatalogModel(
        name="sd35-medium",
        title="Stable Diffusion 3.5 Medium",
        architecture="sd3",
        source="stabilityai/stable-diffusion-3.5-medium",
        note="SD3 Medium with a second self-attention in blocks 0 to 12",
    ),
    CatalogModel(
        name="sd35-large",
        title="Stable Diffusion 3.5 Large",
        architecture="sd3",
        source="stabilityai/stable-diffusion-3.5-large",
        twins={"sd35-large-turbo": "Stable Diffusion 3.5 Large Turbo"},
        note=f"Large and Large Turbo have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="qwen-image",
        title="Qwen-Image",
        architecture="qwen-image",
        source="Qwen/Qwen-Image",
        twins={"qwen-image-edit": "Qwen-Image-Edit", "qwen-image-2512": "Qwen-Image-2512"},
        note=f"Qwen-Image, its later releases and Edit have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="z-image",
        title="Z-Image",
        architecture="z-image",
        source="Tongyi-MAI/Z-Image-Turbo",
        twins={"z-image-turbo": "Z-Image-Turbo"},
        note=f"Z-Image and Z-Image-Turbo have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="wan21-t2v-14b",
        title="Wan 2.1 T2V 14B",
        architecture="wan",
        source="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        twins={"wan22-t2v-a14b": "Wan 2.2 T2V A14B (each expert)"},
        note=f"Wan 2.1 T2V 14B and both experts of 2.2 T2V A14B have the same shapes: {_SAME}",
    ),
    CatalogModel(
        name="wan22-i2v-a14b",
        title="Wan 2.2 I2V A14B",
        architecture="wan",
        source="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        note="Wan 2.1 T2V 14B with 36 input channels; no cross-attention to the image",
    ),
    CatalogModel(
        name="wan21-i2v-14b",
        title="Wan 2.1 I2V 14B",
        architecture="wan",
        source="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        note="Wan 2.2 I2V A14B with a cross-attention to the image (add_k_proj, add_v_proj)",
    ),
    CatalogModel(
        name="wan21-t2v-1.3b",
        title="Wan 2.1 T2V 1.3B",
        architecture="wan",
        source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    ),
    CatalogModel(
        name="wan22-ti2v-5b",
        title="Wan 2.2 TI2V 5B",
        architecture="wan",
        source="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    ),
    CatalogModel(
        name="pixart-sigma",
        title="PixArt-Sigma XL",
        architecture="pixart",
        source="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    ),
    CatalogModel(
        name="pixart-alpha",
        title="PixArt-alpha XL",
        architecture="pixart",
        source="PixArt-alpha/PixArt-XL-2-1024-MS",
        note="PixArt-Sigma with the embeddings of resolution and aspect ratio",
    ),
    CatalogModel(
        name="sana-1.6b",
        title="Sana 1.6B",
        architecture="sana",
        source="Efficient-Large-Model/Sana_1600M_1024px_diffusers",
    ),
)
BY_NAME: Mapping[str, CatalogModel] = MappingProxyType(
    {name: model for model in CATALOG for name in model.names}
)
