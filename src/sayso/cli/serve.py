"""``sayso serve``: a bundle, or several, as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sayso.cli.console import note, say
from sayso.core.errors import UsageError


def serve(
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="A bundle: folder, zip, or 'home'; NAME=PATH gives it another name. May be repeated."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Everything else, in TOML (docs/serving.md).")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP and WebSocket. Default: 8080.", min=0, max=65535)] = None,
    wyoming_port: Annotated[int | None, typer.Option(help="Wyoming, e.g. 10300.", min=0, max=65535)] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen. Default: 127.0.0.1.")] = None,
    new_key: Annotated[str | None, typer.Option(metavar="NAME", help="Make an API key, show it once, leave.")] = None,
) -> int:
    """Understand many streams at once, for voice clients."""
    if new_key is not None:
        from sayso.serving.auth import new_key as make

        key, line = make(new_key)
        say(key)
        note(f"the key stands on stdout and nowhere else. In serve.toml, under [auth]:\nkeys = [{line}]")
        return 0
    from sayso.serving.config import read_config
    from sayso.serving.server import run

    given: dict[str, Any] = {"port": port, "wyoming_port": wyoming_port, "host": host}
    if bundle:
        given["bundles"] = named(bundle)
    return run(read_config(config, {name: value for name, value in given.items() if value is not None}), note)


def named(bundles: list[str]) -> dict[str, str]:
    """``NAME=PATH`` or a path, whose last part without its ending is the name."""
    found: dict[str, str] = {}
    for item in bundles:
        name, given, path = item.partition("=")
        if not given:
            name, path = Path(item).name.removesuffix(".zip").removesuffix(".bundle"), item
        if not name or not path:
            raise UsageError(f"--bundle {item}: give a bundle, or NAME=PATH")
        if name in found:
            raise UsageError(f"two bundles are called '{name}'; name one of them with --bundle NAME=PATH")
        found[name] = path
    return found
