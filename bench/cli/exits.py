"""Exit codes, and what ends a command: no failure has the code of a verdict.

docs/cli.md has the table of codes.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from bench.cli.crash import report_crash
from bench.cli.output import echo_lines
from plugins_manifest.errors import UserError
from plugins_manifest.extras import missing_extra
from plugins_manifest.interrupts import Interrupts, watched_interrupts

OK, NEGATIVE, USER_ERROR, INCONCLUSIVE, CRASH, BROKEN_PIPE = 0, 1, 2, 3, 70, 141
INTERRUPTED = 128  # and the number of the signal
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def finish(code: int) -> NoReturn:
    """End the command with an exit code; `sys.exit` counts as the failure of a library."""
    raise click.exceptions.Exit(code)


@contextmanager
def guarded() -> Iterator[None]:
    """Print one message for whatever ends a command early, and exit with its code."""
    interrupts = Interrupts()
    try:
        with watched_interrupts() as interrupts:
            yield
            if sys.stdout is not None:  # None where a service manager closed it
                sys.stdout.flush()
    except click.exceptions.Exit:
        raise
    except BaseException as error:
        if (ended := _already_reported(error)) is not None:
            raise ended from None
        code = _report(missing_extra(error) or error, interrupts)
        raise click.exceptions.Exit(code) from error


def _already_reported(error: BaseException) -> click.exceptions.Exit | None:
    """Return the exit of a command whose child processes were interrupted and reported it."""
    cause = error.__cause__
    if isinstance(error, KeyboardInterrupt) and isinstance(cause, click.exceptions.Exit):
        return cause if cause.exit_code > INTERRUPTED else None
    return None


def _report(error: BaseException, interrupts: Interrupts) -> int:
    """Print the message of what ended a command; return its exit code."""
    if isinstance(error, KeyboardInterrupt) or interrupts.received:
        why = f" {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
        return _print(
            f"\nInterrupted.{why} Everything finished is kept: run the same command again to go "
            "on.",
            interrupts.exit_code,
        )
    if isinstance(error, click.ClickException):
        text = io.StringIO()
        error.show(file=text)
        return _print(text.getvalue().rstrip("\n"), USER_ERROR)
    if isinstance(error, click.Abort):
        return _print("Error: not confirmed, so nothing was done", USER_ERROR)
    if isinstance(error, UserError):
        return _print(f"Error: {error}", USER_ERROR)
    if isinstance(error, OSError) and (code := _report_output(error)) is not None:
        return code
    return _print(report_crash(error), CRASH)


def _report_output(error: OSError) -> int | None:
    """Report output that ended or a full disk; return None for any other failure."""
    if error.errno == errno.EPIPE and _is_output_closed():
        _discard_output()
        return BROKEN_PIPE
    if error.errno in _NO_ROOM:
        _discard_output()
        where = f" to write {error.filename}" if error.filename else ""
        return _print(f"Error: no room left{where} ({error.strerror}): free some space", USER_ERROR)
    return None


def _print(message: str, code: int) -> int:
    with suppress(OSError):  # standard error may be closed too
        echo_lines(message, err=True)
    return code


def _is_output_closed() -> bool:
    """Return whether the reader of standard output or error is gone."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _discard_output() -> None:
    """Lead standard output to nowhere, so that the interpreter does not fail to flush it."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
