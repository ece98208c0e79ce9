"""Denoising: one model alone, or stage 2 of several trials in lock-step.

Trials that start from the same latents share the base model's steps, and those of one mapper its
offsets: neither depends on the upgraded model. Source: X-Adapter, arXiv 2312.02238, section 3.3,
equations 2 and 3. Legend: b images, c channels, h height, w width, r rows of a call (2b with
guidance: unconditional rows first, else b), k trials in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from xadapter.denoiser import Denoiser
from xadapter.handover import Stage2Start
from xadapter.placement import execution_device
from xadapter.signals import Change, Signals, change_of, mapped, scaled, weights_dtype
from xadapter.sites import read_names, write_names
from xadapter.solvers import Trajectory
from xadapter.taps import capture, inject


@dataclass(frozen=True)
class StepRecord:
    """One step, for observers: index in the stage, latents after it, inner values of stage 2.

    Where several trials are in one call, `features` are those of the call.
    """

    index: int
    timestep: Tensor
    latents: Tensor
    prediction: Tensor
    base_latents: Tensor | None = None
    base_prediction: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    offsets: Signals = ()


Observer = Callable[[StepRecord], None]
Generators = Sequence[torch.Generator] | None


@dataclass(frozen=True)
class Stage2Trial:
    """A trial of stage 2: its start, and the factor of the mapper's offsets (None: SDEdit).

    `mapper` replaces the one that is given for all trials. Stochastic solvers draw from the
    generators, one per image. Trials with one start object share the base model's steps, which draw
    from `base_generators` of the first.
    """

    start: Stage2Start
    adapter_scale: float | None = None
    step_generators: Generators = None
    base_generators: Generators = None
    mapper: nn.Module | None = None


@dataclass
class Run:
    """A model on its trajectory, and where it is."""

    denoiser: Denoiser
    trajectory: Trajectory
    latents: Tensor

    @cached_property
    def timesteps(self) -> Tensor:
        """The timesteps on the model's device."""
        return self.trajectory.timesteps.to(self.denoiser.device)

    def index_at(self, n_left: int) -> int:
        """Return the index of the timestep from which so many are left, itself included."""
        return len(self.trajectory.timesteps) - n_left

    def schedule_step(self, index: int) -> int:
        """Return the step of the whole schedule to which a timestep belongs."""
        # ControlNet windows count steps, and a solver of order k calls the model k times per step
        return self.trajectory.first_step + index // self.trajectory.solver.order

    def kind_of_call(self, index: int) -> Hashable:
        """Return what must be equal for two runs of a model to be in one call."""
        timestep = float(self.trajectory.timesteps[index])  # on the CPU
        return timestep, self.schedule_step(index), self.trajectory.n_steps

    def step(self, prediction: Tensor, n_left: int) -> None:
        """Move the latents on by the prediction at the timestep from which so many are left."""
        timestep = self.trajectory.timesteps[self.index_at(n_left)]
        self.latents = self.trajectory.step(prediction, timestep, self.latents)


def predict_together(runs: Sequence[Run], n_left: int) -> Sequence[Tensor]:
    """Return the guided predictions of runs of one model, in one call."""
    first, index = runs[0], runs[0].index_at(n_left)
    timestep = first.trajectory.timesteps[index]
    # solvers that keep z / sqrt(abar) scale it back to z, the UNet's input
    scaled = [run.trajectory.solver.scale_model_input(run.latents, timestep) for run in runs]
    prediction = first.denoiser.repeated(len(runs)).predict(
        torch.cat(scaled) if len(runs) > 1 else scaled[0],
        first.timesteps[index],
        step=first.schedule_step(index),
        n_steps=first.trajectory.n_steps,
    )
    return prediction.chunk(len(runs)) if len(runs) > 1 else [prediction]


@torch.no_grad()
def denoise_alone(
    run: Run, *, observer: Observer | None, wanted: Collection[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the final latents, and those after each number of steps in `wanted`."""
    order = run.trajectory.solver.order
    snapshots = {0: run.latents} if 0 in wanted else {}
    for index, timestep in enumerate(run.trajectory.timesteps):
        n_left = len(run.trajectory.timesteps) - index
        prediction = predict_together([run], n_left)[0]
        run.step(prediction, n_left)
        # between the calls of one step there are no latents of the trajectory
        n_done = (index + 1) // order
        if (index + 1) % order == 0 and n_done in wanted:
            snapshots[n_done] = run.latents
        if observer is not None:
            observer(StepRecord(index, timestep, run.latents, prediction))
    return run.latents, snapshots


@dataclass(frozen=True)
class Reader:
    """A run of the upgraded model that reads a base model's features by a mapper.

    The mapper's offsets are multiplied by `scale`.
    """

    run: Run
    scale: float
    mapper: nn.Module


@dataclass(frozen=True)
class Joint:
    """A base model's run, and the trials that read its features."""

    base: Run
    readers: Sequence[Reader]


@dataclass(frozen=True)
class _Reading:
    """What acts on a trial at a step: the mapper's signals with their factor, and the record."""

    signals: Signals
    mapper: nn.Module
    record: Callable[..., StepRecord]


@dataclass(frozen=True)
class Lockstep:
    """The runs of stage 2: joint ones, and those of the upgraded model alone.

    At most `most` runs of a model are in one call; with 1 each is computed as if it were alone,
    bit for bit. Signals act as the mapper defines; offsets are added, or mixed in by `fusion`.
    """

    upgraded: Denoiser
    joints: Sequence[Joint]
    alone: Sequence[Run]
    fusion: float | None = None
    observer: Observer | None = None
    most: int = 1

    @torch.no_grad()
    def run(self) -> None:
        """Take all runs to their ends; those with fewer steps begin later."""
        joints = {id(joint.base): joint for joint in self.joints}
        bases = [joint.base for joint in self.joints]
        for n_left in range(max(len(run.timesteps) for run in (*bases, *self.alone)), 0, -1):
            for some in self._calls(bases, n_left):
                self._joint_step([joints[id(run)] for run in some], n_left)
            for some in self._calls(self.alone, n_left):
                self._step(some, n_left, {})

    def _calls(self, runs: Sequence[Run], n_left: int) -> Iterator[list[Run]]:
        """Yield the runs that have begun, those of one call together."""
        kinds: dict[Hashable, list[Run]] = {}
        for run in runs:
            if (index := run.index_at(n_left)) >= 0:
                kinds.setdefault(run.kind_of_call(index), []).append(run)
        for some in kinds.values():
            for first in range(0, len(some), self.most):
                yield some[first : first + self.most]

    def _joint_step(self, joints: Sequence[Joint], n_left: int) -> None:
        """Take a step of base runs in one call, and of all trials that read their features."""
        bases = [joint.base for joint in joints]
        unet = bases[0].denoiser.unet
        readers = [reader for joint in joints for reader in joint.readers]
        mappers = {id(reader.mapper): reader.mapper for reader in readers}.values()
        names = dict.fromkeys(name for one in mappers for name in read_names(one, unet))
        # The base model predicts; its features F_base are read.
        with capture(unet, names=tuple(names)) as tap:
            predictions = predict_together(bases, n_left)
        by_name = dict(zip(names, tap.features, strict=True))

        def read_by(mapper: nn.Module) -> tuple[Tensor, ...]:
            return tuple(by_name[name] for name in read_names(mapper, unet))

        timestep = bases[0].timesteps[bases[0].index_at(n_left)]
        # F_mapper = F(F_base), equation 2, once for each mapper.
        signals: dict[int, list[Signals]] = {}
        for mapper in mappers:
            features = read_by(mapper)
            whole = self._signals(mapper, bases[0].denoiser, features, timestep)
            signals[id(mapper)] = _split(whole, len(bases), self._is_guided)
        readings: dict[int, _Reading] = {}
        for i, (joint, prediction) in enumerate(zip(joints, predictions, strict=True)):
            joint.base.step(prediction, n_left)
            sides = {"base_latents": joint.base.latents, "base_prediction": prediction}
            record = partial(StepRecord, **sides)
            readings |= {
                id(r.run): _Reading(
                    scaled(r.mapper, signals[id(r.mapper)][i], r.scale),
                    r.mapper,
                    partial(record, features=read_by(r.mapper)),
                )
                for r in joint.readers
            }
        trials: dict[Hashable, list[Run]] = {}  # those on which signals act alike
        for reader in readers:
            trials.setdefault(self._effect(reader.mapper), []).append(reader.run)
        for alike in trials.values():
            for some in self._calls(alike, n_left):
                self._step(some, n_left, readings)

    def _step(self, runs: Sequence[Run], n_left: int, readings: Mapping[int, _Reading]) -> None:
        """Take a step of the upgraded model in one call, with offsets or without any."""
        found = [readings[id(run)] for run in runs if id(run) in readings]
        offsets = _joined([reading.signals for reading in found], self._is_guided)
        # The upgraded model predicts with F_up + F_mapper, equation 3; without offsets: SDEdit.
        with self._injected(found[0].mapper, offsets) if found else nullcontext():
            predictions = predict_together(runs, n_left)
        for run, prediction in zip(runs, predictions, strict=True):
            run.step(prediction, n_left)
            if self.observer is not None:
                index = run.index_at(n_left)
                make = partial(readings[id(run)].record, offsets=offsets) if found else StepRecord
                timestep = run.trajectory.timesteps[index]
                self.observer(make(index, timestep, run.latents, prediction))

    @property
    def _is_guided(self) -> bool:
        return self.upgraded.guidance.is_on

    def _effect(self, mapper: nn.Module) -> tuple[tuple[str, ...], Change | None]:
        """Return where a mapper's signals act, and how."""
        return write_names(mapper, self.upgraded.unet), change_of(mapper)

    def _injected(self, mapper: nn.Module, signals: Signals) -> AbstractContextManager[None]:
        names, change = self._effect(mapper)
        unet = self.upgraded.unet
        return inject(unet, signals, fusion=self.fusion, names=names, change=change)

    def _signals(
        self, mapper: nn.Module, base: Denoiser, features: Sequence[Tensor], timestep: Tensor
    ) -> Signals:
        """Return a mapper's signals, with one row per row of the upgraded call.

        Guidance on one side only (ours): the conditional half serves an unguided upgraded model,
        and an unguided base model's features serve both halves.
        """
        # rows of a guided call: unconditional half first, conditional half second
        if base.guidance.is_on and not self._is_guided:
            features = [feature.chunk(2)[1] for feature in features]
        # the three models may have three dtypes and two devices
        device, dtype = execution_device(mapper), weights_dtype(mapper)
        cast = [feature.to(device=device, dtype=dtype) for feature in features]
        signals = mapped(mapper, cast, timestep)
        if self._is_guided and not base.guidance.is_on:
            signals = tuple(torch.cat([signal] * 2) for signal in signals)
        return signals


def _split(offsets: Signals, n_runs: int, is_guided: bool) -> list[Signals]:
    """Return the rows [r, ...] of each run in a call: of both halves, where there are two."""
    if n_runs == 1:
        return [offsets]
    halves = [offset.chunk(2) if is_guided else (offset,) for offset in offsets]
    # site -> run -> its rows of each half
    parts = [list(zip(*(half.chunk(n_runs) for half in site), strict=True)) for site in halves]
    return [tuple(torch.cat(site[i]) for site in parts) for i in range(n_runs)]


def _joined(offsets: Sequence[Signals], is_guided: bool) -> Signals:
    """Join the rows of runs into those of one call, the inverse of `_split`."""
    if len(offsets) < 2:
        return offsets[0] if offsets else ()
    halves = [
        [o.chunk(2) if is_guided else (o,) for o in site] for site in zip(*offsets, strict=True)
    ]
    return tuple(
        torch.cat([o for half in zip(*site, strict=True) for o in half]) for site in halves
    )
