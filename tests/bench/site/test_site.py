"""The static site: complete by itself, equal to the tables, safe with texts of others."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from bench.analysis import Arm, answers, run_sentence
from bench.analysis.glossary import glossary, method_name
from bench.analysis.words import MEANINGS, keeps, run_count
from bench.cli.exits import USER_ERROR
from bench.errors import UserError
from bench.publish import publish_run
from bench.site import SiteOptions, build_site
from bench.site.examples import base_of
from bench.site.pages import ASSETS
from bench.store import RunStore, records
from bench.store.files import png_bytes
from plugins_manifest.documents import read_json, read_yaml
from plugins_manifest.images import read_image
from plugins_manifest.outputs import html_text
from tests.bench.drawn_run import judge_run
from tests.bench.report.test_report import HOSTILE
from tests.bench.site.conftest import copied_run
from tests.bench.site.reading import Page, contents, pages

pytestmark = pytest.mark.system

FIRST_VISIT = 1_500_000
FEED = "{http://www.w3.org/2005/Atom}"


def found(run: RunStore) -> list:
    return answers(records(run.compatibility()))


def card_names(index: Page) -> list[str]:
    cards = [a for tag, a in index.tags if tag == "li" and "data-search" in a]
    return [str(card["data-search"]).split()[0] for card in cards]


def page_of(site: Path, plugin: str) -> Page:
    return Page(site / "runs" / "drawn" / plugin / "index.html")


def test_a_run_gives_cards_worst_first_and_a_page_for_each_plugin(run: RunStore, site: Path):
    index = Page(site / "index.html")
    names = card_names(index)
    assert names == [answer.plugin for answer in found(run)] and len(names) == 3
    for name in names:
        page = page_of(site, name)
        assert any(tag == "h1" for tag, _ in page.tags) and name in page.words
        assert sum(a.get("class") == "shot" for _, a in page.tags) >= 15


def test_words_are_those_of_the_analysis(run: RunStore, site: Path):
    index = Page(site / "index.html").words
    assert run_sentence(found(run)) in index
    for answer in found(run):
        page = page_of(site, answer.plugin).words
        assert answer.advice[1:] in index
        assert answer.summary[1:] in page
        assert answer.row is None or keeps(answer.row) in index
    about = Page(site / "about.html").words
    assert all(meaning in about for meaning in MEANINGS.values())
    assert all(term in about and meaning in about for term, meaning in glossary())


def test_every_link_leads_to_a_file_of_the_site(site: Path):
    listed = {*read_json(site / "site.json")["files"], "site.json"}
    assert listed == contents(site).keys()
    for page in pages(site):
        assert len(page.links) > 5
        for link in page.links:
            target = page.target(link) if not link.startswith("#") else page.path
            assert target.is_relative_to(site.resolve()) and target.is_file(), link


def test_pages_load_nothing_from_elsewhere_and_have_no_inline_code(site: Path):
    for page in pages(site):
        assert not any(re.match(r"[a-z]+:|//", link) for link in page.links)
        for tag, attributes in page.tags:
            assert tag != "style" and "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            assert tag != "script" or attributes["src"]
        policies = [a for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
        assert "default-src 'none'" in str(policies[0]["content"])
        assert "unsafe" not in str(policies[0]["content"])
    for name in ASSETS:
        assert "http" not in (site / name).read_text()


def test_pages_can_be_shared(run: RunStore, site: Path):
    for answer in found(run):
        page = page_of(site, answer.plugin)
        assert page.meta("og:title") == f"{answer.plugin}: {answer.word}"
        assert page.meta("og:description") == f"{answer.sentence}."
        assert page.target(str(page.meta("og:image"))).read_bytes()[:2] == b"\xff\xd8"


def test_a_first_visit_is_small(site: Path):
    for page in pages(site):
        sources = (str(a["src"]) for tag, a in page.tags if tag in ("img", "script"))
        loaded = {page.target(source) for source in sources if source in page.links}
        size = sum(path.stat().st_size for path in loaded) + page.path.stat().st_size
        styles = (site / name for name in ASSETS if name.endswith(".css"))
        assert size + sum(path.stat().st_size for path in styles) < FIRST_VISIT


def test_pictures_have_alternative_texts_and_sizes(site: Path):
    for page in pages(site):
        for attributes in (a for tag, a in page.tags if tag == "img"):
            assert attributes["height"] and attributes["alt"] is not None
        without = [a for tag, a in page.tags if tag == "img" and not a["alt"]]
        differences = [a for _, a in page.tags if a.get("class") == "difference"]
        assert len(without) == len(differences)  # whose second picture has the text


def test_runs_of_the_same_trials_show_their_own_pictures(
    run: RunStore, drawn: RunStore, tmp_path: Path
):
    other = copied_run(drawn, tmp_path / "other")
    rows = records(other.results())
    for row in rows:
        pixels = 255 - read_image(other.folder / row["image"])
        row["image"], row["image_sha256"] = other.write_image_file(
            row["trial_id"], png_bytes(pixels)
        )
    other.write_results("all", rows)
    judge_run(other)
    build_site([run.folder, other.folder], tmp_path / "both", SiteOptions())
    for plugin in (answer.plugin for answer in found(run)):
        shown = [
            {str(a["href"]) for _, a in Page(path).tags if a.get("class") == "shot"}
            for path in (tmp_path / "both" / "runs").glob(f"*/{plugin}/index.html")
        ]
        assert len(shown) == 2 and shown[0] and not shown[0] & shown[1]


def test_badges_have_the_schema_of_shields(run: RunStore, site: Path):
    badge = read_json(site / "runs" / "drawn" / "badge.json")
    assert badge["message"] == run_count(found(run)) and badge["label"] == "drawn"
    for answer in found(run):
        folder = site / "runs" / "drawn" / answer.plugin
        badge = read_json(folder / "badge.json")
        assert set(badge) == {"schemaVersion", "label", "message", "color"}
        assert badge["schemaVersion"] == 1 and badge["label"] == answer.plugin
        assert badge["message"].startswith(answer.word)
        assert re.fullmatch(r"#[0-9a-f]{6}", badge["color"])
        picture = ElementTree.fromstring((folder / "badge.svg").read_text(encoding="utf-8"))
        assert picture.get("aria-label") == f"{answer.plugin}: {badge['message']}"


def test_results_are_the_answers(run: RunStore, site: Path):
    data = read_json(site / "results.json")
    expected = json.loads(json.dumps([answer.as_data() for answer in found(run)]))
    assert data["runs"][0]["answers"] == expected
    own = read_json(site / "runs" / "drawn" / "results.json")
    assert len(own["table"]) == len(run.compatibility())
    lines = (site / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(run.compatibility()) + 1


def test_two_builds_are_equal_byte_by_byte(run: RunStore, site: Path, tmp_path: Path):
    build_site([run.folder], tmp_path / "again", SiteOptions())
    assert contents(tmp_path / "again") == contents(site)


def test_an_address_gives_full_links_and_a_sitemap(run: RunStore, tmp_path: Path):
    options = SiteOptions(url="https://example.org/plugins", dataset="me/bench")
    build_site([run.folder], tmp_path, options)
    places = [e.text or "" for e in ElementTree.parse(tmp_path / "sitemap.xml").iter()]
    pages_found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    prefix = "https://example.org/plugins/"
    assert {place.removeprefix(prefix) for place in places if "://" in place} == pages_found
    assert "sitemap.xml" in (tmp_path / "robots.txt").read_text()
    assert str(Page(tmp_path / "index.html").meta("og:image")).startswith(prefix)
    feed = ElementTree.parse(tmp_path / "feed.xml").getroot()
    assert next(e.get("href") for e in feed.iter(f"{FEED}link")) == f"{prefix}index.html"
    known = [answer for answer in found(run) if answer.row and answer.row["retention"]]
    for answer in known:
        results = read_yaml(tmp_path / "runs" / "drawn" / answer.plugin / "eval-results.yaml")
        assert results[0]["dataset"] == {"id": "me/bench", "task_id": "drawn"}
        assert float(results[0]["value"]) == round(100 * answer.row["retention"], 1)


def test_without_an_address_there_is_no_sitemap(site: Path):
    names = contents(site)
    assert "sitemap.xml" not in names and b"Sitemap" not in names["robots.txt"]
    assert not any(name.endswith("eval-results.yaml") for name in names)
    feed = ElementTree.fromstring(names["feed.xml"].decode())
    assert len(list(feed.iter(f"{FEED}entry"))) == 1


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "example.org", 'https://a.org/"x', "https://u:p@a.org"]
)
def test_addresses_that_are_not_public_are_refused(run: RunStore, tmp_path: Path, url: str):
    with pytest.raises(UserError, match="--url"):
        build_site([run.folder], tmp_path / "out", SiteOptions(url=url))
    assert not (tmp_path / "out").exists()


def test_hostile_texts_are_shown_literally(drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "drawn")
    texts = [*HOSTILE, '"><img src=x onerror=alert(1)>']
    cases = list(store.cases().values())
    store.write_cases([replace(case, prompt=f"{texts[i % 4]} {i}") for i, case in enumerate(cases)])
    manifest = read_yaml(store.manifest_path)
    for entry, text in zip(manifest["plugins"], texts, strict=False):
        entry["license"] = text
    store.write_manifest(manifest)
    site = tmp_path / "out"
    build_site([store.folder], site, SiteOptions())
    for page in pages(site):
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"em", "iframe", "object", "form"}
        assert all(a.get("src", "") != "x" for _, a in page.tags)
        scripts = [str(a["src"]).split("/")[-1] for tag, a in page.tags if tag == "script"]
        assert scripts == ["pictures.js", "site.js"]
        assert not any(name.startswith("on") for _, a in page.tags for name in a)
        assert "\u202e" not in page.path.read_text(encoding="utf-8")
        assert not any("evil" in link for link in page.links)
    shown = " ".join(page.text for page in pages(site))
    assert html_text(HOSTILE[0]) in shown


def test_private_names_are_removed(run: RunStore, drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "drawn")
    home = str(Path.home() / "secret" / "m.yaml")
    command = f"xbench run --manifest {home} --out /srv/private/drawn"
    store.write_run_facts({**store.run_facts(), "command": command})
    build_site([store.folder], tmp_path / "out", SiteOptions())
    for name, content in contents(tmp_path / "out").items():
        assert b"secret/" not in content and b"/srv/private" not in content, name


def test_nsfw_plugins_are_left_out(drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "drawn")
    manifest = read_yaml(store.manifest_path)
    hidden = manifest["plugins"][0]["id"]
    manifest["plugins"][0]["nsfw"] = True
    store.write_manifest(manifest)
    build_site([store.folder], tmp_path / "out", SiteOptions())
    for name, content in contents(tmp_path / "out").items():
        assert hidden not in name and hidden.encode() not in content, name
    build_site([store.folder], tmp_path / "out", SiteOptions(nsfw=True))
    assert hidden.encode() in contents(tmp_path / "out")["index.html"]


def test_an_unfinished_run_is_marked_and_ranks_nowhere(
    run: RunStore, drawn: RunStore, tmp_path: Path
):
    store = copied_run(drawn, tmp_path / "half", status="interrupted")
    site = tmp_path / "out"
    done = build_site([run.folder, store.folder], site, SiteOptions())
    assert (done.n_runs, done.n_unfinished) == (2, 1)
    words = Page(site / "index.html").words
    assert "Unfinished:" in words and "ranks nowhere" in words
    assert read_json(site / "runs" / "half" / "badge.json")["message"] == "unfinished"
    assert read_json(site / "results.json")["runs"][1]["answers"] == []
    assert not list((site / "runs" / "half").glob("*/index.html"))
    assert b"half" not in (site / "feed.xml").read_bytes()


def test_a_new_build_removes_what_it_does_not_have(run: RunStore, drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "other")
    site = tmp_path / "out"
    build_site([run.folder, store.folder], site, SiteOptions())
    (site / "mine.txt").write_text("kept")
    build_site([run.folder], site, SiteOptions())
    assert not (site / "runs" / "other").exists()
    assert (site / "mine.txt").read_text() == "kept"


def test_folders_of_others_are_refused(run: RunStore, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    for folder in (tmp_path, run.folder, run.folder / "site"):
        with pytest.raises(UserError, match="--to"):
            build_site([run.folder], folder, SiteOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_site_of_many_plugins_has_cards_for_the_worst_and_all_in_the_table(
    run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bench.site.pages.MAX_CARDS", 2)
    build_site([run.folder], tmp_path / "out", SiteOptions())
    index = Page(tmp_path / "out" / "index.html")
    names = [answer.plugin for answer in found(run)]
    assert card_names(index) == names[:2] and "1 more are in the table" in index.words
    rows = [a for tag, a in index.tags if tag == "tr" and "data-search" in a]
    assert [str(row["data-search"]).split()[0] for row in rows] == names


def test_a_published_run_gives_the_site_of_its_directory(run: RunStore, site: Path, tmp_path: Path):
    publish_run(run.folder, str(tmp_path / "store"), images=True)
    build_site([f"{tmp_path / 'store'}#drawn"], tmp_path / "out", SiteOptions())
    for plugin in (answer.plugin for answer in found(run)):
        page = Page(tmp_path / "out" / "runs" / "drawn" / plugin / "index.html")
        shots = [a["href"] for _, a in page.tags if a.get("class") == "shot"]
        own = [a["href"] for _, a in page_of(site, plugin).tags if a.get("class") == "shot"]
        assert shots == own and len(own) > 10


def test_a_run_that_was_published_without_images_is_refused(run: RunStore, tmp_path: Path):
    publish_run(run.folder, str(tmp_path / "store"))
    with pytest.raises(UserError, match="without its images"):
        build_site([f"{tmp_path / 'store'}#drawn"], tmp_path / "out", SiteOptions())


def test_a_damaged_run_is_refused(drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "drawn")
    path = store.image_path(records(store.trials())[0]["trial_id"])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        build_site([store.folder], tmp_path / "out", SiteOptions())
    assert not (tmp_path / "out" / "index.html").exists()


def test_card_text_and_results_can_be_parsed(run: RunStore, site: Path):
    for answer in found(run):
        text = (site / "runs" / "drawn" / answer.plugin / "model-card.md").read_text()
        assert text.startswith("## ") and MEANINGS[answer.word] in text
        assert yaml.safe_load(text.splitlines()[0]) is None


def test_the_command_reports_what_it_wrote(run: RunStore, tmp_path: Path):
    from click.testing import CliRunner

    from bench.cli.main import main

    runner = CliRunner()
    done = runner.invoke(main, ["site", str(run.folder), "--to", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_plugins"] == 3
    failed = runner.invoke(main, ["site", str(tmp_path / "none"), "--to", str(tmp_path / "new")])
    assert failed.exit_code == USER_ERROR and "no run directory" in failed.output


def test_before_is_the_base_model_at_the_same_plugin_scale():
    arms = [Arm("p", "lora", "base", None, scale, None) for scale in (0.5, 1.0, 2.0)]
    for scale, expected in ((0.5, 0), (None, 1), (1.8, 2)):
        after = Arm("p", "lora", "xadapter", 0.5, scale, 1.0)
        assert base_of([*arms, after], after) == arms[expected]
    assert base_of([after], after) is None


def test_examples_are_ordered_by_what_is_left_of_the_base_image(run: RunStore, site: Path):
    scores, rows = records(run.scores()), records(run.compatibility())
    prompts = {case.case_id: case.prompt for case in run.cases().values()}
    judged = [answer for answer in found(run) if answer.row is not None]
    assert len(judged) == 2
    for answer in judged:
        metric = next(r["function_metric"] for r in rows if r["plugin"] == answer.plugin)
        own = [r for r in scores if (r["plugin"], r["metric"]) == (answer.plugin, metric)]
        base = {r["case_id"]: r["value"] for r in own if r["method"] == "base"}
        after = [r for r in own if all(r[k] == answer.row[k] for k in ("method", "t0"))]
        order = sorted((r["value"] - base[r["case_id"]], r["case_id"]) for r in after)
        assert len(order) == 24
        words = page_of(site, answer.plugin).words
        for title, place in (("Typical", 12), ("Best", 23), ("Worst", 0)):
            prompt = re.escape(prompts[order[place][1]])
            assert re.search(rf"{title} prompt(, [A-Z][a-z ]+)* {prompt} seed", words)


def test_a_method_without_a_setting_to_use_is_not_called_unmeasured(run: RunStore, site: Path):
    rows = records(run.compatibility())
    lost = {
        (r["plugin"], r["method"])
        for r in rows
        if r["level"] == "method" and r["verdict"] is None and r["status"] == "measured"
    }
    for plugin, method in sorted(lost):
        verdicts = {
            r["verdict"]
            for r in rows
            if (r["level"], r["plugin"], r["method"]) == ("setting", plugin, method)
        }
        card = (site / "runs" / "drawn" / plugin / "model-card.md").read_text()
        expected = "lost" if verdicts == {"lost"} else "open"
        assert f"| {method_name(method)} | {expected} |" in card
    assert ("pocket-outline", "sdedit") in lost
    index = Page(site / "index.html")
    assert "not measured" not in index.words


def test_a_lost_plugin_shows_what_its_best_setting_keeps(drawn: RunStore, tmp_path: Path):
    store = copied_run(drawn, tmp_path / "drawn")
    table = store.compatibility()
    own = (table["plugin"] == "pocket-outline") & table["verdict"].notna()
    table.loc[own, "verdict"] = "lost"
    table.loc[own, "recommended"] = False
    store.write_table("compatibility", table)
    build_site([store.folder], tmp_path / "out", SiteOptions())
    index = Page(tmp_path / "out" / "index.html")
    names = card_names(index)
    assert names[0] == "pocket-outline" and "1 lost" in index.words
    assert "✕ Lost" in index.words and "with X-Adapter at t0 0." in index.words
    assert any("is-lost" in str(a.get("class")) for _, a in index.tags)
