"""Claims about what `xbench doctor` reports of GPUs, the Hub's cache and the weights of metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cli.doctor import cuda_findings, examine
from bench.cli.readiness import conclude
from metrics.weights.catalog import CATALOG
from runners.device import CudaFacts, GpuFacts, cuda_facts
from tests.bench.cli.test_answers import call

GIB = 1 << 30
GPU = GpuFacts("Example GPU", (9, 0), 80 * GIB, 78 * GIB, has_bfloat16=True, is_supported=True)


def stand_in(*capabilities: tuple[int, int], architectures: tuple[str, ...]) -> Any:
    """Return what torch reports on a machine with GPUs of these compute capabilities."""
    found = [SimpleNamespace(name=f"GPU {c}", major=c[0], minor=c[1]) for c in capabilities]
    cuda = SimpleNamespace(
        is_available=lambda: bool(found),
        device_count=lambda: len(found),
        get_device_properties=found.__getitem__,
        mem_get_info=lambda index: ((index + 1) * GIB, 16 * GIB),
        get_arch_list=lambda: list(architectures),
    )
    driver = SimpleNamespace(_cuda_getDriverVersion=lambda: 12040)
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.6"), _C=driver)


def test_facts_of_each_gpu_are_read_from_torch() -> None:
    torch_ = stand_in((7, 5), (8, 6), (9, 0), architectures=("sm_75", "sm_80", "sm_90a"))
    facts = cuda_facts(torch_)
    assert (facts.built_for, facts.driver) == ("12.6", "12.4")
    assert [gpu.has_bfloat16 for gpu in facts.gpus] == [False, True, True]
    assert [gpu.free_bytes // GIB for gpu in facts.gpus] == [1, 2, 3]
    assert all(gpu.is_supported and gpu.total_bytes == 16 * GIB for gpu in facts.gpus)


@pytest.mark.parametrize(
    ("architectures", "is_supported"),
    [
        (("sm_90", "sm_120"), False),
        (("sm_70", "compute_70"), True),
        (("sm_80",), True),
        ((), False),
    ],
)
def test_code_of_one_major_version_runs_on_it_and_general_code_on_later_ones(
    architectures: tuple[str, ...], is_supported: bool
) -> None:
    (gpu,) = cuda_facts(stand_in((8, 6), architectures=architectures)).gpus
    assert gpu.is_supported is is_supported


def test_without_a_gpu_the_cuda_of_torch_is_named_and_a_cpu_build_needs_no_line() -> None:
    facts = cuda_facts(stand_in(architectures=()))
    assert facts == CudaFacts("12.6", None, ())
    (one,) = cuda_findings(facts)
    assert (one.name, one.state) == ("gpu", "ok") and "built for CUDA 12.6" in one.detail
    assert [*cuda_findings(CudaFacts(None, None, ()))] == []


def test_a_gpu_is_reported_with_its_memory_and_precision() -> None:
    old = replace(GPU, capability=(7, 5), has_bfloat16=False)
    unknown = replace(GPU, capability=(13, 0), is_supported=False)
    found = [*cuda_findings(CudaFacts("12.6", "12.4", (GPU, old, unknown)))]
    assert [one.name for one in found] == ["cuda", "cuda:0", "cuda:1", "cuda:2"]
    assert found[0].detail == "torch is built for 12.6, the driver supports 12.4"
    memory = "80.0 GiB, 78.0 free, compute capability 9.0"
    assert found[1].detail.startswith(f"Example GPU, {memory}, float16 and bfloat16;")
    assert "float16, no bfloat16" in found[2].detail
    assert found[3].state == "problem" and found[3].fix is not None
    good = [*conclude(found[:2])]
    assert not any("no GPU was found" in step for answer in good for step in answer.steps)


def test_the_hubs_cache_is_reported_and_a_token_never_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "one").write_bytes(bytes(300 << 20))
    (tmp_path / "link").symlink_to(blobs / "one")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    (found,) = [one for one in examine() if one.name == "hub cache"]
    assert "0.3 GiB in use" in found.detail and "no token is set" in found.detail
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    done = call("doctor")
    assert "a token is set" in done.output and "hf_secret" not in done.output


def test_present_and_missing_weights_of_metrics_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path))
    weights = CATALOG["clip-vit-l-14"]
    weights.folder.mkdir(parents=True)
    for file in weights.files:
        (weights.folder / file.name).write_bytes(b"")
    (found,) = [one for one in examine() if one.name == "metric weights"]
    here, missing = found.detail.split("; missing: ")
    assert here.startswith("clip-vit-l-14 in ") and "clip-vit-l-14," not in missing
    assert missing.endswith("(xbench metrics fetch NAME)") and "dpt-large" in missing
