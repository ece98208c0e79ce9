"""Files with something wrong in them, without ill will; and kinds that cannot be attached."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.animal import Animal, Cage
from tests.plugins_manifest.zoo.files import Content, Raw, numbers, pack
from tests.plugins_manifest.zoo.naming import named
from tests.plugins_manifest.zoo.sd15 import ALL, LINEAR, TO_K, TO_Q, kohya

_SDXL_DEPTH = 10


def lora_of(names: Mapping[str, tuple[int, int]], rank: int = 2) -> dict[str, np.ndarray]:
    """LoRA factors for modules of any model: name -> (outputs, inputs)."""
    content: dict[str, np.ndarray] = {}
    for name, (n_out, n_in) in names.items():
        content[f"{name}.lora_down.weight"] = numbers(rank, n_in)
        content[f"{name}.lora_up.weight"] = numbers(n_out, rank, seed=1)
    return content


def _kohya() -> dict[str, np.ndarray]:
    return named(ALL, sd15.lora, alpha=2.0)


def lora_conv_in(n_channels: int, rank: int = 2) -> dict[str, np.ndarray]:
    """LoRA factors of a first convolution with so many input channels."""
    name = kohya(sd15.CONV_IN)
    return {
        f"{name}.lora_down.weight": numbers(rank, n_channels, 3, 3),
        f"{name}.lora_up.weight": numbers(320, rank, 1, 1, seed=1),
    }


def _sdxl() -> Content:
    start = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_"
    layers = {"attn1_to_q": 640, "attn2_to_k": 2048, "attn2_to_v": 2048, "attn2_to_q": 640}
    return lora_of(
        {
            f"{start}{i}_{layer}": (640, n_in)
            for i in range(_SDXL_DEPTH)
            for layer, n_in in layers.items()
        }
    )


def _sd2() -> Content:
    start = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    return lora_of({f"{start}attn2_to_{part}": (320, 1024) for part in "kv"})


def _second_text_encoder() -> Content:
    name = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    return _kohya() | lora_of({name: (1280, 1280)})


def _flux() -> Content:
    return lora_of({f"lora_unet_double_blocks_{i}_img_attn_qkv": (96, 32) for i in range(3)})


def _xlabs() -> Content:
    module = "double_blocks.0.processor.qkv_lora1"
    return {
        f"{module}.down.weight": numbers(2, 32),
        f"{module}.up.weight": numbers(96, 2, seed=1),
    }


def _transposed() -> Content:
    content = _kohya()
    for part in ("down", "up"):
        key = f"{kohya(TO_K)}.lora_{part}.weight"
        content[key] = np.ascontiguousarray(content[key].T)
    return content


def _with(changes: Callable[[dict[str, np.ndarray]], object]) -> Callable[[], Content]:
    def make() -> Content:
        content = _kohya()
        changes(content)
        return content

    return make


def _set(part: str, value: object, module: str = TO_Q) -> Callable[[dict[str, np.ndarray]], None]:
    def change(content: dict[str, np.ndarray]) -> None:
        key = f"{kohya(module)}.{part}"
        old = content[key]
        content[key] = value(old) if callable(value) else old

    return change


def _infinite_bf16() -> Content:
    content: dict[str, np.ndarray | Raw] = dict(_kohya())
    infinite = np.full((4, 320), 0x7F80, dtype="<u2").tobytes()
    return content | {f"{kohya(TO_Q)}.lora_down.weight": Raw("BF16", (4, 320), infinite)}


def _twice() -> Content:
    other = kohya(sd15.TEXT_Q, text="lora_te1_text_model_")
    parts = sd15.lora(sd15.TEXT_Q)
    return _kohya() | {f"{other}.{part}": value for part, value in parts.items()}


def _untrained() -> Content:
    content = _kohya()
    return {key: value * 0 if "lora_up" in key else value for key, value in content.items()}


def _animal(
    name: str,
    says: str,
    make: Callable[[], Content],
    verdict: str,
    reasons: set[str],
    *,
    cage: Cage = "broken",
    format: str | None = "kohya",
    base_model: str | None = None,
    kind: str | None = None,
    diffusers: str = "",
) -> Animal:
    return Animal(
        name=name,
        says=says,
        make=lambda: pack(make()),
        cage=cage,
        verdict=verdict,
        format=format,
        kind=kind,
        base_model=base_model,
        reasons=frozenset(reasons),
        diffusers=diffusers,
    )


def _unsupported(name: str, says: str, keys: dict[str, tuple[int, ...]], **more: str) -> Animal:
    what = more.get("format", name)
    return _animal(
        name,
        says,
        lambda: {key: numbers(*shape) for key, shape in keys.items()},
        "unsupported",
        {"unsupported-kind"},
        cage="unsupported",
        format=what,
        kind=f"unsupported:{what}",
        diffusers=more.get("diffusers", ""),
    )


_PARTIAL_WARNING = "loads the rest, warns"

BROKEN = (
    _animal(
        "unknown-module",
        "a module that SD1.5 does not have",
        lambda: _kohya() | lora_of({"lora_unet_down_blocks_7_conv": (8, 8)}),
        "partial",
        {"unmatched-module"},
        diffusers=_PARTIAL_WARNING,
    ),
    _animal(
        "unknown-key",
        "a key that no formula has",
        lambda: _kohya() | {f"{kohya(TO_Q)}.lora_left.weight": numbers(2, 2)},
        "partial",
        {"unknown-key"},
        diffusers=_PARTIAL_WARNING,
    ),
    _animal(
        "sdxl-lora",
        "made for SDXL: deeper transformers, text of 2048",
        _sdxl,
        "wrong-base",
        {"wrong-base", "unmatched-module", "bad-shape"},
        base_model="sdxl",
        diffusers="loads 17 %, warns",
    ),
    _animal(
        "sd2-lora",
        "made for SD 2.x: text of 1024",
        _sd2,
        "wrong-base",
        {"wrong-base", "bad-shape"},
        base_model="sd2",
        diffusers="raises: size mismatch",
    ),
    _animal(
        "second-text-encoder",
        "`lora_te2_` beside SD1.5's modules",
        _second_text_encoder,
        "partial",
        {"unmatched-module"},
        base_model="sd1",
        diffusers="drops it, says nothing",
    ),
    _animal("flux-lora", "made for Flux", _flux, "broken", {"unmatched-module"}),
    _animal(
        "xlabs-lora",
        "made for Flux, by XLabs' trainer",
        _xlabs,
        "broken",
        {"unmatched-module"},
        format="xlabs",
    ),
    _animal(
        "missing-up",
        "`lora_up` of one module is missing",
        _with(lambda c: c.pop(f"{kohya(TO_Q)}.lora_up.weight")),
        "partial",
        {"missing-part"},
    ),
    _animal(
        "loha-missing",
        "`hada_w2_b` of all modules is missing",
        lambda: {k: v for k, v in named(LINEAR, sd15.loha).items() if "w2_b" not in k},
        "broken",
        {"missing-part"},
        format="lycoris",
    ),
    _animal(
        "alpha-alone",
        "an alpha for a module without factors",
        lambda: _kohya() | {f"{kohya(sd15.CONV)}.alpha": sd15.alpha(1.0)},
        "partial",
        {"missing-part"},
    ),
    _animal(
        "wrong-rank",
        "down and up of different ranks",
        _with(_set("lora_down.weight", lambda a: a[:3])),
        "partial",
        {"bad-shape"},
    ),
    _animal(
        "transposed",
        "factors of one module transposed",
        _transposed,
        "partial",
        {"bad-shape"},
    ),
    _animal(
        "alpha-vector",
        "an alpha of many numbers",
        _with(_set("alpha", lambda a: numbers(4))),
        "partial",
        {"bad-shape"},
    ),
    _animal(
        "integer-factors",
        "factors of whole numbers",
        _with(_set("lora_down.weight", lambda a: np.ones(a.shape, dtype=np.int32))),
        "partial",
        {"bad-dtype"},
    ),
    _animal(
        "nan",
        "NaN in one tensor",
        _with(_set("lora_up.weight", lambda a: a * np.float16("nan"))),
        "broken",
        {"non-finite"},
        diffusers="loads, says nothing",
    ),
    _animal(
        "infinite-bf16",
        "infinite values in bfloat16",
        _infinite_bf16,
        "broken",
        {"non-finite"},
    ),
    _animal(
        "untrained",
        "all `lora_up` are zero",
        _untrained,
        "no-change",
        {"no-change"},
        base_model="sd1",
        diffusers="loads, changes nothing",
    ),
    _animal("twice", "one text layer under two names", _twice, "partial", {"double-target"}),
    _animal(
        "mixed-formulas",
        "LoRA and LoHa parts in one module",
        lambda: _kohya() | named([TO_Q], sd15.loha),
        "partial",
        {"mixed-formulas"},
    ),
    _animal(
        "full-wrong-shape",
        "a difference of another shape",
        lambda: {f"{kohya(TO_Q)}.diff": numbers(320, 768)},
        "broken",
        {"bad-shape"},
        format="lycoris",
    ),
    _animal(
        "no-bias-there",
        "a bias difference where the model has no bias",
        lambda: _kohya() | {f"{kohya(TO_Q)}.diff_b": numbers(320)},
        "partial",
        {"unmatched-module"},
        format="kohya",
    ),
    _animal(
        "alpha-zero",
        "every alpha is zero",
        lambda: named(ALL, sd15.lora, alpha=0.0),
        "no-change",
        {"no-change"},
        format="kohya",
    ),
    _animal(
        "zero3",
        "sharded weights that were never gathered",
        lambda: {f"{TO_Q}.lora_{part}.weight": numbers(0) for part in "AB"},
        "broken",
        {"bad-shape"},
        format="peft",
        base_model="unknown",
    ),
    _animal(
        "inpainting",
        "made for the inpainting model: a first convolution of 9 channels",
        lambda: _kohya() | lora_conv_in(9),
        "partial",
        {"bad-shape"},
        format="kohya",
    ),
    _animal(
        "lora-and-oft",
        "a LoRA beside parts of an early OFT",
        lambda: _kohya() | {f"{kohya(sd15.FF)}.oft_diag": numbers(4, 80, 80)},
        "partial",
        {"unknown-key"},
        format="kohya",
    ),
    _animal(
        "boft-too-wide",
        "butterfly steps wider than the layer",
        lambda: named([TO_Q], lambda m: sd15.boft(m, steps=9)),
        "broken",
        {"bad-shape"},
        format="lycoris",
    ),
)

UNSUPPORTED = (
    _unsupported(
        "hypernetwork",
        "AUTOMATIC1111 hypernetwork, converted",
        {"768.0.linear.0.weight": (8, 8), "768.1.linear.0.weight": (8, 8)},
        diffusers="no loader",
    ),
    _unsupported(
        "controllllite",
        "ControlLLLite",
        {"lllite_unet_input_blocks_1_1_attn1_to_q.down.0.weight": (8, 8)},
        diffusers="AttributeError",
    ),
    _unsupported(
        "control-lora",
        "Control-LoRA",
        {
            "lora_controlnet": (0,),
            "input_blocks.0.0.weight": (8, 4, 3, 3),
            "input_blocks.1.0.in_layers.2.up": (8, 2),
        },
        diffusers="AttributeError",
    ),
    _unsupported(
        "custom-diffusion",
        "Custom Diffusion",
        {"mid_block.attn2.processor.to_k_custom_diffusion.weight": (8, 8)},
    ),
    _unsupported("aesthetic-gradient", "an aesthetic gradient, converted", {"tensor": (1, 768)}),
    _unsupported(
        "motion-module",
        "AnimateDiff",
        {"down_blocks.0.motion_modules.0.temporal.norm.weight": (8,)},
    ),
    _unsupported(
        "ip-adapter-faceid",
        "IP-Adapter FaceID",
        {"image_proj.proj.0.weight": (8, 8), "ip_adapter.0.to_q_lora.down.weight": (4, 8)},
    ),
    _unsupported(
        "ip-adapter-full",
        "IP-Adapter Full",
        {"image_proj.proj.0.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": (8, 8)},
    ),
    _unsupported(
        "t2i-adapter-style",
        "a T2I style adapter",
        {"style_embedding": (1, 8, 8), "transformer_layes.0.mlp.c_fc.weight": (8, 8)},
    ),
    _unsupported(
        "oft-other",
        "OFT as early LyCORIS named it",
        {f"{kohya(TO_Q)}.oft_diag": (4, 80, 80)},
    ),
    _unsupported(
        "oft-peft",
        "OFT of PEFT and OneTrainer",
        {"base_model.model.mid_block.attentions.0.proj_in.oft_R.weight": (4, 28)},
        format="oft-other",
    ),
    _unsupported(
        "oft-list",
        "OFT as sd-scripts' list of blocks",
        {f"{kohya(TO_Q)}.oft_blocks.0": (80, 80)},
        format="oft-other",
    ),
    _unsupported(
        "peft-other",
        "an adapter of PEFT that is no LoRA",
        {"base_model.model.mid_block.attentions.0.proj_in.vera_lambda_d": (8,)},
    ),
    _unsupported(
        "peft-tokens",
        "PEFT's change of the table of tokens",
        {"base_model.model.text_model.embeddings.token_embedding.lora_embedding_A": (4, 8)},
    ),
    _unsupported("t-lora", "a T-LoRA (LyCORIS)", {f"{kohya(TO_Q)}.lambda_layer": (1, 4)}),
    _unsupported(
        "cloneofsimo", "the first LoRA format", {"unet:0:up": (8, 4), "unet:0:down": (4, 8)}
    ),
    _unsupported(
        "checkpoint",
        "a whole model",
        {
            "model.diffusion_model.out.2.weight": (4, 8, 3, 3),
            "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
        },
    ),
    _unsupported(
        "bare-unet", "a UNet's own weights", {"conv_in.bias": (320,)}, format="checkpoint"
    ),
    _animal(
        "unrelated",
        "weights of something else",
        lambda: {"fc.weight": numbers(4, 4)},
        "unsupported",
        {"unknown-format"},
        cage="unsupported",
        format="unknown",
        kind="unsupported:unknown",
    ),
)
