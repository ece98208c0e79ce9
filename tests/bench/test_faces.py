"""Claims about the faces of sub-packages: few names, all there, and light until they are used."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

FACES = ("bench.store", "bench.publish", "bench.report", "bench.gate", "bench.civitai")


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_exists(package: str) -> None:
    module = importlib.import_module(package)
    assert 0 < len(module.__all__) <= 10
    for name in module.__all__:
        found = getattr(module, name)
        assert not hasattr(found, "__path__") and getattr(found, "__name__", name) != package
        assert type(found) is not type(module), f"{package}.{name} is hidden by a module"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_faces_are_light_until_a_name_is_used() -> None:
    code = f"import sys, importlib\nfor m in {FACES!r}: importlib.import_module(m)\n"
    code += "print([m for m in ('torch', 'pandas', 'pyarrow', 'pydantic') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
