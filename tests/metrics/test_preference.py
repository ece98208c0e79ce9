import numpy as np
import pytest
import torch
from PIL import Image

from metrics.base import MetricUnavailableError
from metrics.networks import image_reward
from metrics.preference import IMAGEREWARD, PICKSCORE
from tests.metrics.pictures import NoReferences, image_of
from tests.metrics.random_weights import image_reward_tensors, on_random_weights


@pytest.mark.parametrize("metric", [PICKSCORE, IMAGEREWARD])
def test_each_image_is_rated_alone_and_its_prompt_counts(metric):
    metric = on_random_weights(metric)
    images = [image_of(i, prompt="a red circle") for i in range(3)]
    together = [s.value for s in metric.score(images, NoReferences())]
    backward = [s.value for s in metric.score(images[::-1], NoReferences())]
    assert together == backward[::-1]
    assert len(set(together)) == 3
    other = metric.score([image_of(0, prompt="dogs")], NoReferences())[0].value
    assert other != together[0]


def test_pickscore_is_the_scaled_cosine():
    metric = on_random_weights(PICKSCORE)
    network, image = metric.network.loaded(), image_of(0, prompt="a red circle")
    x = network.preprocess(Image.fromarray(image.load_picture()))[None]
    with torch.inference_mode():
        out = network.model(input_ids=network.tokenizer(["a red circle"]), pixel_values=x)
        cosine = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
        expected = network.model.logit_scale.exp() * cosine
    found = metric.score([image], NoReferences())[0].value
    assert found == pytest.approx(float(expected), rel=1e-5)


# BLIP's names beside transformers', as its conversion script has them
NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
    "blocks.7.norm1.weight": "encoder.layers.7.layer_norm1.weight",
    "blocks.7.norm2.bias": "encoder.layers.7.layer_norm2.bias",
    "blocks.7.attn.qkv.weight": "encoder.layers.7.self_attn.qkv.weight",
    "blocks.7.attn.proj.bias": "encoder.layers.7.self_attn.projection.bias",
    "blocks.7.mlp.fc1.weight": "encoder.layers.7.mlp.fc1.weight",
    "blocks.7.mlp.fc2.bias": "encoder.layers.7.mlp.fc2.bias",
    "norm.weight": "post_layernorm.weight",
}


@pytest.mark.parametrize(("blip", "transformers"), NAMES.items())
def test_blips_tensors_have_transformers_names(blip, transformers):
    assert image_reward.vision_name(blip) == transformers


def test_the_reward_is_standardized_with_the_authors_numbers():
    network = on_random_weights(IMAGEREWARD).network.loaded()
    with torch.no_grad():
        last = network.head[-1]
        kept = last.weight.clone(), last.bias.clone()
        last.weight.zero_()
        last.bias.fill_(2.0)
    found = network.preferences([(np.zeros((64, 64, 3), np.uint8), "a red circle")])[0]
    with torch.no_grad():
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])
    assert found == pytest.approx((2 - 0.16717) / 1.03334, abs=1e-4)


def test_long_prompts_are_cut_to_35_tokens():
    network = on_random_weights(IMAGEREWARD).network.loaded()
    tokens = network.tokenizer.encode("red " * 100)
    assert len(tokens.ids) == 35 and tokens.tokens[-1] == "[SEP]"


def test_a_missing_tensor_is_told_and_never_left_random():
    from metrics.networks.files import fill

    tensors = {
        key.removeprefix("blip.visual_encoder."): value
        for key, value in image_reward_tensors().items()
        if key.startswith("blip.visual_encoder.")
    }
    renamed = {image_reward.vision_name(key): value for key, value in tensors.items()}
    text = {
        key.removeprefix("blip.text_encoder."): value
        for key, value in image_reward_tensors().items()
        if key.startswith("blip.text_encoder.") and not key.endswith("position_ids")
    }
    vision, _ = image_reward.sized_for(renamed, text)
    del renamed["post_layernorm.bias"]
    with pytest.raises(MetricUnavailableError, match=r"lacks post_layernorm\.bias"):
        fill(vision, renamed, what="ImageReward")


def test_real_sizes_are_read_off_the_tensors():
    vision = {
        "embeddings.patch_embedding.weight": torch.empty(1024, 3, 16, 16, device="meta"),
        "embeddings.position_embedding": torch.empty(1, 197, 1024, device="meta"),
        **{
            f"encoder.layers.{i}.mlp.fc1.weight": torch.empty(4096, 1024, device="meta")
            for i in range(24)
        },
    }
    text = {
        "embeddings.word_embeddings.weight": torch.empty(30524, 768, device="meta"),
        "embeddings.position_embeddings.weight": torch.empty(512, 768, device="meta"),
        **{
            f"encoder.layer.{i}.intermediate.dense.weight": torch.empty(3072, 768, device="meta")
            for i in range(12)
        },
    }
    with torch.device("meta"):
        vision_network, text_network = image_reward.sized_for(vision, text)
    assert vision_network.config.image_size == 224
    assert vision_network.config.num_attention_heads == 16
    assert text_network.config.num_attention_heads == 12
    n_parameters = sum(p.numel() for n in (vision_network, text_network) for p in n.parameters())
    assert n_parameters == pytest.approx(303e6 + 137e6, rel=0.02)
