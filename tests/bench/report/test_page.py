"""The HTML report and the plots: self-contained, escaped, and not blank."""

import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from bench.analysis.summary import arm_order, read_run_scores, summarise
from bench.analysis.words import MEANINGS, answers, run_sentence
from bench.plan.metrics import selected_metrics
from bench.registry import installed
from bench.report.blocks import Paragraph, Strong, Table
from bench.report.figures import IN_A_COLUMN
from bench.report.paper import PAPER_FAMILY, TABLE_1, TABLE_2, paper_part
from bench.report.plots import ON_A_PAGE, draw, page_svg, sketches, styles
from bench.report.write import write_report
from bench.report.writers import to_html, to_markdown
from bench.scoring.score import score_run
from bench.store.rows import records
from bench.store.run_store import RunStore
from metrics.pocket_scorer import PocketEncoder
from metrics.stats.ratio import pareto_front
from metrics.styles import StyleToBase
from metrics.text import ClipScore
from tests.bench.drawn_run import compatible_run, draw_run, drawn_metrics
from tests.bench.report.test_report import HOSTILE
from tests.metrics.pictures import random_scorer, random_sha256

pytestmark = pytest.mark.system

VOID = {"meta", "img", "path", "use", "rect", "line", "circle", "br", "link"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    store = compatible_run(tmp_path_factory.getbasetemp())
    write_report(store)
    return store


@pytest.fixture(scope="module")
def page(store: RunStore) -> Page:
    return Page((store.tables_dir / "report.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_runs_nothing(store: RunStore, page: Page):
    text = (store.tables_dir / "report.html").read_text(encoding="utf-8")
    assert "://" not in text and "@import" not in text and "<script" not in text
    assert not {"script", "iframe", "link", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/webp;base64,", "data:image/svg+xml,"))
    assert not re.findall(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_every_picture_has_words_and_every_table_a_header(page: Page):
    pictures = [a for tag, a in page.tags if tag == "img" and a.get("class") != "bar"]
    plots = [a for tag, a in page.tags if tag == "figure" and "role" in a]
    sheets = [a for a in pictures if "images, prompts by methods" in a["alt"]]
    assert len(sheets) == 3 and len(pictures) == 3 + 3 * 3  # and three on each card
    assert all(a["alt"] for a in pictures)
    assert len(plots) >= 7 and all(a["role"] == "img" and a["aria-label"] for a in plots)
    n_tables = sum(tag == "table" for tag, _ in page.tags)
    assert sum(tag == "thead" for tag, _ in page.tags) == n_tables >= 6
    assert any(a.get("name") == "viewport" for tag, a in page.tags if tag == "meta")


def test_the_page_says_what_the_markdown_says(store: RunStore, page: Page):
    assert "pocket-idle has no measurable effect on the base model either." in page.text
    assert "Compatibility" in page.text and "split half" not in page.text
    text = (store.tables_dir / "report.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        assert heading.replace("\\", "") in page.text


@pytest.mark.parametrize("prompt", HOSTILE)
def test_hostile_text_stays_text_in_the_page(prompt: str):
    blocks = [Paragraph((prompt, Strong(prompt))), Table((prompt,), ((prompt,),))]
    page = Page(to_html(blocks, prompt))
    plain = Page(to_html([Paragraph(("x", Strong("x"))), Table(("x",), (("x",),))], "x"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert "alert(1)" in page.text or "alert" not in prompt
    assert "\u202e" not in page.text
    assert "<" not in to_markdown(blocks, Path()).replace("\\<", "")


def test_a_whole_run_with_hostile_prompts_stays_text(tmp_path: Path):
    store = draw_run(tmp_path / "run", n_cases=3, t0s=(0.5,), prompts=HOSTILE)
    results = store.results()
    results.loc[0, ["status", "image", "image_sha256"]] = ["failed", None, None]
    results.loc[0, "error"] = "</td></table><script>alert(2)</script><img src=x onerror=alert(3)>"
    store.write_results("all", results.to_dict("records"))
    score_run(store, drawn_metrics()[:1])
    write_report(store)
    page = Page((store.tables_dir / "report.html").read_text(encoding="utf-8"))
    assert "<script>alert(2)</script>" in page.text
    assert not any(tag == "script" or "onerror" in attributes for tag, attributes in page.tags)


def test_the_page_starts_with_the_sentence_then_the_cards_worst_first(store: RunStore, page: Page):
    found = answers(records(store.compatibility()))
    cards = [a for tag, a in page.tags if tag == "li" and a.get("class", "").startswith("card ")]
    assert [card["data-search"].split()[0] for card in cards] == [answer.plugin for answer in found]
    places = [page.text.index(run_sentence(found)), page.text.index("Bar: how much")]
    places += [page.text.index(f"{answer.advice[1:]}.") for answer in found[:1]]
    places += [page.text.index("In words", places[0])]
    assert places == sorted(places)
    anchors = [a["id"] for tag, a in page.tags if tag in ("h2", "h3") and a.get("id")]
    reached = [a for tag, a in page.tags if tag == "a" and "tabindex" not in a]  # by keys
    links = [a["href"].removeprefix("#") for a in reached]
    assert sorted(links) == sorted(anchors) and len(links) == len(set(links))
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_only_the_worst_plugins_of_many_have_pictures(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = RunStore.open(shutil.copytree(store.folder, tmp_path / "run"))
    monkeypatch.setattr("bench.report.write.MAX_PICTURED", 1)
    write_report(copy)
    short = Page((copy.tables_dir / "report.html").read_text(encoding="utf-8"))
    shown = [a for tag, a in short.tags if tag == "img" and a.get("class") != "bar"]
    pictures = [a["alt"] for a in shown]
    worst = answers(records(store.compatibility()))[0].plugin
    assert len(pictures) == 4 and f"{worst}: images, prompts by methods and t0" in pictures
    for path in copy.tables_dir.glob("sheet-*.webp"):
        assert (f"{path.name}, beside this report" in short.text) == (worst not in path.name)


def test_a_forest_plot_of_very_many_plugins_is_of_the_worst(store: RunStore):
    rows = records(store.compatibility())
    many = [
        {**row, "plugin": f"{row['plugin']}-{i}"}
        for i in range(400)
        for row in rows
        if row["plugin"] != "pocket-idle"
    ]
    (plugin, sketch), *_ = sketches(many)
    assert plugin == "" and "the worst 40 of 800 plugins" in sketch.title
    png = draw(sketch, ON_A_PAGE, {"png": {"dpi": 110}})["png"]
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.height < 8_000


def test_long_names_are_inside_of_the_plot(store: RunStore):
    name = "a-plugin-with-a-name-that-is-longer-than-the-axis-" * 3
    rows = [
        {**row, "plugin": name, "method": "a method " * 12}
        for row in records(store.compatibility())
        if row["plugin"] == "pocket-outline" and row["method"] == "xadapter"
    ]
    for _, sketch in sketches(rows):
        for look in (ON_A_PAGE, IN_A_COLUMN):
            png = draw(sketch, look, {"png": {"dpi": 60, "facecolor": "white"}})["png"]
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
            frame = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
            assert min(side.min() for side in frame) > 250, sketch.name


def test_plots_are_not_blank_and_well_formed(store: RunStore):
    folder = store.tables_dir / "plots"
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {path.stem for path in folder.glob("*.svg")}
    outline = {f"{kind}-pocket-outline" for kind in ("t0-function", "t0-quality", "plane")}
    assert {"retention", "t0-function-pocket-idle", *outline} <= names
    # nothing to keep, and no word on the look: no place in the plane
    assert not {"plane-pocket-idle", "plane-pocket-canny"} & names
    for name in names:
        pixels = np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).reshape(-1, 3)
        assert pixels.shape[0] > 100_000 and (pixels == 255).all(axis=1).mean() > 0.3
        assert len(np.unique(pixels, axis=0)) > 50
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text(encoding="utf-8"))
        assert root.tag.endswith("svg")


def test_the_forest_plot_names_every_plugin_and_method_also_those_that_keep_nothing(page: Page):
    (alt,) = [
        a["aria-label"]
        for tag, a in page.tags
        if tag == "figure" and a.get("aria-label", "").startswith("Share of each plugin's effect")
    ]
    for plugin in ("pocket-canny", "pocket-outline", "pocket-idle"):
        for method in ("SDEdit", "X-Adapter"):
            assert f"{plugin} {method} " in alt
    assert "pocket-outline X-Adapter 100 % [" in alt
    assert "pocket-outline SDEdit no setting has an effect that is shown" in alt


def test_plots_of_an_earlier_version_are_removed(tmp_path: Path, store: RunStore):
    old = RunStore.open(shutil.copytree(store.folder, tmp_path / "run"))
    for name in ("scores.svg", "t0-gain-pocket-canny.png", "plane-pocket-idle.svg"):
        old.write_file(old.plots_dir / name, b"old")
    write_report(old)
    assert {p.name for p in old.plots_dir.iterdir()} == {p.name for p in store.plots_dir.iterdir()}
    assert not any("t0-gain" in name or "scores.svg" in name for name in old.checksums().files)


def test_the_glossary_explains_every_word(page: Page):
    part = page.text.split("How to read this")[-1].split("Load audit")[0]
    for word in (*MEANINGS, "Keeps", "q", "w", "sort value", "cannot be told", "below 0"):
        assert word in part, word


def test_an_embedded_plot_takes_the_pages_ink_and_keeps_no_address(store: RunStore):
    svg = page_svg((store.tables_dir / "plots" / "retention.svg").read_text(encoding="utf-8"))
    assert svg.startswith("<svg") and "://" not in svg and "currentColor" in svg
    assert "pocket-canny</text>" in svg


def test_methods_differ_in_marker_and_dash_not_only_in_color():
    looks = styles([*installed("methods"), "theirs"])
    assert len({marker for _, marker, _ in looks.values()}) == len(looks)
    assert looks["sdedit"][2] != looks["xadapter"][2]
    assert styles(["theirs", "xadapter"])["xadapter"] == looks["xadapter"]


def test_the_front_holds_what_nothing_beats():
    points = [(0.9, 0.2), (0.5, 0.9), (0.4, 0.8), (0.9, 0.1), (0.1, 1.0)]
    assert pareto_front(points) == [(0.1, 1.0), (0.5, 0.9), (0.9, 0.2)]


def paper_run(tmp_path: Path, family: str) -> RunStore:
    store = draw_run(tmp_path / family, n_cases=6, t0s=(0.5,))
    names = {"sd15-sdxl": ("clip-score", "style-clip-i-paper")}
    clip, style = names.get(family, ("pocket-clip", "pocket-style-paper"))
    encoder = PocketEncoder(random_scorer, random_sha256)
    own, text = StyleToBase(style, encoder), ClipScore(clip, encoder)
    score_run(store, [*drawn_metrics()[:2], text, own])
    data = store.manifest().as_data() | {"family": family, "mode": "paper"}
    store.write_manifest(data)
    summarise(store)
    write_report(store)
    return store


def test_the_papers_figures_stand_beside_ours_for_its_own_pair_of_models_only(tmp_path: Path):
    texts = {}
    for family in ("pocket", PAPER_FAMILY):
        store = paper_run(tmp_path, family)
        texts[family] = Page((store.tables_dir / "report.html").read_text(encoding="utf-8")).text
        assert "style similarity" in texts[family]
    for figure in {row[1] for row in (*TABLE_1, *TABLE_2)}:
        assert figure in texts[PAPER_FAMILY] and figure not in texts["pocket"]
    assert "the paper (arXiv 2312.02238v3)" in texts[PAPER_FAMILY]


def paper_tables(store: RunStore) -> list[Table]:
    found = paper_part(store.manifest(), records(store.summary()), read_run_scores(store))
    return [block for block in found if isinstance(block, Table)]


def cell_of(table: Table, plugin: str, method: str, column: str) -> str:
    place = next(i for i, name in enumerate(table.header) if name.startswith(column))
    return next(row[place] for row in table.rows if row[:2] == (plugin, method))


def test_pooled_rows_are_means_over_the_images_of_all_and_have_no_fid(tmp_path: Path):
    store = paper_run(tmp_path, PAPER_FAMILY)
    data = store.manifest().as_data()
    # a second ControlNet and a second LoRA with the images of the first ones
    twins = {"pocket-canny": ("other-depth", "depth"), "pocket-outline": ("other-style", None)}
    specs = {spec["id"]: spec for spec in data["plugins"]}
    for old, (new, condition) in twins.items():
        copy = {**specs[old], "id": new, **({"condition": condition} if condition else {})}
        data["plugins"].append(copy)
    store.write_manifest(data)
    scores = read_run_scores(store)
    for (arm, metric), cell in list(scores.cells.items()):
        if arm.plugin in twins and (metric != "edge-iou" or arm.plugin != "pocket-canny"):
            twin = replace(arm, plugin=twins[arm.plugin][0])
            shifted = {pair: value - 0.1 for pair, value in cell.by_pair.items()}
            scores.cells[twin, metric] = replace(cell, arm=twin, by_pair=shifted)
            scores.arms = sorted({*scores.arms, twin}, key=arm_order)
    rows = records(store.summary())
    rows += [
        {**row, "plugin": twins[row["plugin"]][0]}
        for row in rows
        if row["plugin"] in twins and row["metric"] != "edge-iou"
    ]
    found = list(paper_part(store.manifest(), rows, scores))
    conditions, styles = [block for block in found if isinstance(block, Table)]
    both, loras = "pocket-canny + other-depth", "other-style + pocket-outline"
    for table, pooled, one in (
        (conditions, both, "pocket-canny"),
        (styles, loras, "pocket-outline"),
    ):
        assert cell_of(table, pooled, "X-Adapter", "FID") == "-"
        alone = float(cell_of(table, one, "X-Adapter", "CLIP").split()[0])
        together = float(cell_of(table, pooled, "X-Adapter", "CLIP").split()[0])
        assert together == pytest.approx(alone - 0.05, abs=2e-4)
    # two metrics of conditions are not averaged
    assert cell_of(conditions, both, "X-Adapter", "condition") == "-"
    assert cell_of(styles, loras, "X-Adapter", "style similarity") != "-"


def test_paper_mode_marks_directions_and_names_the_papers_deviation_and_its_fid(tmp_path: Path):
    store = paper_run(tmp_path, PAPER_FAMILY)
    conditions, styles = paper_tables(store)
    for table in (conditions, styles):
        assert {"FID (lower is better)", "CLIP (higher is better)"} <= set(table.header)
        assert not any(" + " in row[0] for row in table.rows)  # one plugin alone is not pooled
    assert "edge-iou (higher is better)" in {row[-1] for row in conditions.rows}
    text = (store.tables_dir / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "± is the standard deviation over images, not an interval" in text
    assert "FID is biased: with fewer images it is higher" in text


def test_the_papers_style_has_no_value_for_the_base_row(tmp_path: Path):
    store = paper_run(tmp_path, "pocket")
    text = (store.tables_dir / "report.md").read_text(encoding="utf-8")
    part = text.split("table 2)")[1].split("\n## ")[0]
    base = next(line for line in part.splitlines() if "| Base model |" in line)
    assert base.split("|")[6].strip() == "-"
    assert "self-reference: this is the base image" in text


def test_paper_mode_asks_for_the_papers_metrics(store: RunStore):
    manifest = store.manifest()
    assert selected_metrics(manifest) == ("edge-f1",)
    asked = selected_metrics(manifest, "paper")
    assert asked == ("edge-f1", "pocket-fid", "pocket-clip", "pocket-style-paper", "edge-iou")
    changed = manifest.model_copy(update={"mode": "paper"})
    assert selected_metrics(changed) == asked
    assert "mode" not in manifest.as_data() and changed.as_data()["mode"] == "paper"
    write_report(store, mode="paper")
    text = (store.tables_dir / "report.md").read_text(encoding="utf-8")
    assert "## The paper's protocol" in text
    write_report(store)
