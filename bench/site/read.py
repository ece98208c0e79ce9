"""Read run directories as a site shows them: the public part alone.

What is private is redacted, and plugins marked nsfw are left out, as in a publication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.words import is_judged
from bench.errors import UserError, shown_path
from bench.publish.facts import public_facts, public_manifest
from bench.publish.redaction import Privacy
from bench.publish.select import PublicRun, is_finished, select_public
from bench.publish.tables import public_table
from bench.render import read_audits
from bench.scoring import read_images
from bench.site.gallery import Gallery
from bench.site.runs import SitePlugin, SiteRun, site_plugins
from bench.store import Row, RunStore


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
    scenes = Gallery(read_images(store), scores, privacy, run=key)
    audits = {name: privacy.technical(a.summary()) for name, a in read_audits(store).items()}
    return site_plugins(rows, manifest, scenes, audits.get)
