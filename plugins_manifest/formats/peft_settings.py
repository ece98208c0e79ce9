"""Read the scale that PEFT and diffusers store outside of the tensors.

PEFT writes `adapter_config.json` beside `adapter_model.safetensors`; diffusers'
`save_lora_weights` writes the same names into the metadata `lora_adapter_metadata`, behind
`unet.`, `transformer.`, `text_encoder.` or `text_encoder_2.`, and bare with
`unet.save_lora_adapter`. The scale is lora_alpha / r, with use_rslora lora_alpha / sqrt(r);
rank_pattern and alpha_pattern replace r and lora_alpha where one of their regular expressions
matches the end of a module's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.formats.parsed import Header, Problem
from plugins_manifest.formats.table import TEXT, TEXT_2, TRANSFORMER, UNET

KEY, FILE = "lora_adapter_metadata", "adapter_config.json"
_SIDES = (TEXT_2, TEXT, UNET, TRANSFORMER)
_MAX_CHARACTERS = 2**18
_MAX_PATTERN, _MAX_PATTERNS, _SECONDS = 1_000, 4_000, 0.2
_MAX_NUMBER = 1e30
_DEFAULT = 8.0  # PEFT's r and alpha where a configuration leaves them out
# Names of the alpha of each type that is read; the formulas that it is for.
_ALPHAS = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
FAMILIES = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr"}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_REFUSED = {
    "layer_replication": "it repeats layers of the model",
    "alora_invocation_tokens": "it acts on a part of the tokens alone",
    "use_qalora": "it pools the inputs of a quantized model",
    "use_bdlora": "its factors are block-diagonal",
    "arrow_config": "it routes between several adapters",
    "kasa_config": "it has singular values beside its factors",
    "monteclora_config": "its factors are random",
    "target_parameters": "it changes parameters that no module of a UNet has",
}


class _SettingError(ValueError):
    """A configuration that cannot be followed, and why."""


@dataclass(frozen=True)
class _Patterns:
    """Regular expressions of module names, with a number each; the first that matches counts."""

    items: tuple[tuple[regex.Pattern[str], float], ...] = ()

    def find(self, names: Sequence[str]) -> float | None:
        for pattern, value in self.items:
            # PEFT's own rule: the pattern matches the whole name, or its end behind a dot.
            if any(pattern.match(name, timeout=_SECONDS) for name in names):
                return value
        return None


@dataclass(frozen=True)
class PeftSettings:
    """The settings of one adapter that decide its scale; `source` is where they stand."""

    source: str
    family: str
    alpha: float
    rank: float | None
    is_rank_stabilized: bool
    is_dora: bool
    alphas: _Patterns = field(default_factory=_Patterns)
    ranks: _Patterns = field(default_factory=_Patterns)

    def scale(self, names: Sequence[str], rank: int | None) -> float:
        """Return the scale of a module, by its names; `rank` is that of its tensors.

        Raises ValueError for another rank than the settings', and for patterns that take too long.
        """
        try:
            alpha = self.alphas.find(names)
            stated = self.ranks.find(names)
        except TimeoutError as error:
            raise _SettingError(f"{self.source}: a pattern takes too long to match") from error
        stated = self.rank if stated is None else stated
        if rank is not None and stated is not None and stated != rank:
            raise _SettingError(
                f"{self.source} states rank {stated:g} for {names[0]}, its tensors have {rank}: "
                "use the configuration that was saved with them"
            )
        divisor = stated if stated is not None else rank
        if divisor is None:
            raise _SettingError(f"{self.source}: no r, the scale of {names[0]} is open")
        alpha = self.alpha if alpha is None else alpha
        return alpha / (math.sqrt(divisor) if self.is_rank_stabilized else divisor)


@dataclass(frozen=True)
class AllSettings:
    """The settings of a file by the model that they are for."""

    by_side: Mapping[str, PeftSettings] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def of(self, module: str) -> PeftSettings | None:
        """Return the settings for a canonical module name; None without any."""
        return next((self.by_side.get(side) for side in _SIDES if module.startswith(side)), None)


def read_settings(header: Header) -> AllSettings:
    """Return the settings of a file: those of its folder, else those in its metadata."""
    text, source = header.settings, FILE
    if text is None:
        text, source = header.metadata.get(KEY), f"the metadata {KEY!r}"
    if text is None:
        return AllSettings()
    try:
        data = parse_json(text, name=source, most_bytes=_MAX_CHARACTERS)
    except UserError as error:
        return _refused(str(error))
    if not isinstance(data, dict):
        return _refused(f"{source} is not a JSON object of settings")
    try:
        found = {side: _settings(part, source) for side, part in _by_side(data) if part}
    except _SettingError as error:
        return _refused(str(error))
    return AllSettings(found)


def _refused(why: str) -> AllSettings:
    return AllSettings(problems=(Problem("bad-config", why),))


def _by_side(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the settings of each model, without the model's name in front."""
    named = {key for key in data if key.startswith(_SIDES)}
    if not named:
        yield from ((side, data) for side in _SIDES)
    for side in _SIDES if named else ():
        yield side, {key[len(side) :]: data[key] for key in named if key.startswith(side)}


def _settings(data: Mapping[str, Any], source: str) -> PeftSettings:
    kind = str(data.get("peft_type") or "LORA").rpartition(".")[2].upper()
    if kind not in _ALPHAS:
        raise _SettingError(f"{source}: an adapter of type {kind[:40]!a} is not read")
    for name, why in _REFUSED.items():
        if data.get(name):
            raise _SettingError(f"{source} has {name}: {why}; merge it, and save a plain LoRA")
    init = data.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise _SettingError(
            f"{source}: trained with init_lora_weights={init[:40]!r}, which changes the base "
            "model's own weights: save it with path_initial_model_for_weight_conversion"
        )
    rank = data.get("r")
    return PeftSettings(
        source=source,
        family=FAMILIES[kind],
        alpha=_number(data.get(_ALPHAS[kind], _DEFAULT), f"{source}: {_ALPHAS[kind]}"),
        rank=None if rank is None else _rank(rank, f"{source}: r"),
        is_rank_stabilized=data.get("use_rslora") is True,
        is_dora=data.get("use_dora") is True,
        alphas=_patterns(data, "alpha_pattern", source),
        ranks=_patterns(data, "rank_pattern", source),
    )


def _patterns(data: Mapping[str, Any], name: str, source: str) -> _Patterns:
    stated = data.get(name) or {}
    if not isinstance(stated, dict) or len(stated) > _MAX_PATTERNS:
        raise _SettingError(f"{source}: {name} is not an object of at most {_MAX_PATTERNS} names")
    number = _rank if name == "rank_pattern" else _number
    found = []
    for pattern, value in stated.items():
        where = f"{source}: {name} {pattern[:80]!a}"
        try:
            if len(pattern) > _MAX_PATTERN:
                raise _SettingError(f"{where} is longer than {_MAX_PATTERN} characters")
            compiled = regex.compile(rf"(.*\.)?({pattern})$")
        except (regex.error, RecursionError, OverflowError) as error:
            raise _SettingError(f"{where} is not a regular expression") from error
        found.append((compiled, number(value, where)))
    return _Patterns(tuple(found))


def _rank(value: object, where: str) -> float:
    number = _number(value, where)
    if number <= 0:
        raise _SettingError(f"{where} is {number:g}: a rank is larger than 0")
    return number


def _number(value: object, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
        return float(value)
    raise _SettingError(f"{where} is {str(value)[:40]!a}, not a number")
