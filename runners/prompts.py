"""Prompts as the text that conditions a model, with weights of words and skipped layers.

Plain prompts go through the pipelines' own encoders. Prompts with weights follow AUTOMATIC1111's
web UI ("original" emphasis): chunks of 75 tokens between a start and an end, each encoded by
itself; every token's vector is multiplied by its weight, and the chunk's mean restored. Legend:
l tokens, d text width; texts are of one image, [1, l, d].
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from plugins_manifest.prompt_syntax import weighted_words
from plugins_manifest.schema.words import PromptSyntax, Side
from runners.families.family import Pipeline
from xadapter.delta import BasePair
from xadapter.denoiser import Conditions, Denoiser, with_plain_rows
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.inputs import upgraded_conditions
from xadapter.placement import execution_device

MAX_CHUNKS = 4
_COMMA = ",</w>"
_COMMA_WITHIN = 20  # tokens: a chunk ends after its last comma, if that is as near to its end
_LATER_VECTOR = re.compile(r"<\|ti:.*:(?!0\|>)\d+\|>")  # of a textual inversion of several vectors
_Read = Callable[[Any, Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class TextReading:
    """How prompts are read; `clip_skip` 1 is the base encoder's last layer."""

    syntax: PromptSyntax = "plain"
    clip_skip: int = 1


def encode_prompt(
    pipe: Pipeline,
    prompt: str,
    negative: str,
    *,
    guidance: Guidance,
    size_px: tuple[int, int],
    reading: TextReading,
) -> Conditions:
    """Return the text of one image; `size_px` is (height, width), for SDXL.

    An empty negative prompt means none.
    """
    is_sdxl = hasattr(pipe, "text_encoder_2")
    if not is_sdxl and reading != TextReading():
        return _of_sd(pipe, prompt, negative, guidance, reading)
    if reading.syntax == "plain":
        return upgraded_conditions(pipe, [prompt], negative or None, guidance, size_px)
    found = upgraded_conditions(pipe, [""], None, guidance, size_px)
    text, pooled = _of_sdxl(pipe, prompt)
    found = replace(found, text=text, pooled=pooled)
    if negative and guidance.is_on:  # without one, the pipeline's own for none
        text, pooled = _of_sdxl(pipe, negative)
        found = replace(found, negative_text=text, negative_pooled=pooled)
    return _of_one_length([found])[0]


def stacked(parts: Sequence[Conditions]) -> Conditions:
    """Join conditions of single images.

    They are encoded one by one, so that an image does not depend on its batch.
    """
    parts, joined = _of_one_length(parts), {}
    for one in fields(Conditions):
        values = [getattr(part, one.name) for part in parts]
        if isinstance(values[0], Tensor):
            joined[one.name] = torch.cat(values)
    return Conditions(**joined)


def joined_pair(plain: Conditions, plugged: Denoiser) -> BasePair:
    """Return a model on plain texts and with a plugin that acts by its inputs, in one call."""
    guided, n_images = plugged.guidance.is_on, len(plain.text)
    both = stacked([plain, plugged.conditions])
    kwargs = with_plain_rows(plugged.conditions.unet_kwargs, n_images, guided=guided)
    joined = replace(plugged, conditions=replace(both, unet_kwargs=kwargs), n_plain=n_images)
    alone = replace(plugged, conditions=plain, controls=())
    return BasePair(alone, plugged, joined)


def _of_one_length(parts: Sequence[Conditions]) -> list[Conditions]:
    """Repeat texts to one length: attention to n copies of a text equals attention to one."""
    names = ("text", "negative_text")
    texts = [text for part in parts for name in names if (text := getattr(part, name)) is not None]
    length = math.lcm(*(text.shape[1] for text in texts))

    def repeated(text: Tensor | None) -> Tensor | None:
        return None if text is None else text.repeat(1, length // text.shape[1], 1)

    return [
        replace(
            part,
            text=part.text.repeat(1, length // part.text.shape[1], 1),
            negative_text=repeated(part.negative_text),
        )
        for part in parts
    ]


# --- encoders


@torch.no_grad()
def _of_sd(
    pipe: Any, prompt: str, negative: str, guidance: Guidance, reading: TextReading
) -> Conditions:
    """Encode with one text encoder: its last layers' output after the final norm."""

    def read(encoder: Any, ids: Tensor) -> tuple[Tensor, None]:
        if reading.clip_skip == 1:
            return encoder(ids)[0], None
        hidden = encoder(ids, output_hidden_states=True).hidden_states[-reading.clip_skip]
        return getattr(encoder, "text_model", encoder).final_layer_norm(hidden), None

    def encode(text: str) -> Tensor:
        return _encoded(text, pipe.tokenizer, pipe.text_encoder, read, reading.syntax)[0]

    found = Conditions(encode(prompt), encode(negative) if guidance.is_on else None)
    return _of_one_length([found])[0]


@torch.no_grad()
def _of_sdxl(pipe: Any, prompt: str) -> tuple[Tensor, Tensor]:
    """Encode with both encoders of SDXL: the layers before the last, without the final norm.

    Returns the text, and the second encoder's pooled text of the first chunk, without weights.
    """

    def read(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        out = encoder(ids, output_hidden_states=True)
        return out.hidden_states[-2], getattr(out, "text_embeds", None)

    sides = [
        _encoded(prompt, tokenizer, encoder, read, "weights")
        for tokenizer, encoder in (
            (pipe.tokenizer, pipe.text_encoder),
            (pipe.tokenizer_2, pipe.text_encoder_2),
        )
    ]
    pooled = sides[1][1]
    assert pooled is not None, "SDXL's second encoder projects"
    return torch.cat([text for text, _ in sides], dim=-1), pooled


def _encoded(
    prompt: str, tokenizer: Any, encoder: Any, read: _Read, syntax: PromptSyntax
) -> tuple[Tensor, Tensor | None]:
    """Return the text [1, l, d] and the first chunk's pooled text."""
    device = execution_device(encoder)
    if syntax == "plain":
        ids = tokenizer(
            prompt, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return read(encoder, ids.to(device))
    texts, pooled = [], None
    for chunk in chunks_of(prompt, tokenizer):
        ids, weights = chunk.padded(tokenizer)
        text, own_pooled = read(encoder, torch.tensor([ids], device=device))
        texts.append(emphasized(text, torch.tensor(weights, device=device)))
        pooled = own_pooled if pooled is None else pooled
    return torch.cat(texts, dim=1), pooled


def emphasized(text_1ld: Tensor, weights_l: Tensor) -> Tensor:
    """Return a chunk's text with each token's vector times its weight, and the mean of before."""
    if bool((weights_l == 1).all()):
        return text_1ld
    text = text_1ld.float()
    weighted = text * weights_l[None, :, None]
    return (weighted * (text.mean() / weighted.mean())).to(text_1ld.dtype)


# --- chunks of tokens


@dataclass
class Chunk:
    """At most 75 tokens with their weights, without start and end."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def take(self, ids: Sequence[int], weight: float) -> None:
        """Append tokens of one weight."""
        self.ids += ids
        self.weights += [weight] * len(ids)

    def cut(self, at: int) -> Chunk:
        """Remove the tokens from a place on, and return them."""
        rest = Chunk(self.ids[at:], self.weights[at:])
        del self.ids[at:], self.weights[at:]
        return rest

    def padded(self, tokenizer: Any) -> tuple[list[int], list[float]]:
        """Return ids and weights with the start, the end and the padding, which have weight 1."""
        n_free = tokenizer.model_max_length - 2 - len(self.ids)
        end = [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * n_free
        return [tokenizer.bos_token_id, *self.ids, *end], [1.0, *self.weights, *[1.0] * len(end)]


def chunks_of(prompt: str, tokenizer: Any) -> list[Chunk]:
    """Split a prompt with weights into chunks: at BREAK, and where one is full."""
    size, comma = tokenizer.model_max_length - 2, tokenizer.convert_tokens_to_ids(_COMMA)
    done: list[Chunk] = []
    chunk, after_comma = Chunk(), None
    for unit, weight in _units(prompt, tokenizer):
        if weight is None:
            done.append(chunk)
            chunk, after_comma = Chunk(), None
            continue
        if len(chunk.ids) + len(unit) > size:
            place = size if after_comma is None or unit == [comma] else after_comma
            is_near = len(chunk.ids) == size and size - place < _COMMA_WITHIN
            rest = chunk.cut(place) if is_near else Chunk()
            done.append(chunk)
            chunk, after_comma = rest, None
        chunk.take(unit, weight)
        if unit == [comma]:
            after_comma = len(chunk.ids)
    return [*done, chunk] if chunk.ids or not done else done


def _units(prompt: str, tokenizer: Any) -> Iterator[tuple[list[int], float | None]]:
    """Yield tokens that stay together, with their weight; None begins a new chunk."""
    for part in weighted_words(prompt):
        if part.weight is None:
            yield [], None
            continue
        ids = tokenizer(
            part.text, add_special_tokens=False, truncation=False, verbose=False
        ).input_ids
        unit: list[int] = []
        for one, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
            if unit and not _LATER_VECTOR.fullmatch(name):
                yield unit, part.weight
                unit = []
            unit.append(one)
        if unit:
            yield unit, part.weight


def length_problem(
    prompt: str, tokenizer: Any, side: Side, syntax: PromptSyntax, *, shown: str | None = None
) -> str | None:
    """Return why a prompt is too long for a text encoder of a side; None if it is not.

    `shown` is the prompt as it was written.
    """
    if syntax == "plain":
        n_tokens = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
        most = tokenizer.model_max_length
        why = f"{n_tokens} tokens, the {side} model reads {most}" if n_tokens > most else None
    else:
        n_chunks, size = len(chunks_of(prompt, tokenizer)), tokenizer.model_max_length - 2
        is_long = n_chunks > MAX_CHUNKS
        why = f"{n_chunks} chunks of {size} tokens, {MAX_CHUNKS} are read" if is_long else None
    return (
        None
        if why is None
        else f"the prompt {prompt if shown is None else shown!r} has {why}: shorten it"
    )


def clip_skip_problem(pipe: Any, clip_skip: int) -> str | None:
    """Return why a base model's text encoder has no such layer; None if it has."""
    encoder = pipe.text_encoder
    if clip_skip == 1:
        return None
    if hasattr(pipe, "text_encoder_2"):
        return f"clip_skip is {clip_skip}: SDXL reads the layer before the last; remove it"
    if not hasattr(getattr(encoder, "text_model", encoder), "final_layer_norm"):
        return f"clip_skip is {clip_skip}: a {type(encoder).__name__} has no such layers; remove it"
    n_layers = encoder.config.num_hidden_layers
    if clip_skip <= n_layers:
        return None
    return f"clip_skip is {clip_skip}, the base text encoder has {n_layers} layers: use 1 to that"


def rewritten_prompt(
    prompt: str, rewrite: Callable[[str], str], tokenizer: Any, side: Side, syntax: PromptSyntax
) -> str:
    """Return the prompt with the vectors of embeddings as tokens, which may be several a word.

    Raises `SettingError` if it is too long with them.
    """
    found = rewrite(prompt)
    why = length_problem(found, tokenizer, side, syntax, shown=prompt)
    if found != prompt and why is not None:
        raise SettingError(f"{why}; each vector of an embedding is a token")
    return found
