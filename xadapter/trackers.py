"""Loggers of a training beside `metrics.jsonl`: TensorBoard, Weights & Biases, by Accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from xadapter.errors import SettingError

TrackerName = Literal["tensorboard", "wandb"]
_MODULES: dict[TrackerName, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
}
_PROJECT = "xbench"  # of W&B; a run in it has the name of the training's folder


class Trackers:
    """Open loggers; a row of numbers goes to each."""

    def __init__(self, opened: Sequence[Any]) -> None:
        self._opened = opened

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers of a step."""
        for tracker in self._opened:
            tracker.log(dict(values), step=step)


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Raise `SettingError` for a tracker whose package is not installed."""
    missing = [name for name in names if not any(map(find_spec, _MODULES[name]))]
    if missing:
        packages = " ".join(missing)
        raise SettingError(f"no package for the tracker {missing[0]!r}: pip install {packages}")


@contextmanager
def opened_trackers(
    names: Sequence[TrackerName], *, run_name: str, folder: Path, settings: Mapping[str, Any]
) -> Iterator[Trackers]:
    """Open the named loggers, with their files below `folder`, and close them at the end.

    Raises `SettingError` for one whose package is not installed, or that does not start.
    """
    require_trackers(names)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        opened: list[Any] = []
        for name in names:
            tracker = _made(name, run_name, folder)
            try:
                tracker.start()
            except Exception as error:  # W&B without a key, no network, a full disk
                hint = "; without an account: WANDB_MODE=offline" if name == "wandb" else ""
                raise SettingError(
                    f"the tracker {name!r} does not start: {str(error).rstrip('.')}{hint}"
                ) from error
            stack.callback(tracker.finish)
            tracker.store_init_configuration(_flat(settings))
            opened.append(tracker)
        yield Trackers(opened)


def _made(name: TrackerName, run_name: str, folder: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        return TensorBoardTracker(run_name, folder)
    return WandBTracker(_PROJECT, name=run_name, dir=str(folder))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the trackers take them: numbers and text."""
    plain = (bool, int, float, str)
    return {k: v if isinstance(v, plain) else str(v) for k, v in settings.items()}
