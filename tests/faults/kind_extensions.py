"""Extensions that fail, lie or cannot be imported: rows with reasons, never a number."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from bench.registry import extension_problems, metrics_of
from bench.scoring.checked import MetricFailedError, called, checked_score, checked_scores
from metrics.base import MetricUnavailableError, Score, ScoredImage
from plugins_manifest.installed import installed, load_entry
from runners.guard import checked_images
from runners.protocols import find_method
from tests.faults.base import Fault, Kind, refuses

SIZE = (8, 6)


def _image(prompt: str = "a dog") -> ScoredImage:
    blank = partial(np.zeros, (2, 2, 3), np.uint8)
    return ScoredImage(
        *("t", "s", "p", "lora", "base", None, 1.0, None, "c", 0, prompt), load_picture=blank
    )


def _images(rng: Random) -> Any:
    """Return something that is not 2 uint8 images of SIZE."""
    shape = [2, SIZE[1], SIZE[0], 3]
    dtype = rng.choice(("uint8", "float32", "float64", "int32", "bool", "complex64", "float16"))
    if dtype == "uint8" or rng.random() < 0.5:
        place = rng.randrange(4)
        shape[place] = rng.choice([n for n in range(5) if n != shape[place]])
        if rng.random() < 0.3:
            del shape[place]
    array = np.full(shape, rng.choice((0, 1)), dtype)
    if dtype.startswith("float") and array.size:
        array.flat[0] = rng.choice((np.nan, np.inf, -1.0))
    forms: tuple[Callable[[], Any], ...] = (
        lambda: array,
        array.tolist,
        lambda: [*array],
        array.tobytes,
        lambda: None,
        lambda: (image for image in array),
        lambda: array.view(np.ma.MaskedArray) if dtype != "uint8" else None,
    )
    return rng.choice(forms)()


def _provoke_images(_: Path, *, seed: int) -> None:
    with pytest.raises((TypeError, ValueError), match="the method returned"):
        checked_images(_images(Random(seed)), n_images=2, size_px=SIZE)


def _forged(**values: object) -> Score:
    """Return a score that was built without its own validation."""
    score = Score(0.0)
    for name, value in values.items():
        object.__setattr__(score, name, value)
    return score


_WRONG = (
    *(float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf")),
    *("1.0", b"1", True, False, np.bool_(True), 1j, [1.0], (1.0,), {"a": 1.0}, object(), 10**400),
    *(np.array(1.0), np.array([1.0, 2.0]), np.datetime64("2020"), Score, ...),
)


def _provoke_score(_: Path, *, seed: int) -> None:
    rng = Random(seed)
    wrong = rng.choice(_WRONG)
    forms: tuple[Callable[[], object], ...] = (
        lambda: wrong,
        lambda: _forged(value=wrong),
        lambda: _forged(value=None, reason=rng.choice((None, 3, b"x"))),
        lambda: _forged(leave_one_out={"a dog": wrong}),
        lambda: _forged(leave_one_out={"another prompt": 1.0}),
        lambda: _forged(leave_one_out=wrong),
        lambda: {"value": 1.0, "reason": None},
        lambda: None,
    )
    score = checked_score(rng.choice(forms)(), [_image()])
    assert score.value is None and score.reason, score


def _provoke_scores(_: Path, *, seed: int) -> None:
    rng = Random(seed)
    images = [_image() for _ in range(rng.randint(1, 5))]
    n = rng.choice([n for n in range(7) if n != len(images)])
    forms = ([Score(1.0)] * n, (Score(1.0),) * n, None, 1.0, {Score(1.0)}, {0: Score(1.0)})
    scores = checked_scores(rng.choice((*forms, iter(forms[0]))), images)
    assert [score.value for score in scores] == [None] * len(images)


class _OddError(Exception):
    def __str__(self) -> str:
        return "first\nsecond" * 1000


_ERRORS = (
    *(ValueError("x"), TypeError(), KeyError("k"), ZeroDivisionError(), AttributeError("a")),
    *(SystemExit(0), SystemExit("bye"), StopIteration(), MemoryError(), OSError(5, "io")),
    *(_OddError(),),
    *(
        AssertionError(),
        RecursionError(),
        ImportError("no"),
        UnicodeDecodeError("a", b"", 0, 1, ""),
    ),
    *(RuntimeError("CUDA out of memory"), NotImplementedError(), Warning("w"), EOFError()),
)


def _provoke_error(_: Path, *, seed: int) -> None:
    error = Random(seed).choice(_ERRORS)

    def fail() -> None:
        raise error

    with pytest.raises(MetricFailedError) as caught:
        called(fail, what="metric")
    assert type(error).__name__ in str(caught.value) and len(str(caught.value).splitlines()) == 1


def _provoke_interruption(_: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        called(interrupt, what="metric")

    def lack() -> None:
        raise MetricUnavailableError("weights")

    with pytest.raises(MetricUnavailableError):
        called(lack, what="metric")


def _provoke_hang(_: Path) -> None:
    import time

    def hang() -> None:
        while True:
            time.sleep(1)

    with pytest.raises(MetricFailedError, match="no result within"):
        called(hang, what="metric", timeout_s=0.1)


# content of a module -> words of the error
_MODULES = {
    "does not parse": "def (",
    "raises": "raise ValueError('at import')",
    "exits": "import sys; sys.exit(0)",
    "needs a package": "import a_package_that_is_nowhere",
    "lacks the object": "OTHER = 1",
    "is a folder of names": "THING = None",
    "has another name": "class THING:\n    name = 'base'\n    side = 'base'\n    shares = ()\n"
    "    uses_t0 = uses_plugin = uses_adapter = False\n    render = None",
    "raises when it is made": "def THING():\n    raise KeyError('made')",
    "exits when it is made": "import sys\ndef THING():\n    sys.exit(1)",
}


def _distribution(folder: Path, name: str, points: str) -> None:
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(points)


def _provoke_package(folder: Path, *, group: str, content: str, number: int) -> None:
    module = f"broken_{group}_{number}_{abs(hash(str(folder)))}"
    _distribution(folder, "broken-one", f"[xbench.{group}]\nbroken-one = {module}:THING\n")
    (folder / f"{module}.py").write_text(content)
    chosen = (["broken-one"], []) if group == "methods" else ([], ["broken-one"])
    with _on_path(folder):
        (problem,) = extension_problems(*chosen)
        assert "'broken-one'" in problem and "Traceback" not in problem
        assert metrics_of("canny"), "a broken metric that is not used breaks others"


def _provoke_conflict(folder: Path, *, group: str, name: str) -> None:
    _distribution(folder / "a", "rival", f"[xbench.{group}]\n{name} = rival:THING\n")
    with _on_path(folder / "a"):
        refuses(lambda: load_entry(group, name), name, "rival 1.5", "xbench", "uninstall")  # type: ignore[arg-type]
        others = [other for other in installed(group) if other != name]  # type: ignore[arg-type]
        assert load_entry(group, others[0]) is not None  # type: ignore[arg-type]


class _on_path:  # noqa: N801 - a context manager
    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __enter__(self) -> None:
        sys.path.insert(0, self.folder)
        self._forget()

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self.folder)
        self._forget()

    def _forget(self) -> None:
        import importlib

        importlib.invalidate_caches()
        installed.cache_clear()
        find_method.cache_clear()


_NAMES = {"methods": "base", "metrics": "fid", "families": "pocket", "detectors": "canny"}


def _named() -> Iterator[Fault]:
    yield Fault("an interruption passes", _provoke_interruption)
    yield Fault("a metric hangs", _provoke_hang)
    for group, name in _NAMES.items():
        draw = partial(_provoke_conflict, group=group, name=name)
        yield Fault(f"two packages with {group} {name}", draw)
    for number, (what, content) in enumerate(_MODULES.items()):
        for group in ("methods", "metrics"):
            draw = partial(_provoke_package, group=group, content=content, number=number)
            yield Fault(f"a module of {group} that {what}", draw)


def _faults(rng: Random) -> Iterator[Fault]:
    yield from _named()
    while True:
        for name, provoke in (
            ("images", _provoke_images),
            ("score", _provoke_score),
            ("scores", _provoke_scores),
            ("error", _provoke_error),
        ):
            seed = rng.getrandbits(32)
            yield Fault(f"{name} {seed}", partial(provoke, seed=seed))


KIND = Kind("extensions", "A numbers", "an extension cannot falsify", _faults, count=300, sample=12)
