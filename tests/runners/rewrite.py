"""One change of weights in many formats: a kohya LoRA rewritten as everything that can hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runners.weights.lora import lora_change

State = dict[str, Tensor]


@dataclass(frozen=True)
class Module:
    """One module of a LoRA in float32, with the weight it changes; alpha is in `up` already."""

    kohya: str
    target: str
    down: Tensor
    up: Tensor
    weight: Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def dotted(self) -> str:
        """The module's own name: unet.down_blocks.0..."""
        return self.target.removesuffix(".weight")

    def change(self) -> Tensor:
        return lora_change({"down": self.down, "up": self.up}, self.weight)


def read_modules(
    state: Mapping[str, Tensor], names: Mapping[str, str], weights: Mapping[str, Tensor]
) -> list[Module]:
    """Return the modules of a kohya LoRA, as `tests.runners.kohya` gives it."""
    modules = []
    for key in state:
        name, found, _ = key.partition(".lora_down.weight")
        if found:
            down, up = state[key].float(), state[f"{name}.lora_up.weight"].float()
            scale = float(state[f"{name}.alpha"]) / down.shape[0]
            modules.append(
                Module(name, names[name], down, scale * up, weights[name].detach().float())
            )
    return modules


def kohya(module: Module) -> State:
    """With another alpha and another scale of up."""
    return {
        f"{module.kohya}.lora_down.weight": module.down,
        f"{module.kohya}.lora_up.weight": 4 * module.up,
        f"{module.kohya}.alpha": torch.tensor(module.rank / 4),
    }


def peft(module: Module) -> State:
    return {
        f"{module.dotted}.lora_A.weight": module.down,
        f"{module.dotted}.lora_B.weight": module.up,
    }


def peft_bare(module: Module) -> State:
    return {key.partition(".")[2]: part for key, part in peft(module).items()}


def tucker(module: Module) -> State:
    """Convolutions as core between two 1 x 1: an exact one is the whole down behind identity."""
    if module.weight.ndim < 4 or module.weight.shape[2] == 1:
        return kohya(module)
    n_in, kernel = module.weight.shape[1], module.weight.shape[2:]
    rank = max(module.rank, n_in)
    down = torch.eye(rank, n_in)[..., None, None]
    core = torch.zeros(rank, rank, *kernel)
    core[: module.rank, :n_in] = module.down
    up = torch.zeros(module.up.shape[0], rank, 1, 1)
    up[:, : module.rank] = module.up
    return {
        f"{module.kohya}.lora_down.weight": down,
        f"{module.kohya}.lora_mid.weight": core,
        f"{module.kohya}.lora_up.weight": 2 * up,
        f"{module.kohya}.alpha": torch.tensor(rank / 2),
    }


def loha(module: Module) -> State:
    """Take a second factor of ones."""
    down, up = module.down.flatten(1), module.up.flatten(1)
    ones_a, ones_b = torch.zeros_like(up), torch.zeros_like(down)
    ones_a[:, 0], ones_b[0] = 1, 1
    return {
        f"{module.kohya}.hada_w1_a": 2 * up,
        f"{module.kohya}.hada_w1_b": down,
        f"{module.kohya}.hada_w2_a": ones_a,
        f"{module.kohya}.hada_w2_b": ones_b,
        f"{module.kohya}.alpha": torch.tensor(module.rank / 2),
    }


def lokr(module: Module) -> State:
    """Take one number as the first factor."""
    return {
        f"{module.kohya}.lokr_w1": torch.tensor([[0.5]]),
        f"{module.kohya}.lokr_w2_a": 4 * module.up.flatten(1),
        f"{module.kohya}.lokr_w2_b": module.down.flatten(1),
        f"{module.kohya}.alpha": torch.tensor(module.rank / 2),
    }


def full(module: Module) -> State:
    return {f"{module.kohya}.diff": module.change()}


def glora(module: Module) -> State:
    """Of a linear layer: W A is not zero, and B holds what is missing to the change."""
    down, up = module.down, module.up
    rank, n_in = (module.rank + 1 if down.ndim == 2 else module.rank), module.weight.shape[1]
    generator = torch.Generator().manual_seed(0)
    a1, a2 = torch.zeros(n_in, rank), torch.zeros(rank, n_in)
    if down.ndim == 2:
        a1[:, 0] = 0.1 * torch.randn(n_in, generator=generator)
        a2[0] = 0.1 * torch.randn(n_in, generator=generator)
        up = torch.cat([up, -(module.weight @ a1[:, :1])], dim=1)
        down = torch.cat([down, a2[:1]])
    else:
        a1, a2 = a1[..., None, None], a2[..., None, None]
    return {
        f"{module.kohya}.a1.weight": a1,
        f"{module.kohya}.a2.weight": a2,
        f"{module.kohya}.b1.weight": up,
        f"{module.kohya}.b2.weight": down,
        f"{module.kohya}.alpha": torch.tensor(float(rank)),
    }


def dora(module: Module) -> State:
    """Take the magnitude of W + change, so that nothing else changes."""
    moved = module.weight + module.change()
    norm = moved.flatten(1).norm(dim=1).reshape(-1, *[1] * (moved.ndim - 1))
    return {**kohya(module), f"{module.kohya}.dora_scale": norm}


FORMATS: Mapping[str, Callable[[Module], State]] = {
    "kohya": kohya,
    "peft": peft,
    "peft-bare": peft_bare,
    "tucker": tucker,
    "loha": loha,
    "lokr": lokr,
    "full": full,
    "glora": glora,
    "dora": dora,
}


def rewritten(modules: list[Module], name: str) -> State:
    """All modules in one format, contiguous and ready to be saved."""
    state: State = {}
    for module in modules:
        state |= {key: part.contiguous() for key, part in FORMATS[name](module).items()}
    return state
