"""What a family declares decides prompts, metrics, conditions and costs; names decide nothing."""

import ast
from pathlib import Path

import pytest

from metrics.condition.detectors import CANNY, MASK
from plugins_manifest.installed import installed
from runners.families import FamilyTraits, family_traits
from runners.families.pocket import POCKET
from runners.families.traits import clip_prompt_problem
from tests.extension import in_process_with

ROOT = Path(__file__).resolve().parents[3]
THIRD_PARTY = """
from types import SimpleNamespace

import numpy as np

from runners.families.traits import FamilyDetector


class Older:
    name = "older"

    def fingerprint(self, *, dtype, adapter): ...

    def mapper_problem(self, adapter): ...

    def load(self, *, device, dtype, adapter): ...


class Own(Older):
    name = "own"
    prompt_separator = " and "

    def detectors(self):
        return {"canny": FamilyDetector("their edges", lambda image: np.zeros_like(image))}


OLDER, OWN = Older(), Own()
"""


def test_prompts_are_checked_against_the_pocket_vocabulary() -> None:
    check = family_traits("pocket").prompt_problem
    assert check("a large red circle on a white background") is None
    assert "unknown pocket word 'bleu': use blue" in str(check("a bleu circle"))
    assert "19 words, pocket reads 18" in str(check("a " * 19))


def test_long_prompts_are_refused_for_clip_and_real_ones_are_not() -> None:
    assert clip_prompt_problem("A man, on a bike (red); it's 1998!") is None
    assert "at least 80 tokens" in str(clip_prompt_problem("word " * 80))


def test_a_family_that_is_not_installed_has_the_default_traits() -> None:
    assert family_traits("gone") == FamilyTraits()
    assert family_traits("gone").prompt_separator == ", "
    assert family_traits("pocket").detectors()["canny"].words == POCKET.detectors()["canny"].words


def test_the_pocket_familys_own_canny_detector_is_used_for_it_alone() -> None:
    assert "on RGB" in CANNY.for_family("pocket").words
    assert "on gray" in CANNY.for_family("sd15-sdxl").words
    assert MASK.for_family("pocket") is MASK
    assert CANNY.full_recipe() == (
        "cv2 canny on gray, 100/200 (family pocket: cv2 canny on RGB, 150/300), at the "
        "condition's size (" + MASK.full_recipe().split("condition's size (")[1]
    )


def test_a_third_partys_family_has_its_traits_and_the_defaults(tmp_path: Path) -> None:
    code = (
        "import json\n"
        "from metrics.condition.detectors import CANNY\n"
        "from runners.families import FamilyTraits, family_traits\n"
        "own = family_traits('own')\n"
        "print(json.dumps([family_traits('older') == FamilyTraits(), own.prompt_separator,\n"
        "    own.paper_metrics.fid, CANNY.for_family('own').words,\n"
        "    CANNY.for_family('older').words]))"
    )
    points = {"xbench.families": {"older": "OLDER", "own": "OWN"}}
    found = in_process_with(tmp_path, module=THIRD_PARTY, entry_points=points, code=code)
    assert found == [True, " and ", "fid", "their edges", "cv2 canny on gray, 100/200"]


@pytest.mark.parametrize("package", ["bench", "metrics", "leaderboard", "plugins_manifest"])
def test_no_package_above_the_families_compares_with_a_familys_name(package: str) -> None:
    names = set(installed("families"))
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare | ast.match_case)
        for part in ast.walk(node.pattern if isinstance(node, ast.match_case) else node)
        if isinstance(part, ast.Constant) and part.value in names
    ]
    assert names >= {"pocket", "sd15-sdxl"} and found == []
