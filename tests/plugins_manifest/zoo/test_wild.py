"""Whatever has been met in the wild lives in the zoo, with the verdict that it deserves."""

from __future__ import annotations

import pytest

from tests.plugins_manifest.zoo import ZOO

# what users meet -> (the zoo's files of it, the verdict of all of them)
WILD: dict[str, tuple[str, str]] = {
    "kohya: alpha for all, some or no modules, mixed ranks": (
        "kohya kohya-no-alpha kohya-partial-alpha kohya-mixed-ranks kohya-bf16 kohya-every-layer",
        "ok",
    ),
    "kohya: one part of the model alone, te1": ("kohya-unet-only kohya-text-only kohya-te1", "ok"),
    "LoCon: convolutions, resamplers, time embedding": ("locon", "ok"),
    "an unknown module": ("unknown-module", "partial"),
    "an SDXL LoRA": ("sdxl-lora", "wrong-base"),
    "an SD 2.x LoRA": ("sd2-lora", "wrong-base"),
    "two text encoders": ("second-text-encoder", "partial"),
    "diffusers and PEFT with prefix": ("peft peft-metadata diffusers-old attn-procs", "ok"),
    "PEFT and attention processors without prefix": (
        "peft-bare peft-raw peft-adapter-name attn-procs-bare",
        "ok",
    ),
    "original block names, with convolutions": ("sgm comfyui", "ok"),
    "CP / Tucker": ("tucker", "ok"),
    "LoHa, also beside LoRA modules": ("loha loha-conv loha-tucker two-algorithms", "ok"),
    "LoKr: whole, low rank, convolutions, dotted names": (
        "lokr lokr-low-rank lokr-conv lokr-tucker lokr-dotted",
        "ok",
    ),
    "(IA)^3": ("ia3 ia3-input", "ok"),
    "DoRA": ("dora dora-per-input peft-dora lokr-dora", "ok"),
    "full differences, norms, OFT, BOFT, GLoRA": (
        "full norm oft oft-rescale oft-kohya boft glora glora-old lora-and-bias",
        "ok",
    ),
    "embeddings bundled in a LoRA": ("bundled-embeddings", "ok"),
    "NaN weights": ("nan infinite-bf16 fake-offset-bf16", "broken"),
    "an untrained LoRA": ("untrained", "no-change"),
    "kinds without a pipeline": (
        "hypernetwork aesthetic-gradient controllllite control-lora custom-diffusion",
        "unsupported",
    ),
    "embeddings of diffusers and of Civitai": (
        "embedding embedding-one-vector embedding-civitai embedding-a1111",
        "ok",
    ),
    "pickled embeddings": ("torch-zip pickle pickle-renamed pickle-text", "unsafe"),
    "embeddings for another base": ("embedding-sdxl embedding-sd2", "wrong-base"),
    "an IP-Adapter": ("ip-adapter", "ok"),
    "networks that no loader takes": ("ip-adapter-plus controlnet-difference", "unsupported"),
    "an IP-Adapter with a key too many": ("ip-adapter-unknown-key", "partial"),
    "an IP-Adapter without a layer": ("ip-adapter-missing", "broken"),
    "an unrelated file": ("unrelated", "unsupported"),
    "ControlNets: diffusers, original": (
        "controlnet controlnet-ldm controlnet-ldm-bare controlnet-ldm-checkpoint",
        "ok",
    ),
    "a ControlNet with missing keys": ("controlnet-missing", "broken"),
    "a ControlNet for SD 2.1": ("controlnet-sd2", "wrong-base"),
    "T2I-Adapters: diffusers, original": (
        "t2i-adapter t2i-adapter-light t2i-adapter-original",
        "ok",
    ),
    "what a site sends in place of a file": ("html html-bom json lfs-pointer zip empty", "broken"),
}


@pytest.mark.parametrize("what", WILD)
def test_what_is_met_in_the_wild_lives_in_the_zoo(what: str) -> None:
    verdicts = {animal.name: animal.verdict for animal in ZOO}
    names, verdict = WILD[what]
    assert {name: verdicts.get(name) for name in names.split()} == dict.fromkeys(
        names.split(), verdict
    )
