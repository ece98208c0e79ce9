"""How much the command line prints: `xbench -q`, `xbench -v`, NO_COLOR.

Quiet leaves out progress bars and notes; results, JSON, warnings and errors stay. Verbose adds the
log of this project's packages on the standard error stream.
"""

from __future__ import annotations

import logging
import os

import click

LOGGERS = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
_FORMAT = "%(levelname)s %(name)s: %(message)s"


def is_quiet() -> bool:
    """Return whether the running command was started with `xbench -q`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def note(text: str, *, err: bool = False) -> None:
    """Print a line that informs people and that no script reads; nothing with -q."""
    if not is_quiet():
        click.echo(text, err=err)


def bar_disabled() -> bool | None:
    """Return tqdm's `disable`: None shows a bar on terminals only, True never."""
    return True if is_quiet() else None


def apply_options(context: click.Context, *, verbose: int, quiet: bool) -> None:
    """Check the options of `xbench` itself; show the log and switch colors off if so."""
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other: give one of them")
    if os.environ.get("NO_COLOR"):
        context.color = False
    if verbose:
        _show_log(context, logging.INFO if verbose == 1 else logging.DEBUG)


def _show_log(context: click.Context, level: int) -> None:
    """Write the log lines of this project's packages to stderr until the command ends."""
    from plugins_manifest.redact import RedactingFilter

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
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
