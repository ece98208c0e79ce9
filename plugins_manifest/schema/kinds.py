"""The kinds of plugins: what each takes in a manifest, and how it acts. Imports no torch.

How a file is recognized as one of a kind: `plugins_manifest.formats.parse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class PluginKind:
    """One kind; `loader` is "module:function" of what makes a `runners.plugins.LoadedPlugin`.

    `keys` are the manifest's keys that only some kinds may have. `acts_upgraded`: may be on the
    upgraded side too. `changes_style`: metrics of style apply. `civitai_network` is the name of
    the kind in the hosted generator. `typical_mb` is the size of the published files (float32),
    where they are alike.
    """

    name: str
    loader: str
    keys: tuple[str, ...] = ()
    acts_upgraded: bool = False
    changes_style: bool = False
    civitai_network: str | None = None
    typical_mb: int | None = None

    @property
    def label(self) -> str:
        """The name with hyphens, as parsed files and messages spell it."""
        return self.name.replace("_", "-")

    @property
    def needs_condition(self) -> bool:
        """Whether a condition image drives the plugin."""
        return "condition" in self.keys

    @property
    def needs_reference(self) -> bool:
        """Whether a reference image is its prompt."""
        return "reference" in self.keys

    @property
    def needs_token(self) -> bool:
        """Whether a word of the prompt calls it."""
        return "token" in self.keys

    @property
    def changes_weights(self) -> bool:
        """Whether it is merged into the model's own weights."""
        return "lora_semantics" in self.keys


_KINDS = (
    PluginKind(
        "lora",
        "runners.plugins.weights:load_weight_plugin",
        keys=("lora_semantics", "allow_partial"),
        acts_upgraded=True,
        changes_style=True,
        civitai_network="Lora",
    ),
    PluginKind(
        "lycoris",
        "runners.plugins.weights:load_weight_plugin",
        keys=("lora_semantics", "allow_partial"),
        acts_upgraded=True,
        changes_style=True,
        civitai_network="LoCon",
    ),
    PluginKind(
        "controlnet",
        "runners.plugins.controlnet:load_controlnet",
        keys=("condition",),
        acts_upgraded=True,
        typical_mb=1445,
    ),
    PluginKind(
        "t2i_adapter",
        "runners.plugins.t2i_adapter:load_t2i",
        keys=("condition",),
        typical_mb=309,
    ),
    PluginKind(
        "ip_adapter",
        "runners.plugins.ip_adapter:load_ip_adapter",
        keys=("reference",),
        changes_style=True,
    ),
    PluginKind(
        "textual_inversion",
        "runners.plugins.textual_inversion:load_textual_inversion",
        keys=("token", "polarity"),
        changes_style=True,
        civitai_network="TextualInversion",
    ),
)
KINDS: Mapping[str, PluginKind] = MappingProxyType({kind.name: kind for kind in _KINDS})


def find_kind(name: str) -> PluginKind | None:
    """Return the kind of a name in either spelling; None for an unknown one."""
    return KINDS.get(name.replace("-", "_"))


def file_kinds(name: str) -> tuple[str, ...]:
    """Return the kinds of files that a kind of the manifest takes, as parsed files spell them.

    LoRA and LyCORIS files are merged alike: the manifest may call either by either name.
    """
    kind = find_kind(name)
    if kind is None or not kind.changes_weights:
        return (name.replace("_", "-"),)
    return tuple(other.label for other in KINDS.values() if other.changes_weights)


def needs_condition(name: str) -> bool:
    """Return whether plugins of a kind need a condition image; an unknown kind does not."""
    kind = find_kind(name)
    return kind is not None and kind.needs_condition


def needs_reference(name: str) -> bool:
    """Return whether plugins of a kind need a reference image; an unknown kind does not."""
    kind = find_kind(name)
    return kind is not None and kind.needs_reference


def kinds_where(applies: Callable[[PluginKind], bool]) -> tuple[str, ...]:
    """Return the names of the kinds for which the condition holds."""
    return tuple(kind.name for kind in _KINDS if applies(kind))
