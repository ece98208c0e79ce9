"""A run as a site shows it: each plugin with its answer and examples.

A run that is not finished has no plugins here, so it ranks nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.analysis import Answer, answers, arm_order, run_sentence
from bench.analysis.summary import arm_of
from bench.analysis.words import REFERENCES, in_order, run_count
from bench.site.examples import Example, Scenes, examples
from bench.store import Row, grouped
from plugins_manifest.outputs import file_name


@dataclass(frozen=True)
class SitePlugin:
    """One plugin of a run: its answer, its rows, what the manifest states, and example prompts.

    `shown` is the setting whose images stand for the plugin: the one to use, else the best by the
    number for sorting.
    """

    answer: Answer
    settings: Sequence[Row]
    methods: Sequence[Row]
    shown: Row
    facts: Mapping[str, Any]
    scenes: Scenes
    audit_of: Callable[[str], str | None]

    @cached_property
    def examples(self) -> Sequence[Example]:
        """The example prompts; read when they are shown first."""
        return examples(self.scenes, self.shown)

    @cached_property
    def typical(self) -> Example | None:
        """The example that stands for the plugin; read when it is shown first."""
        return self.scenes.typical(self.shown)

    @cached_property
    def audit(self) -> str | None:
        """How much of the plugin's files was loaded, in one line; None if that is not known."""
        members = self.facts["members"]
        loaded = [f"{name}: {text}" for name in members if (text := self.audit_of(name))]
        return "; ".join(loaded) or None

    @property
    def search_text(self) -> str:
        """What a search looks through: name, kind, file or address, and its sha256."""
        facts = (self.facts.get(name) for name in ("source", "sha256", "trigger"))
        return " ".join(str(part) for part in (self.name, self.answer.kind, *facts) if part)

    @property
    def name(self) -> str:
        """The plugin's id."""
        return self.answer.plugin

    @property
    def folder_name(self) -> str:
        """The plugin's part of an address."""
        return file_name(self.name)

    def reference(self, method: str) -> Row | None:
        """Return the row of base, floor or oracle; None if the run has none."""
        return next((row for row in self.settings if row["method"] == method), None)


@dataclass(frozen=True)
class SiteRun:
    """The public part of one run; `plugins` are worst first, none if it is not finished."""

    key: str
    title: str
    facts: Mapping[str, Any]
    is_finished: bool
    n_done: int
    n_trials: int
    n_prompts: int
    n_seeds: int
    rows: Sequence[Row]
    plugins: Sequence[SitePlugin]

    @property
    def answers(self) -> list[Answer]:
        """The answers, worst first."""
        return [plugin.answer for plugin in self.plugins]

    @property
    def sentence(self) -> str:
        """How many plugins keep working, or how far the run is."""
        if not self.is_finished:
            return f"Unfinished: {self.n_done} of {self.n_trials} images are rendered."
        return run_sentence(self.answers)

    @property
    def count(self) -> str:
        """The sentence for a badge or a title."""
        return run_count(self.answers) if self.is_finished else "unfinished"


def site_plugins(
    rows: Sequence[Row],
    manifest: Mapping[str, Any],
    scenes: Scenes,
    audit_of: Callable[[str], str | None],
) -> list[SitePlugin]:
    """Return the judged plugins of a compatibility table, worst first.

    `audit_of` gives the load audit of a plugin's file in one line, None without one.
    """
    by_plugin = grouped(rows, "plugin")
    entries, stacks = _by_id(manifest, "plugins"), _by_id(manifest, "stacks")
    found = []
    for answer in answers(rows):
        levels = grouped(by_plugin[(answer.plugin,)], "level")
        settings = sorted(levels[("setting",)], key=lambda row: arm_order(arm_of(row)))
        found.append(
            SitePlugin(
                answer=answer,
                settings=settings,
                methods=[r for r in levels.get(("method",), []) if r["method"] not in REFERENCES],
                shown=answer.row or in_order(settings)[0],
                facts=_facts(answer.plugin, entries, stacks),
                scenes=scenes,
                audit_of=audit_of,
            )
        )
    return found


def _by_id(manifest: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a manifest's list by id; of an invalid manifest what is valid."""
    listed = manifest.get(name)
    entries = listed if isinstance(listed, list) else []
    return {
        entry["id"]: entry
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)
    }


def _facts(
    plugin: str,
    entries: Mapping[str, Mapping[str, Any]],
    stacks: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what the manifest states of a plugin, or of a stack's members together."""
    listed = stacks[plugin].get("plugins") if plugin in stacks else [{"id": plugin}]
    parts = listed if isinstance(listed, list) else []
    members = [p["id"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("id"), str)]
    own = [entries[name] for name in members if name in entries]

    def joined(key: str) -> str:
        return ", ".join(dict.fromkeys(_text(entry[key]) for entry in own if entry.get(key)))

    names = ("source", "sha256", "license", "trigger", "condition", "native")
    return {"members": members, **{name: joined(name) for name in names}}


def _text(value: Any) -> str:
    """Return a value of a manifest; of deep ones nothing, since YAML aliases can be endless."""
    if isinstance(value, list):
        return ", ".join(str(part) for part in value if isinstance(part, str | int | float))
    return str(value) if isinstance(value, str | int | float) else ""
