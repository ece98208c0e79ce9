"""Claims of docs/extending.md: its commands work in a fresh folder, its names are public."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest

from plugins_manifest.installed import missing_members
from tests.environments import ROOT, make_environment
from tests.warm_commands import warm_commands
from xbench import FamilySource, ImageMetric, Method

pytestmark = pytest.mark.system

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
CODE = {
    title: re.findall(r"^```(sh|python)\n(.*?)^```", text, re.M | re.S)
    for title, text in SECTIONS.items()
}
SUBMODULES = ("conditions", "formulas", "pages", "sources", "traits")
PACKAGES = "bench|leaderboard|metrics|plugins_manifest|pocket|runners|xadapter"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("title", [t for t, blocks in CODE.items() if dict(blocks).get("sh")])
def test_the_commands_of_a_section_work_in_a_fresh_folder(title: str, tmp_path: Path) -> None:
    environment = make_environment(tmp_path, XBENCH_CACHE=str(tmp_path / "cache"))
    own = environment.python.parent
    is_warm = title != "A metric"  # whose commands are those of a user, new interpreters
    with warm_commands(environment.packages) if is_warm else nullcontext(own) as commands:
        path = os.pathsep.join([str(commands), str(own), os.environ["PATH"]])
        for language, code in CODE[title]:
            command = ("bash", "-ec") if language == "sh" else (commands / "python", "-c")
            done = environment.run(*command, code, PATH=path)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    written = [path for path in environment.work.iterdir() if path.name != "runs"]
    assert len(written) == 1
    modules = [path.read_text() for path in written[0].glob("src/*/__init__.py")]
    assert len(modules) == 1
    imported = set(re.findall(r"^ *(?:from|import) (\w+)", modules[0], re.M))
    assert "xbench" in imported and not imported & set(PACKAGES.split("|"))


def test_each_kind_has_a_section_with_its_commands() -> None:
    kinds = ["method", "metric", "family", "mapper"]
    made = re.findall(r"^xbench new (\w+) ", PAGE, re.M)
    assert made == kinds and all(CODE[f"A {kind}"] for kind in kinds)


def test_the_page_documents_every_public_name() -> None:
    face = SECTIONS["The package `xbench`"]
    import xbench

    named = re.findall(r"^\| (`[^|]*) \|", face, re.M)
    names = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    assert names == set(xbench.__all__) and len(names) <= 15
    assert {f"xbench.{name}" for name in SUBMODULES} <= set(re.findall(r"`([\w.]+)`", face))


@pytest.mark.parametrize("module", ["xbench", *(f"xbench.{name}" for name in SUBMODULES)])
def test_every_public_name_exists_and_is_documented_where_it_is_defined(module: str) -> None:
    found = import_module(module)
    assert found.__doc__
    assert set(found.__all__) <= set(dir(found))
    for name in found.__all__:
        value = getattr(found, name)
        assert not isinstance(value, type) or value.__doc__, name


def test_importing_the_face_loads_nothing_of_the_project() -> None:
    code = f"import sys, xbench; print([m for m in sys.modules if m.split('.')[0] in {PACKAGES!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_no_page_and_no_template_imports_another_module_of_ours() -> None:
    pages = [ROOT / "docs" / f"{name}.md" for name in ("extending", "contributing", "metrics")]
    pages += [ROOT / "docs" / f"{name}.md" for name in ("load-audit", "fetching", "leaderboard")]
    templates = sorted((ROOT / "bench" / "cli" / "templates").iterdir())
    for path in [*pages, *templates]:
        text = path.read_text(encoding="utf-8")
        assert re.findall(rf"^ *(?:from|import) (?:{PACKAGES})\b.*", text, re.M) == [], path.name


class _OnlyDeclared(Method):
    name = "only-declared"


class _NotCallable(_OnlyDeclared):
    side = "base"
    uses_t0 = uses_plugin = uses_adapter = False
    shares = ()
    render = None  # type: ignore[assignment]


def test_what_is_inherited_from_a_protocol_alone_is_missing() -> None:
    lacking = ["uses_t0", "uses_plugin", "uses_adapter", "side", "shares", "render()"]
    assert missing_members(_OnlyDeclared(), Method) == lacking
    assert missing_members(_NotCallable(), Method) == ["a callable render()"]


@pytest.mark.parametrize("contract", [Method, ImageMetric, FamilySource])
def test_an_empty_object_lacks_every_member(contract: type) -> None:
    assert len(missing_members(object(), contract)) >= 4
