"""A frozen network with everything that conditions it: text, guidance, ControlNets.

Legend of shapes: b images, r rows (2b with guidance: unconditional rows first, else b), l tokens,
d text width, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from xadapter.errors import SettingError
from xadapter.guidance import Guidance, guide
from xadapter.placement import execution_device
from xadapter.solvers import Solver

if TYPE_CHECKING:
    from diffusers import ControlNetModel


class Network(Protocol):
    """What predicts noise, v or velocity: diffusers' UNets, and `xadapter.sd3.SD3Network`.

    It is called with samples [r, c, h, w], one timestep, text [r, l, d] as `encoder_hidden_states`
    and a mapping `added_cond_kwargs`, and returns a tuple of the prediction [r, c, h, w]. What a
    prediction stands for, x0, follows from the solver (`xadapter.solvers.clean_at`).
    """

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its inputs."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of its inputs."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the prediction."""
        ...


@dataclass(frozen=True)
class Conditions:
    """The inputs that condition a network on b images.

    `text` [b, l, d] and `pooled` [b, p] are the prompt's, `negative_*` the negative prompt's
    (needed where guidance is on); `time_ids` [b, 6] = height, width, crop top, crop left, height,
    width in px (SDXL). `added` goes into `added_cond_kwargs` (such as `image_embeds` of an
    IP-Adapter) and `unet_kwargs` into the call (such as the residuals of a T2I-Adapter); both hold
    r rows already.
    """

    text: Tensor
    negative_text: Tensor | None = None
    pooled: Tensor | None = None
    negative_pooled: Tensor | None = None
    time_ids: Tensor | None = None
    negative_time_ids: Tensor | None = None
    added: Mapping[str, Any] = field(default_factory=dict)
    unet_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, guided: bool) -> tuple[Tensor, dict[str, Any]]:
        """Return text [r, l, d] and `added_cond_kwargs` for a call with or without guidance.

        Raises `SettingError` where guidance is on and the negative prompt is missing.
        """
        text = _rows(self.negative_text, self.text, guided, "negative_text")
        added = dict(self.added)
        if self.pooled is not None:
            added["text_embeds"] = _rows(
                self.negative_pooled, self.pooled, guided, "negative_pooled"
            )
        if self.time_ids is not None:
            negative_ids = (
                self.time_ids if self.negative_time_ids is None else self.negative_time_ids
            )
            added["time_ids"] = _rows(negative_ids, self.time_ids, guided, "negative_time_ids")
        return text, added

    def repeated(self, n_times: int, *, guided: bool) -> Conditions:
        """Return the conditions of n copies of the images, all of the first copy first."""
        names = ("text", "negative_text", "pooled", "negative_pooled", "time_ids")
        names += ("negative_time_ids",)
        own = {name: getattr(self, name) for name in names}
        tensors = {name: None if v is None else _tiled(v, n_times) for name, v in own.items()}

        def rows(value: Any) -> Any:
            """Repeat r rows within each half."""
            if isinstance(value, Tensor):
                halves = value.chunk(2) if guided else (value,)
                return torch.cat([_tiled(half, n_times) for half in halves])
            if isinstance(value, (list, tuple)):
                return type(value)(rows(item) for item in value)
            return value

        held = {key: rows(value) for key, value in self.added.items()}
        kwargs = {key: rows(value) for key, value in self.unet_kwargs.items()}
        return replace(self, **tensors, added=held, unet_kwargs=kwargs)


def _tiled(value: Tensor, n_times: int) -> Tensor:
    return value.repeat(n_times, *([1] * (value.ndim - 1)))


def _rows(negative: Tensor | None, positive: Tensor, guided: bool, name: str) -> Tensor:
    if not guided:
        return positive
    if negative is None:
        raise SettingError(f"guidance is on, but the conditions have no {name}")
    return torch.cat([negative, positive])


@dataclass(frozen=True)
class Control:
    """A ControlNet on one side: `image` [b, 3, height_px, width_px] in [0, 1].

    It acts while the share of the schedule is inside `window`; in `guess` mode it runs on the
    conditional rows alone and its residuals are ramped, as in diffusers.
    """

    net: ControlNetModel
    image: Tensor
    scale: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    guess: bool = False

    def rows(self, guided: bool) -> Tensor:
        """Return the image [r, 3, height_px, width_px] for a call with or without guidance."""
        return self._guided if guided else self._cast

    @cached_property
    def _cast(self) -> Tensor:
        return self.image.to(device=self.net.device, dtype=self.net.dtype)

    @cached_property
    def _guided(self) -> Tensor:
        return torch.cat([self._cast] * 2)

    def weight(self, step: int, n_steps: int) -> float:
        """Return the scale at step `step` of `n_steps`: 0 outside the window."""
        start, end = self.window
        # a step acts if all of it, from step / N to (step + 1) / N, is inside (as in diffusers)
        outside = step / n_steps < start or (step + 1) / n_steps > end
        return 0.0 if outside else self.scale


@dataclass(frozen=True)
class Denoiser:
    """A frozen network, a scheduler with its noise schedule and prediction type, its conditions.

    ControlNets do not act on the first `n_plain` images; their condition images are the others'.
    """

    network: Network
    scheduler: Solver
    conditions: Conditions
    guidance: Guidance = field(default_factory=Guidance)
    controls: tuple[Control, ...] = ()
    n_plain: int = 0

    @property
    def unet(self) -> Any:
        """The network where it is a UNet, in which mappers have their sites."""
        return self.network

    @property
    def device(self) -> torch.device:
        """Device on which the network computes."""
        return execution_device(self.network)

    def unguided(self) -> Denoiser:
        """Return the denoiser that predicts for the prompt alone."""
        if not self.guidance.is_on:
            return self
        held = {
            name: _last_half(getattr(self.conditions, name)) for name in ("added", "unet_kwargs")
        }
        return replace(self, guidance=Guidance(1.0), conditions=replace(self.conditions, **held))

    def repeated(self, n_times: int) -> Denoiser:
        """Return the denoiser of n copies of the images, for several trials in one call."""
        if n_times == 1:
            return self
        if n_times not in self._repeated:
            self._repeated[n_times] = replace(
                self,
                conditions=self.conditions.repeated(n_times, guided=self.guidance.is_on),
                controls=tuple(replace(c, image=_tiled(c.image, n_times)) for c in self.controls),
            )
        return self._repeated[n_times]

    @cached_property
    def _repeated(self) -> dict[int, Denoiser]:
        return {}

    @cached_property
    def _prepared(self) -> tuple[Tensor, dict[str, Any]]:
        """Text rows and `added_cond_kwargs` as the network takes them, the same for all steps."""
        text, added = self.conditions.rows(self.guidance.is_on)
        dtype = self.network.dtype
        # time ids stay float32: 16 bits cannot hold every size in px
        added = {k: v if k == "time_ids" else _cast(v, dtype) for k, v in added.items()}
        return text.to(dtype), added

    def predict(self, scaled_bchw: Tensor, timestep: Tensor, *, step: int, n_steps: int) -> Tensor:
        """Return the guided prediction [b, c, h, w] float32 (epsilon, v or velocity, as trained).

        `scaled_bchw` are latents after the solver's `scale_model_input`; `step` of `n_steps` places
        the call in the schedule for ControlNet windows.
        """
        guided = self.guidance.is_on
        text, added = self._prepared
        sample = torch.cat([scaled_bchw] * 2) if guided else scaled_bchw
        rows = _Rows(sample.to(self.network.dtype), timestep, text, added, guided)
        # a UNet empties lists of residuals
        kwargs = {
            key: list(value) if isinstance(value, list) else value
            for key, value in self.conditions.unet_kwargs.items()
        }
        controlled = rows.without_first(self.n_plain) if self.n_plain else rows
        found = _control_residuals(self.controls, controlled, step=step, n_steps=n_steps)
        kwargs.update(with_plain_rows(found, self.n_plain, guided=guided))
        prediction = self.network(
            rows.sample,
            timestep,
            encoder_hidden_states=rows.text,
            added_cond_kwargs=dict(added) or None,
            return_dict=False,
            **kwargs,
        )[0].float()
        if not guided:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return guide(unconditional, conditional, self.guidance)


@dataclass(frozen=True)
class _Rows:
    """The inputs of one call: sample [r, c, h, w], text [r, l, d], what goes in added kwargs."""

    sample: Tensor
    timestep: Tensor
    text: Tensor
    added: Mapping[str, Any]
    guided: bool

    def conditional(self) -> _Rows:
        """Return the conditional half alone."""
        added = {key: _last_half(value) for key, value in self.added.items()}
        return _Rows(_last_half(self.sample), self.timestep, _last_half(self.text), added, False)

    def without_first(self, n_images: int) -> _Rows:
        """Return the rows of all images but the first ones."""

        def rest(value: Tensor) -> Tensor:
            halves = value.chunk(2) if self.guided else (value,)
            return torch.cat([half[n_images:] for half in halves])

        added = {key: _each(rest, value) for key, value in self.added.items()}
        return _Rows(rest(self.sample), self.timestep, rest(self.text), added, self.guided)


def with_plain_rows(values: Mapping[str, Any], n_images: int, *, guided: bool) -> dict[str, Any]:
    """Return rows [r, ...] with zeros for `n_images` more images, before the others in each half.

    Residuals of 0 change nothing: those images are as without the plugin.
    """

    def padded(value: Tensor) -> Tensor:
        halves = value.chunk(2) if guided else (value,)
        none = value.new_zeros(n_images, *value.shape[1:])
        return torch.cat([part for half in halves for part in (none, half)])

    if not n_images:
        return dict(values)
    return {key: _each(padded, value) for key, value in values.items()}


def _control_residuals(
    controls: Sequence[Control], rows: _Rows, *, step: int, n_steps: int
) -> dict[str, Any]:
    """Return the sum of the acting ControlNets' residuals, as UNet arguments."""
    down: list[Tensor] | None = None
    middle: Tensor | None = None
    for control in controls:
        weight = control.weight(step, n_steps)
        if weight == 0.0:
            continue
        downs, mid = _run_control(control, rows, weight=weight)
        down = downs if down is None else [a + b for a, b in zip(down, downs, strict=True)]
        middle = mid if middle is None else middle + mid
    if down is None:
        return {}
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def _run_control(control: Control, rows: _Rows, *, weight: float) -> tuple[list[Tensor], Tensor]:
    guess = control.guess or bool(control.net.config["global_pool_conditions"])
    used = rows.conditional() if rows.guided and guess else rows
    down, middle = control.net(
        used.sample,
        used.timestep,
        encoder_hidden_states=used.text,
        controlnet_cond=control.rows(used.guided),
        conditioning_scale=weight,
        guess_mode=guess,
        added_cond_kwargs=dict(used.added),
        return_dict=False,
    )
    # in guess mode the unconditional rows get no control
    if rows.guided and guess:
        down = [torch.cat([torch.zeros_like(d), d]) for d in down]
        middle = torch.cat([torch.zeros_like(middle), middle])
    return list(down), middle


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a value with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_each(change, item) for item in value)
    if isinstance(value, Mapping):
        return {key: _each(change, item) for key, item in value.items()}
    return value


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return _each(lambda tensor: tensor.to(dtype), value)


def _last_half(value: Any) -> Any:
    return _each(lambda tensor: tensor.chunk(2)[1], value)
