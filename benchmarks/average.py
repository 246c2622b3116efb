"""The mean of several checkpoints as a base for ``sayso build``: how the bundled ``home`` was finished.

    sayso build domains/home.yaml --out a.bundle --minutes 30
    sayso build domains/home.yaml --out b.bundle --base RUN_OF_A/model --minutes 17 copies=2 training.rate=5e-4
    python benchmarks/average.py RUN_OF_A/model RUN_OF_B/model --out runs/home-mean
    sayso build domains/home.yaml --out home.bundle --base runs/home-mean --minutes 0

The run of a build is in the work folder that it names (``runs/build/…/run``); as a base it also needs the base's
``calibration.json``, which is copied from ``--base``. See ``models/averaging.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sayso.core.files import whole
from sayso.models.assembly import save_checkpoint
from sayso.models.averaging import average


def main() -> None:
    """Parse, average, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="folders with model.json; the last gives the heads")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="whose calibration.json to take over")
    options = parser.parse_args()
    save_checkpoint(*average(options.checkpoints), options.out)
    calibration = (options.base / "calibration.json").read_bytes()
    with whole(options.out / "calibration.json") as fresh:
        fresh.write_bytes(calibration)


if __name__ == "__main__":
    main()
