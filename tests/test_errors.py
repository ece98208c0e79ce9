"""Claims about the project's errors as a whole."""

import ast
import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from plugins_manifest.errors import UserError
from runners.audit import Audit, AuditRow
from runners.base import Variant
from runners.passes import Failure

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners"),
    *("xadapter", "xbench"),
)
AUDIT = Audit((AuditRow("unet.mid", missing=True),))
# arguments of the errors that take others than a message
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "CasesNotFetchedError": (("coco",), {"n_cases": 9, "n_photos": 3, "has_captions": True}),
    "FailedPassError": ((Failure("no memory", "a trace", is_out_of_memory=True),), {}),
    "FetchError": (("gone",), {"code": "gone", "wait_seconds": 2.0}),
    "ImageError": (("cut short",), {"fault": "broken"}),
    "HostError": (("no host",), {"code": "unreachable", "remedy": "mirror"}),
    "MisfitError": (("unet.mid", "of other shapes"), {}),
    "ModelsChangedError": ((Variant("mine", t0=0.5), "the UNet"), {}),
    "PluginNotAppliedError": (("a part is missing", AUDIT), {"plugin_id": "lora"}),
    "TooFastError": ((60, "too many votes"), {}),
    "UserError": (("two problems", ["one", "two"]), {}),
    "_RefusedJsonError": (("not a number",), {"token": "NaN"}),
}


def errors() -> dict[str, type[BaseException]]:
    """Return all exceptions that the project defines, by name."""
    found: dict[str, type[BaseException]] = {}
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"class \w+Error\b", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                kind = getattr(importlib.import_module(name.removesuffix(".__init__")), node.name)
                found[node.name] = kind
    return found


ERRORS = errors()


def test_errors_with_arguments_of_their_own_are_listed_here() -> None:
    assert len(ERRORS) > 25
    own = {name for name, kind in ERRORS.items() if "__init__" in vars(kind)}
    assert own <= ARGUMENTS.keys() <= ERRORS.keys()


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_crosses_processes_unchanged(name: str) -> None:
    arguments, named = ARGUMENTS.get(name, (("a message",), {}))
    error = ERRORS[name](*arguments, **named)
    error.add_note("in shard 1/2")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert vars(copy) == vars(error) and copy.args == error.args


def test_problems_of_an_error_cross_processes() -> None:
    copy = pickle.loads(pickle.dumps(UserError.collect(["one", "two"])))
    assert copy.problems == ("one", "two")
