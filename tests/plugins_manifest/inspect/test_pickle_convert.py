from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plugins_manifest.formats.parsed import UnsafeFile
from plugins_manifest.inspect.inspect import inspect_file
from plugins_manifest.inspect.pickle_convert import SCRIPT, convert_pickle
from tests.plugins_manifest.zoo.hostile import torch_zip


class Touch:
    """A pickle that leaves a file behind when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, (f"open({str(self.path)!r}, 'w')",)


def saved(content: object, path: Path, *, is_zip: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


@pytest.mark.parametrize("is_original", [False, True], ids=["automatic1111", "original code"])
def test_an_embedding_is_converted_whole_and_inspected(tmp_path: Path, is_original: bool) -> None:
    """With plain tensors, or in a ParameterDict, which diffusers' loader refuses."""
    vectors = torch.randn(2, 768)
    parameters: object = {"*": vectors}
    if is_original:
        parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    content = {"string_to_token": {"*": 265}, "string_to_param": parameters, "name": "zkz"}
    path = saved(content, tmp_path / "zkz.pt")
    found = inspect_file(path, allow_pickle=True)
    assert (found.safety, found.verdict) == ("converted", "ok")
    assert found.header is not None
    assert found.header.metadata["name"] == "zkz"
    assert [p.name for p in tmp_path.iterdir()] == ["zkz.pt"]


def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    path = saved({"a": torch.zeros(2), "b": Touch(tmp_path / "touched")}, tmp_path / "bad.pt")
    target = tmp_path / "bad.safetensors"
    target.write_text("as before")
    with pytest.raises(UnsafeFile, match=r"calls (\w+\.)?exec;") as caught:
        convert_pickle(path, target)
    assert caught.value.code == "conversion-failed"
    assert not (tmp_path / "touched").exists()
    assert target.read_text() == "as before"
    assert inspect_file(path).verdict == "unsafe"


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False])
def test_every_dtype_and_nested_names_survive(tmp_path: Path, is_zip: bool) -> None:
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    nested = {"outer": {"inner": [torch.ones(2, 3).to(dtype) for dtype in dtypes]}}
    path = saved({"state_dict": nested}, tmp_path / "a.pt", is_zip=is_zip)
    convert_pickle(path, tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    for i, value in enumerate(nested["outer"]["inner"]):
        assert torch.equal(found[f"outer.inner.{i}"], value)
        assert found[f"outer.inner.{i}"].dtype == value.dtype


@pytest.mark.slow
def test_a_small_file_cannot_become_a_large_one(tmp_path: Path) -> None:
    path = saved({"a": torch.zeros(1).expand(10**11)}, tmp_path / "bomb.pt")
    with pytest.raises(UnsafeFile, match="many times the file"):
        convert_pickle(path, tmp_path / "bomb.safetensors")


def archive(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive.pt"
    path.write_bytes(data)
    return path


def _traversal() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps({}))
        zipped.writestr("archive/../../evil", b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (torch_zip(pickle.dumps({}), compress=True), "compressed"),
        (_traversal(), "leads out of the archive"),
        (torch_zip(pickle.dumps({}))[:-30], "broken"),
    ],
    ids=["compressed", "traversal", "cut"],
)
def test_archives_are_checked_before_they_are_opened(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnsafeFile, match=why):
        convert_pickle(archive(tmp_path, data), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_what_is_no_pickle_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"<html>")
    with pytest.raises(UnsafeFile) as caught:
        convert_pickle(path, tmp_path / "b.safetensors")
    assert caught.value.code == "html"


def test_a_converter_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps({}, 2))
    with pytest.raises(UnsafeFile, match="more than 0 seconds"):
        convert_pickle(path, tmp_path / "b.safetensors", seconds=0.05)


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/hostname')",
        "open('left-behind', 'w')",
        "__import__('socket').socket()",
        "__import__('os').system('true')",
        "__import__('os').fork()",
        "__import__('os').remove('victim')",
        "__import__('subprocess').run(['true'])",
        "bytearray(2 * 2**30)",
    ],
)
def test_the_locked_up_process_can_do_nothing(tmp_path: Path, attempt: str) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    code = (
        "import os, runpy, socket, subprocess\n"
        f"script = runpy.run_path({str(SCRIPT)!r})\n"
        "script['leave_network']()\n"
        "script['restrict'](1000)\n"
        f"try:\n    {attempt}\n"
        "except (OSError, MemoryError, script['Refused']) as error:\n"
        "    print('refused')\n"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["victim"]
