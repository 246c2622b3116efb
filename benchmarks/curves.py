"""Learning curves of several runs in one picture: word error rate on `valid` over the hours of speech heard.

    python benchmarks/curves.py runs/asr-ctc-conformer runs/asr-transducer-conformer … --out docs/curves.png

Reads what `sayso train` leaves in a run folder (`metrics.jsonl`, `recipe.json`) and draws greedy WER of the averaged
weights; clips heard again count again. The last figure of each stands in the legend. A run without one is left out,
which is said on stderr.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from _lines import ROOT, skip

from sayso.core.errors import DataError, require
from sayso.core.files import whole

Curve = dict[float, float]  # hours of speech: word error rate


def curve(folder: Path) -> tuple[str, Curve]:
    """A run's name and its curve; empty where nothing was validated."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        training = recipe["training"]
        hours = training["batch_seconds"] * training["accumulate"] / 3600
        return recipe["name"], {row["step"] * hours: row["valid_wer"] for row in rows if "valid_wer" in row}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a run folder of 'sayso train' ({type(error).__name__}: {error})") from None


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "curves.png")
    options = parser.parse_args()
    figure = require("matplotlib.figure", extra="train", purpose="drawing curves").Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    for folder in options.runs:
        name, found = curve(folder)
        if not found:
            skip(str(folder), "nothing was validated yet")
            continue
        axes.plot(
            sorted(found),
            [found[hours] for hours in sorted(found)],
            "o-",
            ms=3,
            label=f"{name}: {found[max(found)]:.2f}",
        )
    axes.set_xlabel("hours of speech heard")
    axes.set_ylabel("word error rate on valid")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    with whole(options.out) as fresh:
        figure.savefig(fresh, dpi=90, format="png")


if __name__ == "__main__":
    main()
