"""JSON files with their own hash."""

from pathlib import Path

from plugins_manifest.sealed import read_sealed, write_sealed


def test_sealed_data_comes_back_and_a_changed_digit_is_seen(tmp_path: Path) -> None:
    path, data = tmp_path / "x.json", {"name": "\u00fc", "value": [1.5, None, True]}
    write_sealed(path, data)
    assert read_sealed(path) == data
    path.write_text(path.read_text().replace("1.5", "1.6"))
    assert read_sealed(path) is None and read_sealed(tmp_path / "none") is None
