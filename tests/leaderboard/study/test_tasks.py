"""Claims about the order of a rater's questions."""

from leaderboard.study.tasks import example_pictures, next_pair, next_picture
from leaderboard.study.votes import VotesDatabase
from tests.leaderboard.studies import BLINDING, rows, study

STUDY = study(rows(n_cases=3))
RATERS = [f"{n:032x}" for n in range(4)]


def all_asked(tmp_path, rater_id: str) -> list:
    """Return all tasks of a rater in order."""
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(STUDY, BLINDING)
        pairs = database.pairs(STUDY.study_id)
    done: set = set()
    tasks = []
    settings = {"rater_id": rater_id, "blinding": BLINDING, "n_shared": STUDY.n_shared}
    while task := next_pair(pairs, done, **settings):
        tasks.append(task)
        done.add((task.pair.pair_id, task.question))
    return tasks


def test_every_rater_answers_both_questions_on_every_pair_once_in_an_order_of_their_own(tmp_path):
    orders = [all_asked(tmp_path, rater_id) for rater_id in RATERS]
    for tasks in orders:
        asked = [(task.pair.pair_id, task.question) for task in tasks]
        assert len(set(asked)) == len(asked) == 2 * len(STUDY.pairs)
        for quality, fidelity in zip(asked[::2], asked[1::2], strict=True):
            assert quality == (fidelity[0], "quality") and fidelity[1] == "fidelity"
    assert len({tuple(task.pair.pair_id for task in tasks) for tasks in orders}) == len(RATERS)


def test_everyone_gets_the_shared_pairs_first(tmp_path):
    for rater_id in RATERS:
        first = all_asked(tmp_path, rater_id)[: 2 * STUDY.n_shared]
        assert {task.pair.position for task in first} == set(range(STUDY.n_shared))


def test_answers_follow_the_pictures_whichever_side_they_are_on(tmp_path):
    sides = set()
    for task in all_asked(tmp_path, RATERS[0]):
        sides.add(task.shown_left)
        chosen = {"left": task.left_key, "right": task.right_key}
        for choice, key in chosen.items():
            meant = task.pair.first_key if task.answer(choice) == "first" else task.pair.second_key
            assert meant == key
        assert (task.answer("tie"), task.answer("skip")) == ("tie", "skip")
        assert task.left_key != task.right_key
    assert sides == {"first", "second"}


def test_every_picture_is_rated_once_on_both_questions(tmp_path):
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(STUDY, BLINDING)
        pictures = database.pictures(STUDY.study_id)
    done: set = set()
    while task := next_picture(pictures, done, rater_id=RATERS[0], blinding=BLINDING):
        done.add((task.picture.picture_key, task.question))
    assert len(done) == 2 * len(STUDY.pictures)


def test_examples_of_a_style_are_of_other_prompts(tmp_path):
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(STUDY, BLINDING)
        pictures, pairs = database.pictures(STUDY.study_id), database.pairs(STUDY.study_id)
    for pair in pairs:
        examples = example_pictures(pictures, pair)
        assert len(examples) == 2
        assert all(e.method == "base" and e.plugin == pair.plugin for e in examples)
        assert pair.prompt not in {e.prompt for e in examples}
