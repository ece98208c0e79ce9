"""Forward hooks that read base features and add offsets, on unmodified diffusers UNets.

Source: X-Adapter, arXiv 2312.02238, section 3.3, equations 2 and 3; other fusions than the addition
are the mapper's (`xadapter.signals`). Hooks are removed when the
context ends, on exceptions too. Legend: b rows of the UNet's batch, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from xadapter.errors import MapperFitError, SettingError, SiteError
from xadapter.signals import Change
from xadapter.sites import find_module, hidden_of, injected_names, tapped_names, with_hidden

_COMPILED = (
    "a compiled UNet calls no new hooks: compile its blocks (compile_repeated_blocks), not the UNet"
)
Hook = Callable[[nn.Module, object, Any], Any]


class Tap:
    """The features of the latest forward of a tapped base UNet."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._outputs: dict[str, Tensor] = {}

    def record(self, name: str, output: Tensor) -> None:
        """Keep the output of module `name`."""
        self._outputs[name] = output

    @property
    def features(self) -> tuple[Tensor, ...]:
        """Return [b, c_i, h_i, w_i] tensors; `SiteError` if no forward reached the sites."""
        missing = [name for name in self.names if name not in self._outputs]
        if missing:
            raise SiteError(
                f"no output of {', '.join(missing)} recorded: run the base UNet inside capture(); "
                f"{_COMPILED}"
            )
        return tuple(self._outputs[name] for name in self.names)


@contextmanager
def _hooked(unet: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    # all names are resolved before the first hook is registered
    _require_hooks(unet, hooks)
    modules = {name: find_module(unet, name) for name in hooks}
    with ExitStack() as handles:
        for name, hook in hooks.items():
            handles.enter_context(modules[name].register_forward_hook(hook))
        yield


def _require_hooks(unet: nn.Module, names: Iterable[str]) -> None:
    """Raise `SiteError` where a compiled graph has a site inside: it goes on without new hooks."""
    for name in names:
        parts = name.split(".")
        for n in range(len(parts) + 1):
            module = _found(unet, parts[:n])
            if module is not None and _is_compiled(module):
                place = f"its {'.'.join(parts[:n])}" if n else "the whole of it"
                raise SiteError(f"{type(unet).__name__}: {place} is compiled; {_COMPILED}")


def _found(unet: nn.Module, parts: Sequence[str]) -> nn.Module | None:
    module: nn.Module | None = unet
    for part in parts:
        module = None if module is None else getattr(module, part, None)
    return module


def _is_compiled(module: nn.Module) -> bool:
    is_in_place = vars(module).get("_compiled_call_impl") is not None  # module.compile()
    return is_in_place or "_orig_mod" in vars(module)["_modules"]  # torch.compile(module)


@contextmanager
def capture(base_unet: nn.Module, *, names: tuple[str, ...] | None = None) -> Iterator[Tap]:
    """Record the outputs of the base UNet's tapped modules (F_base of equation 2).

    `names` defaults to the sites of the architecture. Raises `SiteError` for a missing module,
    naming the nearest.
    """
    tap = Tap(tapped_names(base_unet) if names is None else names)

    def recorder(name: str) -> Hook:
        # returns None: the output goes on unchanged
        return lambda _module, _inputs, output: tap.record(name, hidden_of(output))

    with _hooked(base_unet, {name: recorder(name) for name in tap.names}):
        yield tap


def fuse(hidden_bchw: Tensor, offset_bchw: Tensor, weight: float | None) -> Tensor:
    """Add an offset to a feature map [b, c, h, w], or mix the two by a fusion weight.

    Raises `MapperFitError` with both shapes where they differ.
    """
    if hidden_bchw.shape != offset_bchw.shape:
        raise MapperFitError(
            f"an offset of shape {tuple(offset_bchw.shape)} does not fit features of shape "
            f"{tuple(hidden_bchw.shape)}; upgraded latents must have twice the base latents' sides"
        )
    offset_bchw = offset_bchw.to(device=hidden_bchw.device, dtype=hidden_bchw.dtype)
    if weight is None:
        return hidden_bchw + offset_bchw  # equation 3
    # the released code's option: h + f (r - h)
    return hidden_bchw + weight * (offset_bchw - hidden_bchw)


def _changed(hidden_bchw: Tensor, i: int, signals: Sequence[Tensor], change: Change) -> Tensor:
    """Return h + scale * change [b, c, h, w]; the last of the signals are the scales [b]."""
    *own, scales_b = signals
    cast = hidden_bchw.to(device=scales_b.device, dtype=scales_b.dtype)
    found = change(i, cast, own)
    if found.shape != hidden_bchw.shape:
        raise MapperFitError(
            f"a change of shape {tuple(found.shape)} does not fit features of shape "
            f"{tuple(hidden_bchw.shape)}"
        )
    return hidden_bchw + (scales_b.view(-1, 1, 1, 1) * found).to(hidden_bchw)


@contextmanager
def inject(
    upgraded_unet: nn.Module,
    signals: Sequence[Tensor],
    *,
    fusion: float | None = None,
    names: tuple[str, ...] | None = None,
    change: Change | None = None,
) -> Iterator[None]:
    """Fuse a mapper's signals into the outputs of the upgraded UNet's sites.

    Without `change` they are offsets [b, c_i, h_i, w_i], one for each site: `fusion` None is the
    plain addition of equation 3. With it they are what `signals.scaled` returns. Raises `SiteError`
    for a missing module, and at the end for a site that never ran: without its offset the image
    would be SDEdit's; `SettingError` for a `fusion` weight where nothing is added.
    """
    if change is not None and fusion is not None:
        raise SettingError(
            f"fusion {fusion:g} mixes offsets with features, and this mapper has no offsets: leave "
            "it out"
        )
    names = injected_names(upgraded_unet) if names is None else names
    if change is None and len(signals) != len(names):
        raise MapperFitError(f"the mapper returned {len(signals)} offsets for {len(names)} sites")
    reached: set[str] = set()

    def fuser(i: int, name: str) -> Hook:
        def fuse_in(_module: nn.Module, _inputs: object, output: Any) -> Any:
            reached.add(name)
            hidden = hidden_of(output)
            if change is None:
                fused = fuse(hidden, signals[i], fusion)
            else:
                fused = _changed(hidden, i, signals, change)
            return with_hidden(output, fused)  # it replaces the module's output

        return fuse_in

    with _hooked(upgraded_unet, {name: fuser(i, name) for i, name in enumerate(names)}):
        yield
    if missing := [name for name in names if name not in reached]:
        raise SiteError(
            f"no offset reached {', '.join(missing)}: run the upgraded UNet inside inject(); "
            f"{_COMPILED}"
        )
