"""The device of a run's metrics: one for all of its scores, as far as this machine has it."""

from __future__ import annotations

import logging

from bench.errors import UserError
from bench.store import RunStore
from metrics.device import choose_device, named_device

_LOG = logging.getLogger(__name__)


def recorded_device(store: RunStore) -> str | None:
    """Return the kind of device that a run's scores are from; None if it has none.

    Runs of earlier versions do not record it: they were scored on the CPU.
    """
    recorded = store.run_facts().get("metric_device")
    if recorded is not None:
        return str(recorded)
    return "cpu" if store.table_paths("scores") else None


def record_device(store: RunStore, device: str) -> None:
    """Record the kind of device that the scores are from."""
    facts, kind = store.run_facts(), device.partition(":")[0]
    if facts.get("metric_device") != kind:
        store.write_run_facts({**facts, "metric_device": kind})


def scoring_device(store: RunStore, name: str = "auto") -> str:
    """Resolve `--metric-device` for a run; imports torch.

    "auto" is what `XBENCH_METRIC_DEVICE` names, else the device of the run's scores, else a GPU.
    Raises `UserError` for a device that is not available.
    """
    recorded = recorded_device(store)
    if name != "auto" or named_device() is not None or recorded is None:
        return choose_device(name)
    try:
        return choose_device(recorded)
    except UserError:
        found = choose_device("auto")
        _LOG.warning("the run was scored on %s, which is not here: scoring on %s", recorded, found)
        return found
