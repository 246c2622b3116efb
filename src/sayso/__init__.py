"""Sayso: speech straight into meaning.

``sayso.load(bundle)`` gives a ``Model``; ``model.understand(path_or_samples)`` a ``Result``; ``model.stream()`` a
stream that takes samples as they come. Names are imported when they are first used, so that ``import sayso`` costs
nothing and the typed result can be had without loading the runtime. onnxruntime's wheels report to their maker from the
moment they are imported; Sayso works without a network, so that is off unless somebody has set it otherwise.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sayso.core.errors import SaysoError
    from sayso.core.result import Example, Intent, Result, Slot
    from sayso.runtime.load import load
    from sayso.runtime.model import Model
    from sayso.runtime.stream import Stream

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Example", "Intent", "Model", "Result", "SaysoError", "Slot", "Stream", "load"]

_HOMES = {
    "Example": "sayso.core.result",
    "Intent": "sayso.core.result",
    "Model": "sayso.runtime.model",
    "Result": "sayso.core.result",
    "SaysoError": "sayso.core.errors",
    "Slot": "sayso.core.result",
    "Stream": "sayso.runtime.stream",
    "load": "sayso.runtime.load",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sayso' has no attribute '{name}'; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
