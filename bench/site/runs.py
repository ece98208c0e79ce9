"""Read runs as a site shows them: the public part alone, each plugin with its answer and examples.

What is private is redacted, and plugins marked nsfw are left out, as in a publication. A run that
is not finished has no plugins here, so it ranks nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis import Answer, answers, run_sentence
from bench.analysis.words import REFERENCES, in_order, is_judged, run_count
from bench.errors import UserError, shown_path
from bench.publish.facts import public_facts, public_manifest
from bench.publish.redaction import Privacy
from bench.publish.select import PublicRun, is_finished, select_public
from bench.publish.tables import public_table
from bench.render import read_audits
from bench.scoring import read_images
from bench.site.examples import Example, Gallery, examples
from bench.store import Row, RunStore, grouped
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
    audit: str | None
    examples: Sequence[Example]

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


def read_run(folder: Path, key: str, *, nsfw: bool) -> SiteRun:
    """Return a run; raise `UserError` if it is damaged or has no verdicts."""
    store = RunStore.open(folder)
    if not is_finished(store.run_facts()):
        return _unfinished(store, key)
    chosen = select_public(store, nsfw=nsfw)
    privacy = Privacy(words=chosen.left_out)
    rows = public_table(chosen.tables["compatibility"], privacy).to_pylist()
    if not is_judged(rows):
        raise UserError(f"{shown_path(folder)} has no verdicts: run `xbench report` on it first")
    manifest = public_manifest(chosen.manifest, privacy, left_out=chosen.left_out)
    plugins = _plugins(store, chosen, rows, manifest, privacy, key=key)
    trials = chosen.tables["trials"].num_rows
    seeds = set(chosen.tables["trials"]["seed"].to_pylist())
    return SiteRun(
        key=key,
        title=str(manifest.get("name", key)),
        facts=public_facts(chosen.facts, privacy, left_out=chosen.left_out),
        is_finished=True,
        n_done=trials,
        n_trials=trials,
        n_prompts=max((row["n_prompts"] or 0 for row in rows), default=0),
        n_seeds=len(seeds),
        rows=rows,
        plugins=plugins,
    )


def _unfinished(store: RunStore, key: str) -> SiteRun:
    privacy = Privacy()
    facts = public_facts(store.run_facts(), privacy, left_out=())
    kept = {name: facts[name] for name in ("run_id", "status", "created") if name in facts}
    title = privacy.content(store.manifest().name)
    done, n_trials = len(store.finished_trials()), len(store.trials())
    return SiteRun(key, title, kept, False, done, n_trials, 0, 0, (), ())


def _plugins(
    store: RunStore,
    chosen: PublicRun,
    rows: Sequence[Row],
    manifest: Mapping[str, Any],
    privacy: Privacy,
    *,
    key: str,
) -> list[SitePlugin]:
    scores = public_table(chosen.tables["scores"], privacy).to_pylist()
    gallery = Gallery(read_images(store), scores, privacy, run=key)
    audits = {name: privacy.technical(a.summary()) for name, a in read_audits(store).items()}
    return plugins_of(rows, gallery, manifest, audits)


def plugins_of(
    rows: Sequence[Row],
    gallery: Gallery,
    manifest: Mapping[str, Any],
    audits: Mapping[str, str],
) -> list[SitePlugin]:
    """Return the plugins of rows of `schema.COMPATIBILITY`, worst first; `audits` are by plugin."""
    by_plugin = {plugin: group for (plugin,), group in grouped(rows, "plugin").items()}
    found = []
    for answer in answers(rows):
        levels = {level: group for (level,), group in _by_level(by_plugin[answer.plugin])}
        settings = levels["setting"]
        shown = answer.row or in_order(settings)[0]
        facts = _facts(answer.plugin, manifest)
        loaded = [f"{name}: {audits[name]}" for name in facts["members"] if name in audits]
        found.append(
            SitePlugin(
                answer=answer,
                settings=settings,
                methods=[r for r in levels.get("method", []) if r["method"] not in REFERENCES],
                shown=shown,
                facts=facts,
                audit="; ".join(loaded) or None,
                examples=examples(gallery, shown),
            )
        )
    return found


def _by_level(rows: Sequence[Row]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    return list(grouped(rows, "level").items())


def _facts(plugin: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest states of a plugin, or of a stack's members together."""
    stack = next((s for s in manifest.get("stacks", ()) if s["id"] == plugin), None)
    members = [plugin] if stack is None else [m["id"] for m in stack["plugins"]]
    entries = [entry for entry in manifest["plugins"] if entry["id"] in members]

    def joined(key: str) -> str:
        return ", ".join(dict.fromkeys(str(entry[key]) for entry in entries if entry.get(key)))

    names = ("source", "sha256", "license", "trigger", "condition")
    return {"members": members, **{name: joined(name) for name in names}}
