"""``sayso bench NAME``: a benchmark of the checkout one stands in."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from sayso.cli.console import say, upwards
from sayso.core.errors import UsageError, nearest


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file benchmarks/NAME.py; what follows is passed on to it.")],
) -> int:
    """Run benchmarks/NAME.py of a checkout; prints JSON lines. Its own options: NAME --help."""
    if name in ("--help", "-h"):
        say(context.get_help())
        return 0
    folder = upwards("benchmarks")
    if folder is None or not folder.is_dir():
        raise UsageError(
            "benchmarks are part of a checkout, not of the installed package; "
            "change into a clone of the Sayso repository and run it there"
        )
    known = {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("_")}
    if name not in known:
        raise UsageError(f"no benchmark '{name}' in {folder}; {nearest(name, known)}")
    sys.stdout.flush()
    return subprocess.run([sys.executable, str(known[name]), *context.args], check=False).returncode
