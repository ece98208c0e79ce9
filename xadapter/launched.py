"""Whether this process was started as one of several, from the variables of torchrun.

Apart from `xadapter.processes`, since it imports no torch: the command line reads it at once.
"""

from __future__ import annotations

import os


def is_launched() -> bool:
    """Return whether `accelerate launch`, `torchrun` or `xbench train` started several of us."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launched_rank() -> int:
    """Return the rank that this process was started with, 0 if it is alone."""
    return int(os.environ.get("RANK", "0")) if is_launched() else 0
