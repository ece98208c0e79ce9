"""The end of a run: every plugin, worst first, in the words of one module; JSON has the same."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from bench.analysis import answers, run_sentence
from bench.analysis.words import MEANINGS, WORDS, mark_of, short_verdict
from bench.cli.main import main
from bench.report.text import (
    NO_VERDICTS,
    WIDTH,
    format_answers,
    format_summary,
    headline_metrics,
)
from bench.report.write import write_report
from bench.store import Row, RunStore, records, schema
from tests.bench.drawn_run import compatible_run

pytestmark = pytest.mark.system

POLICY = Path(__file__).parents[3] / "bench" / "analysis" / "verdict_policy.yaml"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return compatible_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def text(store: RunStore) -> str:
    table = store.compatibility()
    return f"{format_answers(table)}\n\n{format_summary(store.summary(), {}, table)}"


def setting(plugin: str, method: str, t0: float | None, **values: object) -> Row:
    """Return a row of `schema.COMPATIBILITY` on level setting."""
    row: Row = dict.fromkeys(schema.COMPATIBILITY.names)
    facts = {"level": "setting", "plugin": plugin, "kind": "lora", "method": method, "t0": t0}
    return row | facts | {"status": "measured", "seconds": 0.1} | values


LOST = {"verdict": "lost", "verdict_p": 0.01}
WORKS = {"verdict": "works", "verdict_p": 0.01, "retention": 0.9, "retention_low": 0.85}
ROWS = [
    setting("fine", "sdedit", 0.5, **WORKS, retention_high=0.95, recommended=True),
    setting("gone", "sdedit", 0.5, **LOST, retention=0.1, retention_low=0.0, retention_high=0.2),
    setting("gone", "xadapter", 0.5, **LOST),
    setting("idle", "sdedit", 0.5, verdict="open", status="no effect"),
    setting("unknown", "sdedit", 0.5, verdict="open", verdict_more_prompts=40),
    setting("half", "xadapter", 0.7, verdict="degraded", retention=0.6, recommended=True),
    setting("worse", "xadapter", 0.7, verdict="degraded", retention=0.5, recommended=True),
]


def test_answers_are_ordered_from_the_worst() -> None:
    found = answers(ROWS)
    assert [a.plugin for a in found] == ["gone", "worse", "half", "unknown", "fine", "idle"]
    ranks = [WORDS.index(a.word) for a in found]
    assert ranks == sorted(ranks)
    assert run_sentence(found).startswith("1 of 6 plugins is shown to keep working")
    assert all(part in run_sentence(found) for part in ("1 lost", "2 degraded", "1 needs more"))


def test_every_plugin_is_printed_whoever_wins_and_the_worst_first(text: str) -> None:
    sentences, *blocks = text.split("\n\n")
    titles = [block.split(" (")[0] for block in blocks[:-1]]
    assert sorted(titles) == ["pocket-canny", "pocket-idle", "pocket-outline"]
    places = [sentences.index(f"\n  {title} ") for title in titles]
    assert places == sorted(places)
    for block in blocks[:-1]:
        for method in ("base", "floor", "oracle", "sdedit", "xadapter"):
            assert re.search(rf"^[*= ] {method} ", block, re.M), block
        assert len(re.findall(r"^[*= ] (?:sdedit|xadapter) ", block, re.M)) == 4
    assert not re.search(r"\.\.\.$", text, re.M)


def test_the_end_of_a_run_fits_100_columns_and_is_ascii(text: str) -> None:
    assert max(map(len, text.splitlines())) <= WIDTH == 100
    assert text.isascii()


def test_scales_make_no_line_wider_than_100_columns(store: RunStore) -> None:
    changed = {"plugin_scale": 0.85, "adapter_scale": 1.25}
    tables = [frame.assign(**changed) for frame in (store.summary(), store.compatibility())]
    text = format_summary(tables[0], {}, tables[1])
    assert "xadapter p0.85 a1.25" in text and not re.search(r"\.\.\.$", text, re.M)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_marks_and_words_of_the_table_are_those_of_the_verdicts(store: RunStore, text: str) -> None:
    rows = [row for row in records(store.compatibility()) if row["level"] == "setting"]
    assert sum(mark_of(row) == "*" for row in rows) == len(re.findall(r"^\* ", text, re.M)) == 2
    assert sum(mark_of(row) == "=" for row in rows) == len(re.findall(r"^= ", text, re.M)) > 0
    used = {short_verdict(row).split(" +")[0] for row in rows} - {""}
    legend = text.rsplit("\n\n", maxsplit=1)[-1]
    assert used <= set(MEANINGS) and all(
        f"{word}: {meaning}" in legend for word, meaning in MEANINGS.items() if word in used
    )
    assert "score" not in text and "gain" not in text and "split" not in text


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        (setting("p", "sdedit", 0.5, verdict="open", verdict_more_prompts=7), "open +7"),
        (setting("p", "sdedit", 0.5, verdict="open", verdict_more_prompts=7800), "open +7.8k"),
        (setting("p", "sdedit", 0.5, verdict="open", verdict_more_prompts=99_900), "open +10k+"),
        (setting("p", "sdedit", 0.5, verdict="open"), "open"),
        (setting("p", "sdedit", 0.5, verdict="open", status="no effect"), "no effect"),
        (setting("p", "sdedit", 0.5, verdict="works"), "works"),
        (setting("p", "base", None), ""),
    ],
)
def test_a_verdict_fits_a_narrow_column(row: Row, cell: str) -> None:
    assert short_verdict(row) == cell


def test_the_distance_of_the_table_has_an_interval_and_counts_no_style(store: RunStore) -> None:
    rows = [row for row in records(store.summary()) if row["plugin"] == "pocket-canny"]
    fid = [row | {"metric": "pocket-fid", "low": None, "high": None} for row in rows]
    assert headline_metrics([*rows, *fid], [])["quality"] == "pocket-kid-floor"
    facts = {"quality_reference": "segment", "quality_metric": "pocket-rest"}
    lora = setting("p", "sdedit", 0.5, **facts)
    assert headline_metrics(rows, [lora])["quality"] == "pocket-rest"
    plain = headline_metrics(rows, [lora | {"kind": "controlnet"}])
    assert plain["quality"] == "pocket-kid-floor"


def test_a_lost_plugin_is_not_recommended_with_a_setting() -> None:
    row = setting("p", "sdedit", 0.5, **LOST, recommended=True, among_best=True, retention=0.1)
    (answer,) = answers([row])
    assert "use SDEdit" not in answer.sentence
    assert "no setting is shown to be better" in answer.sentence


def test_the_cheapest_is_named_so_only_where_all_costs_are_known() -> None:
    equal = {"verdict": "works", "among_best": True}
    rows = [
        setting("p", "sdedit", 0.5, **equal, recommended=True),
        setting("p", "xadapter", 0.5, **equal) | {"seconds": None},
    ]
    assert answers(rows)[0].advice.endswith("SDEdit at t0 0.5 is one of them")
    cheaper = setting("p", "hires", 0.5, verdict="open", among_best=True) | {"seconds": 0.01}
    assert answers([rows[0], cheaper])[0].advice.endswith("is the cheapest that works")


def test_json_equals_words(store: RunStore, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(store.folder, tmp_path / "run"))
    facts = json.loads(invoke("report", str(folder), "--json"))
    printed = invoke("report", str(folder))
    found = answers(records(RunStore.open(folder).compatibility()))
    assert facts["sentence"] == run_sentence(found)
    assert facts["answers"] == [answer.as_data() for answer in found]
    flat = " ".join(printed.split())
    places = [flat.index(answer["sentence"]) for answer in facts["answers"]]
    assert places == sorted(places) and facts["sentence"] in flat
    first = next(a for a in facts["answers"] if a["plugin"] == "pocket-canny")
    assert first["word"] == "works" and first["setting"] not in first["equal_settings"]
    assert first["retention_low"] < first["retention"] < first["retention_high"]
    assert {"summary", "compatibility", "report"} <= set(facts)


def test_the_report_has_the_sentences_of_the_console(store: RunStore, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(store.folder, tmp_path / "run"))
    page = write_report(folder).read_text(encoding="utf-8").replace("\\", "")
    part = page.split("## In words")[1].split("\n## ")[0]
    found = answers(records(store.compatibility()))
    places = [part.index(f"- **{answer.plugin}** {answer.summary}.") for answer in found]
    assert places == sorted(places) and run_sentence(found) in page.split("## In words")[0]
    parts = [page.index(f"\n## {answer.plugin} (") for answer in found]
    assert parts == sorted(parts)


def invoke(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_verdict_policy_changes_the_verdicts_and_is_named_in_the_recipe(
    store: RunStore, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(store.folder, tmp_path / "run"))
    strict = tmp_path / "strict.yaml"
    strict.write_text(POLICY.read_text().replace("works: 0.8 ", "works: 0.95 "))
    invoke("report", str(folder), "--verdict-policy", str(strict))
    rows = records(RunStore.open(folder).compatibility())
    canny = [r for r in rows if r["plugin"] == "pocket-canny" and r["level"] == "setting"]
    assert "works" not in {row["verdict"] for row in canny}
    assert all("works > 0.95" in row["recipe"] for row in canny)
    invoke("report", str(folder), "--verdict-policy", str(POLICY))
    assert records(RunStore.open(folder).compatibility()) == records(store.compatibility())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("schema: 1\nworks: 0.2\n", "Field required"),
        (POLICY.read_text().replace("works: 0.8 ", "works: 0.3 "), "lost is 0.4 and works 0.3"),
        (POLICY.read_text().replace("works:", "workz:"), "workz"),
        ("[]", "must be a mapping"),
    ],
)
@pytest.mark.parametrize("command", ["report", "run"])
def test_a_bad_verdict_policy_is_one_error_before_anything_runs(
    store: RunStore, tmp_path: Path, content: str, message: str, command: str
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(content)
    where = [str(store.folder)] if command == "report" else ["--manifest", "pocket-smoke"]
    words = [command, *where, "--verdict-policy", str(policy)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and result.stderr.count("Error:") == 1, result.output
    assert message in result.stderr and "policy.yaml" in result.stderr
    assert "Traceback" not in result.output


def test_tables_of_an_earlier_version_are_printed_without_claims(store: RunStore) -> None:
    old = store.compatibility().assign(verdict=None, among_best=None)
    assert format_answers(old) == NO_VERDICTS
    text = format_summary(store.summary(), {}, old)
    assert "xadapter" in text and "*" not in text and "%" not in text
    assert format_answers(schema.COMPATIBILITY.empty_table().to_pandas()) == ""
    assert format_summary(pd.DataFrame(columns=schema.SUMMARY.names)) == ""
