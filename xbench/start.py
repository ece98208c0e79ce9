"""The entry point of the program: every installation that cannot work ends with one message."""

from __future__ import annotations

import sys
from typing import NoReturn

_USER_ERROR = 2  # as in bench.cli.exits, which may not be importable


def main() -> NoReturn:
    """Run the command line if Python imports xbench's own packages."""
    from xbench.packages import collision

    if (problem := collision()) is not None:
        sys.stderr.write(f"Error: {problem}\n")
        sys.exit(_USER_ERROR)
    from bench.cli.start import main as start

    start()
