"""Claims about runs read from tables: the examples of the static site, in few queries."""

import gc
import weakref
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.site.read import read_run
from bench.store import RunStore
from bench.store.recent import RecentItems
from leaderboard.data import open_tables
from leaderboard.data.catalog import read_run as read_tables
from leaderboard.figures.site_runs import open_site_run, read_typical
from tests.bench.drawn_run import compatible_run
from tests.bench.site.conftest import copied_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    folder = tmp_path_factory.mktemp("tables") / "drawn"
    return copied_run(compatible_run(tmp_path_factory.getbasetemp()), folder)


def shown(example) -> tuple:
    shots = [(shot.trial_id, shot.arm, shot.score, shot.missing) for shot in example.shots]
    return (example.titles, example.prompt, example.seed, shots)


def test_examples_and_typical_prompts_are_those_of_the_run_directory(store: RunStore):
    own = {plugin.name: plugin for plugin in read_run(store.folder, "drawn", nsfw=True).plugins}
    read = open_site_run(read_tables(store.folder))
    read_typical(read.plugins)
    assert [plugin.name for plugin in read.plugins] == list(own) and len(own) == 3
    for plugin in read.plugins:
        expected = own[plugin.name]
        assert plugin.typical is not None and expected.typical is not None
        assert shown(plugin.typical)[1:] == shown(expected.typical)[1:]
        assert [shown(e) for e in plugin.examples] == [shown(e) for e in expected.examples]
        assert plugin.audit == expected.audit and plugin.facts == expected.facts


def test_a_picture_that_is_gone_does_not_take_the_page_with_it(store: RunStore, tmp_path: Path):
    other = copied_run(store, tmp_path / "drawn")
    (plugin, *_) = open_site_run(read_tables(other.folder)).plugins
    (shot, *_) = plugin.examples[0].shots
    assert shot.load().ndim == 3
    other.image_path(shot.trial_id).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        shot.load()


def test_a_kept_run_does_not_keep_its_tables_open(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leaderboard.data.sources._OPEN", RecentItems(1))
    run, other = (read_tables(copied_run(store, tmp_path / name).folder) for name in ("a", "b"))
    found = open_site_run(run)
    assert found.plugins[0].typical is not None and found.plugins[0].audit is None
    tables = weakref.ref(open_tables(run))
    open_tables(other)
    gc.collect()
    assert tables() is None and open_site_run(run) is found
    assert found.plugins[1].examples  # opened again
