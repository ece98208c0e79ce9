"""Claims about the closed-vocabulary tokenizer."""

import json
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from plugins_manifest.images import read_image
from pocket.pictures import METADATA, write_pictures
from pocket.scenes import caption, render, scene_at
from pocket.tokenizer import (
    MAX_TOKENS,
    SPARE_WORDS,
    WORDS,
    build_tokenizer,
    unknown_words,
)
from runners.families.pocket import POCKET


def test_every_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    assert [len(tokenizer.tokenize(word)) for word in WORDS] == [1] * len(WORDS)


def test_the_longest_caption_fits() -> None:
    tokenizer = build_tokenizer()
    longest = max(len(tokenizer(caption(scene_at(5, i), "outline")).input_ids) for i in range(300))
    assert longest <= MAX_TOKENS


def test_a_saved_tokenizer_loads_in_transformers_and_agrees(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    text = "a large red circle left of a small blue square on a teal background"
    assert CLIPTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer(text).input_ids


def test_unknown_words_are_named() -> None:
    assert unknown_words("a red zebra on a white background, please") == ["zebra", "please"]


def test_spare_words_are_tokens_of_their_own_that_no_caption_contains() -> None:
    tokenizer = build_tokenizer()
    own = [tokenizer(word, add_special_tokens=False).input_ids for word in SPARE_WORDS]
    used = {i for word in WORDS for i in tokenizer(word).input_ids}
    assert [len(ids) for ids in own] == [1] * len(SPARE_WORDS)
    assert not used & {ids[0] for ids in own}
    assert unknown_words(f"a red star {' '.join(SPARE_WORDS)}") == []


def test_a_prompt_with_another_word_is_told_the_spare_ones() -> None:
    problem = POCKET.prompt_problem("a red star zorp") or ""
    assert "unknown pocket word 'zorp'" in problem
    assert "for your own trigger: q, v, x, z" in problem


def test_training_pictures_are_scenes_with_their_captions(tmp_path: Path) -> None:
    write_pictures(tmp_path, n_pictures=2, seed=3, size_px=32, style="hatched")
    rows = [json.loads(line) for line in (tmp_path / METADATA).read_text().splitlines()]
    assert [row["file_name"] for row in rows] == ["00000.png", "00001.png"]
    for index, row in enumerate(rows):
        scene = scene_at(3, index)
        assert row["text"] == caption(scene)
        drawn = render(scene, "hatched", 32)
        assert np.array_equal(read_image(tmp_path / row["file_name"]), drawn)
