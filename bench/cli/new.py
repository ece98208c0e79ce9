"""Write an installable package with a method, a metric, a family or a mapper that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Literal, get_args

import click

from bench.cli.output import echo, echo_json, json_option, note
from plugins_manifest.errors import UserError

ExtensionKind = Literal["method", "metric", "family", "mapper"]
_GROUPS = {"method": "methods", "metric": "metrics", "family": "families", "mapper": "mappers"}
_TEMPLATES = Path(__file__).parent / "templates"
_EXAMPLE_METHODS = {"method": "{{name: {name}}}", "mapper": "{{name: xadapter, t0: [0.7]}}"}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40


@click.command()
@click.argument("kind", type=click.Choice(get_args(ExtensionKind)))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Its folder [NAME].")
@json_option
def new(kind: ExtensionKind, name: str, *, out: Path | None, as_json: bool) -> None:
    """Write a package with a working method, metric, family or architecture of mappers.

    With tests and an example.

    NAME is how manifests name the extension. DIR must not exist, or be empty.
    """
    from bench.errors import shown_path

    folder = out or Path(name)
    write_package(kind, name, folder)
    if as_json:
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        echo_json({"folder": str(folder), "files": files})
        return
    shown = shown_path(folder)
    shown = shown if folder.is_absolute() or "/" in shown else f"./{shown}"
    echo(f"wrote {shown}")
    note("Install it where xbench is installed, test it, and use it:")
    note(f"  uv pip install --no-deps --editable {shown}")
    note(f"  python -m pytest {shown}")
    for command in _commands(kind, name, shown):
        note(f"  {command}")


def write_package(kind: ExtensionKind, name: str, folder: Path) -> None:
    """Write a package into a folder; raise `UserError` for a bad name or a folder in use."""
    problems = [*_name_problems(kind, name), *_folder_problems(folder)]
    if problems:
        raise UserError.collect(problems)
    from bench.errors import disk_error
    from plugins_manifest.files import atomic_write, replacing

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as temporary:
            for path, text in _files(kind, name).items():
                file = temporary / path
                file.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(file, text.encode())
    except OSError as error:
        raise disk_error(error, folder) from error


def _name_problems(kind: ExtensionKind, name: str) -> Iterator[str]:
    from bench.registry import installed

    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        yield (
            f"{name!r} cannot name a {kind}: use at most {_LONGEST_NAME} small letters and digits, "
            "with single hyphens between words, such as my-extension"
        )
    elif name in installed(_GROUPS[kind]):
        yield f"a {kind} {name!r} is installed already: choose another name"
    elif find_spec(_module(name)) is not None:
        yield f"a package {_module(name)!r} is installed already: choose another name"


def _folder_problems(folder: Path) -> Iterator[str]:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        yield f"{str(folder)!r} exists: name a new folder with --out"
    elif folder.is_dir() and any(folder.iterdir()):
        yield f"the folder {str(folder)!r} is not empty: name a new one with --out"


def _commands(kind: ExtensionKind, name: str, folder: str) -> list[str]:
    """Return what uses the extension on small models."""
    run = f"xbench run --manifest {folder}/example.yaml --out runs/{name}"
    if kind != "mapper":
        return [run]
    train = f"xbench train {folder}/recipe.yaml --out trained/{name}"
    return [train, f"{run} --adapter trained/{name}/mapper"]


def _module(name: str) -> str:
    return f"xbench_{name.replace('-', '_')}"


def _files(kind: ExtensionKind, name: str) -> dict[str, str]:
    """Return the text of each file of the package, by its path."""
    module, snake = _module(name), name.replace("-", "_")
    class_name = "".join(map(str.capitalize, name.split("-")))
    is_class = kind == "method"  # an entry point of methods names the class
    words = {
        "kind": kind,
        "name": name,
        "group": _GROUPS[kind],
        "module": module,
        "distribution": f"xbench-{name}",
        "class_name": class_name,
        "object_name": class_name if is_class else snake.upper(),
        "family": name if kind == "family" else "pocket",
        "method": _EXAMPLE_METHODS.get(kind, "{{name: sdedit, t0: [0.7]}}").format(name=name),
        "metric": name if kind == "metric" else "pocket-style-rate",
        "commands": "\n".join(_commands(kind, name, ".")),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "example.yaml": "example.yaml",
        f"src/{module}/__init__.py": f"{kind}.py",
        f"tests/test_{snake}.py": f"test_{kind}.py",
        f"tests/test_{snake}_in_a_run.py": "test_run.py",
    }
    if kind == "mapper":
        templates |= {
            "recipe.yaml": "recipe.yaml",
            f"src/{module}/network.py": "network.py",
            f"tests/test_{snake}_in_a_run.py": "test_trained.py",
        }
    return {
        path: Template((_TEMPLATES / f"{source}.tmpl").read_text(encoding="utf-8")).substitute(
            words
        )
        for path, source in templates.items()
    }
