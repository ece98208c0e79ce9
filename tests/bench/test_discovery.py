"""An extension without a member of its contract is refused by name; the others go on."""

import pytest

from tests.extension import in_process_with

MODULE = """
from types import SimpleNamespace as Object

def method(**own):
    return lambda: Object(**{
        "side": "base", "uses_t0": False, "uses_plugin": True, "uses_adapter": False,
        "shares": (), "render": lambda session, variant: None, **own})

def metric(**own):
    return Object(**{
        "better": "higher", "level": "image", "needs": (), "recipe": lambda: "ours",
        "applies_to": lambda image: True, "score": lambda images, references: [], **own})

def without(make, member):
    made = make() if callable(make) else make
    delattr(made, member)
    return lambda: made

GOOD_METHOD = method(name="good-method")
NO_RENDER = without(method(name="no-render"), "render")
NO_SHARES = without(method(name="no-shares"), "shares")
GOOD_METRIC = metric(name="good-metric")
NO_SCORE = without(metric(name="no-score"), "score")
NO_NEEDS = without(metric(name="no-needs"), "needs")
BAD_LEVEL = metric(name="bad-level", level="picture")
TEXT_SCORE = metric(name="text-score", score="0.5")
NO_LOAD = Object(name="no-load", fingerprint=dict, mapper_problem=dict)
NO_PIN = Object(name="no-pin", hosts=(), parse=str, fetch=list)
NO_LOCATE = Object(name="no-locate")
NO_FIND = Object(name="no-find", words="", network=None)
"""
POINTS = {
    "xbench.methods": {"good-method": "GOOD_METHOD", "no-render": "NO_RENDER"}
    | {"no-shares": "NO_SHARES"},
    "xbench.metrics": {"good-metric": "GOOD_METRIC", "no-score": "NO_SCORE"}
    | {"no-needs": "NO_NEEDS", "bad-level": "BAD_LEVEL", "text-score": "TEXT_SCORE"},
    "xbench.families": {"no-load": "NO_LOAD"},
    "xbench.sources": {"no-pin": "NO_PIN", "no-locate": "NO_LOCATE"},
    "xbench.detectors": {"no-find": "NO_FIND"},
}
CODE = """
import json
from click.testing import CliRunner
from bench.cli.doctor import _entry_points
from bench.cli.main import main
from bench.plan.conditions import detector_entry
from bench.registry import find_method, find_metric
from plugins_manifest.errors import UserError
from plugins_manifest.schema.references import find_source
from runners.families import find_family

def message(find, name):
    try:
        find(name)
    except UserError as error:
        return str(error)

finders = {"methods": find_method, "metrics": find_metric, "families": find_family,
           "sources": find_source, "detectors": detector_entry}
points = json.loads(%r)
found = {name: message(finders[group.split(".")[1]], name)
         for group, names in points.items() for name in names}
done = CliRunner().invoke(main, ["metrics", "list"])
doctor = [[f.name, f.state, f.detail] for f in _entry_points()]
print(json.dumps({"messages": found, "code": done.exit_code, "list": done.stdout,
                  "err": done.stderr, "doctor": doctor}))
"""
LACKING = {
    "no-render": "method 'no-render' of theirs 1.0 (theirs:NO_RENDER) lacks render()",
    "no-shares": "method 'no-shares' of theirs 1.0 (theirs:NO_SHARES) lacks shares",
    "no-score": "metric 'no-score' of theirs 1.0 (theirs:NO_SCORE) lacks score()",
    "no-needs": "metric 'no-needs' of theirs 1.0 (theirs:NO_NEEDS) lacks needs",
    "bad-level": "has level 'picture' and better 'higher': use one of image, group",
    "text-score": "metric 'text-score' of theirs 1.0 (theirs:TEXT_SCORE) lacks a callable score()",
    "no-load": "family 'no-load' of theirs 1.0 (theirs:NO_LOAD) lacks load()",
    "no-pin": "source 'no-pin' of theirs 1.0 (theirs:NO_PIN) lacks pin()",
    "no-locate": "source 'no-locate' of theirs 1.0 (theirs:NO_LOCATE) lacks locate()",
    "no-find": "detector 'no-find' of theirs 1.0 (theirs:NO_FIND) lacks find",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    import json

    site = tmp_path_factory.mktemp("discovery") / "site"
    code = CODE % json.dumps(POINTS)
    return in_process_with(site, module=MODULE, entry_points=POINTS, code=code)


@pytest.mark.parametrize("name", LACKING)
def test_the_missing_member_and_its_package_are_named(name: str, found: dict) -> None:
    message = found["messages"][name]
    assert LACKING[name] in message
    assert len(message.splitlines()) == 1
    if name != "bad-level":
        assert "add it, or update or uninstall theirs 1.0" in message


def test_complete_extensions_of_the_same_package_are_used(found: dict) -> None:
    assert found["messages"]["good-method"] is None
    assert found["messages"]["good-metric"] is None


def test_the_other_metrics_are_listed(found: dict) -> None:
    assert found["code"] == 0
    assert "good-metric" in found["list"] and "edge-f1" in found["list"]
    assert "no-score" not in found["list"]
    assert "left out: metric 'no-score' of theirs 1.0" in found["err"]


def test_doctor_names_each_broken_extension_and_lists_the_others(found: dict) -> None:
    problems = [detail for _, state, detail in found["doctor"] if state == "problem"]
    assert len(problems) == len(LACKING)
    good = {name: detail for name, state, detail in found["doctor"] if state == "ok"}
    assert "good-method" in good["methods"] and "xadapter" in good["methods"]
