"""CLIPTokenizer with a closed vocabulary: every word of the pocket world is one token."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pocket.scenes import BACKGROUNDS, COLORS, SHAPES, SIZES

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MAX_TOKENS = 20
WORDS: tuple[str, ...] = (
    *("a", "on", "background", "left", "right", "of", "above", "below"),
    *("outline", "hatched", "drawing"),
    *("flat", "shaded", "sharp", "blurry"),  # other styles in the scorer's captions
    *SIZES,
    *SHAPES,
    *COLORS,
    *BACKGROUNDS,
)
# Tokens of the vocabulary that no caption contains: triggers of plugins that others train.
SPARE_WORDS: tuple[str, ...] = ("q", "v", "x", "z")
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """Build a byte-pair tokenizer in which each word of `WORDS` is one token; at most 20 tokens."""
    from transformers import CLIPTokenizer  # slow import, not needed by `unknown_words`

    merges: Any = []  # pairs of pieces, in rank order
    for word in WORDS:
        while len(pieces := _pieces(word, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [_START, _END, *letters, *(f"{c}</w>" for c in letters), *map("".join, merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        unk_token=_END,
        model_max_length=MAX_TOKENS,
    )


def unknown_words(text: str) -> list[str]:
    """Return the words of a prompt that are neither in the vocabulary nor spare."""
    known = {*WORDS, *SPARE_WORDS}
    return [w for w in text.lower().replace(",", " ").split() if w not in known]


def _pieces(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Apply byte-pair merges, lowest rank first, until none fits."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while len(pieces) > 1:
        ranked = [
            (merges.index(pair), i) for i, pair in enumerate(pairwise(pieces)) if pair in merges
        ]
        if not ranked:
            break
        i = min(ranked)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    return pieces
