"""Print one image for people: its score, what the references reach, how to render it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.analysis.measures import choose
from bench.analysis.numbers import number
from bench.analysis.words import label_of, method_name
from bench.cli.explain import again_command, find_trial
from bench.cli.output import wrapped
from bench.report import aligned
from bench.scoring import read_scores
from bench.store import Row, RunStore, records
from plugins_manifest.outputs import one_line
from plugins_manifest.text import shell_command
from runners.base import generator_seed

_ORDER = ("base", "oracle", "floor")
_LONGEST = 60  # characters of a prompt in the first line
_Scores = Mapping[str, Mapping[str, Row]]  # metric -> this, base, oracle, floor -> score


def trial_lines(store: RunStore, prefix: str) -> Iterator[str]:
    """Yield three lines (score, references, command), then files, settings and all scores."""
    trial = find_trial(store, prefix)
    result = next(
        (row for row in records(store.results()) if row["trial_id"] == trial["trial_id"]), None
    )
    plugins = _scores_of(store, trial)
    yield wrapped(_first(trial, result, plugins))
    yield wrapped(_second(trial, plugins))
    yield f"render it again: {again_command(store, trial['trial_id'], store.run_facts())}"
    yield ""
    yield from _facts(store, trial, result)
    for plugin, scores in plugins.items():
        yield ""
        yield from _table(plugin, trial, scores)
    yield ""
    words = ["xbench", "explain", store.folder, trial["trial_id"]]
    yield f"everything, for scripts: {shell_command([*words, '--json'])}"
    yield f"code for this image:     {shell_command([*words, '--python'])}"


def _scores_of(store: RunStore, trial: Row) -> Mapping[str, _Scores]:
    """Return plugin -> the scores of the image beside those of the references.

    References are of the same prompt and seed, at the plugin scale that is nearest to the image's.
    """
    scale = trial["plugin_scale"] or 1.0
    rows = [
        row
        for row in read_scores(store)
        if row["level"] == "image" and (row["case_id"], row["seed"]) == _pair(trial)
    ]
    rows.sort(key=lambda row: -abs((row["plugin_scale"] or 1.0) - scale))  # the nearest wins
    own = [row for row in rows if row["trial_id"] == trial["trial_id"]]
    plugins = dict.fromkeys(row["plugin"] for row in own)  # the floor's image belongs to several
    found: dict[str, dict[str, dict[str, Row]]] = {plugin: {} for plugin in plugins}
    for row in rows:
        if row["plugin"] in found and row["method"] in _ORDER:
            found[row["plugin"]].setdefault(row["metric"], {})[row["method"]] = row
    for row in own:
        found[row["plugin"]].setdefault(row["metric"], {})["this"] = row
    return found


def _pair(row: Row) -> tuple[str, int]:
    return row["case_id"], row["seed"]


def _first(trial: Row, result: Row | None, plugins: Mapping[str, _Scores]) -> str:
    """Return what the image is, and its score in the plugin's function."""
    what = label_of(trial)
    prompt = one_line(trial["upgraded_prompt"])
    prompt = prompt if len(prompt) <= _LONGEST else f"{prompt[: _LONGEST - 3]}..."
    of_plugin = f"{trial['plugin']}, " if trial["plugin"] else ""
    text = f'{of_plugin}{what}, "{prompt}", seed {trial["seed"]}: '
    if result is None:
        return f"{text}not rendered yet"
    if result["status"] != "ok":
        return f"{text}failed: {one_line(result['error'] or 'without a reason')}"
    if not trial["plugin"]:
        return f"{text}the new model by itself"
    scores = plugins.get(trial["plugin"], {})
    name = _headline(scores)
    if name is None or not _has_value(scores[name].get("this")):
        reasons = [row["this"]["reason"] for row in scores.values() if "this" in row]
        return f"{text}no score{f': {reasons[0]}' if reasons and reasons[0] else ''}"
    value, better = _value(scores[name], "this"), next(iter(scores[name].values()))["better"]
    return f"{text}{name} {value} ({better} is better)"


def _second(trial: Row, plugins: Mapping[str, _Scores]) -> str:
    """Return what base model, native plugin and the model without plugin reach."""
    parts = []
    for plugin, scores in plugins.items():
        if (name := _headline(scores)) is not None:
            there = [
                f"{method_name(method).lower()} {_value(scores[name], method)}"
                for method in _ORDER
                if method in scores[name] and method != trial["method"]
            ]
            subject = "" if plugin == trial["plugin"] else f"{plugin} ({name}) "
            parts += [subject + ", ".join(there)] if there else []
    return f"the same prompt and seed: {'; '.join(parts) or 'nothing to compare with'}"


def _headline(scores: _Scores) -> str | None:
    """Return the metric of the plugin's function, else the first one; None if none has a value."""
    known = [name for name, rows in scores.items() if _has_value(rows.get("this"))]
    known = known or [name for name, rows in scores.items() if any(map(_has_value, rows.values()))]
    return choose("function", known) or next(iter(known), None)


def _has_value(row: Row | None) -> bool:
    return row is not None and row["value"] is not None


def _value(rows: Mapping[str, Row], method: str) -> str:
    row = rows.get(method)
    return "-" if row is None or row["value"] is None else number(row["value"], digits=2)


def _facts(store: RunStore, trial: Row, result: Row | None) -> list[str]:
    picture = store.folder / result["image"] if result is not None and result["image"] else None
    prompts = {"prompt": trial["upgraded_prompt"]}
    if trial["base_prompt"] != trial["upgraded_prompt"]:
        prompts = {"prompt, base model": trial["base_prompt"], "new model": prompts["prompt"]}
    seed = generator_seed(int(trial["seed"]), trial["case_id"])
    facts = {
        "trial": trial["trial_id"],
        "picture": "-" if picture is None else shell_command([picture]),
        **prompts,
        "negative prompt": trial["negative_prompt"],
        "case, seed": f"{trial['case_id']}, {trial['seed']} (generator seed {seed})",
        "made in": _made(result),
    }
    return aligned([(name, one_line(text)) for name, text in facts.items() if text])


def _made(result: Row | None) -> str:
    if result is None or result["status"] != "ok":
        return ""
    origin = " (taken from the cache)" if result["origin"] == "cache" else ""
    return f"{number(result['seconds'], digits=2)} s{origin}"


def _table(plugin: str, trial: Row, scores: _Scores) -> list[str]:
    """Return every score of the image beside the references' scores."""
    others = [m for m in _ORDER if m != trial["method"] and any(m in s for s in scores.values())]
    header = (f"scores for {plugin}", "better", "this image", *map(method_name, others))
    rows = [
        (name, next(iter(there.values()))["better"], *(_value(there, m) for m in ("this", *others)))
        for name, there in sorted(scores.items())
    ]
    return aligned([header, *rows], n_left=2)
