"""A loaded family with the options of its device: compiled blocks, models that wait on the CPU.

Compilation (`--compile`) is regional: of the repeated blocks of both networks, and of the mapper's.
They are inside of the modules whose outputs X-Adapter reads and changes (`xadapter.sites`), so
these stay eager and its hooks act between the graphs. Weights are inputs of a graph: plugins merge
into them, and restore them, as into those of a model that is not compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from plugins_manifest.errors import UserError
from plugins_manifest.text import first_line
from runners.device import is_gpu
from runners.families.family import TEXT_PARTS, Family, denoising_part, require_device
from runners.families.offload import Offload
from runners.options import DeviceOptions

Backend = str | Callable[..., Any]  # of torch.compile
# One graph for each width, side and number of rows of a block; in place, all blocks count together
_MOST_GRAPHS = 128
_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


def with_options(family: Family, device: str, options: DeviceOptions) -> Family:
    """Return a loaded family as the options say; with `low_memory` it is on the CPU until now."""
    if options.low_memory:
        family = offloaded(family, device)
    return compile_family(family) if options.compile else family


def offloaded(family: Family, device: str) -> Family:
    """Return a family whose models are on `device` while they run; elsewhere on the CPU."""
    require_device(device)
    if not is_gpu(device):
        return family
    offload = Offload(device)
    for pipe in (family.base, family.upgraded):
        offload.add(denoising_part(pipe)[1], "denoising")
        offload.add_vae(pipe.vae)
        for name in TEXT_PARTS:
            if (model := getattr(pipe, name, None)) is not None:
                offload.add(model, "conditions")
    for mapper in family.all_mappers:
        offload.add(mapper, "denoising")
    return replace(family, device=device, offload=offload)


def compile_family(family: Family, *, backend: Backend = "inductor") -> Family:
    """Let the blocks of a family be compiled at their first calls, once for each shape.

    Raises `UserError` where a small function cannot be compiled for the device.
    """
    _require_compiler(family.device, backend)
    torch._dynamo.config.recompile_limit = _MOST_GRAPHS
    for block in _blocks(family):
        block.compile(backend=backend, dynamic=False)
    return family


def compiler_problem(error: BaseException) -> str | None:
    """Return what to do about an error of the compiler; None for any other error."""
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.startswith(_COMPILERS):
            return f"the models cannot be compiled ({_reason(error)}): leave out --compile"
        found = found.__cause__
    return None


def _blocks(family: Family) -> Iterator[nn.Module]:
    for pipe in (family.base, family.upgraded):
        network = denoising_part(pipe)[1]
        names = set(network._repeated_blocks or network._no_split_modules)
        yield from (block for block in network.modules() if type(block).__name__ in names)
    for mapper in family.all_mappers:
        body = getattr(mapper, "body", ())  # optional for a mapper of another package
        yield from (block for block in body if isinstance(block, nn.Module))


def _require_compiler(device: str, backend: Backend) -> None:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    compiled: Any = torch.compile(doubled, backend=backend, dynamic=False)
    try:
        compiled(torch.ones(2, device=device))
    except Exception as error:
        if compiler_problem(error) is None:
            raise
        raise UserError(
            f"--compile: torch has no working compiler for the device {device!r} "
            f"({_reason(error)}): install one (a C++ compiler for a CPU, Triton for a GPU), or "
            "leave out --compile"
        ) from error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
