"""What a plugin does to pictures, on the old model and on the new one; no detector, no trigger.

The effect of a plugin on a picture is the difference that it makes to the picture's features:
with the plugin minus without it, same case and seed, features of length 1. On the old model that is
method `base` minus `base-floor`, on the new one a method's image minus `floor`. Direction, strength
and consistency of such differences describe a LoRA on one model (Sarfaty et al. 2025, CARLoS, arXiv
2512.08826); here the two models are compared (ours).

Only pairs of different prompts count. An image keeps its noise: what SDEdit or X-Adapter makes of a
base image is like that image, whatever the plugin did to it, and a mean square has the squared
noise in it. Between different prompts the noise is independent, so that

    <a, b> = mean of a_i . b_j over all i, j of different prompts

is the inner product of the mean effects without bias. With o the effects on the old model and n
those on the new one:

    strength = sqrt(<n, n> / <o, o>)        direction = <n, o> / sqrt(<n, n> <o, o>)
    kept     = mean of n_i . mean(o of other prompts) / <o, o>  =  strength x direction

where all prompts have equally many images. `kept` is a number of each image, so that methods are
compared pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import LAST_RANK, Better, References, Role, Score, ScoredImage, expect
from metrics.encoders import CLIP, DINOV2, RowSource
from metrics.features import unit
from metrics.one_encoder import OneEncoder
from metrics.pocket_scorer import PocketEncoder

BASE_FLOOR = "base-floor"
Part = Literal["strength", "direction", "consistency"]
_REFERENCES = ("base", "floor", BASE_FLOOR)
_SELF = "self-reference: this is the base model without the plugin"
_NO_FLOOR = "there is no image of this case and seed by the upgraded model without plugin (floor)"
_NO_OLD = (
    "the effect on the base model needs its images with the plugin and without it, of the same "
    f"cases and seeds, of 2 prompts: add the methods base and {BASE_FLOOR}"
)
_NO_EFFECT = "on the base model the plugin has no effect that its prompts share"
_NO_NEW_EFFECT = "the method shows no effect that its prompts share: there is no direction"
_NO_CHANGE = "fewer than 2 prompts whose images differ from those without the plugin"
_NOISE = 1e-10  # of squared effects: float32 rounding of rows of length 1
_BankKey = tuple[str, float | None]  # plugin, plugin scale
_PairKey = tuple[str, int]  # case id, seed


@dataclass(frozen=True)
class Effects:
    """Differences of unit features, float64 [N, D], and the prompt of each."""

    rows: np.ndarray
    prompts: Sequence[str]

    @property
    def has_pairs(self) -> bool:
        """Whether there are pairs of different prompts."""
        return len(set(self.prompts)) > 1

    def by_prompt(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum [P, D] and the number [P] of the effects of each prompt."""
        places = {name: i for i, name in enumerate(names)}
        labels = [places[prompt] for prompt in self.prompts]
        sums = np.zeros((len(names), self.rows.shape[1]))
        np.add.at(sums, labels, self.rows)
        return sums, np.bincount(labels, minlength=len(names))


@dataclass(frozen=True)
class Product:
    """<a, b>, the mean product over pairs of different prompts, and its values without each."""

    value: float
    without: Mapping[str, float]


def product(a: Effects, b: Effects) -> Product:
    """Return <a, b>; ValueError with fewer than two prompts on a side.

    A prompt that leaves no pairs behind has no value.
    """
    if not (a.has_pairs and b.has_pairs):
        raise ValueError("pairs of different prompts need 2 prompts on each side")
    names = sorted({*a.prompts, *b.prompts})
    (a_pd, n_a), (b_pd, n_b) = a.by_prompt(names), b.by_prompt(names)
    a_d, b_d, same = a_pd.sum(axis=0), b_pd.sum(axis=0), (a_pd * b_pd).sum(axis=1)
    # without a prompt its rows and columns are gone; pairs within it never counted
    total, n_pairs = a_d @ b_d - same.sum(), n_a.sum() * n_b.sum() - n_a @ n_b
    left = total - (a_pd @ b_d + b_pd @ a_d - 2 * same)
    n_left = n_pairs - (n_a * n_b.sum() + n_b * n_a.sum() - 2 * n_a * n_b)
    found = zip(names, left, n_left, strict=True)
    return Product(float(total / n_pairs), {name: float(x / n) for name, x, n in found if n > 0})


def strength(new: float, old: float) -> float | None:
    """Return sqrt(<n, n> / <o, o>): 0 where no effect is shared; None without an old effect."""
    return math.sqrt(max(new, 0.0) / old) if old > _NOISE else None


def direction(across: float, new: float, old: float) -> float | None:
    """Return <n, o> / sqrt(<n, n> <o, o>); None where either side has no shared effect.

    Without bias it can leave -1..1 by chance.
    """
    return across / math.sqrt(new * old) if min(new, old) > _NOISE else None


def consistency(effects: Effects) -> Product | None:
    """Return the mean cosine of effects of different prompts; None with fewer than two.

    Images that do not differ from those without the plugin have no direction and are left out.
    """
    lengths = np.linalg.norm(effects.rows, axis=1)
    moved = lengths**2 > _NOISE
    some = Effects(
        effects.rows[moved] / lengths[moved, None],
        [prompt for prompt, is_moved in zip(effects.prompts, moved, strict=True) if is_moved],
    )
    return product(some, some) if some.has_pairs else None


def old_effects(image: ScoredImage, references: References, encoder: RowSource) -> Effects:
    """Return a plugin's effects on the old model, at the plugin scale nearest to an image's."""
    alone = _alone_by_pair(image, references)
    found = sorted(references.made_by("base", image), key=lambda i: i.trial_id)
    return _effects([(i, alone.get((i.case_id, i.seed))) for i in found], references, encoder)


def new_effects(
    images: Sequence[ScoredImage], references: References, encoder: RowSource
) -> Effects:
    """Return the effects of images of a method on the new model, those with a floor image."""
    return _effects([(i, references.floor_of(i)) for i in images], references, encoder)


def _effects(
    pairs: Sequence[tuple[ScoredImage, ScoredImage | None]],
    references: References,
    encoder: RowSource,
) -> Effects:
    known = [(image, alone) for image, alone in pairs if alone is not None]
    if not known:
        return Effects(np.zeros((0, 1)), [])
    sides = (encoder.rows(side, references) for side in zip(*known, strict=True))
    with_plugin, without = (unit(rows) for rows in sides)
    return Effects(with_plugin - without, [image.prompt for image, _ in known])


@dataclass(frozen=True)
class _OfEncoder(OneEncoder):
    """What the effect metrics have in common."""

    name: str
    encoder: RowSource
    title: str
    family: str | None = None
    compares_with: tuple[str, ...] = _REFERENCES
    brings: tuple[str, ...] = (BASE_FLOOR,)
    better: Better = "higher"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every plugin has an effect, or none."""
        return True

    def selftest(self) -> None:
        """Check the features, and the parts of a known effect and of half of it."""
        super().selftest()
        noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
        before, after = (unit(self.encoder.encode(list(p))) for p in (noise, noise // 4))
        prompts = [f"prompt {i}" for i in range(len(noise))]
        whole, half = (Effects(share * (after - before), prompts) for share in (1.0, 0.5))
        old, new, across = (
            product(a, b).value for a, b in ((whole, whole), (half, half), (half, whole))
        )
        found = (strength(new, old), direction(across, new, old), across / old)
        ok = None not in found and np.allclose([f or 0.0 for f in found], [0.5, 1, 0.5])
        expect(bool(ok), f"half of an effect has strength, direction and share {found}")


@dataclass(frozen=True)
class EffectKept(_OfEncoder):
    """Share of the plugin's effect on the base model that an image shows on the upgraded one."""

    role: Role | None = "function"
    rank: int = LAST_RANK
    beside: tuple[str, ...] = ()
    is_fallback: bool = True
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.title}: share of the plugin's effect on the base model, other prompts"

    def recipe(self) -> str:
        """Return network, pairs and unit."""
        return (
            f"{self.title}, (method - floor) . mean(base - {BASE_FLOOR}) of all other prompts, "
            "unit features, same case and seed, same plugin scale, in units of the squared mean "
            f"effect over pairs of different prompts; {self.encoder.recipe()}"
        )

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one share for each image: 0 for one like floor, about 1 on the base model."""
        self.encoder.rows(images, references)  # in batches; below they are taken one by one
        known: dict[_BankKey, _Bank] = {}
        scores = []
        for image in images:
            key = (image.plugin, image.plugin_scale)
            if key not in known:
                known[key] = _bank_of(image, references, self.encoder)
            scores.append(self._score(image, references, known[key]))
        return scores

    def _score(self, image: ScoredImage, references: References, bank: _Bank) -> Score:
        if image.method == BASE_FLOOR:
            return Score(None, _SELF)
        if bank.problem is not None:
            return Score(None, bank.problem)
        is_base = image.method == "base"
        key = (image.case_id, image.seed)
        alone = bank.alone.get(key) if is_base else references.floor_of(image)
        others = bank.mean_without(image.prompt)
        if alone is None or others is None:
            return Score(None, _NO_FLOOR if alone is None and not is_base else _NO_OLD)
        own = _effects([(image, alone)], references, self.encoder)
        return Score(float(own.rows[0] @ others / bank.square))


@dataclass(frozen=True)
class EffectOfSet(_OfEncoder):
    """Strength, direction or consistency of a plugin's effect on the upgraded model."""

    part: Part = "strength"
    level: Literal["group"] = "group"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.title}: {_SUMMARIES[self.part]}"

    def recipe(self) -> str:
        """Return formula, pairs and network."""
        return (
            f"{self.title}, {_FORMULAS[self.part]}, n = method - floor, o = base - {BASE_FLOOR}, "
            "unit features, same case and seed, pairs of different prompts; "
            f"{self.encoder.recipe()}"
        )

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return the number with its values without each prompt; None where it is undefined."""
        if not images:
            return Score(None, "there are no images")
        if all(image.method == BASE_FLOOR for image in images):
            return Score(None, _SELF)
        in_order = sorted(images, key=lambda image: image.trial_id)
        is_base = all(image.method == "base" for image in images)
        if is_base:
            new = old_effects(in_order[0], references, self.encoder)
        else:
            new = new_effects(in_order, references, self.encoder)
        if not new.has_pairs:
            return Score(None, _NO_OLD if is_base else _NO_FLOOR)
        if self.part == "consistency":
            found = consistency(new)
            return Score(None, _NO_CHANGE) if found is None else _as_score(found)
        old = new if is_base else old_effects(in_order[0], references, self.encoder)
        if not old.has_pairs:
            return Score(None, _NO_OLD)
        return self._compared(new, old)

    def _compared(self, new: Effects, old: Effects) -> Score:
        n, o, across = product(new, new), product(old, old), product(new, old)
        if o.value <= _NOISE:
            return Score(None, _NO_EFFECT)
        if self.part == "strength":
            found = strength(n.value, o.value)
            without = {p: strength(n.without[p], o.without[p]) for p in _shared(n, o)}
        else:
            found = direction(across.value, n.value, o.value)
            without = {
                p: direction(across.without[p], n.without[p], o.without[p])
                for p in _shared(n, o, across)
            }
        if found is None:
            return Score(None, _NO_NEW_EFFECT)
        left = {prompt: value for prompt, value in without.items() if value is not None}
        return Score(found, leave_one_out=left)


@dataclass(frozen=True)
class _Bank:
    """A plugin's effects on the old model: [D] and number by prompt, in all, and <o, o>.

    `alone` are the images of `base-floor`; `problem` is why there is no effect to compare with.
    """

    alone: Mapping[_PairKey, ScoredImage]
    by_prompt: Mapping[str, tuple[np.ndarray, int]]
    total: np.ndarray
    n: int
    square: float
    problem: str | None

    def mean_without(self, prompt: str) -> np.ndarray | None:
        """Return the mean effect [D] of all other prompts; None without any."""
        own, n_own = self.by_prompt.get(prompt, (0.0, 0))
        return None if n_own == self.n else (self.total - own) / (self.n - n_own)


def _bank_of(image: ScoredImage, references: References, encoder: RowSource) -> _Bank:
    effects = old_effects(image, references, encoder)
    alone = _alone_by_pair(image, references)
    names = list(dict.fromkeys(effects.prompts))
    sums, counts = effects.by_prompt(names)
    by_prompt = dict(zip(names, zip(sums, map(int, counts), strict=True), strict=True))
    square = product(effects, effects).value if effects.has_pairs else 0.0
    problem = _NO_EFFECT if square <= _NOISE else None
    problem = problem if effects.has_pairs else _NO_OLD
    return _Bank(alone, by_prompt, sums.sum(axis=0), len(effects.rows), square, problem)


def _alone_by_pair(image: ScoredImage, references: References) -> dict[_PairKey, ScoredImage]:
    return {(i.case_id, i.seed): i for i in references.made_by(BASE_FLOOR, image)}


def _as_score(found: Product) -> Score:
    return Score(found.value, leave_one_out=found.without)


def _shared(*products: Product) -> list[str]:
    """Return the prompts without which all products have a value."""
    return sorted(set.intersection(*(set(p.without) for p in products)))


_FORMULAS: Mapping[Part, str] = {
    "strength": "sqrt(<n, n> / <o, o>)",
    "direction": "<n, o> / sqrt(<n, n> <o, o>)",
    "consistency": "mean cosine of n_i and n_j",
}
_SUMMARIES: Mapping[Part, str] = {
    "strength": "length of the plugin's mean effect, upgraded / base model",
    "direction": "cosine of the plugin's mean effects on both models",
    "consistency": "how alike the plugin's effects on different prompts are",
}


def _parts(name: str, encoder: RowSource, title: str) -> list[EffectOfSet]:
    """Return strength, direction and consistency; `name` has a place for the part."""
    return [EffectOfSet(name.format(part), encoder, title, part=part) for part in _SUMMARIES]


EFFECT_KEPT = EffectKept("effect-kept", CLIP, "CLIP", rank=310)
EFFECT_STRENGTH, EFFECT_DIRECTION, EFFECT_CONSISTENCY = _parts("effect-{}", CLIP, "CLIP")
EFFECT_KEPT_DINOV2 = EffectKept("effect-kept-dinov2", DINOV2, "DINOv2", rank=320)
EFFECT_STRENGTH_DINOV2, EFFECT_DIRECTION_DINOV2, EFFECT_CONSISTENCY_DINOV2 = _parts(
    "effect-{}-dinov2", DINOV2, "DINOv2"
)
POCKET_EFFECT_KEPT = EffectKept(
    "pocket-effect-kept", PocketEncoder(), "Pocket scorer", "pocket", rank=300
)
POCKET_EFFECT_STRENGTH, POCKET_EFFECT_DIRECTION, POCKET_EFFECT_CONSISTENCY = _parts(
    "pocket-effect-{}", PocketEncoder(), "Pocket scorer"
)
