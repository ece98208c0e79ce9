"""Models of plugins and stacks in a manifest, and checks between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic import ValidationInfo as Info

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.kinds import find_kind, kinds_where
from plugins_manifest.schema.numbers import ClipSkip, GuidanceScale, Seeds, Steps, Strength
from plugins_manifest.schema.references import parse_reference, scheme_of
from plugins_manifest.schema.words import (
    MAX_ENTRIES,
    MAX_PROMPTS,
    LoraSemantics,
    PluginKindName,
    Side,
)

Polarity = Literal["positive", "negative"]
Vocabulary = Literal["family", "method", "metric", "detector", "sampler", "source", "mapper"]
KnownNames = dict[Vocabulary, tuple[str, ...]]
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MAX_ID_LENGTH = 200
Id = Annotated[str, Field(pattern=ID_PATTERN, max_length=MAX_ID_LENGTH)]

_UPGRADED_PARTNERS = ("native", "converted")  # keys that name plugins of the upgraded side
# keys that some kinds alone may have
_KEYS_OF_KINDS = ("condition", "token", "polarity", "reference", "lora_semantics", "allow_partial")


class Section(BaseModel):
    """A part of the manifest: unknown keys are errors, values do not change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def check_name(what: Vocabulary, name: str, info: Info) -> str:
    """Return the name; ValueError with the nearest ones if such names are known without it."""
    known: KnownNames = (info.context or {}).get("known", {})
    if what in known and name not in known[what]:
        raise ValueError(unknown_name(what, name, known[what]))
    return name


def check_sampler(name: str | None, info: Info) -> str | None:
    """Return the name of a sampler, checked as `check_name` does; None for none."""
    return None if name is None else check_name("sampler", name, info)


class PluginSettings(Section):
    """Settings of one plugin or stack that replace those of the manifest, where they are given.

    `clip_skip` counts as web UIs do: 1 is the last layer of the base side's text encoder.
    """

    steps: Steps | None = None
    guidance_scale: GuidanceScale | None = None
    sampler: str | None = None
    clip_skip: ClipSkip | None = None

    _check_sampler = field_validator("sampler")(check_sampler)


def _underscored(kind: Any) -> Any:
    """Accept the spelling with hyphens that manifests had at first."""
    known = find_kind(kind) if isinstance(kind, str) else None
    return kind if known is None else known.name


class PluginSpec(Section):
    """One plugin: where its file is, what it needs, and its strength.

    `alone: false` keeps it for stacks. `trigger` is added to the prompt of the plugin's side,
    `token` is the word of a textual inversion; with `polarity: negative` it belongs into the
    negative prompt. A plugin of the upgraded side acts in stacks, and as the `native` twin of a
    base plugin: the same function, made for the upgraded model itself (method `oracle`).
    `converted` names one that was made of this plugin's file (method `converted`), `swap` the one
    that replaces it in stage 2 of method `xadapter-swapped`. `samples` is a folder
    of pictures of what the plugin teaches, or one picture: images are compared with them.
    """

    id: Id
    kind: Annotated[PluginKindName, BeforeValidator(_underscored)]
    source: str = Field(min_length=1)
    sha256: str | None = None
    weight: Strength = 1.0
    side: Side = "base"
    alone: bool = True
    trigger: str | None = Field(default=None, min_length=1)
    token: str | None = Field(default=None, min_length=1)
    polarity: Polarity = "positive"
    condition: str | None = None
    reference: str | None = None
    samples: str | None = Field(default=None, min_length=1)
    native: Id | None = None
    converted: Id | None = None
    swap: Id | None = None
    lora_semantics: LoraSemantics | None = None
    allow_partial: bool = False
    license: str | None = None
    nsfw: bool = False
    prompts: tuple[str, ...] | None = Field(default=None, max_length=MAX_PROMPTS)
    seeds: Seeds | None = None
    settings: PluginSettings | None = None

    @property
    def words(self) -> str | None:
        """The prompt words that activate the plugin, if any."""
        return self.token if self.trigger is None and self.polarity == "positive" else self.trigger

    @field_validator("source")
    @classmethod
    def _check_source(cls, value: str, info: Info) -> str:
        scheme = scheme_of(value)
        if scheme not in (None, "http"):  # http has its own message
            check_name("source", str(scheme), info)
        try:
            parse_reference(value)
        except UserError as error:
            raise ValueError("; ".join(error.problems)) from error
        return value

    @field_validator("sha256")
    @classmethod
    def _check_sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("a sha256 has 64 hexadecimal digits in lower case")
        return value

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, value: str | None, info: Info) -> str | None:
        return None if value is None else check_name("detector", value, info)

    @model_validator(mode="after")
    def _check_kind(self) -> PluginSpec:
        problems = list(kind_problems(self.model_dump(exclude_defaults=True)))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def kind_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Return missing and superfluous keys in a plugin's plain data, for a known kind."""
    name = data.get("kind")
    kind = find_kind(name) if isinstance(name, str) else None
    if kind is None:
        return
    for key in _KEYS_OF_KINDS:
        default = PluginSpec.model_fields[key].default
        if data.get(key, default) != default and key not in kind.keys:
            others = ", ".join(kinds_where(lambda other, key=key: key in other.keys))
            yield f"a {kind.name} takes no {key} ({others} do): remove {key!r}"
    if kind.needs_condition and data.get("condition") is None:
        yield f"a {kind.name} needs a condition: add e.g. 'condition: canny'"
    if data.get("side") == "upgraded" and not kind.acts_upgraded:
        others = ", ".join(kinds_where(lambda other: other.acts_upgraded))
        yield f"a {kind.name} cannot be on the upgraded side ({others} can): remove 'side'"
    if data.get("side") == "upgraded" and "clip_skip" in _given(data):
        yield "clip_skip is a setting of the base side's text encoder: remove it"
    for key in ("native", "converted", "swap") if data.get("side") == "upgraded" else ():
        if data.get(key) is not None:
            yield f"a plugin of the upgraded side has no {key}: remove {key!r}"
    token, trigger = data.get("token"), data.get("trigger")
    if kind.needs_token and token is None:
        yield f"a {kind.name} needs a token, the word that means it: add 'token: WORD'"
    elif kind.needs_token and trigger is not None and str(token) not in str(trigger):
        yield f"the trigger {trigger!r} lacks the token {token!r}: add it"


class StackMember(Section):
    """A plugin in a stack; `weight` (or `scale`, the same) replaces the plugin's own."""

    id: Id
    weight: Strength | None = None
    scale: Strength | None = None

    @model_validator(mode="after")
    def _check_strength(self) -> StackMember:
        if self.weight is not None and self.scale is not None:
            raise ValueError("weight and scale are the same: give one of them")
        return self

    @property
    def strength(self) -> float | None:
        """The strength in this stack; None: the plugin's own weight."""
        return self.scale if self.weight is None else self.weight


class StackSpec(Section):
    """Plugins that act together, in this order; a row of its own in every table."""

    id: Id
    plugins: tuple[StackMember, ...] = Field(min_length=2, max_length=MAX_ENTRIES)
    prompts: tuple[str, ...] | None = Field(default=None, max_length=MAX_PROMPTS)
    seeds: Seeds | None = None
    settings: PluginSettings | None = None


Problem = tuple[tuple[str | int, ...], str, Any]  # place, message, value


def problems_between(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Return the problems between keys, plugins and stacks in a manifest's plain data.

    Items other than mappings, and ids other than text, are skipped: the schema reports them.
    """
    plugins = dict(_items(data, "plugins"))
    known: dict[str, Mapping[str, Any]] = {}
    for i, item in enumerate(_listed(data, "plugins")):
        if isinstance(item, dict):
            yield from ((("plugins", i), words, None) for words in kind_problems(item))
    for i, spec in plugins.items():
        if spec["id"] in known:
            yield ("plugins", i, "id"), f"{spec['id']!r} is listed twice: remove one", spec["id"]
        known[spec["id"]] = spec
    taken, stacked = set(known), set()
    for i, stack in _items(data, "stacks"):
        if stack["id"] in taken:
            yield ("stacks", i, "id"), "the id is taken: choose another", stack["id"]
        taken.add(stack["id"])
        ids = {k: member["id"] for k, member in _items(stack, "plugins")}
        stacked |= set(ids.values())
        yield from _member_problems(("stacks", i, "plugins"), ids, known)
        yield from _settings_problems(
            ("stacks", i), stack, [known.get(k, {}) for k in ids.values()]
        )
    yield from _partner_problems(plugins, known)
    used = stacked | {str(spec.get(k)) for spec in plugins.values() for k in _UPGRADED_PARTNERS}
    for i, spec in plugins.items():
        is_upgraded = spec.get("side") == "upgraded"
        if spec["id"] in stacked or not (is_upgraded or spec.get("alone") is False):
            continue
        if _given(spec):
            why = "its images are made at the settings of the plugin that names it: remove them"
            yield ("plugins", i, "settings"), why, None
        if spec["id"] not in used:
            why = "on the upgraded side" if is_upgraded else "not to be used alone"
            fix = "add it to one" + (", or name it in a plugin's 'native'" if is_upgraded else "")
            yield ("plugins", i, "id"), f"it is {why}, but in no stack: {fix}", spec["id"]


def _partner_problems(
    plugins: Mapping[int, Mapping[str, Any]], known: Mapping[str, Any]
) -> Iterator[Problem]:
    sides = {**dict.fromkeys(_UPGRADED_PARTNERS, "upgraded"), "swap": "base"}
    for i, spec in plugins.items():
        for key, side in sides.items():
            if not isinstance(partner := spec.get(key), str):
                continue  # none, or not text: the schema reports it
            place = ("plugins", i, key)
            if partner not in known:
                yield place, unknown_name("plugin", partner, known), partner
            elif known[partner].get("side", "base") != side:
                fix = f"{key} is a plugin of the {side} side: name one with 'side: {side}'"
                yield place, fix, partner


def _settings_problems(
    place: tuple[str | int, ...], stack: Mapping[str, Any], members: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    """Find settings in which a stack's plugins differ, and that the stack does not name."""
    chosen, own = _given(stack), [_given(member) for member in members]
    for key in PluginSettings.model_fields:
        found = [settings[key] for settings in own if key in settings]
        if key not in chosen and any(value != found[0] for value in found):
            shown = ", ".join(map(str, found))
            yield place, f"its plugins have {key} {shown}: name one in the stack's settings", None


def _given(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a plugin's or a stack's plain data give."""
    own = item.get("settings")
    return {k: v for k, v in own.items() if v is not None} if isinstance(own, dict) else {}


def _member_problems(
    place: tuple[str | int, ...], ids: Mapping[int, str], known: Mapping[str, Any]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for k, member_id in ids.items():
        if member_id not in known:
            yield (*place, k, "id"), unknown_name("plugin", member_id, known), member_id
        elif member_id in seen:
            yield (*place, k, "id"), "it is in the stack twice: remove one", member_id
        seen.add(member_id)
    found = [known.get(member_id, {}) for member_id in ids.values()]
    if found and all(spec.get("side") == "upgraded" for spec in found):
        yield place, "all its plugins are on the upgraded side: add one of the base side", None


def _items(data: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Return index and item for the items of a list that have an id."""
    for i, item in enumerate(_listed(data, key)):
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            yield i, item


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    items = data.get(key)
    return items if isinstance(items, list) else []
