"""Prompts with weights and skipped layers, against the rule written another way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.prompts import MAX_CHUNKS, TextReading, chunks_of, encode_prompt, stacked
from tests.runners.conftest import METHODS, SETTINGS
from xadapter.denoiser import Conditions
from xadapter.guidance import Guidance

GUIDANCE = Guidance(3.0)
SIZE = (128, 128)
WEIGHTS = TextReading("weights")
Piece = tuple[str, float]


def read(pipe: Any, prompt: str, negative: str = "", reading: TextReading = WEIGHTS) -> Conditions:
    return encode_prompt(pipe, prompt, negative, guidance=GUIDANCE, size_px=SIZE, reading=reading)


def by_the_rule(tokenizer: Any, encoder: Any, pieces: Sequence[Piece], *, skip: int) -> np.ndarray:
    """One chunk by the rule in numpy: `skip` 0 is the last layer with its norm, else without."""
    words = [(one, weight) for text, weight in pieces for one in text.split()]
    ids = tokenizer.convert_tokens_to_ids([f"{word}</w>" for word, _ in words])
    room = tokenizer.model_max_length
    row = [tokenizer.bos_token_id, *ids] + [tokenizer.eos_token_id] * (room - 1 - len(ids))
    factors = np.ones(room)
    factors[1 : 1 + len(ids)] = [weight for _, weight in words]
    with torch.no_grad():
        out = encoder(torch.tensor([row]), output_hidden_states=True)
    hidden = out.last_hidden_state if skip == 0 else out.hidden_states[-1 - skip]
    z = hidden[0].double().numpy()
    scaled = z * factors[:, None]
    return scaled * z.mean() / scaled.mean()


def assert_equal(found: Tensor | None, expected: np.ndarray) -> None:
    assert found is not None
    np.testing.assert_allclose(found[0].double().numpy(), expected, rtol=2e-4, atol=2e-5)


@pytest.fixture
def family_with_means(family: Family) -> Iterator[Family]:
    """Texts of trained models have a mean; a norm that was never trained leaves none."""
    encoder: Any = family.base.text_encoder
    bias = getattr(encoder, "text_model", encoder).final_layer_norm.bias
    before = bias.clone()
    with torch.no_grad():
        bias += 0.3
        yield family
        bias.copy_(before)


def test_weights_follow_the_rule_on_the_base_side(family_with_means: Family) -> None:
    pipe = family_with_means.base
    found = read(pipe, "a (large:1.5) ((red)) [circle]", "(blurry:0.5) shaded")
    pieces = [("a", 1.0), ("large", 1.5), ("red", 1.1 * 1.1), ("circle", 1 / 1.1)]
    assert_equal(found.text, by_the_rule(pipe.tokenizer, pipe.text_encoder, pieces, skip=0))
    pieces = [("blurry", 0.5), ("shaded", 1.0)]
    assert_equal(
        found.negative_text, by_the_rule(pipe.tokenizer, pipe.text_encoder, pieces, skip=0)
    )


def test_weights_follow_the_rule_in_both_encoders_of_the_upgraded_side(family: Family) -> None:
    pipe: Any = family.upgraded
    found = read(pipe, "a (red:1.4) circle", "(gray:2)")
    sides = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
    for pieces, text in (
        ([("a", 1.0), ("red", 1.4), ("circle", 1.0)], found.text),
        ([("gray", 2.0)], found.negative_text),
    ):
        halves = [by_the_rule(*side, pieces, skip=1) for side in sides]
        assert_equal(text, np.concatenate(halves, axis=1))
    plain = read(pipe, "a red circle", "gray", TextReading())
    assert found.pooled is not None and plain.pooled is not None
    assert torch.equal(found.pooled, plain.pooled)  # the pooled text is not weighted
    assert found.time_ids is not None


@pytest.mark.parametrize("side", ["base", "upgraded"])
@pytest.mark.parametrize("negative", ["", "blurry"])
def test_without_syntax_both_settings_give_the_same_text(
    family: Family, side: str, negative: str
) -> None:
    pipe = getattr(family, side)
    left = read(pipe, "a large red circle", negative, TextReading())
    right = read(pipe, "a large red circle", negative)
    for name in ("text", "negative_text", "pooled", "negative_pooled"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5)


def test_clip_skip_takes_an_earlier_layer_with_the_final_norm(family: Family) -> None:
    pipe = family.base
    encoder: Any = pipe.text_encoder
    ids = pipe.tokenizer("a red circle", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = encoder(ids, output_hidden_states=True).hidden_states
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        last, before = norm(hidden[-1]), norm(hidden[-2])
    for skip, expected in ((1, last), (2, before)):
        for syntax in ("plain", "weights"):
            found = read(pipe, "a red circle", "", TextReading(syntax, skip))
            assert torch.allclose(found.text, expected, atol=1e-5)
    # the negative prompt skips as well, the upgraded side never does
    found = read(pipe, "a", "a red circle", TextReading("plain", 2))
    assert found.negative_text is not None
    assert torch.allclose(found.negative_text, before, atol=1e-5)
    skipped = read(family.upgraded, "a red circle", "", TextReading("plain", 2))
    plain = read(family.upgraded, "a red circle", "", TextReading())
    assert torch.equal(skipped.text, plain.text)


def test_chunks_end_at_break_and_where_they_are_full(family: Family) -> None:
    tokenizer = family.base.tokenizer  # 18 words a chunk
    assert [len(c.ids) for c in chunks_of("a red BREAK (circle:1.2)", tokenizer)] == [2, 1]
    assert [len(c.ids) for c in chunks_of("red " * 18, tokenizer)] == [18]
    assert [len(c.ids) for c in chunks_of("red " * 19, tokenizer)] == [18, 1]
    assert [c.weights for c in chunks_of("BREAK [red]", tokenizer)] == [[], [1 / 1.1]]
    assert [c.ids for c in chunks_of("", tokenizer)] == [[]]


def test_a_full_chunk_ends_after_a_near_comma() -> None:
    class Letters:
        model_max_length = 32  # 30 tokens a chunk

        def convert_tokens_to_ids(self, token: str) -> int:
            return ord(",")

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [chr(one) for one in ids]

        def __call__(self, text: str, **_: Any) -> Any:
            return type("Batch", (), {"input_ids": [ord(c) for c in text]})

    def sizes(prompt: str) -> list[int]:
        return [len(chunk.ids) for chunk in chunks_of(prompt, Letters())]

    assert sizes("x" * 20 + "," + "y" * 15) == [21, 15]
    assert sizes("x" * 5 + "," + "y" * 30) == [30, 6]  # the comma is too far from the end


def test_chunks_are_encoded_alone_and_joined(family: Family) -> None:
    found = read(family.base, "a red BREAK (circle:1.3)")
    first, second = (read(family.base, one) for one in ("a red", "(circle:1.3)"))
    assert torch.equal(found.text, torch.cat([first.text, second.text], dim=1))
    assert found.negative_text is not None and first.negative_text is not None
    assert torch.equal(found.negative_text, first.negative_text.repeat(1, 2, 1))


@torch.no_grad()
def test_a_text_repeated_to_the_batch_s_length_conditions_as_it_does_alone(family: Family) -> None:
    short, long = (read(family.base, one) for one in ("a red circle", "a BREAK red"))
    both = stacked([short, long])
    assert both.text.shape[:2] == (2, 2 * short.text.shape[1])
    sample = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = family.base.unet(sample, 500, encoder_hidden_states=short.text).sample
    repeated = family.base.unet(sample, 500, encoder_hidden_states=both.text[:1]).sample
    assert torch.allclose(alone, repeated, atol=1e-5)


@pytest.mark.parametrize("variant", [Variant("base"), Variant("xadapter", t0=0.7, adapter_scale=1)])
def test_weights_and_clip_skip_reach_the_images_of_every_method(
    family: Family, lora: PluginFile, cases: list[RenderCase], variant: Variant
) -> None:
    def image(prompt: str, settings: RenderSettings) -> np.ndarray:
        case = replace(cases[0], base_prompt=prompt, upgraded_prompt=prompt)
        (result,) = run_group(family, lora, [case], [variant], settings, methods=METHODS)
        assert result.error is None and result.image is not None
        return result.image

    weights = replace(SETTINGS, prompt_syntax="weights")
    words = cases[0].base_prompt
    assert np.array_equal(image(words, SETTINGS), image(words, weights))
    assert not np.array_equal(image(words, weights), image(f"({words}:3)", weights))
    assert not np.array_equal(image(words, SETTINGS), image(words, replace(SETTINGS, clip_skip=2)))


def test_cases_of_different_lengths_share_a_batch(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    weights = replace(SETTINGS, prompt_syntax="weights")
    long = replace(cases[0], base_prompt="a BREAK red", upgraded_prompt="red " * 40)
    variants = [Variant("base"), Variant("hires", t0=0.7), Variant("sdedit", t0=0.7)]
    variants += [Variant("xadapter", t0=0.7, adapter_scale=1.0), Variant("floor")]
    both = list(run_group(family, lora, [long, cases[1]], variants, weights, methods=METHODS))
    alone = list(run_group(family, lora, [cases[1]], variants, weights, methods=METHODS))
    assert [r.error for r in both] == [None] * len(both)
    for pair in zip([r for r in both if r.index == 1], alone, strict=True):
        left, right = (r.image.astype(int) for r in pair if r.image is not None)
        assert np.abs(left - right).max() <= 1


def test_too_long_prompts_and_layers_that_are_not_there_are_refused(
    family: Family, cases: list[RenderCase]
) -> None:
    long = replace(cases[0], base_prompt="red " * (18 * MAX_CHUNKS + 1))
    for settings, words in (
        (replace(SETTINGS, prompt_syntax="weights"), f"{MAX_CHUNKS + 1} chunks of 18 tokens"),
        (SETTINGS, "the base model reads 20"),
        (replace(SETTINGS, clip_skip=3), "the base text encoder has 2 layers"),
    ):
        with pytest.raises(UserError, match=words):
            list(run_group(family, None, [long], [Variant("base")], settings, methods=METHODS))
