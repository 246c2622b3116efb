"""Make ``models/base`` of a training run: fp16 weights and the calibration that needs real speech.

    python benchmarks/base.py --run runs/base-4/model --out models/base --domain domains/home.yaml

Prints JSON lines: the token temperature, the rejection offset, the size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sayso.build.base import release_base


def main() -> None:
    """Parse, release, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a checkpoint folder: RUN/model")
    parser.add_argument("--out", type=Path, default=Path("models/base"))
    parser.add_argument("--domain", type=Path, default=Path("domains/home.yaml"))
    parser.add_argument("--clips", type=int, default=240, help="valid recordings to fit on")
    options = parser.parse_args()
    fitted = release_base(options.run, options.out, options.domain, clips=options.clips)
    size = sum(file.stat().st_size for file in options.out.iterdir() if file.is_file())
    for metric, value in (("temperature", fitted.temperature), ("offset", fitted.offset), ("bytes", size)):
        row = {"bench": "base", "case": str(options.out), "metric": metric, "value": value}
        print(json.dumps({**row, "ratio_to": None, "low": None, "high": None}))


if __name__ == "__main__":
    main()
