from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from plugins_manifest.formats.parse import LAYOUTS
from tests.plugins_manifest.zoo import ZOO

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_s_table_is_what_inspection_says_today() -> None:
    loader = SourceFileLoader("plugin_zoo", str(ROOT / "scripts" / "plugin-zoo"))
    spec = spec_from_loader("plugin_zoo", loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert script.page(text) == text, "run scripts/plugin-zoo"


def test_every_layout_lives_in_the_zoo() -> None:
    assert {animal.format for animal in ZOO} - {None} == set(LAYOUTS)
