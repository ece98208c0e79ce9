"""Claims about `xbench new`: what it writes is in docs/extending.md's tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.cli.new import write_package
from plugins_manifest.errors import UserError

KINDS = ("method", "metric", "family", "mapper")


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_has_its_entry_point_module_test_and_readme(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "mine"
    done = CliRunner().invoke(main, ["new", kind, "my-own2", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "example.yaml"} <= paths
    assert "src/xbench_my_own2/__init__.py" in paths and "tests/test_my_own2.py" in paths
    for path in folder.rglob("*.*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert "$" not in text, path
        if path.suffix == ".py":
            compile(text, path.name, "exec")


def test_importing_what_is_written_loads_no_torch(tmp_path: Path) -> None:
    for kind in KINDS:
        write_package(kind, f"my-{kind}", tmp_path / kind)  # type: ignore[arg-type]
    paths = [str(path) for path in tmp_path.glob("*/src/*/__init__.py")]
    assert len(paths) == len(KINDS)
    code = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path)\n"
    code += "print(sys.modules.keys() & {'torch', 'diffusers', 'transformers'})"
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "name",
    [
        *("", "-", "-x", "x-", "a--b", "Upper", "with space", "under_score", "dotted.name", "1st"),
        *("../outside", "/absolute", "naïve", "a" * 41, "x\n", "$kind", "a/b"),
    ],
)
def test_a_bad_name_is_one_clear_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="small letters and digits") as caught:
        write_package("metric", name, tmp_path / "new")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("kind", "name"), [("method", "base"), ("metric", "fid"), ("family", "pocket")]
)
def test_a_name_that_is_installed_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"a {kind} '{name}' is installed already"):
        write_package(kind, name, tmp_path / "new")  # type: ignore[arg-type]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "used", "link"):
        with pytest.raises(UserError, match="name a new"):
            write_package("method", "mine", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    write_package("method", "mine", tmp_path / "empty")
    assert (tmp_path / "empty" / "pyproject.toml").is_file()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_package("method", "mine", tmp_path / "file" / "new")
