"""Claims of warm processes: they begin as a new interpreter does."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.warm import run_warm

pytestmark = pytest.mark.system


def test_a_page_that_a_test_showed_is_not_run_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ModuleType("__main__")  # as Streamlit leaves it behind
    page.__file__ = str(tmp_path / "page.py")
    Path(page.__file__).write_text("import sys; sys.shown = True")
    monkeypatch.setitem(sys.modules, "__main__", page)
    done = run_warm("import sys; print(hasattr(sys, 'shown'))")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
