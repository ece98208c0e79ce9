"""Textual inversions: a word of the prompt that is replaced by learned vectors.

The tokenizer and the embedding table are not edited: both are replaced while the plugin is
attached, and the original objects are restored. Source: textual inversion, arXiv 2208.01618.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import AddedToken
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from runners.audit import Audit, AuditRow
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import Attachment
from runners.plugins.effect import require_effect
from runners.plugins.network_file import read_weights
from runners.plugins.opened import OpenedFile, open_plugin

TABLE = "text_encoder.embeddings.token_embedding.weight"
_MAX_TOKEN_LENGTH = 64


@dataclass(frozen=True)
class TextualInversionPlugin:
    """The vectors [n, width] of the word `token`."""

    file: PluginFile
    token: str
    vectors: Tensor
    audit: Audit

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Add rows for the vectors to its side's text encoder, and rewrite prompts to use them.

        `strength` multiplies the vectors (ours: community tools apply them as they are). Raises
        `UserError` if the word is taken.
        """
        pipe: Any = family.pipe(self.file.side)
        _check_token(self.file, self.token, pipe.tokenizer)
        tokenizer, table = pipe.tokenizer, pipe.text_encoder.get_input_embeddings()
        names = _names(self.token, len(self.vectors))
        longer = copy.deepcopy(tokenizer)
        longer.add_tokens([AddedToken(name, normalized=False) for name in names])
        rows = longer.convert_tokens_to_ids(names)
        try:
            pipe.text_encoder.set_input_embeddings(
                _table_with(table, rows, self.vectors * strength)
            )
            pipe.tokenizer = longer
            yield Attachment(rewrite_prompt=_rewriter(self.token, names))
        finally:
            pipe.tokenizer = tokenizer
            pipe.text_encoder.set_input_embeddings(table)


def load_textual_inversion(file: PluginFile, family: Family) -> TextualInversionPlugin:
    """Read the vectors in any of the known layouts: diffusers, Civitai, A1111 (as safetensors).

    Raises `UserError` for a token that is missing, malformed or a word already, for unknown keys,
    vectors of another width, and values that are not finite.
    """
    pipe: Any = family.pipe(file.side)
    if hasattr(pipe, "text_encoder_2"):
        raise UserError(
            f"plugin {file.plugin_id!r}: the {file.side} model of {family.name!r} has two text "
            "encoders, textual inversions are read for models with one: leave it out"
        )
    token = file.token or file.trigger
    if not token:
        raise UserError(
            f"plugin {file.plugin_id!r}: a textual inversion needs its word: add 'token: WORD'"
        )
    _check_token(file, token, pipe.tokenizer)
    opened = open_plugin(file, family)
    vectors = _find_vectors(file, opened, read_weights(file, opened.weights))
    norms = [float(row.norm()) for row in vectors]
    rows = tuple(
        AuditRow(f"{TABLE}[{token}, {i}]", "copy", n_keys=int(i == 0), expected=n, applied=n)
        for i, n in enumerate(norms)
    )
    plugin = TextualInversionPlugin(file, token, vectors, Audit(rows))
    return replace(plugin, audit=require_effect(plugin, family, rows, prompt=token))


def _find_vectors(file: PluginFile, opened: OpenedFile, state: Mapping[str, Tensor]) -> Tensor:
    """Return the tensor [n, width] of the vectors; the file must have no problem."""
    found = [key for keys in opened.parsed.embeddings.values() for key in keys]
    problems = [p.message for p in opened.parsed.problems]
    if len(found) != 1 or problems:
        why = problems[0] if problems else f"it holds {len(found)} tensors of vectors"
        raise UserError(
            f"plugin {file.plugin_id!r}: {opened.weights.name}: {why}; a textual inversion holds "
            "the vectors of one word"
        )
    vectors = state[found[0]]
    return vectors[None] if vectors.ndim == 1 else vectors


def _check_token(file: PluginFile, token: str, tokenizer: Any) -> None:
    """Raise `UserError` unless the word is printable, without spaces, and unknown so far."""
    problem = None
    if not token.isprintable() or any(c.isspace() for c in token):
        problem = "has characters that a prompt cannot hold"
    elif len(token) > _MAX_TOKEN_LENGTH:
        problem = f"has {len(token)} characters, at most {_MAX_TOKEN_LENGTH} are read"
    elif _is_word(token, tokenizer):
        problem = "is a word that the tokenizer knows"
    elif _names(token, 1)[0] in tokenizer.get_vocab():
        problem = "is the word of another textual inversion in this stack"
    if problem is not None:
        raise UserError(
            f"plugin {file.plugin_id!r}: the token {token!r} {problem}: choose another word, such "
            f"as '<{re.sub(r'[^A-Za-z0-9]+', '-', file.plugin_id).strip('-')}>'"
        )


def _is_word(token: str, tokenizer: Any) -> bool:
    """Return whether the tokenizer reads the text as one token of its vocabulary."""
    pieces = tokenizer(token, add_special_tokens=False).input_ids
    return token in tokenizer.get_vocab() or len(pieces) <= 1


def _names(token: str, n_vectors: int) -> list[str]:
    """Return names of the vectors' tokens that do not occur in prompts by accident."""
    return [f"<|ti:{token.lower()}:{i}|>" for i in range(n_vectors)]


def _table_with(table: Any, rows: list[int], vectors: Tensor) -> nn.Embedding:
    """Return a copy of an embedding table with the vectors in the given rows."""
    old = table.weight
    weight = old.new_zeros(max(len(old), max(rows) + 1), old.shape[1])
    weight[: len(old)] = old
    weight[rows] = vectors.to(device=old.device, dtype=old.dtype)
    return nn.Embedding.from_pretrained(weight, freeze=True)


def _rewriter(token: str, names: list[str]) -> Callable[[str], str]:
    """Return a function that replaces the word, alone and in any case, by the vectors' tokens."""
    pattern = re.compile(rf"(?<!\w){re.escape(token)}(?!\w)", re.IGNORECASE)
    spelled = " ".join(names)

    def rewrite(prompt: str) -> str:
        return pattern.sub(lambda _: spelled, prompt)

    return rewrite
