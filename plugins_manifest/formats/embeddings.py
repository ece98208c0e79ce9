"""Textual inversions: files of a few vectors for a token of the prompt.

The token is untrusted text that enters the tokenizer: one that is a common word would change
every prompt. Whether it is one of the tokenizer's own words is checked where the tokenizer is.

Source: Textual Inversion, arXiv 2208.01618; the layouts of diffusers, AUTOMATIC1111 and Civitai.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from plugins_manifest.formats.groups import FLOATS
from plugins_manifest.formats.parsed import (
    BaseModel,
    FileParser,
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
    TensorInfo,
)

_WIDTHS: Mapping[int, BaseModel] = MappingProxyType({768: "sd1", 1024: "sd2", 1280: "sdxl"})
_A1111 = re.compile(r"string_to_param\.(?P<token>.+)")
_TOKEN_IDS = re.compile(r"string_to_token\..+")
_CLIP_L = "clip_l"  # alone: tokens for the one text encoder of SD1.5
_SDXL = frozenset({_CLIP_L, "clip_g"})
KIND = "textual-inversion"
UNNAMED = "*"
"""The token of a file without a name for it: the manifest's, or the file's stem, is used."""

_PREFIX = "embedding:"
_MAX_LENGTH = 64
_COMMON = frozenset(
    (
        *("a", "an", "and", "art", "at", "best", "by", "detailed", "face", "girl"),
        *("hair", "hands", "high", "in", "man", "masterpiece", "nude", "of", "on", "painting"),
        *("person", "photo", "portrait", "quality", "style", "the", "to", "with", "woman"),
    )
)
_CIVITAI = "emb_params"
_MAX_TENSORS = 64
_CONTEXT = 77  # CLIP's, with its start and end


def _recognizes(header: Header, table: ModuleTable) -> bool:
    """Check for nothing but vectors as wide as a text encoder."""
    tensors = header.tensors
    if tensors.keys() & {_CIVITAI, *_SDXL} or any(_A1111.fullmatch(key) for key in tensors):
        return True
    widths = {*_WIDTHS, _own_width(table)}
    are_vectors = all(
        info.dtype in FLOATS and len(info.shape) in (1, 2) and info.shape[-1] in widths
        for info in tensors.values()
    )
    are_names = not any(key.endswith((".weight", ".bias")) for key in tensors)
    return len(tensors) <= _MAX_TENSORS and are_vectors and are_names


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Assign every vector to its token; check width, count and token."""
    roles, problems, layout = _roles(header)
    own, bases = _own_width(table), set[BaseModel]()
    for key, role in roles.items():
        if not role.startswith("embedding:"):
            continue
        info = header.tensors[key]
        problem = _misfit(key, info, _room(table))
        if problem is not None:
            problems.append(problem)
            continue
        width = info.shape[-1]
        bases.add(_WIDTHS.get(width, "unknown"))
        if width != own and layout != "embedding-sdxl":
            made_for = _WIDTHS.get(width, "another model")
            message = f"{key}: vectors of {width} ({made_for}), the text encoder's are {own}"
            problems.append(Problem("wrong-base", message))
    tokens = dict.fromkeys(r for r in roles.values() if r.startswith(_PREFIX))
    problems += token_problems(tokens)
    if len(tokens) > 1:
        why = f"vectors of {len(tokens)} words; a textual inversion is one word: split the file"
        problems.append(Problem("bad-token", why))
    unknown = tuple(key for key in header.tensors if key not in roles)
    problems += [Problem("unknown-key", f"{key}: no part of an embedding", key) for key in unknown]
    base = "sdxl" if layout == "embedding-sdxl" else bases.pop() if len(bases) == 1 else "unknown"
    return ParsedPlugin(
        format=layout,
        kind=KIND,
        base_model=base,
        unknown_keys=unknown,
        problems=tuple(problems),
        other_keys=roles,
    )


def _roles(header: Header) -> tuple[dict[str, str], list[Problem], str]:
    keys = header.tensors.keys()
    if keys & _SDXL == {_CLIP_L}:
        return {_CLIP_L: f"embedding:{UNNAMED}"}, [], "embedding-clip-l"
    if keys & _SDXL:
        roles = {key: f"embedding:{UNNAMED}" for key in keys if key in _SDXL}
        why = "an embedding for SDXL's two text encoders, not for SD1.5's one"
        return roles, [Problem("wrong-base", why)], "embedding-sdxl"
    if _CIVITAI in keys:
        return {_CIVITAI: f"embedding:{UNNAMED}"}, [], "embedding-civitai"
    named = {key: match["token"] for key in keys if (match := _A1111.fullmatch(key))}
    if named:
        roles = {key: f"embedding:{token}" for key, token in named.items()}
        roles |= dict.fromkeys(filter(_TOKEN_IDS.fullmatch, keys), "token-id")
        return roles, [], "embedding-a1111"
    return {key: f"embedding:{key}" for key in keys}, [], "embedding"


def _room(table: ModuleTable) -> int:
    """Return how many vectors a prompt has room for."""
    return table.get("text_encoder.embeddings.position_embedding.weight", (_CONTEXT,))[0] - 2


def _misfit(key: str, info: TensorInfo, room: int) -> Problem | None:
    if info.dtype not in FLOATS:
        return Problem("bad-dtype", f"{key} is of dtype {info.dtype}", key)
    n_vectors = info.shape[0] if len(info.shape) == 2 else 1
    if len(info.shape) not in (1, 2) or not 1 <= n_vectors <= room:
        message = f"{key} is {list(info.shape)}, not 1 to {room} vectors"
        return Problem("bad-shape", message, key)
    return None


def _own_width(table: ModuleTable) -> int:
    shape = table.get("text_encoder.embeddings.token_embedding.weight")
    return shape[1] if shape else 0


def token_problems(roles: Iterable[str]) -> list[Problem]:
    """Return the problems of the tokens of roles `embedding:<token>`."""
    problems, seen = [], set()
    for role in roles:
        token = role.removeprefix(_PREFIX)
        quoted = ascii(token[:_MAX_LENGTH])
        if token != UNNAMED and (len(token) > _MAX_LENGTH or token.split() != [token]):
            problems.append(Problem("bad-token", f"the token {quoted} is long or has spaces"))
        elif token.lower() in _COMMON:
            problems.append(Problem("bad-token", f"the token {quoted} is a common word of prompts"))
        # Prompts are lower-cased before they are split: two spellings would be one token.
        if token.lower() in seen:
            problems.append(Problem("bad-token", f"the token {quoted} is there twice"))
        seen.add(token.lower())
    return problems


PARSER = FileParser(
    layouts={
        "embedding": "one tensor per token (diffusers)",
        "embedding-civitai": "`emb_params` (token not named in the file)",
        "embedding-a1111": "`string_to_param.*` (AUTOMATIC1111, original textual inversion)",
        "embedding-clip-l": "`clip_l` alone (diffusers' scripts for SD1.5)",
        "embedding-sdxl": "`clip_l` and `clip_g`",
    },
    recognizes=_recognizes,
    parse=_parse,
)
