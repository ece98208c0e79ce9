"""The user's configuration file: defaults for environment variables and options of commands.

The environment wins over the file, the command line over both. Options that decide what is measured
have no defaults here: a run follows from its command and its manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import yaml
from platformdirs import user_config_path

from bench.cli.variables import SECRETS, VARIABLES
from plugins_manifest.documents import read_yaml
from plugins_manifest.errors import UserError
from plugins_manifest.files import atomic_write

SETTING = "XBENCH_CONFIG"
_MEASURED = frozenset(
    ("manifest", "methods", "t0", "limit", "seeds", "plugins", "adapter", "only", "mode", "policy")
)
_HEAD = "# Defaults of xbench: xbench config --help\n"


@dataclass(frozen=True)
class UserConfig:
    """The file's content; options by command ("run", "plugins fetch") and name."""

    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self) -> None:
        """Set the variables that the environment does not have."""
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)

    def default_map(self) -> dict[str, Any]:
        """Return click's defaults: options by command, groups nested."""
        found: dict[str, Any] = {}
        for words, options in self.commands.items():
            place = found
            for word in words.split():
                place = place.setdefault(word, {})
            place.update({name.replace("-", "_"): value for name, value in options.items()})
        return found


def config_path() -> Path:
    """Return the file that `XBENCH_CONFIG` names, or config.yaml in the user's config folder."""
    named = os.environ.get(SETTING)
    return Path(named).expanduser() if named else user_config_path("xbench") / "config.yaml"


def read_config(main: click.Group) -> UserConfig:
    """Return the configuration, empty without a file; `UserError` lists every mistake."""
    path = config_path()
    if not path.exists():
        return UserConfig()
    data = read_yaml(path, name=str(path))
    if data is None:
        return UserConfig()
    problems = list(_problems(data, main))
    if problems:
        raise UserError.collect([f"{path}: {problem}" for problem in problems])
    environment = {name: _text(value) for name, value in data.get("environment", {}).items()}
    return UserConfig(environment, data.get("commands", {}))


def write_config(config: UserConfig) -> Path:
    """Write the file, without empty sections; return its path."""
    data = {
        "environment": dict(config.environment),
        "commands": {name: dict(options) for name, options in config.commands.items() if options},
    }
    kept = {name: section for name, section in data.items() if section}
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (_HEAD + (yaml.safe_dump(kept) if kept else "")).encode())
    return path


def configurable(main: click.Group, words: str) -> dict[str, click.Option]:
    """Return the options of a command that may have a default, by their names without dashes.

    Raises `UserError` for an unknown command.
    """
    found: click.Command = main
    for word in words.split():
        known = found.commands if isinstance(found, click.Group) else {}
        if word not in known:
            raise UserError(f"there is no command {words!r}{_hint(word, known)}")
        found = known[word]
    return {
        name: option
        for option in found.params
        if isinstance(option, click.Option) and not option.required and not option.multiple
        for name in [option.opts[-1].lstrip("-")]
        if name not in _MEASURED and name != "json"
    }


def check_variable(name: str) -> str | None:
    """Return what is wrong with the name of a variable."""
    if name in SECRETS:
        return f"{name} is a secret: set it in the environment, not in a file of defaults"
    if name not in VARIABLES:
        return f"unknown variable {name!r}{_hint(name, VARIABLES)}"
    return None


def check_option(main: click.Group, words: str, name: str, value: object) -> str | None:
    """Return what is wrong with the default of an option."""
    try:
        options = configurable(main, words)
    except UserError as error:
        return str(error)
    if name in _MEASURED:
        return f"{words}.{name} decides what is measured: give it on the command line"
    if name not in options:
        return f"{words} has no option {name!r} that can have a default{_hint(name, options)}"
    option = options[name]
    try:
        option.type_cast_value(click.Context(main), value)
    except click.BadParameter as error:
        return f"{words}.{name}: {error.message}"
    return None


def _problems(data: object, main: click.Group) -> Iterator[str]:
    if not isinstance(data, dict) or set(data) - {"environment", "commands"}:
        yield "expected the sections 'environment' and 'commands'"
        return
    environment, commands = data.get("environment", {}), data.get("commands", {})
    if not isinstance(environment, dict):
        yield "'environment' is not an object of names and values"
        environment = {}
    for name, value in environment.items():
        problem = check_variable(str(name))
        if problem is None and not isinstance(value, (str, int, float)):
            problem = f"{name} is {str(value)[:40]!r}: give a text or a number"
        if problem is not None:
            yield problem
    if not isinstance(commands, dict):
        yield "'commands' is not an object of commands"
        return
    for words, options in commands.items():
        if not isinstance(options, dict):
            yield f"{words} is not an object of options"
            continue
        found = (check_option(main, str(words), str(name), v) for name, v in options.items())
        yield from (problem for problem in found if problem is not None)


def _text(value: object) -> str:
    """Return the value of a variable; truth values are 1 and 0."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
