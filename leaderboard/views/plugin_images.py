"""Parts of the plugin page: all images, the best and worst ones, two under a slider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from bench.analysis.glossary import (
    meaning_of,
    meanings_of,
    method_name,
    metric_meaning,
    metric_name,
)
from bench.store import Row
from leaderboard.data import Run, RunTables
from leaderboard.escape import literal, one_line
from leaderboard.figures import settings_of
from leaderboard.figures.arms import Setting
from leaderboard.figures.curves import metrics_of
from leaderboard.figures.gallery import (
    Scene,
    case_ids,
    count_images,
    extreme_images,
    image_metrics,
    images_per_page,
    read_page,
    read_scene,
    scores_of,
    seeds_of,
)
from leaderboard.ui.named import choose_named, choose_some_named
from leaderboard.ui.numbers import number
from leaderboard.ui.selection import choose_one, choose_page
from leaderboard.ui.slider import compare_pictures
from leaderboard.web import picture_address

_CELL_PX = 124
_N_EXTREMES = 6
_MAX_CASES = 500
_METHOD_TERMS = ("Base model", "SDEdit", "X-Adapter", "Native plugin (ceiling)")
_METHOD_TERMS += ("New model without plugin",)
_SETTING_HELP = meanings_of(["Setting", "t0"])
Scores = dict[str, dict[str, float | None]]


def show_grid(run: Run, tables: RunTables, plugin: str) -> None:
    """Show each case under each setting with its scores, 24 images per page."""
    settings = settings_of(tables, plugin)
    left, right = st.columns(2)
    with left:
        names = {setting.method: method_name(setting.method) for setting in settings}
        methods = choose_some_named(
            "Methods", names, key="methods", explanation=meanings_of(_METHOD_TERMS)
        )
        settings = [s for s in settings if s.method in (methods or names)]
    with right:
        metrics = _choose_metrics(tables, plugin)
    per_page = images_per_page(len(settings))
    n_images = count_images(tables, plugin, settings)
    page = choose_page(n_images, per_page=per_page)
    scenes = read_page(tables, plugin, settings, page=page, per_page=per_page)
    if not scenes:
        st.info("No images match this choice.")
        return
    trials = [row["trial_id"] for scene in scenes for row in scene.images]
    scores = scores_of(tables, trials, metrics, plugin=plugin)
    labels = {setting.number: setting.label for setting in settings}
    for scene in scenes:
        _scene(run, scene, labels, scores)
    first = page * per_page + 1
    st.caption(literal(f"Images {first} to {first + len(trials) - 1} of {n_images:,}"))


def _scene(run: Run, scene: Scene, labels: dict[int, str], scores: Scores) -> None:
    st.markdown(f"**{literal(scene.prompt)}**")
    st.caption(literal(f"case {scene.case_id}, seed {scene.seed}"))
    with st.container(horizontal=True):
        if scene.condition_trial is not None:
            address = picture_address(run, "condition", scene.condition_trial)
            with st.container(width=_CELL_PX, gap=None):
                st.image(address, width="stretch", alt=f"condition of {one_line(scene.prompt)}")
                st.caption("condition")
        for row in scene.images:
            label = labels.get(row["setting"], "")
            show_picture(run, row, label, scores.get(row["trial_id"], {}))


def show_picture(run: Run, row: Row, label: str, scores: dict[str, float | None]) -> None:
    """Show one image with its setting and scores, or the error if it failed."""
    with st.container(width=_CELL_PX, gap=None):
        if row["status"] == "ok":
            address = picture_address(run, "small", row["trial_id"], version=row["image_sha256"])
            alt = f"{label}: {row['prompt'] or ''}"
            st.image(address, width="stretch", alt=one_line(alt))
        else:
            st.warning(literal(f"{row['status'] or 'not rendered yet'}: {row['error'] or ''}"))
        lines = [f"{metric_name(name)} {number(value)}" for name, value in scores.items()]
        st.caption("  \n".join(literal(line) for line in [label, *lines]))


def show_extremes(run: Run, tables: RunTables, plugin: str) -> None:
    """Show the best and worst images of a setting by a metric, next to the base model's."""
    directions = image_metrics(tables, plugin)
    settings = settings_of(tables, plugin)
    if not directions or not settings:
        st.info("No image of this plugin has a score.")
        return
    left, right = st.columns(2)
    with left:
        own = [s for s in settings if s.method != "floor"] or settings
        setting = _choose_setting("Setting", own, key="setting", default=_preferred(own))
    with right:
        names = _metric_names(tables, plugin, directions)
        metric = choose_named("Metric", names, key="metric", explanation=meaning_of("Function"))
    base = next((s for s in settings if s.method == "base"), None)
    ends: tuple[tuple[Literal["best", "worst"], str], ...] = (("best", "Best"), ("worst", "Worst"))
    for end, title in ends:
        st.subheader(title, anchor=False)
        rows = extreme_images(
            tables,
            plugin,
            setting,
            metric=metric,
            better=directions[metric],
            end=end,
            n=_N_EXTREMES,
        )
        if not rows:
            st.info("No image of this setting has this score.")
        _beside_base(run, tables, plugin, rows, base=base, setting=setting, metric=metric)


def _beside_base(
    run: Run,
    tables: RunTables,
    plugin: str,
    rows: Sequence[Row],
    *,
    base: Setting | None,
    setting: Setting,
    metric: str,
) -> None:
    with st.container(horizontal=True):
        for row in rows:
            with st.container(width=2 * _CELL_PX + 60, border=True):
                with st.container(horizontal=True):
                    if base is not None and base != setting:
                        own = {"case_id": row["case_id"], "seed": int(row["seed"] or 0)}
                        scene = read_scene(tables, plugin, [base], **own)
                        for found in scene.images if scene else ():
                            show_picture(run, found, base.label, {})
                    show_picture(run, row, setting.label, {metric: row["value"]})
                st.caption(literal(row["prompt"]))


def show_side_by_side(run: Run, tables: RunTables, plugin: str) -> None:
    """Show two settings of one case under a slider."""
    settings, cases = settings_of(tables, plugin), case_ids(tables, plugin, most=_MAX_CASES)
    if len(settings) < 2 or not cases:
        st.info("Nothing to compare: this plugin has only one setting.")
        return
    upper = st.columns(2)
    with upper[0]:
        case_id = choose_one("Case", list(cases), key="case")
    with upper[1]:
        seeds = [str(seed) for seed in seeds_of(tables, plugin)]
        seed = int(choose_one("Seed", seeds, key="seed"))
    lower = st.columns(2)
    with lower[0]:
        left = _choose_setting("Left", settings, key="left")
    with lower[1]:
        preferred = _preferred(settings) or settings[1]
        right = _choose_setting("Right", settings, key="right", default=preferred)
    chosen = [left, right]
    scene = read_scene(tables, plugin, chosen, case_id=case_id, seed=seed)
    by_setting = {row["setting"]: row for row in scene.images} if scene else {}
    sides = [_side(run, by_setting.get(s.number), s.label) for s in chosen]
    if sides[0] is None or sides[1] is None:
        st.info("One of the two images is missing.")
        return
    st.markdown(f"**{literal(cases[case_id])}**")
    compare_pictures(left=sides[0], right=sides[1], key="slider")


def _side(run: Run, row: Row | None, label: str) -> dict[str, str] | None:
    if row is None or row["status"] != "ok":
        return None
    address = picture_address(run, "full", row["trial_id"], version=row["image_sha256"])
    return {"address": address, "name": label, "alt": one_line(f"{label}: {row['prompt'] or ''}")}


def _choose_metrics(tables: RunTables, plugin: str) -> list[str]:
    names = _metric_names(tables, plugin, image_metrics(tables, plugin))
    return choose_some_named(
        "Scores",
        names,
        key="scores",
        default=list(names)[:2],
        explanation="\n\n".join(literal(f"{names[m]}: {metric_meaning(m)}") for m in names),
    )


def _metric_names(tables: RunTables, plugin: str, known: dict[str, str]) -> dict[str, str]:
    """Return the names of the per-image metrics, the plugin's function metric first."""
    ordered = [name for name in metrics_of(tables, plugin) if name in known]
    return {name: metric_name(name) for name in (*ordered, *known)}


def _choose_setting(
    label: str, settings: Sequence[Setting], *, key: str, default: Setting | None = None
) -> Setting:
    """Let the reader choose a setting, at first `default` or the first one."""
    chosen = choose_named(
        label,
        {setting.id: setting.label for setting in settings},
        key=key,
        default=None if default is None else default.id,
        explanation=_SETTING_HELP,
    )
    return next(setting for setting in settings if setting.id == chosen)


def _preferred(settings: Sequence[Setting]) -> Setting | None:
    return next((setting for setting in settings if setting.method == "xadapter"), None)
