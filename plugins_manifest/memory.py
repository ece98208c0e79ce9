"""Memory that does not suffice, which libraries report in several ways."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from plugins_manifest.errors import UserError

# PyTorch's CPU allocator and safetensors' mapping raise plain errors: their text is all there is.
_DEPTH = 8  # of a chain of errors
_MARKS = (
    *("out of memory", "not enough memory", "allocate memory", "bad_alloc", "alloc_cpu"),
    "status_alloc_failed",  # of cuBLAS and cuDNN
    "could not create a primitive",  # of oneDNN, which hides the reason
)


class MemoryShortError(UserError):
    """There is not enough memory; nothing is wrong with the files."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or its cause, reports that memory does not suffice."""
    seen: BaseException | None = error
    for _ in range(_DEPTH):
        if seen is None:
            break
        if isinstance(seen, (MemoryError, MemoryShortError)):
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        if isinstance(seen, (RuntimeError, OSError)) or type(seen).__name__ == "SafetensorError":
            text = str(seen).lower()
            if any(mark in text for mark in _MARKS):
                return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def memory_explained(what: str) -> Iterator[None]:
    """Raise every report of too little memory as `MemoryShortError` that names `what`."""
    try:
        yield
    except MemoryShortError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortError(
            f"there is not enough memory for {what}: close other programs, use a machine with "
            "more, or load the models in float16 (settings: {dtype: float16}); the files are not "
            "at fault"
        ) from error
