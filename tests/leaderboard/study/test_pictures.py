"""Claims about the pictures sent to raters."""

import io
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from bench.store.rows import records
from leaderboard.data.run_files import FolderFiles
from leaderboard.study.design import Study, design_study
from leaderboard.study.pictures import study_picture
from leaderboard.study.schema import PICTURES
from leaderboard.study.votes import VotesDatabase
from tests.leaderboard.studies import BLINDING
from tests.leaderboard.study_run import RUN_ID, write_study_run


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_study_run(tmp_path / "run").folder


@pytest.fixture
def study(folder) -> Study:
    from bench.store.run_store import RunStore

    store = RunStore.open(folder)
    found = records(store.trials().merge(store.results(), on="trial_id"))
    return design_study(found, run_id=RUN_ID, run_name="run", family="pocket")


@pytest.fixture
def database(tmp_path, study):
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(study, BLINDING)
        yield database


def sent(database: VotesDatabase, folder: Path, key: str, what: str = "picture") -> bytes | None:
    known = {RUN_ID: FolderFiles(folder)}
    return study_picture(database, known.get, what=what, key=key)


def test_both_pictures_of_a_pair_have_one_size_whatever_made_them(database, folder, study):
    for pair in database.pairs(study.study_id):
        sizes = set()
        for key in (pair.first_key, pair.second_key):
            content = sent(database, folder, key)
            assert content is not None
            sizes.add(Image.open(io.BytesIO(content)).size)
        assert sizes == {(64, 64)}


def test_pictures_do_not_reveal_their_method(database, folder, study):
    for row in database.pictures(study.study_id):
        content = sent(database, folder, row.picture_key)
        assert content is not None
        picture = Image.open(io.BytesIO(content))
        picture.load()
        assert picture.info == {} and row.method.encode() not in content
        assert row.trial_id.encode() not in content


def test_fidelity_has_a_condition_or_examples_of_the_style(database, folder, study):
    for row in database.pictures(study.study_id):
        condition = sent(database, folder, row.picture_key, "condition")
        assert (condition is not None) == (row.plugin == "canny")
        for n in range(4):
            example = sent(database, folder, row.picture_key, f"example-{n}")
            assert (example is not None) == (n < 2)  # two of three prompts differ
    for what in ("", "example-", "example--1", "../picture", "base"):
        assert sent(database, folder, row.picture_key, what) is None


def test_nothing_outside_the_run_is_sent(database, folder, study, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    (folder / "images" / "link.png").symlink_to(secret)
    key = database.pictures(study.study_id)[0].picture_key
    for path in ("../secret.png", str(secret), "images/link.png", "images", "", "a\0b", "run.json"):
        with database.engine.begin() as connection:
            connection.execute(
                update(PICTURES).where(PICTURES.c.picture_key == key).values(image=path)
            )
        assert sent(database, folder, key) is None, path


def test_unknown_keys_and_runs_that_have_gone_give_nothing(database, folder, study):
    key = database.pictures(study.study_id)[0].picture_key
    assert sent(database, folder, "0" * 32) is None
    assert study_picture(database, {}.get, what="picture", key=key) is None


def test_a_picture_too_large_to_hold_is_not_sent(database, folder, study):
    row = database.pictures(study.study_id)[0]
    Image.new("1", (8000, 4000)).save(folder / row.image)
    assert sent(database, folder, row.picture_key) is None


def test_the_condition_of_a_pair_does_not_depend_on_its_methods(database, folder, study):
    large = Image.new("RGB", (96, 96))
    large.save(folder / "conditions" / "large.png")
    other = PICTURES.c.method == "xadapter"
    with database.engine.begin() as connection:
        connection.execute(
            update(PICTURES)
            .where(other, PICTURES.c.plugin == "canny")
            .values(condition_path="conditions/large.png")
        )
    for pair in database.pairs(study.study_id):
        if pair.plugin == "canny":
            keys = pair.first_key, pair.second_key
            conditions = {sent(database, folder, key, "condition") for key in keys}
            assert len(conditions) == 1 and None not in conditions
            size = Image.open(io.BytesIO(conditions.pop() or b"")).size
            assert size == (32, 32)
