"""How much the command line prints: `xbench -q`, `xbench -v`, NO_COLOR.

Quiet leaves out progress bars and notes; results, JSON, warnings and errors stay. Verbose adds the
log of this project's packages on the standard error stream.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import textwrap
from shutil import get_terminal_size

import click

from plugins_manifest.outputs import terminal, terminal_line
from plugins_manifest.redact import RedactingFilter, redact_text

LOGGERS = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
_WIDEST, _NARROWEST = 100, 60  # columns
_FORMAT = "%(levelname)s %(name)s: %(message)s"


def is_quiet() -> bool:
    """Return whether the running command was started with `xbench -q`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# of commands that print JSON in any case
json_alone = click.option("--json", is_flag=True, expose_value=False, help="Print JSON, as always.")


def echo_json(data: object) -> None:
    """Print the answer of a command for scripts."""
    echo_lines(json.dumps(data, indent=2, default=str))


def accept_all_text() -> None:
    """Print characters that the terminal's encoding lacks as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def echo(line: object, *, err: bool = False) -> None:
    """Print one line; controls, line ends and terminal codes in it are printed as escapes."""
    click.echo(terminal_line(line), err=err)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Print lines, such as a table or JSON; controls and terminal codes are printed as escapes."""
    click.echo(terminal(text), err=err)


def is_terminal() -> bool:
    """Return whether the standard output is a terminal: what is piped is not broken into lines."""
    return sys.stdout.isatty()


def width() -> int:
    """Return the columns to use: the terminal's, 100 at most and where there is none."""
    return min(_WIDEST, max(_NARROWEST, get_terminal_size().columns)) if is_terminal() else _WIDEST


def wrapped(text: str, *, hanging: int = 2) -> str:
    """Return a paragraph: in a terminal broken at its width, elsewhere one line."""
    text = terminal_line(text)
    if not is_terminal():
        return text
    indent = " " * hanging
    lines = textwrap.wrap(
        text, width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return "\n".join(lines)


def note(text: str, *, err: bool = False) -> None:
    """Print lines that inform people and that no script reads; nothing with -q."""
    if not is_quiet():
        echo_lines(text, err=err)


def apply_options(context: click.Context, *, verbose: int, quiet: bool) -> None:
    """Check the options of `xbench` itself; show the log and switch colors off if so."""
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other: give one of them")
    if os.environ.get("NO_COLOR"):
        context.color = False
    _show_log(context, (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])


class LogFormatter(logging.Formatter):
    """Formats records without secrets and terminal codes, their tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return terminal(redact_text(super().format(record)))


def _show_log(context: click.Context, level: int) -> None:
    """Write the log lines of this project's packages to stderr until the command ends."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(_FORMAT))
    handler.addFilter(RedactingFilter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(level)
        context.call_on_close(lambda logger=logger, level=before: _restore(logger, handler, level))


def _restore(logger: logging.Logger, handler: logging.Handler, level: int) -> None:
    logger.removeHandler(handler)
    logger.setLevel(level)
