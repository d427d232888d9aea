"""Running and stopping the server. Its flags are made from the settings themselves."""

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click

from cli.context import CommandFailed, Context
from cli.grammar import command
from controller.config import ENV_PREFIX, Settings, documentation, load_settings


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def default_text(each: Field[Any]) -> str:
    """A setting's default as it would be written."""
    value = each.default if each.default is not MISSING else ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _size_text(value)
    return str(value)


def _size_text(number: int) -> str:
    for unit, factor in (("G", 1024**3), ("M", 1024**2)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def _settings_option(each: Field[Any]) -> click.Option:
    default = default_text(each)
    facts = f"[{ENV_PREFIX}{each.name.upper()}" + (f"; default {default}]" if default else "]")
    return click.Option(
        [flag_of(each.name)],
        metavar="VALUE",
        multiple=each.default is MISSING,
        help=f"{documentation()[each.name]} {facts}",
    )


def _with_settings(action: Any) -> Any:
    action.__click_params__ = [
        *reversed([_settings_option(each) for each in fields(Settings)]),
        *getattr(action, "__click_params__", []),
    ]
    return action


@command(
    example="moor server --data ~/mooring --api 127.0.0.1:5555 --ssh 127.0.0.1:2222 --http 127.0.0.1:8080",
    local_only=True,
)
@click.option(
    "--config", "file", metavar="FILE", help="YAML file of settings; flags and environment come first."
)
@click.option("--check-config", is_flag=True, help="Only say whether the settings are fit, and print them.")
@_with_settings
def server(context: Context, *, file: str | None, check_config: bool, **flags: Any) -> int:
    """One process: HTTP API, SSH endpoint and the loop that keeps everything as it should be. A setting
    comes from its flag, else its environment variable, else the file, else its default."""
    settings = read_settings(context, file, flags)
    if check_config:
        from cli.drivers import check_drivers

        check_drivers(settings)
        shown = {each.name: str(getattr(settings, each.name)) for each in fields(Settings)}
        context.output.facts([(name.replace("_", "-"), value) for name, value in shown.items()])
        context.output.data(shown)
        return 0
    from cli.server import run

    return run(settings)


@command(
    example="moor server:stop --data ~/mooring\nmoor server:stop --data ~/mooring --all", local_only=True
)
@click.option("--config", "file", metavar="FILE", help="YAML file of the server's settings.")
@click.option("--data", metavar="VALUE", help=f"Its data folder. [{ENV_PREFIX}DATA]")
@click.option(
    "--all", "everything", is_flag=True, help="Its apps and router too, which outlive it otherwise."
)
def stop(context: Context, *, file: str | None, data: str | None, everything: bool) -> int:
    """The apps go on serving without the server, unless --all is given."""
    settings = read_settings(context, file, {"data": data})
    if not settings.data.is_dir():
        raise CommandFailed(f"There is no data folder {settings.data}.", hint="--data names it.")
    from cli.server import stop as stop_server

    return stop_server(settings, everything)


def read_settings(context: Context, file: str | None, flags: dict[str, Any]) -> Settings:
    """Raises InvalidInput naming the setting and where its value came from."""
    given = {name: value or None for name, value in flags.items()}
    return load_settings(flags=given, environ=context.environ, file=Path(file) if file else None)
