"""Method `delta`: the plugin's change of the base model's x0, added to the upgraded model's.

Source: Delta Sampling, arXiv 2512.03056. It needs no training. Route "latent" is the published
form; "pixel", the default, makes the sum in pictures, so that the VAEs and the sizes may differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from plugins_manifest.schema.words import DeltaGuidance, DeltaRoute, DeltaSchedule, Side
from runners.base import MethodCost, MethodStyle, PassName, Variant

if TYPE_CHECKING:
    from plugins_manifest.cases import Case
    from plugins_manifest.schema import Settings
    from plugins_manifest.schema.manifest import MethodSpec
    from runners.families import Family
    from runners.session import GroupSession
    from xadapter.delta import Route
    from xadapter.handover import Stage2Start


@dataclass(frozen=True)
class Schedule:
    """The difference over time, and its bound.

    At a step where the share s of the whole schedule is left, itself included, the strength is
    multiplied by s ** `power`; it is 0 where s <= `until`. `bound` is the largest norm of what is
    added, relative to that of the deviation of the upgraded model's x0 from its mean; None: no
    bound.
    """

    until: float = 0.0
    power: float = 0.0
    bound: float | None = None

    def factor(self, share: float) -> float:
        """Return the factor of the strength."""
        return share**self.power if share > self.until + 1e-9 else 0.0


# chosen on validation scenes: docs/delta.md
SCHEDULES: dict[DeltaSchedule, Schedule] = {
    "constant": Schedule(),
    "early": Schedule(until=0.3),
    "linear": Schedule(power=1.0),
}
ROUTE: DeltaRoute = "pixel"
SCHEDULE: DeltaSchedule = "constant"
GUIDANCE: DeltaGuidance = "unguided"
_WORDS: Mapping[str, tuple[str, ...]] = {
    "route": get_args(DeltaRoute),
    "schedule": get_args(DeltaSchedule),
    "difference": get_args(DeltaGuidance),
}


@dataclass(frozen=True)
class DeltaSettings:
    """The settings of a variant.

    `difference` is whether both predictions of the base model have classifier-free guidance, which
    multiplies what the prompt changes in the difference too.
    """

    route: DeltaRoute = ROUTE
    schedule: DeltaSchedule = SCHEDULE
    difference: DeltaGuidance = GUIDANCE
    strength: float = 1.0

    @classmethod
    def of(cls, variant: Variant) -> DeltaSettings:
        """Return those of a variant; `ValueError` for words that are none of them."""
        found = cls(strength=1.0 if variant.adapter_scale is None else variant.adapter_scale)
        for word in (variant.adapter or "").split():
            key = next((key for key, words in _WORDS.items() if word in words), None)
            if key is None:
                known = ", ".join(one for words in _WORDS.values() for one in words)
                raise ValueError(f"there is no setting {word!r}; known: {known}")
            own: Any = {key: word}
            found = replace(found, **own)
        return found

    @property
    def words(self) -> str | None:
        """Return what is not the default, as a variant names it; None if nothing is."""
        default = DeltaSettings()
        own = [getattr(self, key) for key in _WORDS if getattr(self, key) != getattr(default, key)]
        return " ".join(own) or None


class DeltaKnobs:
    """The settings of a manifest's entry, and what follows from them."""

    keys: tuple[str, ...] = ("strength", *_WORDS)

    def variants(self, spec: MethodSpec) -> Iterator[tuple[str | None, float | None]]:
        """Yield the words and the strength of every combination."""
        for route, schedule, difference, strength in itertools.product(
            spec.route or (ROUTE,),
            spec.schedule or (SCHEDULE,),
            spec.difference or (GUIDANCE,),
            spec.strength or (1.0,),
        ):
            yield DeltaSettings(route, schedule, difference).words, strength

    def facts(self, variant: Variant, case: Case) -> dict[str, Any]:
        """Return the settings, the schedule's numbers and the prompt without the plugin."""
        found = DeltaSettings.of(variant)
        return {
            "route": found.route,
            "strength": found.strength,
            "difference": found.difference,
            "schedule": asdict(SCHEDULES[found.schedule]),
            "content_prompt": case.prompt,
        }

    def cost(self, settings: Settings, variant: Variant) -> MethodCost:
        """Return two predictions of the base model in each joint step, and the calls of VAEs."""
        found = DeltaSettings.of(variant)
        n_last = max(1, round(settings.steps * (variant.t0 or 1.0)))
        n_joint = joint_steps(found, n_steps=settings.steps, n_last=n_last)
        own = MethodCost(upgraded_calls=1, n_encodes=1, n_decodes=1, n_joint_steps=n_joint)
        # two predictions; a call with guidance has two rows
        is_half = found.difference == "unguided" and settings.guidance_scale > 1
        n_calls = 1 if is_half else 2
        if found.route == "latent":
            return replace(own, enlarged_calls=n_calls, n_encodes=2)
        return replace(
            own,
            base_calls=n_calls,
            step_encodes=2,
            step_decodes=1,
            base_step_encodes=1,
            base_step_decodes=2,
        )

    def problem(self, variant: Variant, family: Family) -> str | None:
        """Return why the VAEs do not allow the latent route, or what the words of a variant are."""
        from xadapter.delta import latent_problem

        try:
            found = DeltaSettings.of(variant)
        except ValueError as error:
            return str(error)
        if found.route == "pixel":
            return None
        return latent_problem(family.base.vae, family.upgraded.vae)


def joint_steps(settings: DeltaSettings, *, n_steps: int, n_last: int) -> int:
    """Return in how many of the last M steps the base model runs: up to the last strength."""
    if settings.strength == 0.0:
        return 0
    schedule = SCHEDULES[settings.schedule]
    return sum(schedule.factor(left / n_steps) != 0.0 for left in range(1, n_last + 1))


class Delta:
    """The upgraded model follows its own x0 plus the plugin's difference, from an image at t0."""

    name: str = "delta"
    uses_t0: bool = True
    uses_plugin: bool = True
    uses_adapter: bool = False
    side: Side = "upgraded"
    knobs = DeltaKnobs()
    shares: tuple[PassName, ...] = (
        "base_text",
        "plain_text",
        "stage1",
        "stage1_picture",
        "bridge",
        "enlarged",
        "upgraded_text",
    )
    style = MethodStyle(
        45,
        "#A65628",
        "hexagon",
        "like sdedit, with the plugin's change of the base model's prediction added at every step",
    )

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run both models over the last steps; uint8 [b, H, W, 3]."""
        from xadapter.delta import run_delta

        found = DeltaSettings.of(variant)
        start, route = self._crossing(session, variant, found)
        schedule = SCHEDULES[found.schedule]
        base = session.enlarged().base if found.route == "latent" else session.base
        latents = run_delta(
            session.upgraded,
            session.base_pair(base if found.difference == "guided" else base.unguided()),
            start,
            route=route,
            strength=lambda share: found.strength * schedule.factor(share),
            bound=schedule.bound,
            preset=session.preset,
            step_generators=session.step_generators("stage 2"),
            base_generators=session.step_generators("stage 2, base model"),
        )
        return session.picture("upgraded", latents)

    def _crossing(
        self, session: GroupSession, variant: Variant, settings: DeltaSettings
    ) -> tuple[Stage2Start, Route]:
        """Return both sides' latents at t0, and the route; latents have one size and one noise."""
        from xadapter.delta import LatentRoute, PixelRoute
        from xadapter.sampling import hand_over

        if variant.t0 is None:
            raise ValueError("delta needs a t0 in (0, 1], got none")
        stage1, noise, base = session.stage1(), session.noise, session.base
        vaes = session.family.base.vae, session.family.upgraded.vae
        route: Route = PixelRoute(*vaes, session.preset.resize)
        base_noise = noise.base_noise
        if settings.route == "latent":
            enlarged = session.enlarged()
            route, base = LatentRoute(*vaes), enlarged.base
            stage1, base_noise = replace(stage1, latents=enlarged.latents), noise.upgraded_noise
        start = hand_over(
            stage1,
            session.bridge(),
            base=base,
            upgraded=session.upgraded,
            t0=variant.t0,
            upgraded_noise=noise.upgraded_noise,
            base_noise=base_noise,
            preset=session.preset,
        )
        return start, route
