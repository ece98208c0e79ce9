"""Short forms of long texts and lists in messages."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

_MAX_PATH = 1024  # characters


def shortened(names: Sequence[str], n_shown: int = 4) -> str:
    """Return the first names joined by commas, and how many more there are."""
    text = ", ".join(names[:n_shown])
    rest = len(names) - n_shown
    return f"{text} and {rest} more" if rest > 0 else text


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def duration(seconds: float) -> str:
    """Return a duration in words: "about 3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 120:
        hours = minutes / 60
        return f"about {hours:.0f} h" if hours >= 10 else f"about {hours:.1f} h"
    return f"about {minutes} min {rest} s" if minutes else f"about {rest} s"


def shown_path(path: Path) -> str:
    """Shorten a path for display: relative to the working folder or to ~ where it is below them.

    Of a path longer than any file system's, the beginning and the end are left.
    """
    if len(str(path)) > _MAX_PATH:
        return f"{str(path)[:100]}...{str(path)[-100:]}"
    for anchor, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        try:
            return prefix + str(path.resolve().relative_to(anchor))
        except (ValueError, OSError, RuntimeError):  # not below; a loop of links
            continue
    return str(path)


def shell_command(words: Iterable[str | Path]) -> str:
    """Return a command that works when it is pasted into a shell of this folder.

    Paths are shortened as `shown_path` does; a leading ~ stays outside the quotes.
    """
    return " ".join(map(_shell_word, words))


def _shell_word(word: str | Path) -> str:
    text = shown_path(word) if isinstance(word, Path) else word
    home = "~/" if text.startswith("~/") else ""
    return home + shlex.quote(text.removeprefix(home))
