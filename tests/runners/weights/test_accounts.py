"""Every tensor that changes nothing is accounted for by the problem of its own module."""

from dataclasses import replace

from plugins_manifest.formats.parse import parse
from plugins_manifest.formats.parsed import Header, TensorInfo
from runners.weights.unused_keys import rows_of_the_rest

TABLE = {
    f"unet.mid_block.attentions.0.{name}.weight": (8, 8)
    for name in ("proj_in", "proj_out", "transformer_blocks.0.attn1.to_q")
}
SHAPES = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 9),
    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (8, 4),
    "lora_unet_mid_block_attentions_0_proj_out.lora_down.weight": (4, 8),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": (4, 8),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight": (8, 4),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": (4, 8),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight": (8, 4),
}


def header() -> Header:
    tensors = {key: TensorInfo("F32", shape, 0, 0) for key, shape in SHAPES.items()}
    return Header(tensors, {}, payload_start=0, file_bytes=0)


def test_a_module_that_is_not_applied_has_the_reason_of_its_own_problem():
    found = {row.module: row.reason for row in rows_of_the_rest(parse(header(), TABLE), header())}
    assert found == {
        "lora_unet_mid_block_attentions_0_proj_in": "bad-shape",
        "lora_unet_mid_block_attentions_0_proj_out": "missing-part",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": "double-target",
    }


def test_the_words_of_a_problem_do_not_decide_whose_it_is():
    parsed = parse(header(), TABLE)
    reworded = tuple(replace(p, message=f"cannot apply this: {p.reason}") for p in parsed.problems)
    before, after = (
        [(row.module, row.reason) for row in rows_of_the_rest(one, header())]
        for one in (parsed, replace(parsed, problems=reworded))
    )
    assert after == before
