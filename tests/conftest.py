"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of corpora (``SAYSO_CORPORA``, else ``../shared/data`` beside the checkout); skips where it is absent."""
    folder = Path(os.environ.get("SAYSO_CORPORA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set SAYSO_CORPORA")
    return folder
