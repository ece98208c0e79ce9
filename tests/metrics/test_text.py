from dataclasses import replace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchmetrics.functional.multimodal import clip_score

from metrics.encoders import CLIP, PairEncoder
from metrics.networks.open_clip_pair import OpenClipPair
from metrics.pocket_scorer import PocketEncoder
from metrics.text import HPSV2, POCKET_CLIP, ClipScore
from tests.metrics.pictures import NoReferences, image_of, random_scorer, random_sha256
from tests.metrics.random_weights import on_random_weights, tiny_hf_clip, with_random_weights


def pocket_clip() -> ClipScore:
    return replace(POCKET_CLIP, network=PocketEncoder(random_scorer, random_sha256))


def values(scores):
    return [score.value for score in scores]


def test_pocket_clip_is_open_clips_cosine():
    scorer, images = random_scorer(), [image_of(i) for i in range(5)]
    found = values(pocket_clip().score(images, NoReferences()))
    pictures = scorer.encode_images([image.load_picture() for image in images])
    prompts = scorer.encode_texts([image.prompt for image in images])
    cosine = torch.nn.functional.cosine_similarity(
        torch.from_numpy(pictures), torch.from_numpy(prompts)
    )
    assert found == pytest.approx(cosine.tolist(), abs=1e-6)


def test_values_do_not_depend_on_order_or_batch():
    images = [image_of(i) for i in range(4)]
    together = values(pocket_clip().score(images, NoReferences()))
    backward = values(pocket_clip().score(images[::-1], NoReferences()))
    alone = [values(pocket_clip().score([image], NoReferences()))[0] for image in images]
    assert together == backward[::-1] == alone


def test_an_image_is_embedded_once():
    calls = []

    class Counting:
        def features(self, images):
            calls.append(len(images))
            return random_scorer().features(images)

        encode_texts = staticmethod(random_scorer().encode_texts)

    metric = replace(POCKET_CLIP, network=PocketEncoder(Counting, random_sha256))
    references, image = NoReferences(), image_of(0)
    metric.score([image, image], references)
    metric.score([image], references)
    assert calls == [1]


@pytest.fixture(scope="module")
def clip() -> PairEncoder:
    """open_clip's real architecture, small, with random weights in a file."""
    return with_random_weights(CLIP)


def test_clip_score_is_open_clips_own_cosine(clip):
    metric = ClipScore("clip-score", clip)
    image = image_of(0, prompt="a photo of a cat")
    found = metric.score([image], NoReferences())[0].value
    model, _, preprocess = open_clip.create_model_and_transforms(
        clip.variant, pretrained=str(clip.weights.path())
    )
    with torch.inference_mode():
        x = preprocess(Image.fromarray(image.load_picture()))[None]
        t = open_clip.get_tokenizer(clip.variant)(["a photo of a cat"])
        a, b = model.eval().encode_image(x, normalize=True), model.encode_text(t, normalize=True)
    assert found == pytest.approx(float((a * b).sum()), abs=1e-5)


@pytest.fixture(scope="module")
def twins(clip) -> tuple[Any, OpenClipPair]:
    """Return transformers' CLIP and open_clip's with the same tensors."""
    torch.manual_seed(1)
    hf_clip = tiny_hf_clip()
    hf_clip.requires_grad_(False)
    clip_pair = open_clip.create_model(clip.variant).eval().requires_grad_(False)
    clip_pair.load_state_dict(
        {k: open_clip_tensor(k, hf_clip.state_dict()) for k in clip_pair.state_dict()}
    )
    preprocess = open_clip.image_transform(56, is_train=False)
    return hf_clip, OpenClipPair(clip_pair, preprocess, open_clip.get_tokenizer(clip.variant))


RENAMED = {
    "logit_scale": "logit_scale",
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
NORMS = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm", "ln_final": "final_layer_norm"}


def open_clip_tensor(name: str, hf_clip: dict[str, torch.Tensor]) -> torch.Tensor:
    if name in RENAMED:
        found = hf_clip[RENAMED[name]]
        return found.T if name in ("text_projection", "visual.proj") else found
    tower = "vision_model." if name.startswith("visual.") else "text_model."
    short, _, kind = name.removeprefix("visual.").rpartition(".")
    if short in NORMS:
        return hf_clip[f"{tower}{NORMS[short]}.{kind}"]
    _, _, layer, part = name.removeprefix("visual.").split(".", 3)
    home = f"{tower}encoder.layers.{layer}."
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        return torch.cat([hf_clip[f"{home}self_attn.{p}_proj.{kind}"] for p in "qkv"])
    return hf_clip[f"{home}{PARTS[part.rpartition('.')[0]]}.{kind}"]


CAPTIONS = ["a photo of a cat", "two red circles", "x"]


def test_clip_score_is_torchmetrics_on_short_captions(clip, twins, monkeypatch):
    hf_clip, clip_pair = twins

    class Processor:
        """What the published processor does, with open_clip's resize and table of tokens."""

        def __call__(self, *, text=None, images=None, **_):
            if images is not None:
                pictures = [Image.fromarray(i.numpy().transpose(1, 2, 0)) for i in images]
                return {"pixel_values": torch.stack([clip_pair.preprocess(p) for p in pictures])}
            tokens = clip_pair.tokenizer(text)
            return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}

    images = [image_of(i, prompt=caption) for i, caption in enumerate(CAPTIONS)]
    monkeypatch.setattr(type(clip), "loaded", lambda self: clip_pair)
    found = values(ClipScore("clip-score", clip).score(images, NoReferences()))
    for image, value in zip(images, found, strict=True):
        pixels = torch.from_numpy(image.load_picture().transpose(2, 0, 1).copy())
        expected = clip_score(pixels, image.prompt, lambda: (AsBefore(hf_clip), Processor()))
        assert max(100 * value, 0) == pytest.approx(float(expected), abs=1e-3)


class AsBefore:
    """transformers' CLIP as torchmetrics calls it: features are tensors."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config

    def to(self, device):
        return self

    def get_image_features(self, pixels):
        found = self.model.get_image_features(pixel_values=pixels)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    def get_text_features(self, tokens, mask):
        found = self.model.get_text_features(input_ids=tokens, attention_mask=mask)
        return found if isinstance(found, torch.Tensor) else found.pooler_output


def test_hpsv2_is_the_raw_cosine_under_its_own_name(clip):
    metric = on_random_weights(HPSV2)
    image = image_of(0, prompt="a photo of a cat")
    rows = metric.network.rows([image], NoReferences())[0]
    text = metric.network.loaded().encode_texts([image.prompt])[0].astype(float)
    cosine = rows @ text / np.linalg.norm(rows) / np.linalg.norm(text)
    assert metric.score([image], NoReferences())[0].value == pytest.approx(cosine)
    assert metric.name == "hpsv2" and "HPS v2.1" in metric.recipe()


def test_a_long_caption_keeps_its_end_token():
    tokens = open_clip.get_tokenizer("ViT-L-14")(["word " * 200])[0]
    assert len(tokens) == 77
    assert int(tokens[-1]) == 49407
    scorer = random_scorer()
    batch = scorer.tokenizer(["red " * 200], truncation=True, padding="max_length")
    assert batch.input_ids[0][-1] == scorer.tokenizer.eos_token_id
    assert np.isfinite(scorer.encode_texts(["red " * 200])).all()
