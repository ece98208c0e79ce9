"""Claims about the study's page, run by Streamlit itself."""

import pytest
from streamlit.testing.v1 import AppTest

from leaderboard.study.config import VOTES_VARIABLE, voting
from leaderboard.study.runs import RESULTS_VARIABLE
from leaderboard.study.schema import QUESTIONS
from leaderboard.study.tokens import SECRET_VARIABLE
from leaderboard.study.votes import Vote
from tests.leaderboard.study_run import PROMPT, write_study_run

SCRIPT = "from leaderboard.views import study\nstudy.show()\n"
N_ROUND = 2 * 12  # two questions on one pair of each plugin and two methods


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "runs"))
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path / "votes.sqlite"))
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    write_study_run(tmp_path / "runs" / "one")
    yield AppTest.from_string(SCRIPT, default_timeout=30)
    voting().database.close()


def press(app: AppTest, label: str) -> AppTest:
    return next(b for b in app.button if b.label == label).click().run()


def counted(app: AppTest) -> str:
    return app.get("progress")[0].proto.text


def test_each_answer_is_counted_and_the_two_questions_follow_each_other(app):
    app.run()
    assert not app.exception
    assert counted(app) == f"0 of {N_ROUND} answers counted"
    assert app.subheader[0].value.startswith("Image quality")
    press(app, "Left")
    assert counted(app) == f"1 of {N_ROUND} answers counted"
    assert app.subheader[0].value.startswith("Fidelity")
    for label in ("No difference", "Skip", "Right"):
        press(app, label)
    assert counted(app) == f"3 of {N_ROUND - 1} answers counted, 1 skipped"
    assert app.subheader[0].value.startswith("Image quality")
    database = voting().database
    (study_id,) = database.study_ids()
    assert database.n_votes(study_id) == 3


def test_prompts_are_shown_literally(app):
    app.run()
    caption = next(c.value for c in app.caption if c.value.startswith("Prompt"))
    assert "\\<b\\>red" in caption and PROMPT not in caption


def test_after_the_last_question_thanks_are_given(app):
    app.run()
    home = voting()
    (study_id,) = home.database.study_ids()
    rater_id = home.blinding.rater_of(app.session_state["rater_token"])
    assert rater_id is not None
    for pair in home.database.pairs(study_id):
        for question in QUESTIONS:
            home.database.cast(Vote(rater_id, pair.pair_id, question, "tie", "first", 1.0))
    app.run()
    assert "Thank you" in app.success[0].value
    assert {button.label for button in app.button} == {"Undo", "Show the methods"}
    assert home.database.n_votes(study_id) == 72


def test_ratings_are_counted_and_shown_without_the_papers_figures(app):
    app.run()
    app.segmented_control[0].set_value("Rate").run()
    for label in ("good", "very good", "Skip"):
        press(app, label)
    assert counted(app).startswith("2 of ") and counted(app).endswith(", 1 skipped")
    app.segmented_control[0].set_value("Results").run()
    assert not app.exception
    table = app.dataframe[0].value
    assert "mean ± sd" in table and not [c for c in table if "paper" in c]


def test_results_rank_the_votes_and_give_the_reason_without_an_interval(app):
    app.run()
    for _ in range(2):
        press(app, "Left")
    app.segmented_control[0].set_value("Results").run()
    assert not app.exception
    assert set(app.dataframe[0].value["method"]) <= {
        "base",
        "floor",
        "sdedit t0 0.9",
        "xadapter t0 0.9",
    }
    captions = " ".join(c.value for c in app.caption)
    assert "raters are too few for an interval" in captions.replace("\\", "")


def test_a_run_without_pairs_and_an_unavailable_database_are_reported(app, monkeypatch, tmp_path):
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path))
    app.run()
    assert "is a folder" in app.info[0].value.replace("\\", "") and not app.exception
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path / "votes.sqlite"))
    write_study_run(tmp_path / "other" / "alone", n_cases=0)
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "other"))
    app.run()
    assert "no two images" in app.info[0].value and not app.exception


def test_of_a_database_that_is_away_visitors_read_no_more_than_that(app, monkeypatch, caplog):
    with monkeypatch.context() as context:
        context.setenv(VOTES_VARIABLE, "postgresql://me:hidden@127.0.0.1:1/votes")
        app.run()
        app.run()
    assert app.info[0].value.startswith("votes cannot be stored at the moment")
    assert "127" not in app.info[0].value and not app.exception
    (message,) = [
        record.message for record in caplog.records if "cannot be opened" in record.message
    ]
    assert "127.0.0.1:1" in message and "hidden" not in message  # tried once, not for each visitor
