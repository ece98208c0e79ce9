"""Claims about Ctrl-C that a library swallows."""

import os
import signal

import pytest

from bench.interrupt import watched_interrupts


def test_an_error_that_hides_ctrl_c_leaves_as_an_interruption() -> None:
    def library() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ValueError("could not determine the shape of an object") from error

    with pytest.raises(KeyboardInterrupt), watched_interrupts():
        library()


def test_a_swallowed_ctrl_c_is_found_at_the_next_check() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), watched_interrupts() as interrupts:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            seen.append("swallowed")
        interrupts.check()
    assert seen == ["swallowed"]


def test_other_errors_pass_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="plain"), watched_interrupts() as interrupts:
        interrupts.check()
        raise ValueError("plain")
    assert signal.getsignal(signal.SIGINT) is before
