"""Forward hooks that read base features and add offsets, on unmodified diffusers UNets.

Source: X-Adapter, arXiv 2312.02238, section 3.3, equations 2 and 3. Hooks are removed when the
context ends, on exceptions too. Legend: b rows of the UNet's batch, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from xadapter.errors import MapperFitError, SiteError
from xadapter.sites import find_module, injected_names, tapped_names

Hook = Callable[[nn.Module, object, Tensor], Tensor | None]


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
        """Return three [b, c_i, h_i, w_i] tensors; `SiteError` if no forward reached the sites."""
        missing = [name for name in self.names if name not in self._outputs]
        if missing:
            raise SiteError(
                f"no output of {', '.join(missing)} recorded: run the base UNet inside capture()"
            )
        return tuple(self._outputs[name] for name in self.names)


@contextmanager
def _hooked(unet: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    # all names are resolved before the first hook is registered
    modules = {name: find_module(unet, name) for name in hooks}
    with ExitStack() as handles:
        for name, hook in hooks.items():
            handles.enter_context(modules[name].register_forward_hook(hook))
        yield


@contextmanager
def capture(base_unet: nn.Module, *, names: tuple[str, ...] | None = None) -> Iterator[Tap]:
    """Record the outputs of the base UNet's tapped modules (F_base of equation 2).

    `names` defaults to the sites of the architecture. Raises `SiteError` for a missing module,
    naming the nearest.
    """
    tap = Tap(tapped_names(base_unet) if names is None else names)

    def recorder(name: str) -> Hook:
        # returns None: the output goes on unchanged
        return lambda _module, _inputs, output: tap.record(name, output)

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


@contextmanager
def inject(
    upgraded_unet: nn.Module,
    offsets: Sequence[Tensor],
    *,
    fusion: float | None = None,
    names: tuple[str, ...] | None = None,
) -> Iterator[None]:
    """Fuse three [b, c_i, h_i, w_i] offsets into the outputs of the upgraded UNet's sites.

    `fusion` None is the plain addition of equation 3. Raises `SiteError` for a missing module.
    """
    names = injected_names(upgraded_unet) if names is None else names

    def adder(offset: Tensor) -> Hook:
        # returns a tensor: it replaces the module's output
        return lambda _module, _inputs, output: fuse(output, offset, fusion)

    hooks = {name: adder(offset) for name, offset in zip(names, offsets, strict=True)}
    with _hooked(upgraded_unet, hooks):
        yield
