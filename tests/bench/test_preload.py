"""Modules loaded ahead of their use."""

import subprocess
import sys

from bench.run import preload


def test_modules_are_there_when_they_are_needed() -> None:
    code = (
        "import sys; from bench.run import preload; "
        "assert 'wave' not in sys.modules; "
        "preload('wave').join(); assert 'wave' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_that_is_not_there_fails_where_it_is_used_only() -> None:
    thread = preload("no_such_module", "json")
    thread.join()
    assert not thread.is_alive()
