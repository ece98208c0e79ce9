import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from metrics.base import MetricUnavailableError
from metrics.encoders import arithmetic
from metrics.networks.files import fill, read_tensors
from metrics.weights.catalog import CATALOG
from metrics.weights.files import RemoteFile, Weights, file_sha256


@pytest.fixture
def folder(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path))
    return tmp_path


def weights(sha256: str = "", *names: str) -> Weights:
    files = tuple(RemoteFile(n, f"hf://o/r/{n}", sha256) for n in names or ("a.bin",))
    return Weights("tiny", "Tiny", files, "MIT")


def test_all_missing_files_are_told_at_once(folder: Path):
    with pytest.raises(MetricUnavailableError) as caught:
        weights("", "a.bin", "b.json").path()
    message = str(caught.value)
    assert "a.bin and b.json" in message and "tiny" in message and "MIT" in message


def test_the_hash_is_of_the_content_and_is_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    path = folder / "tiny" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"one")
    monkeypatch.setattr("plugins_manifest.content._SETTLED_NS", 0)
    assert weights().sha256() == hashlib.sha256(b"one").hexdigest()[:12]
    monkeypatch.setattr("plugins_manifest.files.file_sha256", None)  # it is not read again
    assert weights().sha256() == hashlib.sha256(b"one").hexdigest()[:12]


def test_weights_replaced_under_an_old_time_have_another_hash(folder: Path):
    path = folder / "tiny" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"one")
    weights().sha256()
    stamp = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert weights().sha256() == hashlib.sha256(b"two").hexdigest()[:12]


def test_a_broken_book_of_hashes_is_only_slower(folder: Path):
    path = folder / "a.bin"
    path.write_bytes(b"one")
    (folder / ".sha256.json").write_text("{")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_a_file_of_another_hash_than_published_is_refused(folder: Path):
    path = folder / "tiny" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"one")
    assert weights(hashlib.sha256(b"one").hexdigest()[:8]).sha256()
    with pytest.raises(MetricUnavailableError, match=r"published is deadbeef\.\.\."):
        weights("deadbeef").sha256()


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/xbench-was-here",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path):
    mark = Path("/tmp/xbench-was-here")
    mark.unlink(missing_ok=True)
    for name, write in (("a.pt", torch.save), ("b.pt", _plain_pickle)):
        path = tmp_path / name
        write({"state_dict": Evil()}, path)
        with pytest.raises(MetricUnavailableError, match="holds more than tensors"):
            read_tensors(path)
    assert not mark.exists()


def _plain_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def test_tensors_come_out_of_their_wrappers(tmp_path: Path):
    x = {"module.a.weight": torch.ones(2)}
    torch.save({"model_state_dict": x, "epoch": 3}, tmp_path / "a.pth")
    save_file({"a.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert list(read_tensors(tmp_path / name)) == ["a.weight"]


def test_tensors_that_do_not_fit_are_named():
    network = torch.nn.Linear(2, 3)
    with pytest.raises(MetricUnavailableError) as caught:
        fill(network, {"weight": torch.ones(3, 4), "more": torch.ones(1)}, what="Tiny")
    message = str(caught.value)
    assert "lacks bias" in message and "has more too much" in message
    assert "weight has shape (3, 4) instead of (3, 2)" in message


def test_the_device_is_part_of_the_recipe(monkeypatch):
    monkeypatch.setenv("XBENCH_METRIC_DEVICE", "cuda:1")
    assert arithmetic() == "float32 on cuda, batches of up to 32"


def test_the_catalog_has_one_folder_a_network_and_safe_suffixes():
    assert len({w.folder for w in CATALOG.values()}) == len(CATALOG)
    for entry in CATALOG.values():
        for file in entry.files:
            assert file.source.startswith(("hf://", "https://"))
            assert Path(file.name).suffix in {
                ".safetensors",
                ".pth",
                ".pt",
                ".bin",
                ".json",
                ".txt",
            }
