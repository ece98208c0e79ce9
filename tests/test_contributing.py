"""Claims of docs/contributing.md: each extension takes the files that the page states.

Every extension is a package of its own in a temporary folder, imports from `xbench` alone, and
takes part in one run. `pyproject.toml` is the installed entry-point file here.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.store import RunStore, read_image, records
from tests.plugins_manifest.zoo.files import pack

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "contributing.md"

METRIC = """
from dataclasses import dataclass
from xbench import Score, expect

@dataclass(frozen=True)
class Brightness:
    '''Mean of all pixels, 0 to 255.'''
    name: str = "brightness"
    better: str = "higher"
    level: str = "image"
    needs: tuple = ()
    role: str = "function"
    rank: int = 1

    def recipe(self):
        return "mean of uint8 RGB"

    def applies_to(self, image):
        return True

    def score(self, images, references):
        return [Score(float(image.load_picture().mean())) for image in images]

    def selftest(self):
        expect(True, "nothing can go wrong")

BRIGHTNESS = Brightness()
"""
METHOD = """
from xbench.traits import MethodStyle

class Mirrored:
    name, side = "mirrored", "base"
    uses_t0, uses_plugin, uses_adapter = False, True, False
    shares = ("base_text", "stage1", "stage1_picture")
    style = MethodStyle(15, "#123456", "star", "the base image, mirrored")

    def render(self, session, variant):
        return session.pixels(session.stage1_picture())[:, :, ::-1].copy()
"""
FAMILY = """
from xbench import find_family

class Twin:
    '''The models of another family under a name of its own.'''
    name, prompt_separator = "twin", " "

    def fingerprint(self, adapter):
        return find_family("pocket").fingerprint(adapter)

    def mapper_problem(self, adapter):
        return None

    def load(self, *, device, dtype, adapter):
        return find_family("pocket").load(device=device, dtype=dtype, adapter=adapter)

TWIN = Twin()
"""
SOURCE = """
import hashlib, os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xbench import UserError
from xbench.sources import LockedFile, Origin, draft_entry

@dataclass(frozen=True)
class OnShelf:
    scheme: ClassVar[str] = "shelf"
    name: str

class Shelf:
    '''A folder as a site: its files are looked up, pinned and fetched into the store.'''
    name, hosts = "shelf", ()

    def parse(self, text):
        name = text.partition(":")[2]
        if not name.isidentifier():
            raise UserError(f"{text!r} is not on a shelf: write shelf:NAME")
        return OnShelf(name)

    def _path(self, name):
        return Path(os.environ["SHELF"]) / f"{name}.safetensors"

    def pin(self, spec, reference, session):
        file = LockedFile(name="file.safetensors", source_name=reference.name)
        return draft_entry(spec, Origin(site=self.name), [file])

    def fetch(self, entry, session):
        path = self._path(entry.files[0].source_name)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return [session.store.copy_in(path, sha256, suffix=".safetensors")]

SHELF = Shelf()
"""
SPEC = """
from xbench.formulas import FormulaSpec, Size, require

def size(shapes):
    left, right = shapes["left"], shapes["right"]
    require(len(left) == len(right) == 1, shapes)
    return Size(left[0], right[0])

OUTER = FormulaSpec(
    name="outer", math="outer_math:outer_change", size=size,
    keys={".outer_left": "left", ".outer_right": "right"},
    needed=("left right",), zero_parts=(("left", "right"),),
)
"""
MATH = """
import torch

def outer_change(parts, weight):
    return torch.outer(parts["left"], parts["right"])
"""
PAGE_MODULE = """
import streamlit as st
from xbench.pages import Page, current_runs, heading

def show():
    heading("How many runs?", "A count.")
    st.markdown(f"{len(current_runs())} run, method {', '.join(current_runs())}")

PAGE = Page("Count", "count", show, order=50)
"""


@dataclass(frozen=True)
class Extension:
    """What a contributor writes: modules, and one line of an entry-point group."""

    group: str
    point: str
    modules: dict[str, str]

    @property
    def n_files(self) -> int:
        """The modules and the file with the entry points."""
        return len(self.modules) + 1


EXTENSIONS = {
    "a metric": Extension("metrics", "brightness = my_metric:BRIGHTNESS", {"my_metric": METRIC}),
    "a method": Extension("methods", "mirrored = my_method:Mirrored", {"my_method": METHOD}),
    "a family": Extension("families", "twin = my_family:TWIN", {"my_family": FAMILY}),
    "a network source": Extension("sources", "shelf = my_source:SHELF", {"my_source": SOURCE}),
    "a weight formula": Extension(
        "formulas", "outer = outer_spec:OUTER", {"outer_spec": SPEC, "outer_math": MATH}
    ),
    "a page": Extension("pages", "count = my_page:PAGE", {"my_page": PAGE_MODULE}),
}
MANIFEST = """\
schema: 1
name: contributed
family: twin
plugins: [{id: mine, kind: lycoris, source: "shelf:outer"}]
cases: [{prompt: a large red circle on a white background}, {prompt: a small blue square}]
seeds: [0]
methods: [{name: base}, {name: mirrored}]
metrics: [brightness]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 3, guidance_scale: 3.0}
"""
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def install(extension: Extension, site: Path) -> None:
    """Write a package as pip would unpack it."""
    name = next(iter(extension.modules))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = f"[xbench.{extension.group}]\n{extension.point}\n"
    (info / "entry_points.txt").write_text(points)
    for module, text in extension.modules.items():
        (site / f"{module}.py").write_text(text)


@dataclass(frozen=True)
class World:
    """A folder with the packages, a plugin file on a shelf, and one finished run."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def call(self, *words: str) -> str:
        """Run Python with the packages installed; return what it prints."""
        own = {
            "PYTHONPATH": f"{self.folder / 'site'}{os.pathsep}{ROOT}",
            "SHELF": str(self.folder),
            "XBENCH_STORE": str(self.folder / "store"),
            "XBENCH_CACHE": str(self.folder / "cache"),
        }
        done = subprocess.run(
            [sys.executable, *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **own},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Install every extension, fetch the plugin from the new source, and run."""
    world = World(tmp_path_factory.mktemp("contributed"))
    for extension in EXTENSIONS.values():
        install(extension, world.folder / "site")
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=48).astype(np.float32) for _ in range(2))
    content = {f"{MODULE}.outer_left": left, f"{MODULE}.outer_right": right}
    (world.folder / "outer.safetensors").write_bytes(pack(content))
    (world.folder / "m.yaml").write_text(MANIFEST)
    xbench = ("-m", "bench.cli.main")
    world.call(*xbench, "plugins", "fetch", "m.yaml")
    world.call(*xbench, "run", "--manifest", "m.yaml", "--out", "run")
    return world


def stated_files() -> dict[str, int]:
    """Return what is added -> the number of files that the page states."""
    rows = re.findall(r"^\| (an? [\w ]+) \| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    return {name: int(number) for name, number in rows}


def test_the_page_states_the_number_of_files() -> None:
    assert stated_files() == {name: e.n_files for name, e in EXTENSIONS.items()}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extensions_import_from_xbench_alone(name: str) -> None:
    for text in EXTENSIONS[name].modules.values():
        used = set(re.findall(r"^(?:from|import) (\w+)", text, re.M))
        ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
        assert used & ours <= {"xbench"}


def test_a_run_uses_family_method_metric_source_and_formula(world: World) -> None:
    store = RunStore.open(world.run)
    assert store.run_facts()["family"] == "twin"
    assert set(store.trials()["method"]) == {"base", "mirrored"}
    assert set(store.results()["status"]) == {"ok"}
    scores = store.scores()
    assert set(scores["metric"]) == {"brightness"} and scores["value"].notna().all()
    audit = store.read_table("audit")
    assert list(audit["plugin"]) == ["mine"] and list(audit["formula"]) == ["outer"]
    assert audit["reason"].isna().all()
    assert audit["applied"].to_numpy() == pytest.approx(audit["expected"].to_numpy(), rel=1e-4)
    assert audit["applied"].gt(1).all()


def test_the_method_decides_pixels(world: World) -> None:
    store = RunStore.open(world.run)
    paths = {
        (row["method"], row["case_id"]): store.image_path(row["trial_id"])
        for row in records(store.trials())
    }
    cases = {case for _, case in paths}
    assert len(cases) == 2
    for case in cases:
        mirrored = read_image(paths["mirrored", case])
        assert np.array_equal(mirrored[:, ::-1], read_image(paths["base", case]))


def test_the_report_names_the_metric_and_explains_the_method(world: World) -> None:
    text = (world.run / "tables" / "report.md").read_text(encoding="utf-8")
    assert "brightness" in text and "the base image, mirrored" in text


def test_the_leaderboard_shows_the_page(world: World) -> None:
    code = (
        "import json, os\n"
        f"os.environ['XBENCH_RESULTS'] = {str(world.run)!r}\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from leaderboard.ui import pages\n"
        "page = AppTest.from_string('from my_page import show\\nshow()', default_timeout=30)\n"
        "page.run()\n"
        "print(json.dumps([[p.title for p in pages()], [m.value for m in page.markdown]]))\n"
    )
    titles, texts = json.loads(world.call("-c", code).splitlines()[-1])
    assert titles[-1] == "Count" and "1 run, method run" in texts
