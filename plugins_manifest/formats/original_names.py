"""The names of transformers' layers in the models' own code, which trainers and ComfyUI write.

diffusers renamed them, and split layers that compute several outputs at once: `qkv` is its `to_q`,
`to_k` and `to_v`, whose weights are stacked in that order. `#` stands for a block's number.
Sources: the models' published code, as named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

_Template = tuple[str, tuple[str, ...]]


def _fused(original: str, block: str, *layers: str) -> _Template:
    return original, tuple(f"{block}{layer}" for layer in layers)


def _renamed(original: str, block: str, layers: Mapping[str, str]) -> Iterator[_Template]:
    return ((f"{original}{own}", (f"{block}{new}",)) for own, new in layers.items())


_QKV, _ADDED_QKV = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
_DOUBLE, _SINGLE = "transformer_blocks.#.", "single_transformer_blocks.#."
_EMBEDDERS = {"in_layer": "linear_1", "out_layer": "linear_2"}
# black-forest-labs/flux, src/flux/model.py, and flux2 alike
_OF_FLUX = (
    _fused("double_blocks.#.img_attn.qkv", f"{_DOUBLE}attn.", *_QKV),
    _fused("double_blocks.#.txt_attn.qkv", f"{_DOUBLE}attn.", *_ADDED_QKV),
    *_renamed(
        "double_blocks.#.",
        _DOUBLE,
        {"img_attn.proj": "attn.to_out.0", "txt_attn.proj": "attn.to_add_out"},
    ),
    *_renamed(
        "",
        "",
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "final_layer.linear": "proj_out",
            "final_layer.adaLN_modulation.1": "norm_out.linear",
        },
    ),
)
# Chroma has the blocks of FLUX.1
_FLUX1 = (
    *_OF_FLUX,
    *_renamed(
        "double_blocks.#.",
        _DOUBLE,
        {
            "img_mlp.0": "ff.net.0.proj",
            "img_mlp.2": "ff.net.2",
            "txt_mlp.0": "ff_context.net.0.proj",
            "txt_mlp.2": "ff_context.net.2",
            "img_mod.lin": "norm1.linear",
            "txt_mod.lin": "norm1_context.linear",
        },
    ),
    (
        "single_blocks.#.linear1",
        (*(f"{_SINGLE}attn.{part}" for part in _QKV), f"{_SINGLE}proj_mlp"),
    ),
    _fused("single_blocks.#.linear1.qkv", f"{_SINGLE}attn.", *_QKV),  # XLabs' adapters
    *_renamed(
        "single_blocks.#.", _SINGLE, {"linear2": "proj_out", "modulation.lin": "norm.linear"}
    ),
    *_renamed("guidance_in.", "time_text_embed.guidance_embedder.", _EMBEDDERS),
    *_renamed("time_in.", "time_text_embed.timestep_embedder.", _EMBEDDERS),
    *_renamed("vector_in.", "time_text_embed.text_embedder.", _EMBEDDERS),
)
# black-forest-labs/flux2, src/flux2/model.py
_FLUX2 = (
    *_OF_FLUX,
    *_renamed(
        "double_blocks.#.",
        _DOUBLE,
        {
            "img_mlp.0": "ff.linear_in",
            "img_mlp.2": "ff.linear_out",
            "txt_mlp.0": "ff_context.linear_in",
            "txt_mlp.2": "ff_context.linear_out",
        },
    ),
    *_renamed(
        "single_blocks.#.",
        _SINGLE,
        {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"},
    ),
    *_renamed("guidance_in.", "time_guidance_embed.guidance_embedder.", _EMBEDDERS),
    *_renamed("time_in.", "time_guidance_embed.timestep_embedder.", _EMBEDDERS),
    *_renamed(
        "",
        "",
        {
            f"{name}.lin": f"{name}.linear"
            for name in (
                "single_stream_modulation",
                "double_stream_modulation_img",
                "double_stream_modulation_txt",
            )
        },
    ),
)
# Stability-AI/sd3.5, mmditx.py
_SD3 = (
    _fused("joint_blocks.#.x_block.attn.qkv", f"{_DOUBLE}attn.", *_QKV),
    _fused("joint_blocks.#.x_block.attn2.qkv", f"{_DOUBLE}attn2.", *_QKV),
    _fused("joint_blocks.#.context_block.attn.qkv", f"{_DOUBLE}attn.", *_ADDED_QKV),
    *_renamed(
        "joint_blocks.#.",
        _DOUBLE,
        {
            "x_block.attn.proj": "attn.to_out.0",
            "x_block.attn2.proj": "attn2.to_out.0",
            "x_block.mlp.fc1": "ff.net.0.proj",
            "x_block.mlp.fc2": "ff.net.2",
            "x_block.adaLN_modulation.1": "norm1.linear",
            "context_block.attn.proj": "attn.to_add_out",
            "context_block.mlp.fc1": "ff_context.net.0.proj",
            "context_block.mlp.fc2": "ff_context.net.2",
            "context_block.adaLN_modulation.1": "norm1_context.linear",
        },
    ),
    *_renamed(
        "",
        "",
        {
            "x_embedder.proj": "pos_embed.proj",
            "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
            "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
        },
    ),
)
# Wan-Video/Wan2.1, wan/modules/model.py
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
_WAN = (
    *_renamed("blocks.#.self_attn.", "blocks.#.attn1.", _ATTENTION),
    *_renamed("blocks.#.cross_attn.", "blocks.#.attn2.", _ATTENTION),
    *_renamed(
        "blocks.#.cross_attn.",
        "blocks.#.attn2.",
        {"k_img": "add_k_proj", "v_img": "add_v_proj"},
    ),
    *_renamed("blocks.#.ffn.", "blocks.#.ffn.", {"0": "net.0.proj", "2": "net.2"}),
    *_renamed(
        "",
        "condition_embedder.",
        {
            "time_projection.1": "time_proj",
            "text_embedding.0": "text_embedder.linear_1",
            "text_embedding.2": "text_embedder.linear_2",
            "time_embedding.0": "time_embedder.linear_1",
            "time_embedding.2": "time_embedder.linear_2",
            "img_emb.proj.1": "image_embedder.ff.net.0.proj",
            "img_emb.proj.3": "image_embedder.ff.net.2",
        },
    ),
    ("head.head", ("proj_out",)),
)
# Tongyi-MAI/Z-Image, zimage/transformer.py
_Z_IMAGE = tuple(
    template
    for blocks in ("layers.#.", "noise_refiner.#.", "context_refiner.#.")
    for template in (
        _fused(f"{blocks}attention.qkv", f"{blocks}attention.", *_QKV),
        (f"{blocks}attention.out", (f"{blocks}attention.to_out.0",)),
    )
)
# PixArt-alpha/PixArt-sigma, diffusion/model/nets/PixArtMS.py
_PIXART = (
    _fused("blocks.#.attn.qkv", f"{_DOUBLE}attn1.", *_QKV),
    _fused("blocks.#.cross_attn.kv_linear", f"{_DOUBLE}attn2.", "to_k", "to_v"),
    *_renamed(
        "blocks.#.",
        _DOUBLE,
        {
            "attn.proj": "attn1.to_out.0",
            "cross_attn.q_linear": "attn2.to_q",
            "cross_attn.proj": "attn2.to_out.0",
            "mlp.fc1": "ff.net.0.proj",
            "mlp.fc2": "ff.net.2",
        },
    ),
)
# Layers that only one architecture has: its templates are used where the model has one of them.
_MARKS: tuple[tuple[str, tuple[_Template, ...]], ...] = (
    ("single_transformer_blocks.0.proj_mlp", _FLUX1),
    ("single_transformer_blocks.0.attn.to_qkv_mlp_proj", _FLUX2),
    ("pos_embed.proj", _SD3),
    ("blocks.0.attn2.to_k", _WAN),
    ("layers.0.attention.to_q", _Z_IMAGE),
    ("adaln_single.linear", _PIXART),
)


def original_modules(modules: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Map original names to diffusers' modules, in the order of their rows; names have no prefix.

    Only names whose modules the model has, all of them, are in it.
    """
    known = frozenset(modules)
    found: dict[str, tuple[str, ...]] = {}
    for mark, templates in _MARKS:
        for original, targets in templates if mark in known else ():
            for number in range(len(known)):
                filled = tuple(target.replace("#", str(number)) for target in targets)
                if not known.issuperset(filled):
                    break
                found[original.replace("#", str(number))] = filled
                if "#" not in original:
                    break
    return found
