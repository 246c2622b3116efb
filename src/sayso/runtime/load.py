"""From a path, or the name of the bundled model, to a ``Model``."""

from __future__ import annotations

from pathlib import Path

from sayso.core.bundle import BUNDLED, read_bundle, resolve
from sayso.runtime.model import Model

__all__ = ["BUNDLED", "load", "resolve"]


def load(path: Path | str = BUNDLED, *, threads: int = 1) -> Model:
    """Load a bundle: a folder, a zip, or ``home`` for the one that comes with Sayso.

    Raises ``BundleError`` where it is missing, damaged or of another format.
    """
    return Model(read_bundle(resolve(path)), threads=threads)
