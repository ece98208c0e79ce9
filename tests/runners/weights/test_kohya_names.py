from __future__ import annotations

from runners.families import Family
from runners.weights.kohya_names import kohya_table


def test_names_are_kohya_s_for_unet_and_text_encoder(family: Family) -> None:
    table = kohya_table(family.base.unet, family.base.text_encoder)
    for name in (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
        "lora_unet_up_blocks_3_attentions_1_proj_in",
        "lora_unet_up_blocks_1_resnets_0_conv1",
        "lora_te_text_model_encoder_layers_1_self_attn_out_proj",
        "lora_te_text_model_encoder_layers_0_mlp_fc2",
    ):
        assert name in table


def test_every_name_is_the_weight_itself(family: Family) -> None:
    table = kohya_table(family.base.unet, None)
    weight = family.base.unet.get_parameter("mid_block.resnets.0.conv1.weight")
    assert table["lora_unet_mid_block_resnets_0_conv1"] is weight
    assert not any(name.startswith("lora_te") for name in table)
