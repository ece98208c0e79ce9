"""The entry point of the program: also an installation that cannot be imported exits with 70."""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

CRASH = 70  # EX_SOFTWARE; Python's own 1 would look like the verdict of a gate


def main() -> NoReturn:
    """Run the command line."""
    try:
        from bench.cli.main import main as commands

        commands()
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:  # noqa: BLE001 (the outermost border)
        _report(error)
        sys.exit(CRASH)
    sys.exit(0)


def _report(error: BaseException) -> None:
    try:
        from bench.cli.crash import report_crash

        sys.stderr.write(f"{report_crash(error)}\n")
    except Exception:  # noqa: BLE001 (its own imports may be broken)
        traceback.print_exception(error)


if __name__ == "__main__":
    main()
