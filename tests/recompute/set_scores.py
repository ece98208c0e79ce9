"""Distances of sets of images, with their values without each prompt, by leaving images out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from tests.recompute.files import RunFiles, Subject, arm_of
from tests.recompute.image_scores import Features

Side = tuple[np.ndarray, list[str]]  # features [N, D] of squared length D, and prompts
Kernels = dict[str, float]


@dataclass(frozen=True)
class SetScore:
    """A value and the values without each prompt; None without a value."""

    value: float | None
    without: dict[str, float] | None = None


@dataclass(frozen=True)
class SetMetric:
    """A distance of a set of images, and how exactly it can be recomputed (relative, absolute)."""

    score: Callable[[list[Subject]], SetScore]
    tolerance: float


def set_metrics(run: RunFiles, features: Features) -> dict[str, SetMetric]:
    """Return the metrics of sets that are recomputed here, by name."""
    own = _Own(run, features)
    return {
        "pocket-fid": SetMetric(own.fid, 1e-3),
        "pocket-kid": SetMetric(own.kid, 1e-4),
        "pocket-kid-floor": SetMetric(lambda s: own.apart(s, "floor"), 1e-4),
        "pocket-kid-oracle": SetMetric(lambda s: own.apart(s, "oracle"), 1e-4),
        "pocket-rest": SetMetric(lambda s: own.on_segment(s, "rest"), 1e-4),
        "pocket-place": SetMetric(lambda s: own.on_segment(s, "place"), 1e-3),
    }


class _Own:
    """Distances in the pocket scorer's features."""

    def __init__(self, run: RunFiles, features: Features) -> None:
        self.run, self.features = run, features
        self._means: dict[tuple[object, ...], float] = {}

    def side(self, subjects: list[Subject]) -> Side:
        rows = self.features.stacked(subjects)
        return rows * np.sqrt(rows.shape[1]), [s.prompt for s in subjects]

    def fid(self, subjects: list[Subject]) -> SetScore:
        """Heusel et al. 2017, eq. 6, with a matrix square root, to the shipped reference."""
        if len(subjects) < 2:
            return SetScore(None)
        (x, _), y = self.side(subjects), _reference()
        covariances = [np.cov(rows.T) for rows in (x, y)]
        # a little on the diagonal where the sets are smaller than their dimension
        shift = 1e-9 * np.eye(x.shape[1])
        root = linalg.sqrtm((covariances[0] + shift) @ (covariances[1] + shift)).real
        step = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
        return SetScore(float(step + np.trace(covariances[0] + covariances[1] - 2 * root)))

    def kid(self, subjects: list[Subject]) -> SetScore:
        """Binkowski et al. 2018: unbiased squared MMD to the shipped reference, in full sets."""
        if len(subjects) < 2:
            return SetScore(None)
        (x, prompts), y = self.side(subjects), _reference()
        names = np.array(prompts)
        within = _off_diagonal(_cubic(y, y))
        xx, xy = _cubic(x, x), _cubic(x, y)

        def value(keep: np.ndarray) -> float:
            return _off_diagonal(xx[np.ix_(keep, keep)]) + within - 2 * float(xy[keep].mean())

        left = {n: value(names != n) for n in set(prompts) if (names != n).sum() >= 2}
        return SetScore(value(np.ones(len(x), bool)), left)

    def apart(self, subjects: list[Subject], method: str) -> SetScore:
        """Squared MMD to another method's images, over pairs of different prompts."""
        other = self._made_by(method, subjects)
        if not other or min(_n_prompts(subjects), _n_prompts(other)) < 2:
            return SetScore(None)
        a, b = self.side(subjects), self.side(other)
        grams = _Grams({"a": a, "b": b})
        values = grams.with_and_without(lambda k: k["aa"] + k["bb"] - 2 * k["ab"])
        return SetScore(*values)

    def on_segment(self, subjects: list[Subject], part: str) -> SetScore:
        """Distance to the segment from floor to oracle in the kernel's space, or place on it."""
        floor, oracle = (self._made_by(m, subjects) for m in ("floor", "oracle"))
        if min(_n_prompts(s) for s in (subjects, floor, oracle)) < 2:
            return SetScore(None)
        sides = {"a": self.side(subjects), "f": self.side(floor), "o": self.side(oracle)}
        grams = _Grams(sides)
        length = grams.means(None)
        if length["ff"] + length["oo"] - 2 * length["fo"] <= 0 and part == "place":
            return SetScore(None)
        return SetScore(*grams.with_and_without(_rest if part == "rest" else _place))

    def _made_by(self, method: str, subjects: list[Subject]) -> list[Subject]:
        """Return a method's images of the same plugin, at the scale nearest to the set's."""
        found = [
            s for s in self.run.subjects if (s.plugin, s.method) == (subjects[0].plugin, method)
        ]
        scales = sorted({_scale(s) for s in found})
        if not scales:
            return []
        wanted = min(scales, key=lambda scale: abs(scale - _scale(subjects[0])))
        return [s for s in found if _scale(s) == wanted]


class _Grams:
    """Mean kernels between sets over pairs of different prompts, with and without a prompt."""

    def __init__(self, sides: dict[str, Side]) -> None:
        self.prompts = {name: np.array(prompts) for name, (_, prompts) in sides.items()}
        names = sorted(sides)
        self.pairs = [a + b for i, a in enumerate(names) for b in names[i:]]
        self.kernels = {p: _cubic(sides[p[0]][0], sides[p[1]][0]) for p in self.pairs}

    def means(self, left_out: str | None) -> Kernels:
        """Return the mean kernel of each pair of sets."""
        found = {}
        for pair in self.pairs:
            rows, columns = self.prompts[pair[0]], self.prompts[pair[1]]
            counted = rows[:, None] != columns[None]
            counted &= (rows != left_out)[:, None] & (columns != left_out)[None]
            found[pair] = float(np.einsum("ij,ij", self.kernels[pair], counted) / counted.sum())
        return found

    def with_and_without(self, value: Callable[[Kernels], float]) -> tuple[float, dict[str, float]]:
        """Return a function of the mean kernels, of all prompts and without each of the first."""
        left = {
            str(name): value(self.means(name))
            for name in np.unique(self.prompts["a"])
            if all(len(set(p) - {name}) > 1 for p in self.prompts.values())
        }
        return value(self.means(None)), left


def _place(k: Kernels) -> float:
    length = k["ff"] + k["oo"] - 2 * k["fo"]
    if length <= 0:
        return 0.0
    return float(np.clip(((k["ao"] - k["af"]) - (k["fo"] - k["ff"])) / length, 0, 1))


def _rest(k: Kernels) -> float:
    """Return |a - m|^2 with m = (1 - w) f + w o, as a quadratic form in (a, f, o)."""
    w = _place(k)
    weights = np.array([1.0, w - 1.0, -w])
    gram = np.array(
        [[k["aa"], k["af"], k["ao"]], [k["af"], k["ff"], k["fo"]], [k["ao"], k["fo"], k["oo"]]]
    )
    return float(weights @ gram @ weights)


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.einsum("id,jd->ij", x, y) / x.shape[1] + 1) ** 3


def _off_diagonal(gram: np.ndarray) -> float:
    return float(gram[~np.eye(len(gram), dtype=bool)].mean())


def _reference() -> np.ndarray:
    from safetensors.numpy import load_file

    from pocket.weights import part_path

    return load_file(part_path("reference"))["features"].astype(float)


def _scale(subject: Subject) -> float:
    return 1.0 if subject.plugin_scale is None else subject.plugin_scale


def _n_prompts(subjects: list[Subject]) -> int:
    return len({s.prompt for s in subjects})


def sets_of(run: RunFiles) -> dict[tuple[object, ...], list[Subject]]:
    """Return the images of each arm, by what names it."""
    trials = {trial["trial_id"]: trial for trial in run.trials}
    found: dict[tuple[object, ...], list[Subject]] = {}
    for subject in run.subjects:
        named = {**trials[subject.trial_id], "plugin": subject.plugin, "kind": subject.kind}
        found.setdefault(arm_of(named), []).append(subject)
    return found
