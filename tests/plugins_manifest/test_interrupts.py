"""Claims about Ctrl-C that a library swallows."""

import os
import signal

import pytest

from plugins_manifest.interrupts import Interrupts, watched_interrupts


def _press_ctrl_c(*, hidden_as: Exception | None) -> None:
    """Turn Ctrl-C into another error, or swallow it, as a library may."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        if hidden_as is not None:
            raise hidden_as from error


def _watched(*, hidden_as: Exception | None, pressed: bool = True) -> Interrupts:
    with watched_interrupts() as interrupts:
        if pressed:
            _press_ctrl_c(hidden_as=hidden_as)
        elif hidden_as is not None:
            raise hidden_as
    return interrupts


def test_an_error_that_hides_ctrl_c_leaves_as_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt):
        _watched(hidden_as=ValueError("could not determine the shape of an object"))


def test_a_swallowed_ctrl_c_is_found_at_the_next_check() -> None:
    interrupts = _watched(hidden_as=None)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_other_errors_pass_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="plain"):
        _watched(hidden_as=ValueError("plain"), pressed=False)
    assert signal.getsignal(signal.SIGINT) is before
