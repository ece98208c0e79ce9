"""`xbench config`: print and change the user's defaults."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import click

from bench.cli.output import echo, echo_lines
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
        echo_lines(json.dumps(shown, indent=2))
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
def set_default(name: str, value: str) -> None:
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
    echo(f"{name} = {value} in {write_config(changed)}")


@config.command("unset")
@click.argument("name")
def unset_default(name: str) -> None:
    """Remove a default from the file."""
    found = read_config(_main())
    changed = _without(found, name)
    if changed == found:
        raise UserError(f"{config_path()} has no default for {name!r}: see xbench config")
    echo(f"{name} is unset in {write_config(changed)}")


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
