"""Claims about docs/environment.md: it lists every variable that the code reads, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

from runners.families.stable_diffusion import (
    SD15_FINETUNE,
    SD15_SD21,
    SD15_SDXL,
    SDXL_FINETUNE,
)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "environment.md"
PACKAGES = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
VARIABLE = re.compile(r"\bXBENCH_[A-Z0-9]+(?:_[A-Z0-9]+)*\b")
FAMILIES = (SD15_SDXL, SD15_SD21, SD15_FINETUNE, SDXL_FINETUNE)
PARTS = (
    *((f, part) for f in (SD15_SDXL, SD15_SD21) for part in ("upgraded_vae", "mapper")),
    *((f, part) for f in FAMILIES for part in ("base", "upgraded")),
)


def code_files() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")
    yield from (ROOT / "scripts").iterdir()
    yield from (ROOT / "tests" / "conftest.py", ROOT / "tests" / "golden" / "conftest.py")
    yield from (ROOT / ".ci" / "run", ROOT / "Dockerfile", ROOT / "action.yml")


def named_in_code() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in code_files() if path.is_file()]
    found = {name for text in texts for name in VARIABLE.findall(text)}
    return found - {"XBENCH_FAMILY_PART"} | {family.setting(part) for family, part in PARTS}


def named_in_the_page() -> set[str]:
    found: set[str] = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        names = VARIABLE.findall(line)
        found |= set(names)
        for ending in re.findall(r"`(_[A-Z_]+)`", line):  # `XBENCH_A_BASE`, `_MAPPER`
            found.add(names[0].removesuffix("_BASE") + ending)
    return found


def test_every_variable_of_the_code_is_in_the_page() -> None:
    assert len(named_in_code()) > 20
    assert named_in_code() - named_in_the_page() == set()


def test_the_page_names_no_variable_that_is_gone() -> None:
    assert named_in_the_page() - named_in_code() == set()
