"""`xbench config`: print and change the user's defaults."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from bench.cli.output import echo, echo_json, json_option
from bench.cli.user_config import (
    UserConfig,
    check_option,
    check_variable,
    config_path,
    read_config,
    write_config,
)
from plugins_manifest.documents import parse_yaml
from plugins_manifest.errors import UserError


def _main() -> click.Group:
    command = click.get_current_context().find_root().command
    assert isinstance(command, click.Group)
    return command


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def config(ctx: click.Context, *, as_json: bool) -> None:
    """Print the user's defaults, or change them: `config set NAME VALUE`, `config unset NAME`.

    NAME is an environment variable (XBENCH_CACHE) or COMMAND.OPTION (run.batch-timeout,
    "plugins fetch.jobs"). The environment wins over the file, the command line over both.
    """
    if ctx.invoked_subcommand is not None:
        return
    found = read_config(_main())
    if as_json:
        shown = {
            "path": str(config_path()),
            "environment": dict(found.environment),
            "commands": {words: dict(options) for words, options in found.commands.items()},
        }
        echo_json(shown)
        return
    path = config_path()
    echo(f"{path}{'' if path.exists() else ' (not there yet: xbench config set NAME VALUE)'}")
    for name, value in found.environment.items():
        wins = os.environ.get(name, value)
        echo(f"  {name} = {value}" + (f" (the environment has {wins})" if wins != value else ""))
    for words, options in found.commands.items():
        for name, value in options.items():
            echo(f"  {words}.{name} = {value}")


@config.command("set")
@click.argument("name")
@click.argument("value")
@json_option
def set_default(name: str, value: str, *, as_json: bool) -> None:
    """Set a default: an environment variable, or an option as COMMAND.OPTION."""
    found = read_config(_main())
    words, dot, option = name.rpartition(".")
    problem = None
    if dot:
        typed = _typed(value)
        problem = check_option(_main(), words, option, typed)
        own = {**found.commands.get(words, {}), option: typed}
        changed = replace(found, commands={**found.commands, words: own})
    else:
        problem = check_variable(name)
        changed = replace(found, environment={**found.environment, name: value})
    if problem is not None:
        raise UserError(problem)
    _report(write_config(changed), name, value, as_json=as_json)


@config.command("unset")
@click.argument("name")
@json_option
def unset_default(name: str, *, as_json: bool) -> None:
    """Remove a default from the file."""
    found = read_config(_main())
    changed = _without(found, name)
    if changed == found:
        raise UserError(f"{config_path()} has no default for {name!r}: see xbench config")
    _report(write_config(changed), name, None, as_json=as_json)


def _report(path: Path, name: str, value: str | None, *, as_json: bool) -> None:
    if as_json:
        echo_json({"path": str(path), "name": name, "value": value})
    else:
        echo(f"{name} {'is unset' if value is None else f'= {value}'} in {path}")


def _without(config: UserConfig, name: str) -> UserConfig:
    words, dot, option = name.rpartition(".")
    if not dot:
        kept = {key: value for key, value in config.environment.items() if key != name}
        return replace(config, environment=kept)
    commands = {
        key: {k: v for k, v in options.items() if (key, k) != (words, option)}
        for key, options in config.commands.items()
    }
    return replace(config, commands=commands)


def _typed(value: str) -> object:
    """Return a number or truth value where the text is one, else the text."""
    try:
        found = parse_yaml(value, name="the value")
    except UserError:
        return value
    return found if isinstance(found, (bool, int, float)) else value
