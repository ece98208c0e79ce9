"""LoRAs for few steps and their settings, by names and metadata alone."""

import pytest

from plugins_manifest.formats.made_for import few_steps, file_names, notes_of, stated_clip_skip


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("lcm-lora-sdv1-5.safetensors", "LCM", 4),
        ("latent-consistency/lcm-lora-sdxl@abc/pytorch_lora_weights.safetensors", "LCM", 4),
        ("LCM_LoRA_Weights_SD15.safetensors", "LCM", 4),
        ("LCMTurboMix.safetensors", "LCM", 4),
        ("Hyper-SD15-8steps-lora.safetensors", "Hyper-SD", 8),
        ("sdxl_lightning_4step_lora.safetensors", "Lightning", 4),
        ("ByteDance/SDXL-Lightning@abc/x.safetensors", "Lightning", 4),
        ("sd_xl_turbo_lora_v1.safetensors", "Turbo", 4),
        ("pcm_sd15_smallcfg_2step_converted.safetensors", "PCM", 2),
        ("TCD-SD15-LoRA.safetensors", "TCD", 4),
        ("dmd2_sdxl_4step_lora.safetensors", "DMD", 4),
    ],
)
def test_few_step_loras_are_recognized(name: str, kind: str, steps: int) -> None:
    found = few_steps([name], {})
    assert found is not None
    assert (found.name, found.steps) == (kind, steps)
    assert not found.suits(50, 7.5) and not found.suits(4, 7.5) and not found.suits(50, 1)
    assert found.suits(steps, 1)


@pytest.mark.parametrize(
    "name",
    [
        *("lightning_bolts.safetensors", "turbo_car.safetensors", "hyperrealism.safetensors"),
        *("flash-photography.safetensors", "calcmaster.safetensors", "anime.safetensors"),
    ],
)
def test_other_loras_are_not(name: str) -> None:
    assert few_steps([name], {"ss_sd_model_name": "lcm.safetensors"}) is None


def test_metadata_count_and_guidance_is_allowed_where_the_name_has_it() -> None:
    assert few_steps(["x.safetensors"], {"ss_output_name": "my_LCM_v2"}) is not None
    assert few_steps(["x.safetensors"], {"modelspec.title": "SDXL Turbo"}) is not None
    found = few_steps(["Hyper-SD15-8steps-CFG-lora"], {})
    assert found is not None and found.suits(8, 7.5) and not found.suits(50, 7.5)
    assert file_names("pytorch_lora_weights.safetensors", "lcm-lora")[1:] == ("lcm-lora",)
    assert file_names("x.safetensors", "lcm-lora") == ("x.safetensors",)


def test_a_stated_clip_skip_is_read() -> None:
    for text, skip in (("2", 2), ("1", 1), ("None", None), ("", None), ("0", None), ("x", None)):
        assert stated_clip_skip({"ss_clip_skip": text}) == skip
    assert "clip_skip: 2" in next(notes_of(["x"], {"ss_clip_skip": "2"}))
    assert list(notes_of(["x"], {"ss_clip_skip": "1"})) == []
