import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from metrics.base import MetricUnavailableError, describe
from metrics.text import WEIGHTS_VARIABLE, ClipScore, PocketClip
from tests.metrics.pictures import NoReferences, image_of, random_scorer, random_sha256


def pocket_clip() -> PocketClip:
    return PocketClip(scorer=random_scorer, scorer_sha256=random_sha256)


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

    metric = PocketClip(scorer=Counting, scorer_sha256=random_sha256)
    references, image = NoReferences(), image_of(0)
    metric.score([image, image], references)
    metric.score([image], references)
    assert calls == [1]


def test_clip_score_without_weights_says_which_it_wants(monkeypatch, tmp_path: Path):
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(MetricUnavailableError, match="wants open_clip weights for ViT-L-14"):
        ClipScore().recipe()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "none.pt"))
    assert "none.pt" in describe(ClipScore())["unavailable"]


TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory) -> tuple[str, Path]:
    """open_clip's real architecture, small, with random weights in a checkpoint file."""
    folder = tmp_path_factory.mktemp("clip")
    name, path = "tiny-test-clip", folder / "tiny.pt"
    (folder / f"{name}.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model(name).state_dict(), path)
    return name, path


def test_clip_score_is_open_clips_own_cosine(clip_weights):
    name, path = clip_weights
    metric = ClipScore(model=name, weights=path)
    image = image_of(0, prompt="a photo of a cat")
    found = metric.score([image], NoReferences())[0].value
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(path))
    with torch.inference_mode():
        x = preprocess(Image.fromarray(image.load_picture()))[None]
        t = open_clip.get_tokenizer(name)(["a photo of a cat"])
        a, b = model.eval().encode_image(x, normalize=True), model.encode_text(t, normalize=True)
    assert found == pytest.approx(float((a * b).sum()), abs=1e-5)
    metric.selftest()
    assert name in metric.recipe()


def test_a_long_caption_keeps_its_end_token():
    tokens = open_clip.get_tokenizer("ViT-L-14")(["word " * 200])[0]
    assert len(tokens) == 77
    assert int(tokens[-1]) == 49407
    scorer = random_scorer()
    batch = scorer.tokenizer(["red " * 200], truncation=True, padding="max_length")
    assert batch.input_ids[0][-1] == scorer.tokenizer.eos_token_id
    assert np.isfinite(scorer.encode_texts(["red " * 200])).all()
