from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plugins_manifest.content import hash_path
from plugins_manifest.errors import UserError
from runners.families.registry import find_family
from runners.families.stable_diffusion import SD15_SDXL


def test_protocol_methods_and_fingerprints_load_no_torch() -> None:
    script = (
        "import sys; import runners.base, runners.protocols, runners.families, runners.methods, "
        "runners.families.pocket, runners.families.stable_diffusion; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_folder_s_hash_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("a")
    (tmp_path / "three" / "a").write_text("b")
    assert hash_path(tmp_path / "one") == hash_path(tmp_path / "two")
    assert hash_path(tmp_path / "one") != hash_path(tmp_path / "three")


def test_a_file_s_hash_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert hash_path(tmp_path / "empty").startswith("e3b0c442")


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="check the path"):
        hash_path(tmp_path / "none")


def test_an_adapter_enters_a_family_s_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "mapper.bin").write_bytes(b"1")
    plain = SD15_SDXL.fingerprint(None)
    other = SD15_SDXL.fingerprint(tmp_path / "mapper.bin")
    assert set(other) - set(plain) == {"mapper"}
    assert plain.items() <= other.items()


def test_an_unknown_family_names_the_installed_ones() -> None:
    with pytest.raises(UserError, match="sd15-sdx"):
        find_family("sd15-sdx")
