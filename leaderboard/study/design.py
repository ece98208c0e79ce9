"""Design of a study: pairs of pictures of one plugin, case and seed that differ in the method.

Deterministic: the same run and design always give the same study. The order of the pairs is
balanced: every stretch of the list contains each plugin and each pair of methods about equally
often, so a study that ends early is still usable.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UserError
from leaderboard.study.schema import ID_LENGTH

PAPER_T0 = 0.8  # the paper's best T0 is 4/5 T (arXiv 2312.02238, section 4.3)
Row = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Arm:
    """A method with its settings, as compared by raters."""

    method: str
    t0: float | None
    plugin_scale: float | None
    adapter_scale: float | None

    @classmethod
    def of(cls, row: Row) -> Arm:
        """Return the arm of a row of trials, pictures or votes."""
        return cls(
            row["method"],
            *(_number(row[name]) for name in ("t0", "plugin_scale", "adapter_scale")),
        )

    @property
    def label(self) -> str:
        """Name in tables; scales of 1 are left out."""
        parts = [self.method]
        if self.t0 is not None:
            parts.append(f"t0 {self.t0:g}")
        for name, scale in (("plugin", self.plugin_scale), ("adapter", self.adapter_scale)):
            if scale is not None and scale != 1:
                parts.append(f"{name} x{scale:g}")
        return " ".join(parts)


@dataclass(frozen=True)
class Picture:
    """An image of a study."""

    trial_id: str
    plugin: str
    kind: str
    arm: Arm
    case_id: str
    prompt: str
    seed: int
    image: str  # relative to the run
    condition_path: str | None
    settings: str = ""  # JSON: those that replace the run's

    @property
    def scene(self) -> tuple[str, str, int]:
        """Plugin, case and seed, equal for both pictures of a pair."""
        return self.plugin, self.case_id, self.seed


@dataclass(frozen=True)
class Design:
    """Choice of the compared arms, and the maximum number of pairs.

    `t0` None: each method's point nearest to `PAPER_T0`; `methods` None: all.
    """

    t0: tuple[float, ...] | None = None
    methods: tuple[str, ...] | None = None
    max_pairs: int = 2000


@dataclass(frozen=True)
class Study:
    """A fixed list of pairs, identified by its hash."""

    study_id: str
    run_id: str
    run_name: str
    family: str
    pairs: tuple[tuple[Picture, Picture], ...]
    n_shared: int  # every rater starts with this many first pairs

    def pair_id(self, pair: tuple[Picture, Picture]) -> str:
        """Return the id of one of the study's pairs."""
        return _hash(self.study_id, *pair[0].scene, pair[0].trial_id, pair[1].trial_id)

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of the study without duplicates."""
        return list({(p.plugin, p.trial_id): p for pair in self.pairs for p in pair}.values())


def design_study(
    rows: Iterable[Row], *, run_id: str, run_name: str, family: str, design: Design | None = None
) -> Study:
    """Design a study of a run's trials; `UserError` if no two images can be compared.

    `rows` have the columns of trials and results; rows without an image are left out.
    """
    design = design or Design()
    pictures = _chosen(_pictures(rows), design)
    pairs = _balanced([pair for scene in _by_scene(pictures) for pair in _pairs_of(scene)])
    pairs = pairs[: design.max_pairs]
    if not pairs:
        raise UserError(
            f"run {run_name!r} has no two images of the same plugin, case and seed by two methods: "
            "render more methods, or choose another run"
        )
    names = [f"{p.plugin} {p.trial_id}" for pair in pairs for p in pair]
    study_id = _hash(run_id, *names)
    return Study(study_id, run_id, run_name, family, tuple(pairs), _n_strata(pairs))


def _pictures(rows: Iterable[Row]) -> list[Picture]:
    """Return the finished images; floor images repeat for each plugin that they are references of.

    Those are of the same case and seed, and have equal steps, guidance and sampler.
    """
    good = [row for row in rows if row["status"] == "ok" and row["image"]]
    with_plugin = [_picture(row) for row in good if row["plugin"]]
    homes = {(*picture.scene, picture.settings): picture for picture in with_plugin}
    floors = [
        _picture(row, home=home)
        for row in good
        if not row["plugin"]
        for scene, home in homes.items()
        if scene[1:] == (row["case_id"], int(row["seed"]), row.get("settings") or "")
    ]
    return with_plugin + floors


def _picture(row: Row, *, home: Picture | None = None) -> Picture:
    return Picture(
        trial_id=row["trial_id"],
        plugin=home.plugin if home else row["plugin"],
        kind=home.kind if home else row["kind"],
        arm=Arm.of(row),
        case_id=row["case_id"],
        prompt=row["upgraded_prompt"] or "",
        seed=int(row["seed"]),
        image=row["image"],
        condition_path=home.condition_path if home else _text(row["condition_path"]),
        settings=row.get("settings") or "",
    )


def _chosen(pictures: Sequence[Picture], design: Design) -> list[Picture]:
    """Select the pictures of the design's arms: wanted t0 of each method, scales nearest to 1."""
    arms: dict[tuple[str, str], set[Arm]] = {}
    for picture in pictures:
        if design.methods is None or picture.arm.method in design.methods:
            arms.setdefault((picture.plugin, picture.arm.method), set()).add(picture.arm)
    kept = {key: _wanted(found, design.t0) for key, found in arms.items()}
    return [p for p in pictures if p.arm in kept.get((p.plugin, p.arm.method), ())]


def _wanted(arms: set[Arm], t0: tuple[float, ...] | None) -> set[Arm]:
    points = {arm.t0 for arm in arms if arm.t0 is not None}
    if t0 is not None:
        points &= set(t0)
    elif points:  # on a tie the larger t0, which gives the upgraded model more steps
        points = {min(points, key=lambda point: (round(abs(point - PAPER_T0), 9), -point))}
    at_points = {arm for arm in arms if arm.t0 is None or arm.t0 in points}
    return {
        min((a for a in at_points if a.t0 == point), key=_from_one)
        for point in {arm.t0 for arm in at_points}
    }


def _from_one(arm: Arm) -> tuple[float, Arm]:
    scales = (arm.plugin_scale, arm.adapter_scale)
    return sum(abs(scale - 1) for scale in scales if scale is not None), arm


def _by_scene(pictures: Sequence[Picture]) -> list[list[Picture]]:
    scenes: dict[tuple[str, str, int], list[Picture]] = {}
    for picture in pictures:
        scenes.setdefault(picture.scene, []).append(picture)
    return [scenes[scene] for scene in sorted(scenes)]


def _pairs_of(scene: Sequence[Picture]) -> Iterable[tuple[Picture, Picture]]:
    ordered = sorted(scene, key=lambda picture: (picture.arm.label, picture.trial_id))
    return itertools.combinations(ordered, 2)


def _balanced(pairs: Sequence[tuple[Picture, Picture]]) -> list[tuple[Picture, Picture]]:
    """Order pairs in rounds: one pair of each stratum (plugin, two arms) per round."""
    strata: dict[tuple[str, Arm, Arm], list[tuple[Picture, Picture]]] = {}
    for pair in pairs:
        strata.setdefault(_stratum(pair), []).append(pair)
    columns = [
        sorted(column, key=lambda pair: _hash(*_stratum(pair), *pair[0].scene))
        for column in strata.values()
    ]
    rounds = itertools.zip_longest(*columns)
    return [pair for found in rounds for pair in found if pair is not None]


def _stratum(pair: tuple[Picture, Picture]) -> tuple[str, Arm, Arm]:
    return pair[0].plugin, pair[0].arm, pair[1].arm


def _n_strata(pairs: Sequence[tuple[Picture, Picture]]) -> int:
    return len({_stratum(pair) for pair in pairs})


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:ID_LENGTH]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
