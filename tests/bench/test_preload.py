"""Modules loaded ahead of their use."""

import subprocess
import sys

from bench.run.scores import preload


def test_preloaded_modules_are_imported() -> None:
    code = (
        "import sys; from bench.run.scores import preload; "
        "assert 'wave' not in sys.modules; "
        "preload('wave').join(); assert 'wave' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_module_is_ignored() -> None:
    thread = preload("no_such_module", "json")
    thread.join()
    assert not thread.is_alive()
