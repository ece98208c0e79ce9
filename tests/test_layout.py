"""Claims about the layout: what lies where, who may import whom, and what stays light."""

import ast
import importlib.util
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "bench",
    "leaderboard",
    "metrics",
    "plugins_manifest",
    "pocket",
    "runners",
    "xadapter",
    "xbench",
)
TORCH_FREE = (
    *PACKAGES,
    *(
        "bench.cli.main",
        "bench.errors",
        "bench.plan.plan",
        "bench.store.schema",
        "bench.store.run_store",
        "bench.analysis.summary",
    ),
    *("bench.gate.gate", "bench.gate.report", "bench.gate.policy", "metrics.stats.ratio"),
    *("leaderboard.study.votes", "metrics.stats.preference", "metrics.stats.agreement"),
    *(
        "metrics.stats.intervals",
        "plugins_manifest.cases.cases",
        "plugins_manifest.schema.load",
        "pocket.weights",
    ),
    *("bench.plan.checks", "runners.base", "xadapter.layout"),
    *("bench.cli.will_it_work", "bench.publish.measured", "plugins_manifest.fits"),
)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_folder_seen_is_the_package_imported(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin) == ROOT / name / "__init__.py"


def test_light_modules_leave_torch_out() -> None:
    code = "import sys, importlib\n"
    code += f"for m in {TORCH_FREE!r}:\n    importlib.import_module(m)\n"
    code += "    if 'torch' in sys.modules:\n        sys.exit(f'{m} loads torch')\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_leaves_torch_out() -> None:
    code = "import sys\nfrom bench.cli.main import main\n"
    code += "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
    code += "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


def test_leaderboard_modules_never_shadow_a_package() -> None:
    names = {p.stem for p in (ROOT / "leaderboard").rglob("*.py")} - {"__init__"}
    assert not names & set(PACKAGES)


def distribution(requirement: str) -> str:
    """Return a requirement's or a distribution's name as pip compares them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def imports_of(folder: str) -> Iterator[str]:
    """Top-level names that the modules of a folder import, here or inside functions."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0]


def test_whatever_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    declared = {distribution(d) for d in project["project"]["dependencies"]}
    declared |= {distribution(d) for extra in extras for d in extra}
    for_tests = declared | {distribution(d) for d in project["dependency-groups"]["dev"]}
    providers = packages_distributions()
    local = {*sys.stdlib_module_names, *PACKAGES, "tests"}
    for folder in (*PACKAGES, "tests"):
        for name in sorted(set(imports_of(folder)) - local):
            known = {distribution(d) for d in providers.get(name, [name])}
            assert known & (for_tests if folder == "tests" else declared), (folder, name)


def sources(*folders: str) -> dict[Path, str]:
    """Return the text of every Python file of folders, scripts without an ending included."""
    paths = [p for folder in folders for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    found = {p: p.read_text(encoding="utf-8") for p in paths if p.suffix == ".py"}
    scripts = {p: p.read_text(encoding="utf-8") for p in paths if p.parent.name == "scripts"}
    return found | {p: text for p, text in scripts.items() if text.startswith("#!/usr/bin/env py")}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def entry_point_objects() -> set[str]:
    """`module:name` of every entry point and script of pyproject."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["scripts"], *project["entry-points"].values()]
    return {target for group in groups for target in group.values()}


def imported_modules(path: Path, text: str) -> Iterator[str]:
    """Modules that a file imports, or names in a string to run them by path or load them late."""
    if "iter_modules(" in text:  # it imports all modules of its folder
        yield from map(module_name, path.parent.glob("*.py"))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w.]+:\w+", node.value):
                yield node.value.partition(":")[0]
            elif node.value.endswith(".py"):
                yield f"{module_name(path.parent)}.{node.value.removesuffix('.py')}"
            elif path.is_relative_to(ROOT / "metrics"):  # `Network.module`
                yield f"metrics.networks.{node.value}"


def test_every_module_is_imported_an_entry_point_or_run_by_a_name_in_the_code():
    found = {target.partition(":")[0] for target in entry_point_objects()}
    for path, text in sources(*PACKAGES, "scripts").items():
        found |= set(imported_modules(path, text)) - {module_name(path)}
        found |= set(re.findall(r'"-m", "([\w.]+)"', text))
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        found |= set(re.findall(r"python -m ([\w.]+)", text))
        found |= set(re.findall(r"`(xbench\.\w+)`", text))  # public modules
    names = ("__init__", "__main__")
    modules = {module_name(path) for path in sources(*PACKAGES) if path.stem not in names}
    assert len(modules) > 100 and sorted(modules - found) == []


def names_used(text: str) -> set[str]:
    """Return identifiers that a file reads or imports, and names that `__init__` modules list."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {word for word in [node.value] if word.isidentifier() and not word.islower()}
            found |= set(re.findall(r"^[\w.]+:(\w+)$", node.value))
    return found


def definitions(text: str) -> Iterator[str]:
    """Functions, classes and constants of a module; what a decorator registers is used by it."""
    for node in ast.parse(text).body:
        is_called = isinstance(node, ast.FunctionDef) and node.decorator_list
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not is_called:
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_nothing_is_defined_for_tests_alone():
    texts = sources(*PACKAGES, "scripts")
    used = {path: names_used(text) for path, text in texts.items()}
    everywhere = set[str]().union(*used.values())
    everywhere |= {target.partition(":")[2] for target in entry_point_objects()}
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
        everywhere |= set(re.findall(r"\w+", " ".join(code)))
    unused = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(*PACKAGES)
        for name in definitions(texts[path])
        if name not in (used[path] if name.startswith("_") else everywhere)
        and not re.fullmatch(r"__\w+__", name)
    ]
    assert unused == []


@pytest.mark.parametrize("group", ["xbench.methods", "xbench.metrics", "xbench.families"])
def test_every_registered_extension_loads(group: str) -> None:
    found = entry_points(group=group)
    assert len(found) > 0
    for entry in found:
        assert entry.load() is not None


def test_modules_and_functions_stay_small() -> None:
    long_ones = [
        f"{path.relative_to(ROOT)}: {n} lines"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (n := len(path.read_text().splitlines())) > 500
    ]
    long_ones += [
        f"{path.relative_to(ROOT)}: {node.name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 70
    ]
    assert long_ones == []


@pytest.mark.slow
def test_help_answers_in_half_a_second() -> None:
    command = [sys.executable, "-m", "bench.cli.main", "--help"]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


def faces() -> dict[str, dict[str, str]]:
    """Return sub-package -> public name -> the module that defines it."""
    found = {}
    for path, text in sources(*PACKAGES).items():
        package = module_name(path.parent)
        if path.name != "__init__.py" or package.count(".") != 1:
            continue
        tree = ast.parse(text)
        public = [
            element.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            for element in ast.walk(node.value)
            if isinstance(element, ast.Constant)
        ]
        homes = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        found[package] = {name: homes.get(name, package) for name in public}
    return found


def test_a_face_has_at_most_ten_names_and_each_can_be_imported() -> None:
    assert len(faces()) > 25
    for package, names in faces().items():
        assert len(names) <= 10, package
        module = importlib.import_module(package)
        assert [name for name in names if not hasattr(module, name)] == [], package


def test_other_packages_import_the_names_of_a_face_from_the_face() -> None:
    public = faces()
    behind = []
    for path, text in sources(*PACKAGES).items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            room = ".".join(node.module.split(".")[:2])
            names = [a.name for a in node.names if public.get(room, {}).get(a.name) == node.module]
            if names and node.module != room and not module_name(path).startswith(room):
                behind.append(f"{path.relative_to(ROOT)}:{node.lineno}: {', '.join(names)}")
    assert behind == []


def test_the_top_of_bench_has_at_most_seventeen_entries() -> None:
    entries = [p.name for p in (ROOT / "bench").iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 17
