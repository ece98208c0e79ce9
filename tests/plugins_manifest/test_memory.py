from __future__ import annotations

import errno
import mmap

import pytest
import torch

from plugins_manifest.memory import MemoryShortError, is_out_of_memory, memory_explained


def test_every_report_of_too_little_memory_is_recognized() -> None:
    calls = (
        lambda: bytearray(2**60),
        lambda: torch.empty(2**50, dtype=torch.uint8),
        lambda: mmap.mmap(-1, 2**60),
    )
    for call in calls:
        with pytest.raises((MemoryError, RuntimeError, OSError)) as caught:
            call()
        assert is_out_of_memory(caught.value), caught.value


def test_the_cause_counts_and_other_errors_do_not() -> None:
    wrapped = OSError("Unable to load weights from checkpoint file")
    wrapped.__context__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert is_out_of_memory(wrapped)
    assert is_out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN under a limit
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(FileNotFoundError(errno.ENOENT, "no such file"))


def test_the_message_names_the_work_and_acquits_the_files() -> None:
    text = r"not enough memory for the mapper.*not at fault"
    with pytest.raises(MemoryShortError, match=text), memory_explained("the mapper"):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="other"), memory_explained("it"):
        raise RuntimeError("other")
