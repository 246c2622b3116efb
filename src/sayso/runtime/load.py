"""From a path, or the name of the bundled model, to a ``Model``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError
from sayso.runtime.model import Model

BUNDLED = "home"


def load(path: Path | str = BUNDLED, *, threads: int = 1) -> Model:
    """Load a bundle: a folder, a zip, or ``home`` for the one that comes with Sayso.

    Raises ``BundleError`` where it is missing, damaged or of another format.
    """
    return Model(read_bundle(resolve(path)), threads=threads)


def resolve(path: Path | str) -> Path:
    """The place of a bundle; the word ``home`` means the bundled one (``./home`` a folder of that name)."""
    if str(path) != BUNDLED:
        return Path(path)
    folder = Path(str(resources.files("sayso"))) / "bundles"
    for place in (folder / BUNDLED, folder / f"{BUNDLED}.zip"):
        if place.exists():
            return place
    raise BundleError(
        f"the bundled model '{BUNDLED}' is not in this installation; install a released wheel, "
        "or make one: sayso build domains/home.yaml --out home.bundle"
    )
