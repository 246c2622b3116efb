"""``sayso data``: recordings and their meaning."""

from __future__ import annotations

import typer

app = typer.Typer(help="Make, import, check and describe data.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Data."""
