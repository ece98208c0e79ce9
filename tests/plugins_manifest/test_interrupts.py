"""Claims about signals that end a command, and about libraries that swallow them."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from plugins_manifest.interrupts import SIGNALS, Interrupts, watched_interrupts


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


@pytest.fixture(autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """Receive every signal, also where the tests run in the background or under nohup."""
    before = {s: signal.getsignal(s) for s in SIGNALS}
    for signum in SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_ending_signal_is_an_interruption_with_its_code(signum: int) -> None:
    with pytest.raises(KeyboardInterrupt), watched_interrupts() as interrupts:
        os.kill(os.getpid(), signum)
    assert interrupts.exit_code == 128 + signum


def test_a_signal_that_arrives_twice_at_once_counts_once() -> None:
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupts.receive(signal.SIGTERM, None)
    interrupts.receive(signal.SIGTERM, None)
    assert interrupts.exit_code == 143


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with watched_interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupts.received and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_watch_inside_another_is_the_same_and_keeps_its_handlers() -> None:
    before = [signal.getsignal(s) for s in SIGNALS]
    with watched_interrupts() as outer:
        with watched_interrupts() as inner:
            assert inner is outer
        assert signal.getsignal(signal.SIGTERM) == outer.receive
    assert [signal.getsignal(s) for s in SIGNALS] == before


def test_held_work_ends_before_the_interruption() -> None:
    done = []

    def work() -> None:
        with watched_interrupts() as interrupts:
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("step")
            interrupts.check()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["step"]


def test_other_threads_watch_nothing() -> None:
    found = []

    def watch() -> None:
        with watched_interrupts() as interrupts:
            found.append((interrupts.received, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(False, before)]
