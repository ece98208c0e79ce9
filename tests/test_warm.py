"""Claims of warm processes: they begin as a new interpreter does."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.warm import run_warm

pytestmark = pytest.mark.system


def test_a_page_that_a_test_showed_is_not_run_in_them(tmp_path: Path) -> None:
    page, shown = tmp_path / "page.py", tmp_path / "shown"
    page.write_text("from pathlib import Path\nPath(__file__).with_name('shown').touch()\n")
    AppTest.from_file(page, default_timeout=30).run()
    shown.unlink()
    done = run_warm("print('the code')")
    assert (done.returncode, done.stdout) == (0, "the code\n"), done.stderr
    assert not shown.exists()
