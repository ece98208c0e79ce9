"""Claims that hold for every installed metric, on random weights where it needs weights."""

import re
import subprocess
import sys

import pytest

from bench.registry import find_metric, installed
from metrics.base import MetricUnavailableError, describe
from metrics.weights.catalog import CATALOG
from tests.metrics.random_weights import on_random_weights

pytestmark = pytest.mark.system

NAMES = sorted(installed("metrics"))
NEEDY = [name for name in NAMES if set(find_metric(name).needs) & set(CATALOG)]
FULL_SIZE = {"openpose-body", "vgg16"}  # one size only, seconds to build


def marked(name: str):
    is_large = FULL_SIZE & set(find_metric(name).needs)
    return pytest.param(name, marks=pytest.mark.slow if is_large else ())


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_says_what_it_is(name):
    facts = describe(find_metric(name))
    assert facts["name"] == name
    assert facts["better"] in ("higher", "lower")
    assert facts["level"] in ("image", "group")
    assert 10 < len(facts["summary"]) < 90
    assert (facts["recipe"] is None) == (facts["unavailable"] is not None)


@pytest.mark.parametrize("name", NEEDY)
def test_without_weights_one_message_says_which_where_and_how(name, monkeypatch, tmp_path):
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path))
    metric = find_metric(name)
    weights = CATALOG[metric.needs[0]]
    for ask in (metric.recipe, metric.selftest):
        with pytest.raises(MetricUnavailableError) as caught:
            ask()
        message = str(caught.value)
        assert weights.title in message and weights.files[0].name in message
        assert str(tmp_path) in message and "XBENCH_METRIC_WEIGHTS" in message
        assert f"xbench metrics fetch {weights.name}" in message


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_every_self_test_passes_and_the_recipe_names_weights_and_device(name):
    metric = on_random_weights(find_metric(name))
    metric.selftest()
    if name in NEEDY:
        assert re.search(r"\b[0-9a-f]{12}\b", metric.recipe())
        assert "float32 on cpu, one picture at a time" in metric.recipe()


def test_listing_loads_no_torch_and_asks_no_network():
    code = (
        "import sys, socket\n"
        "def refuse(*args): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from importlib.metadata import entry_points\n"
        "from metrics.base import describe\n"
        "for p in entry_points(group='xbench.metrics'): describe(p.load())\n"
        "print({'torch', 'scipy', 'transformers', 'open_clip'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_every_metric_that_wants_weights_names_them_as_fetch_does():
    assert NEEDY
    for name in NEEDY:
        assert set(find_metric(name).needs) <= set(CATALOG)
