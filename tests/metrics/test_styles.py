from dataclasses import replace

import numpy as np
import pytest
import torch

from metrics.base import MetricUnavailableError
from metrics.features import unit
from metrics.networks import vgg
from metrics.networks.csd import sized_for
from metrics.networks.files import fill
from metrics.pocket_scorer import PocketEncoder
from metrics.sets.formulas import CMMD_SCALE, gaussian_kernel
from metrics.sets.run_distance import STYLE_CSD_MMD
from metrics.styles import (
    POCKET_STYLE,
    STYLE_CLIP_I,
    STYLE_CLIP_I_PAPER,
    STYLE_CSD,
    STYLE_GRAM,
)
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)
from tests.metrics.random_weights import on_random_weights


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)


def bank(n: int = 4) -> list:
    return [
        image_of(i, picture=picture(50 + i), method="base", prompt=f"prompt {i % 2}")
        for i in range(n)
    ]


@pytest.mark.parametrize("metric", [STYLE_CLIP_I, STYLE_CSD])
def test_style_is_the_mean_cosine_to_the_bank_whatever_the_order(metric):
    metric = on_random_weights(metric)
    images = [image_of(i, picture=picture(i)) for i in range(3)]
    references = GivenReferences(bank=bank())
    rows = unit(metric.encoder.encode([picture(i) for i in range(3)]))
    others = unit(metric.encoder.encode([b.load_picture() for b in bank()]))
    found = [score.value for score in metric.score(images, references)]
    assert found == pytest.approx((rows @ others.T).mean(axis=1).tolist())
    assert [s.value for s in metric.score(images[::-1], references)] == found[::-1]
    assert metric.score(images[:1], NoReferences())[0].value is None


def pocket_style():
    return replace(POCKET_STYLE, encoder=PocketEncoder(random_scorer, random_sha256))


def test_pocket_style_is_the_mean_cosine_to_the_bank():
    image, bank = image_of(0), [image_of(i, style="outline", method="base") for i in (1, 2, 3)]
    found = pocket_style().score([image], GivenReferences(bank=bank))[0].value
    rows = random_scorer().encode_images([i.load_picture() for i in (image, *bank)])
    assert found == pytest.approx(float((rows[1:] @ rows[0]).mean()), abs=1e-6)


def test_without_a_bank_style_is_null():
    found = pocket_style().score([image_of(0)], NoReferences())[0]
    assert found.value is None
    assert found.reason == "no base + plugin image of another prompt to compare with"


def test_style_applies_to_style_plugins_only():
    assert pocket_style().applies_to(image_of(0, kind="lora"))
    assert not pocket_style().applies_to(image_of(0, kind="controlnet"))


def test_the_papers_style_is_null_for_the_base_row():
    metric, base = on_random_weights(STYLE_CLIP_I_PAPER), bank()[0]
    twin = image_of(0, picture=base.load_picture())
    found = metric.score([twin, image_of(1, picture=picture(1)), base], GivenReferences(base=base))
    assert found[0].value == pytest.approx(1)
    assert found[1].value is not None and found[1].value < 1
    assert found[2].value is None and "self-reference" in (found[2].reason or "")


def by_definition(metric, images, others) -> float:
    x, y = (
        unit(metric.encoder.encode([i.load_picture() for i in side])) for side in (images, others)
    )

    def mean(a, b, prompts_a, prompts_b):
        k = gaussian_kernel(a, b)
        return np.mean(
            [k[i, j] for i, p in enumerate(prompts_a) for j, q in enumerate(prompts_b) if p != q]
        )

    p, q = [i.prompt for i in images], [b.prompt for b in others]
    return CMMD_SCALE * (mean(x, x, p, p) + mean(y, y, q, q) - 2 * mean(x, y, p, q))


def test_csd_mmd_takes_pairs_of_different_prompts_only():
    metric = on_random_weights(STYLE_CSD_MMD)
    images = [image_of(i, picture=picture(i), prompt=f"prompt {i % 3}") for i in range(6)]
    references = GivenReferences(bank=bank())
    expected = by_definition(metric, images, bank())
    assert metric.score(images, references).value == pytest.approx(expected, abs=1e-8)
    assert metric.score(images[::-1], references).value == pytest.approx(expected, abs=1e-8)
    assert metric.score(bank(), references).value is None


def test_csd_mmd_without_a_prompt_is_the_distance_of_sets_that_never_had_it():
    metric = on_random_weights(STYLE_CSD_MMD)
    images = [image_of(i, picture=picture(i), prompt=f"prompt {i % 3}") for i in range(6)]
    bases = [
        image_of(i, picture=picture(50 + i), method="base", prompt=f"prompt {i % 3}")
        for i in range(6)
    ]
    left_out = metric.score(images, GivenReferences(bank=bases)).leave_one_out
    assert left_out is not None and left_out.keys() == {"prompt 0", "prompt 1", "prompt 2"}
    for name, left in left_out.items():
        rest = ([i for i in side if i.prompt != name] for side in (images, bases))
        assert left == pytest.approx(by_definition(metric, *rest), abs=1e-8)


class GivenRows:
    """Rows that are given instead of encoded."""

    needs = ()

    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self.rows_of = rows

    def recipe(self) -> str:
        return "given rows"

    def rows(self, images, references):
        return np.stack([self.rows_of[image.trial_id] for image in images])


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_an_interval_of_csd_mmd_is_as_wide_as_the_value_varies(shift):
    """Jackknife errors over prompts shared by both sides against the spread of repeated runs."""
    rng, n = np.random.default_rng(0), 20
    values, errors = [], []
    drawn = {
        method: [image_of(i, method=method, prompt=f"prompt {i}") for i in range(n)]
        for method in ("xadapter", "base")
    }
    for _ in range(150):
        content = rng.normal(0, 1, (n, 6))
        sides = {"xadapter": content + shift, "base": content}
        noisy = {
            image.trial_id: sides[method][i] + rng.normal(0, 0.5, 6)
            for method, images in drawn.items()
            for i, image in enumerate(images)
        }
        metric = replace(STYLE_CSD_MMD, encoder=GivenRows(noisy))
        found = metric.score(drawn["xadapter"], GivenReferences(bank=drawn["base"]))
        left = np.array(list((found.leave_one_out or {}).values()))
        values.append(found.value)
        errors.append(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    assert 0.8 < np.mean(errors) / np.std(values) < 1.6


def test_a_head_of_csd_that_is_missing_is_told():
    metric = on_random_weights(STYLE_CSD)
    tensors = torch.load(metric.encoder.weights.path(), weights_only=True)["state_dict"]
    network = sized_for(tensors)
    del tensors["last_layer_content"]
    with pytest.raises(MetricUnavailableError, match="lacks last_layer_content"):
        fill(network, tensors, what="CSD")


def test_csd_has_the_size_of_clip_vit_l_14():
    meta = {"device": "meta"}
    with torch.device("meta"):
        network = sized_for(
            {
                "backbone.conv1.weight": torch.empty(1024, 3, 14, 14, **meta),
                "backbone.positional_embedding": torch.empty(257, 1024, **meta),
                "last_layer_style": torch.empty(1024, 768, **meta),
                **{
                    f"backbone.transformer.resblocks.{i}.ln_1.weight": torch.empty(1024, **meta)
                    for i in range(24)
                },
            }
        )
    names = set(network.state_dict())
    assert {"backbone.class_embedding", "last_layer_style", "last_layer_content"} <= names
    assert "backbone.transformer.resblocks.23.attn.in_proj_weight" in names
    assert "backbone.proj" not in names
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(304.8e6, rel=0.01)


def test_gram_matrices_forget_places_and_not_textures():
    torch.manual_seed(0)
    gram = vgg.Gram(torch.nn.Sequential(*list(vgg.build().children())[:16]).eval())
    stripes = np.tile((np.arange(256) // 8 % 2 * 255).astype(np.uint8)[None, :, None], (256, 1, 3))
    moved, other = np.roll(stripes, 16, axis=1), picture(0)
    rows = unit(gram.encode([stripes, moved, other]).astype(float))
    assert rows.shape[1] == 43232 == 64 * 65 // 2 + 128 * 129 // 2 + 256 * 257 // 2
    assert rows[0] @ rows[1] > 0.999 > rows[0] @ rows[2]


@pytest.mark.slow
def test_gram_style_runs_on_vgg():
    metric = on_random_weights(STYLE_GRAM)
    images = [image_of(i, picture=picture(i)) for i in range(2)]
    found = metric.score(images, GivenReferences(bank=bank()))
    assert all(score.value is not None and 0 < score.value <= 1 for score in found)
