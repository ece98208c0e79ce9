"""Sheets and README's picture explain themselves; the prompts that README shows follow a rule."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from bench.analysis import Arm, answers
from bench.analysis.glossary import metric_meaning, metric_name
from bench.registry import installed
from bench.report.sheets import (
    Column,
    PluginResults,
    Title,
    column_heading,
    draw_plugin,
    draw_sheet,
    results_of,
)
from bench.scoring import read_images
from bench.site.badges import COLORS
from bench.store import RunStore, records
from tests.bench.drawn_run import compatible_run
from tests.scripts import load_script

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_README_BYTES = 300_000


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    return compatible_run(tmp_path_factory.getbasetemp())


def colors_of(picture: Image.Image, box: tuple[int, int, int, int]) -> set:
    pixels = np.asarray(picture.crop(box)).reshape(-1, 3)
    return {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0)}


def subjects_of(store: RunStore, plugin: str) -> list:
    return [s for s in read_images(store).subjects if s.image.plugin == plugin]


def test_a_sheet_states_the_plugins_answer_and_the_score_of_each_picture(store: RunStore):
    found, rows = results_of(store), records(store.compatibility())
    assert [found[answer.plugin].answer for answer in answers(rows)] == answers(rows)
    results = found["pocket-canny"]
    assert results.metric == "edge-f1" and len(results.settings) == 7
    scores = {row["trial_id"]: row["value"] for row in records(store.scores_of("edge-f1"))}
    subjects = subjects_of(store, "pocket-canny")
    shown = [results.score(subject) for subject in subjects]
    assert shown == [f"{scores[subject.image.trial_id]:.2f}" for subject in subjects]


def test_a_sheet_has_a_column_for_every_setting_the_native_plugin_too(store: RunStore):
    results = results_of(store)["pocket-outline"]
    headings = [column_heading(arm, results.kept(arm)) for arm in results.settings]
    assert [heading[0] for heading in headings] == [
        *("Base model", "SDEdit", "SDEdit", "X-Adapter", "X-Adapter"),
        *("Native plugin", "Without plugin"),
    ]
    assert headings[0][1] == "= 100 %" and headings[-1][1] == "= 0 %"
    assert re.fullmatch(r"t0 0\.5, keeps \d+ %", headings[1][1])
    sheet = draw_plugin(subjects_of(store, "pocket-outline"), results, max_rows=2, tile_px=64)
    one_less = [s for s in subjects_of(store, "pocket-outline") if s.image.method != "oracle"]
    assert sheet.width - draw_plugin(one_less, results, max_rows=2, tile_px=64).width == 64 + 20


def test_the_verdict_is_drawn_in_its_color_beside_the_name(store: RunStore):
    for plugin, results in results_of(store).items():
        assert results.answer is not None
        sheet = draw_plugin(subjects_of(store, plugin), results, max_rows=1)
        color = ImageColor.getrgb(COLORS[results.answer.word])
        assert color in colors_of(sheet, (0, 0, sheet.width, 64)), plugin


def test_notes_are_drawn_below_their_picture_and_nowhere_else():
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    plain = draw_sheet(["a"], [Column(("m", ""), (red,))])
    noted = draw_sheet(["a"], [Column(("m", ""), (red,), (("0.50", "keeps 50 %"),))])
    bottom = plain.height - 16  # of the picture
    above = (0, 0, plain.width, bottom)
    assert noted.crop(above).tobytes() == plain.crop(above).tobytes()
    below = (280, bottom, noted.width, noted.height)
    assert len(colors_of(noted, below)) > 2


def test_a_long_heading_does_not_run_into_the_next_column():
    white = Image.new("RGB", (8, 8), (255, 255, 255))
    long = Column(("X-Adapter, plugin swapped in stage 2, and more words" * 3, ""), (white,))
    sheet = draw_sheet(["a"], [long, Column(("", ""), (white,))])
    assert colors_of(sheet, (480, 0, sheet.width, sheet.height)) == {(255, 255, 255)}


def test_a_run_without_tables_has_sheets_without_verdict(store: RunStore):
    subjects = subjects_of(store, "pocket-canny")
    bare = draw_plugin(subjects, PluginResults(), max_rows=1)
    full = draw_plugin(subjects, results_of(store)["pocket-canny"], max_rows=1)
    assert bare.width == full.width and bare.height < full.height


def test_untrusted_text_of_a_title_is_cut_to_its_sheet():
    title = Title("name\n" * 300, kind="kind", word="lost", lines=("word " * 3000,))
    sheet = draw_sheet([title], [Column(("m", ""), ("none",))], title=title)
    assert sheet.height < 700


# --- the prompts of README's picture


def values(**by_case: tuple[float, float, float, float, float]) -> dict:
    """Return values of base, native, SDEdit, X-Adapter and floor by case."""
    settings = [("base", None), ("oracle", None), ("sdedit", 0.9), ("xadapter", 0.9)]
    arms = [Arm("p", "lora", m, t0, None, None) for m, t0 in [*settings, ("floor", None)]]
    lesser = Arm("p", "lora", "xadapter", 0.5, None, None)
    found = {arm: {(c, 0): v[i] for c, v in by_case.items()} for i, arm in enumerate(arms)}
    return found | {lesser: {(case, 0): 0.0 for case in by_case}}


ALL_HOLD = (1.0, 1.0, 1.0, 1.0, 1.0)


def test_readme_shows_the_right_prompt_on_which_the_methods_differ_most():
    shown_pair = load_script("draw-pictures").shown_pair
    function = values(
        small=(1.0, 1.0, 0.4, 0.6, 0.0),
        large=(1.0, 1.0, 0.1, 0.9, 0.0),
        base_fails=(0.2, 1.0, 0.0, 1.0, 0.0),
        native_fails=(1.0, 0.2, 0.0, 1.0, 0.0),
        no_effect=(1.0, 1.0, 0.0, 1.0, 0.9),
    )
    holds = values(**dict.fromkeys(("small", "large", "no_effect"), ALL_HOLD))
    holds = {arm: {pair: 1.0 for pair in function[arm]} for arm in holds}
    base = next(arm for arm in holds if arm.method == "base")
    styled = {method: set(function[base]) for method in ("base", "oracle")}
    assert shown_pair(function, holds, styled) == ("large", 0)
    filled = styled | {"oracle": styled["oracle"] - {("large", 0)}}
    assert shown_pair(function, holds, filled) == ("small", 0)
    wrong_text = holds | {base: holds[base] | {("large", 0): 0.8}}
    assert shown_pair(function, wrong_text, styled) == ("small", 0)


def test_without_a_right_prompt_nothing_is_drawn():
    function = values(only=(1.0, 0.1, 0.1, 0.9, 0.0))
    styled = {method: {("only", 0)} for method in ("base", "oracle")}
    with pytest.raises(Exception, match="on no prompt"):
        load_script("draw-pictures").shown_pair(function, values(only=ALL_HOLD), styled)


def test_the_caption_of_readmes_picture_has_the_numbers_of_its_tables():
    shares: dict = {}
    pattern = r"^[*= ] (sdedit|xadapter)\s+(0\.\d)\s+.*?(\d+) % \["
    for method, t0, share in re.findall(pattern, README.replace("X-Adapter", "xadapter"), re.M):
        shares.setdefault((method, t0), []).append(int(share))
    (caption,) = re.findall(r"^\*The more .*?\*$", README, re.M | re.S)
    words = " ".join(caption.split())
    ends = {key: f"{min(found)} to {max(found)} %" for key, found in shares.items()}
    sdedit, adapter = ([ends[m, t0] for t0 in ("0.5", "0.9")] for m in ("sdedit", "xadapter"))
    assert f"SDEdit keeps {sdedit[0]} of a plugin's effect at t0 0.5, but {sdedit[1]}" in words
    assert f"X-Adapter keeps {adapter[0]}, and {adapter[1]}" in words


def test_every_picture_of_the_documents_exists_and_readmes_load_fast():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for name in re.findall(r"!\[[^]]*\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
            picture = page.parent / name
            assert picture.is_file(), f"{page.name}: {name}"
            if page.name == "README.md":
                assert picture.stat().st_size < MOST_README_BYTES, name


# --- plain words


def test_every_installed_metric_has_a_plain_name_and_a_meaning_with_its_id():
    for name in installed("metrics"):
        assert metric_name(name) != name
        assert metric_meaning(name).endswith(f". In tables: {name}"), name
    assert metric_name("theirs") == "theirs" and metric_meaning("theirs") == "In tables: theirs"
