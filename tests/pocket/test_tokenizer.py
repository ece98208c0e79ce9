"""Claims about the closed-vocabulary tokenizer."""

from pathlib import Path

from transformers import CLIPTokenizer

from pocket.scenes import caption, scene_at
from pocket.tokenizer import MAX_TOKENS, WORDS, build_tokenizer, unknown_words


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
