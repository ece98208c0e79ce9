"""Peak memory of a piece of work: resident memory of the process, or memory of the GPU, in MiB."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch

MIB = 1024.0 * 1024.0
_PERIOD_S = 0.02


class PeakMemory:
    """Context manager that records the peak of memory since it was entered.

    On a GPU this is torch's own peak of allocated memory, elsewhere the process's resident memory,
    sampled every 20 ms by a thread.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._process = psutil.Process()
        self._peak_bytes = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def peak_mib(self) -> float:
        """Return the peak so far, in MiB."""
        if self._on_cuda:
            return torch.cuda.max_memory_allocated(self._device) / MIB
        self._sample()
        return self._peak_bytes / MIB

    @property
    def _on_cuda(self) -> bool:
        return self._device.startswith("cuda")

    def _sample(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(_PERIOD_S):
            self._sample()
