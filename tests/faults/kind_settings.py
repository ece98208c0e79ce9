"""Numbers in manifests and policies that are text, truth values, infinite, or out of bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.gate.policy import load_policy
from bench.plan.selection import Selection, parse_list
from plugins_manifest.schema.load import parse_manifest
from tests.faults.base import Fault, Kind, refuses

_MANIFEST = """\
schema: 1
name: mine
family: pocket
plugins:
  - {id: a, kind: lora, source: "pocket:lora-outline", weight: %(weight)s, seeds: [%(own)s]}
  - {id: b, kind: lora, source: "pocket:lora-hatched"}
stacks: [{id: s, plugins: [{id: a, scale: %(member)s}, {id: b}]}]
cases: {source: pocket, seed: %(scenes)s, n: %(n)s}
seeds: [%(seed)s]
methods:
  - {name: base}
  - {name: xadapter, t0: [%(t0)s], plugin_scale: [%(scale)s], adapter_scale: [%(adapter)s]}
settings: {base_size: [%(width)s, 64], upgraded_size: [128, %(height)s], steps: %(steps)s,
  guidance_scale: %(guidance)s}
"""
_POLICY = """\
schema: 1
alpha: %(alpha)s
power: %(power)s
min_prompts: %(prompts)s
looks: [%(look)s, 1.0]
seed: %(seed)s
metrics: [{name: edge-f1, margin: %(margin)s}]
"""
Get = Callable[[Any], Any]
# place -> good value, and where the parsed number is
_PLACES: dict[str, tuple[str, Get]] = {
    "weight": ("1", lambda m: m.plugins[0].weight),
    "own": ("1", lambda m: m.plugins[0].seeds[0]),
    "member": ("1", lambda m: m.stacks[0].plugins[0].scale),
    "scenes": ("1", lambda m: m.cases.seed),
    "n": ("1", lambda m: m.cases.n),
    "seed": ("1", lambda m: m.seeds[0]),
    "t0": ("0.5", lambda m: m.methods[1].t0[0]),
    "scale": ("1", lambda m: m.methods[1].plugin_scale[0]),
    "adapter": ("1", lambda m: m.methods[1].adapter_scale[0]),
    "width": ("64", lambda m: m.settings.base_size[0]),
    "height": ("128", lambda m: m.settings.upgraded_size[1]),
    "steps": ("3", lambda m: m.settings.steps),
    "guidance": ("3", lambda m: m.settings.guidance_scale),
}
_POLICY_PLACES: dict[str, tuple[str, Get]] = {
    "alpha": ("0.05", lambda p: p.alpha),
    "power": ("0.8", lambda p: p.power),
    "prompts": ("20", lambda p: p.min_prompts),
    "look": ("0.5", lambda p: p.looks[0]),
    "seed": ("0", lambda p: p.seed),
    "margin": ("0.1", lambda p: p.metrics[0].margin),
}
# text in YAML -> the number that it may mean; None: it is no number and must be refused
_VALUES: dict[str, float | None] = {
    **dict.fromkeys(
        ("true", "False", "yes", "'5'", '"1"', "'1.5'", "''", "abc", "[]", "{}", "[1]")
    ),
    **dict.fromkeys(("1e309", "-1.0e+400", ".nan", ".inf", "-.INF", "NaN", "inf", "Infinity")),
    **dict.fromkeys(
        ("010", "0x10", "0b1", "1_000", "1:30", "2024-01-01", "1,5", "1 000", "½", "٣")
    ),
    **dict.fromkeys(("9" * 5000, "1" + "0" * 30, "-" + "9" * 30, "!!int 5", "!!float 1", "!x 1")),
    **dict.fromkeys(
        ("null", "~", "&a 1e", "*a", "1%", "1px", "--1", "+-1", "1-", "0.1.2", "0x1p3")
    ),
    **{str(n): float(n) for n in (0, 1, -1, 2, 7, 8, 64, 128, 1000, 1001, 8192, 8200, 10**6)},
    **{str(n): float(n) for n in (10**6 + 1, 10**9, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)},
    **{
        "-0.0": 0.0,
        "0.0": 0.0,
        "1.0": 1.0,
        "1.5": 1.5,
        "64.0": 64.0,
        "1e3": 1000.0,
        "5e-324": 5e-324,
    },
    **{
        "1.0e+300": 1e300,
        "-7": -7.0,
        "+8": 8.0,
        "0.30": 0.3,
        "1e-3": 1e-3,
        ".5": 0.5,
        "-1e6": -1e6,
    },
}


def _provoke_manifest(folder: Path, *, place: str, value: str) -> None:
    good = {name: text for name, (text, _) in _PLACES.items()}
    content = _MANIFEST % {**good, place: value}
    _compare(lambda: parse_manifest(content, folder / "m.yaml"), _PLACES[place][1], value, "m.yaml")


def _provoke_policy(folder: Path, *, place: str, value: str) -> None:
    good = {name: text for name, (text, _) in _POLICY_PLACES.items()}
    path = folder / "p.yaml"
    path.write_text(_POLICY % {**good, place: value}, "utf-8")
    _compare(lambda: load_policy(path), _POLICY_PLACES[place][1], value, "p.yaml")


def _compare(parse: Callable[[], Any], get: Get, value: str, name: str) -> None:
    """Assert that a value is refused with its file, or has the meaning that a reader gives it."""
    try:
        found = get(parse())
    except Exception:  # noqa: BLE001 (the call again, with its checks)
        assert name in refuses(parse)
        return
    meant = _VALUES[value]
    assert meant is not None, f"{value} was accepted as {found!r}"
    assert not isinstance(found, bool) and isinstance(found, int | float) and math.isfinite(found)
    assert float(found) == meant, f"{value} was accepted as {found!r}"


# lists and command-line values without bound
_LISTS: dict[str, Callable[[], object]] = {
    "200,000 equal seeds": lambda: _with("own", "1, " * 150_000 + "1"),
    "150,000 seeds": lambda: _with("seed", ", ".join(map(str, range(150_000)))),
    "2,000 values of t0": lambda: _with("t0", ", ".join(f"0.{i:04}" for i in range(1, 2001))),
    "2,000 scales": lambda: _with("scale", ", ".join(map(str, range(2000)))),
    "doubled seeds": lambda: _with("seed", "1, 1"),
    "100 wrong seeds": lambda: _with("seed", ", ".join(["-1"] * 100)),
    "--seeds -1": lambda: _selected(seeds=("-1",)),
    "--seeds 2^63": lambda: _selected(seeds=(str(2**63),)),
    "--seeds of 5,000 digits": lambda: _selected(seeds=("9" * 5000,)),
    "--seeds 1.5": lambda: _selected(seeds=("1.5",)),
    "--seeds true": lambda: _selected(seeds=("true",)),
    "5,000 seeds": lambda: _selected(seeds=(",".join(map(str, range(5000))),)),
    "--t0 nan": lambda: _selected(t0=("nan",)),
    "--t0 inf": lambda: _selected(t0=("1e309",)),
    "--t0 0": lambda: _selected(t0=("-0.0",)),
    "--limit 0": lambda: _limited(0),
    "--limit 10^30": lambda: _limited(10**30),
}


def _with(place: str, value: str) -> object:
    good = {name: text for name, (text, _) in _PLACES.items()}
    return parse_manifest(_MANIFEST % {**good, place: value}, Path("m.yaml"))


def _selected(*, seeds: tuple[str, ...] = (), t0: tuple[str, ...] = ()) -> None:
    from plugins_manifest.errors import UserError

    selection = Selection(
        seeds=parse_list(seeds, int, option="--seeds"), t0=parse_list(t0, float, option="--t0")
    )
    raise UserError.collect(selection.problems() or ["nothing was wrong, which is wrong"])


def _limited(limit: int) -> None:
    from plugins_manifest.errors import UserError

    problems = Selection(limit=limit).problems()
    assert problems
    raise UserError.collect(problems)


def _refuse(folder: Path, *, call: Callable[[], object]) -> None:
    assert "which is wrong" not in refuses(call)


def _is_fine(place: str, value: str) -> bool:
    """Return whether a value is two items of a list, or leaves out what may be left out."""
    is_listed = place in {"own", "seed", "t0", "scale", "adapter"}
    return (is_listed and value == "1,5") or (place == "member" and value in ("null", "~"))


def _faults(rng: Random) -> Iterator[Fault]:
    for name, call in _LISTS.items():
        yield Fault(name, partial(_refuse, call=call))
    pairs = [(_provoke_manifest, place, value) for place in _PLACES for value in _VALUES]
    pairs += [(_provoke_policy, place, value) for place in _POLICY_PLACES for value in _VALUES]
    pairs = [pair for pair in pairs if not _is_fine(*pair[1:])]
    rng.shuffle(pairs)
    while True:
        for provoke, place, value in pairs:
            yield Fault(f"{place}: {value[:30]}", partial(provoke, place=place, value=value))


KIND = Kind("settings", "A numbers", "a number means what is written", _faults, 1600, sample=20)
