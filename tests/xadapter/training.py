"""Tiny trainings of the mapper, also as a program: one of several processes that train together."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from tests.warm import WarmProcess
from tests.xadapter.conftest import (
    BASE_TEXT_WIDTH,
    N_TOKENS,
    POOLED_WIDTH,
    UPGRADED_TEXT_WIDTH,
    new_mapper,
    tiny_base_unet,
    tiny_upgraded_unet,
)
from xadapter.data import TrainBatch, UpgradedText
from xadapter.processes import joined
from xadapter.train import TrainSettings, train_mapper
from xadapter.validation import Validation

ROOT = Path(__file__).resolve().parents[2]
ABAR = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
).alphas_cumprod
# "typical", the default, first measures a table, which takes longer than these steps
SETTINGS = TrainSettings(
    steps=6, batch_size=4, weighting="paper", checkpoint_every_steps=3, log_every_steps=2
)


@dataclass(frozen=True)
class TensorDataset:
    """Images in memory: latents [n, c, h, w], base text [n, l, d]."""

    base_latents: Tensor
    upgraded_latents: Tensor
    base_text: Tensor

    def __len__(self) -> int:
        return len(self.base_latents)

    def batch(self, indices: Tensor) -> TrainBatch:
        """Return the images at `indices` [b]."""
        return TrainBatch(
            self.base_latents[indices], self.upgraded_latents[indices], self.base_text[indices]
        )


def tiny_data(n_images: int = 10) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n_images, 4, 8, 8, generator=generator)
    return TensorDataset(
        base_latents=base,
        upgraded_latents=base.repeat_interleave(2, 2).repeat_interleave(2, 3),
        base_text=torch.randn(n_images, N_TOKENS, BASE_TEXT_WIDTH, generator=generator),
    )


def null_text() -> UpgradedText:
    return UpgradedText(
        torch.zeros(1, N_TOKENS, UPGRADED_TEXT_WIDTH),
        torch.zeros(1, POOLED_WIDTH),
        torch.tensor([[32.0, 32, 0, 0, 32, 32]]),
    )


def train(
    out_dir: Path,
    base_unet: Any,
    upgraded_unet: Any,
    settings: TrainSettings,
    data: Any = None,
    **kwargs: Any,
) -> Any:
    return train_mapper(
        new_mapper(zero=True),
        base_unet=base_unet,
        upgraded_unet=upgraded_unet,
        upgraded_null=null_text(),
        data=data or tiny_data(),
        alphas_cumprod=ABAR,
        settings=settings,
        out_dir=out_dir,
        progress=False,
        **kwargs,
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def train_together(jobs: list[tuple[Path, TrainSettings, int | None]], n: int = 2) -> None:
    """Train in folders, one after the other, in `n` gloo processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = json.dumps([[str(f), asdict(settings), stop] for f, settings, stop in jobs])
    code = "from tests.xadapter.training import main; main()"
    started, logs = [], [jobs[0][0].with_name(f"process-{rank}.log") for rank in range(n)]
    for rank in range(n):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
        own = {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        env = {**os.environ, "PYTHONPATH": str(ROOT), **{k: str(v) for k, v in own.items()}}
        started.append(WarmProcess(code, text, env=env, errors=logs[rank]))
    for process, log in zip(started, logs, strict=True):
        assert process.wait(timeout=1000) == 0, log.read_text()


def main() -> None:
    torch.set_num_threads(1)
    with joined("cpu") as processes:
        found = Validation({"rank": processes.rank})
        base_unet, upgraded_unet = tiny_base_unet(), tiny_upgraded_unet()
        for folder, given, stop in json.loads(sys.argv[1]):
            settings = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            train(
                Path(folder),
                base_unet,
                upgraded_unet,
                TrainSettings(**settings),
                processes=processes,
                stop_after=stop,
                validate=lambda step, mapper: found,
            )
