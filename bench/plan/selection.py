"""The part of a manifest that a command works on, and the mapper that it uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import UserError, shown_path, unknown_name
from bench.plan.adapters import adapter_problems, as_specs
from bench.plan.plugin_files import locked_entry
from bench.registry import installed
from plugins_manifest.schema import Manifest, plugin_sets
from plugins_manifest.schema.manifest import MethodSpec, Mode, t0_problems
from plugins_manifest.schema.words import MAX_CASES, MAX_ENTRIES, MAX_SEED
from plugins_manifest.text import shortened
from runners.families.registry import AdapterFile

Value = TypeVar("Value")
_LONGEST_SHOWN = 40  # characters of a value in a message


@dataclass(frozen=True)
class Selection:
    """Overrides of a manifest; None keeps the manifest's value.

    `limit` keeps the first cases; `plugins` keeps plugins and stacks by id (without it, those that
    the manifest or its lock marks nsfw are left out); `adapter` replaces the family's mapper, or
    `adapters` several that are compared; `only` keeps the trials that it names by a unique prefix
    of their ids; `mode` selects the references that are scored and reported.
    """

    methods: tuple[str, ...] | None = None
    t0: tuple[float, ...] | None = None
    limit: int | None = None
    seeds: tuple[int, ...] | None = None
    adapter: Path | None = None
    plugins: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    mode: Mode | None = None
    adapters: tuple[AdapterFile, ...] | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Selection:
        """Return the selection that `as_data` wrote."""
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        if "adapter" in chosen:
            chosen["adapter"] = Path(chosen["adapter"]).expanduser()
        if "adapters" in chosen:
            chosen["adapters"] = tuple(
                AdapterFile(one["id"], Path(one["path"]).expanduser()) for one in chosen["adapters"]
            )
        return cls(**chosen)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for run.json, without a private path."""
        data = {key: value for key, value in asdict(self).items() if value is not None}
        if self.adapter is not None:
            data["adapter"] = shown_path(self.adapter)
        if self.adapters is not None:
            data["adapters"] = [{"id": a.id, "path": shown_path(a.path)} for a in self.adapters]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}

    def problems(self) -> list[str]:
        """Return what is wrong with the values, for any manifest."""
        methods = installed("methods")
        unknown = (name for name in self.methods or () if name not in methods)
        found = t0_problems(self.t0 or ())
        found += [unknown_name("method", name, methods) for name in unknown]
        if self.limit is not None and not 1 <= self.limit <= MAX_CASES:
            found.append(f"--limit is {self.limit}: use 1 to {MAX_CASES}")
        wrong = [seed for seed in self.seeds or () if not 0 <= seed <= MAX_SEED]
        found += [f"--seeds has {seed}: use 0 to {MAX_SEED}" for seed in wrong[:1]]
        if self.adapter is not None and not self.adapter.exists():
            found.append(
                f"--adapter: there is nothing at {shown_path(self.adapter)}: check the path"
            )
        found += adapter_problems(self.adapters or ())
        return found

    def unknown_plugins(self, manifest: Manifest) -> list[str]:
        """Return what is wrong with --plugins."""
        known = [plugin_set.id for plugin_set in plugin_sets(manifest)]
        names = self.plugins or ()
        if not names and not _sets_without_nsfw(manifest):
            return ["every plugin is marked nsfw: name plugins with --plugins"]
        return [unknown_name("plugin or stack", n, known) for n in names if n not in known]

    def apply(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the selected plugins, methods, t0 values and seeds."""
        specs = {spec.name: spec for spec in manifest.methods}
        names = self.methods or tuple(specs)
        methods = tuple(self._with_t0(specs.get(name, MethodSpec(name=name))) for name in names)
        update: dict[str, Any] = {"methods": methods}
        if self.seeds is not None:
            own = {"seeds": None}
            update["seeds"] = self.seeds
            update["plugins"] = tuple(p.model_copy(update=own) for p in manifest.plugins)
            update["stacks"] = tuple(s.model_copy(update=own) for s in manifest.stacks)
        if self.mode is not None:
            update["mode"] = self.mode
        if self.adapter is not None or self.adapters is not None:
            update["adapters"] = as_specs(self.adapters or ())
        chosen = manifest.model_copy(update=update)
        names = self.plugins
        if names is None and nsfw_plugins(manifest):
            names = _sets_without_nsfw(manifest)
        return chosen if names is None else _with_plugins(chosen, names)

    def _with_t0(self, spec: MethodSpec) -> MethodSpec:
        return spec if self.t0 is None else spec.model_copy(update={"t0": self.t0})


def nsfw_plugins(manifest: Manifest) -> set[str]:
    """Return ids of the plugins that the manifest or their lock entry marks nsfw."""
    entries = {spec.id: locked_entry(spec, manifest) for spec in manifest.plugins}
    marked = {name for name, entry in entries.items() if entry is not None and entry.nsfw}
    return marked | {spec.id for spec in manifest.plugins if spec.nsfw}


def _sets_without_nsfw(manifest: Manifest) -> list[str]:
    """Return ids of the plugins and stacks without any plugin that is marked nsfw."""
    marked = nsfw_plugins(manifest)
    return [
        plugin_set.id
        for plugin_set in plugin_sets(manifest)
        if not marked & {member.plugin.id for member in plugin_set.members}
    ]


def _with_plugins(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """Keep the named plugins and stacks, the stacks' members, and partners of both."""
    stacks = tuple(stack for stack in manifest.stacks if stack.id in names)
    needed = {member.id for stack in stacks for member in stack.plugins}
    kept = {spec.id for spec in manifest.plugins if spec.id in names or spec.id in needed}
    needed |= {
        partner
        for spec in manifest.plugins
        if spec.id in kept
        for partner in (spec.native, spec.converted, spec.swap)
        if partner is not None
    }
    plugins = tuple(
        spec.model_copy(update={"alone": spec.alone and spec.id in names})
        for spec in manifest.plugins
        if spec.id in names or spec.id in needed
    )
    return manifest.model_copy(update={"plugins": plugins, "stacks": stacks})


def parse_list(
    texts: Sequence[str], kind: Callable[[str], Value], *, option: str
) -> tuple[Value, ...] | None:
    """Parse a repeatable, comma-separated option; None if it was not given."""
    items = [item.strip() for text in texts for item in text.split(",") if item.strip()]
    if not texts:
        return None
    try:
        values = tuple(dict.fromkeys(kind(item) for item in items))
    except ValueError as error:
        given = shortened([repr(item[:_LONGEST_SHOWN]) for item in items])
        raise UserError(f"{option} is {given}: give numbers, e.g. {option} 0,1") from error
    if len(values) > MAX_ENTRIES:
        raise UserError(f"{option} has {len(values)} values: give at most {MAX_ENTRIES}")
    if not values:
        raise UserError(f"{option} is empty: name at least one value or leave the option out")
    return values
