"""Method `delta`: the plugin's change of the base model's x0, added to the upgraded model's.

Source: Delta Sampling, arXiv 2512.03056. It needs no training. Route "latent" is the published
form; "pixel", the default, makes the sum in pictures, so that the VAEs and the sizes may differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from plugins_manifest.schema.words import DeltaRoute, DeltaSchedule, Side
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


@dataclass(frozen=True)
class DeltaSettings:
    """The settings of a variant: route and schedule, and the strength of the difference."""

    route: DeltaRoute = ROUTE
    schedule: DeltaSchedule = SCHEDULE
    strength: float = 1.0

    @classmethod
    def of(cls, variant: Variant) -> DeltaSettings:
        """Return those of a variant; `ValueError` for words that are none of them."""
        found = cls(strength=1.0 if variant.adapter_scale is None else variant.adapter_scale)
        for word in (variant.adapter or "").split():
            if word in get_args(DeltaRoute):
                found = replace(found, route=cast("DeltaRoute", word))
            elif word in get_args(DeltaSchedule):
                found = replace(found, schedule=cast("DeltaSchedule", word))
            else:
                raise ValueError(f"delta has no route and no schedule {word!r}")
        return found

    @property
    def words(self) -> str | None:
        """Return route and schedule as a variant names them; None for the default ones."""
        pairs = ((self.route, ROUTE), (self.schedule, SCHEDULE))
        return " ".join(own for own, default in pairs if own != default) or None


class DeltaKnobs:
    """`strength`, `route` and `schedule` of a manifest's entry, and what follows from them."""

    keys: tuple[str, ...] = ("strength", "route", "schedule")

    def variants(self, spec: MethodSpec) -> Iterator[tuple[str | None, float | None]]:
        """Yield the words and the strength of every combination."""
        routes, schedules = spec.route or (ROUTE,), spec.schedule or (SCHEDULE,)
        for route, schedule, strength in itertools.product(
            routes, schedules, spec.strength or (1.0,)
        ):
            yield DeltaSettings(route, schedule).words, strength

    def facts(self, variant: Variant, case: Case) -> dict[str, Any]:
        """Return route, strength, the schedule's numbers and the prompt without plugin."""
        found = DeltaSettings.of(variant)
        return {
            "route": found.route,
            "strength": found.strength,
            "schedule": asdict(SCHEDULES[found.schedule]),
            "content_prompt": case.prompt,
        }

    def cost(self, settings: Settings, variant: Variant) -> MethodCost:
        """Return two calls of the base model for each of the upgraded one, and those of VAEs."""
        found = DeltaSettings.of(variant)
        n_last = max(1, round(settings.steps * (variant.t0 or 1.0)))
        n_joint = joint_steps(found, n_steps=settings.steps, n_last=n_last)
        own = MethodCost(upgraded_calls=1, n_encodes=1, n_decodes=1, n_joint_steps=n_joint)
        if found.route == "latent":
            return replace(own, enlarged_calls=2, n_encodes=2)
        return replace(
            own,
            base_calls=2,
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
        "#8C6BB1",
        "pentagon",
        "like sdedit, with the plugin's change of the base model's prediction added at every step",
    )

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run both models over the last steps; uint8 [b, H, W, 3]."""
        from xadapter.delta import run_delta

        found = DeltaSettings.of(variant)
        start, route = self._crossing(session, variant, found)
        schedule = SCHEDULES[found.schedule]
        latents = run_delta(
            session.upgraded,
            session.base_pair(session.enlarged().base if found.route == "latent" else None),
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
