"""What the benchmarks share: the one line of JSON per figure, and where the corpora are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sayso.evaluation.bootstrap import Estimate

ROOT = Path(__file__).resolve().parents[1]


def emit(bench: str, case: str, metric: str, figure: float | Estimate | None, ratio_to: str | None = None) -> None:
    """Print ``{bench, case, metric, value, ratio_to, low, high}``; what could not be measured has value null."""
    known: dict[str, float | None] = {"value": None, "low": None, "high": None}
    if isinstance(figure, dict):
        known = {"value": figure["value"], "low": figure["low"], "high": figure["high"]}
    elif figure is not None:
        known["value"] = figure
    value, low, high = (None if known[k] is None else float(f"{known[k]:.5g}") for k in ("value", "low", "high"))
    line = {"bench": bench, "case": case, "metric": metric, "value": value, "ratio_to": ratio_to}
    print(json.dumps({**line, "low": low, "high": high}), flush=True)


def skip(what: str, why: str) -> None:
    """Say on stderr what was left out, and why."""
    print(f"{what}: skipped, {why}", file=sys.stderr, flush=True)


def corpora() -> Path:
    """``SAYSO_CORPORA``, default ``../shared/data`` beside a checkout."""
    return Path(os.environ.get("SAYSO_CORPORA", ROOT.parent / "shared" / "data"))


def progress(done: int, total: int) -> None:
    """A line on stderr now and then."""
    if done == total or done % 50 == 0:
        print(f"{done} of {total}", file=sys.stderr, flush=True)
