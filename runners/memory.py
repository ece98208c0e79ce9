"""Peak memory of a piece of work: resident memory of the process, or memory of the GPU, in MiB."""

from __future__ import annotations

import threading
from types import TracebackType

from runners import device as on_device

MIB = 1024.0 * 1024.0
_PERIOD_S = 0.02


class PeakMemory:
    """Context manager that records the peak of memory since it was entered or last reset.

    Where the device counts its own peak (CUDA) this is torch's peak of allocated memory. Elsewhere
    a thread samples the memory in use every 20 ms: the process's on a CPU, torch's on a GPU.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._peak_bytes = 0
        self._start_bytes = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_counted = on_device.has_peak_counter(device)

    def __enter__(self) -> PeakMemory:
        self.reset()
        if not self._is_counted:
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

    def reset(self) -> None:
        """Begin again at the memory that is in use now."""
        self._start_bytes = self._peak_bytes = on_device.used_bytes(self._device)
        if self._is_counted:
            on_device.reset_peak(self._device)

    @property
    def peak_mib(self) -> float:
        """Return the peak so far, in MiB."""
        return self._peak() / MIB

    @property
    def growth_bytes(self) -> int:
        """Return how far the peak is above the memory in use at the last reset."""
        return max(0, self._peak() - self._start_bytes)

    def _peak(self) -> int:
        if self._is_counted:
            return on_device.peak_bytes(self._device)
        self._sample()
        return self._peak_bytes

    def _sample(self) -> None:
        self._peak_bytes = max(self._peak_bytes, on_device.used_bytes(self._device))

    def _watch(self) -> None:
        while not self._done.wait(_PERIOD_S):
            self._sample()
