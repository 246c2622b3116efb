"""Make ``models/base``: the sentences it starts from, and what the finished run is released as.

    python benchmarks/base.py --sentences runs/sentences.txt
    python benchmarks/base.py --run runs/base-7/model --out models/base --domain domains/home.yaml
    python benchmarks/base.py --language runs/language --out models/language

The first writes every training transcript and the text corpus for language models, a sentence a line: the tokenizer
learns from it and synthetic voices read from it. The second writes fp16 weights and the calibration that needs real
speech, and prints JSON lines: the token temperature, the rejection offset, the size. The third writes the language
model of a run in fp16, and its recipe, data and metrics beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from sayso.build.base import release_base
from sayso.core.files import write_text
from sayso.data.corpora import TRAINING, corpora_root, read_corpus
from sayso.data.splits import cut_valid
from sayso.models.language import load_language, save_language
from sayso.text.normalise import normalise


def main() -> None:
    """Parse; write sentences, release a run, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, help="write the training sentences here")
    parser.add_argument("--run", type=Path, help="a checkpoint folder to release: RUN/model")
    parser.add_argument("--language", type=Path, help="a run of a language model to release")
    parser.add_argument("--out", type=Path, default=Path("models/base"))
    parser.add_argument("--domain", type=Path, default=Path("domains/home.yaml"))
    parser.add_argument("--clips", type=int, default=240, help="valid recordings to fit on")
    options = parser.parse_args()
    if not options.sentences and not options.run and not options.language:
        parser.error("nothing to do: give --sentences, --run or --language")
    if options.sentences:
        write_text(options.sentences, (f"{line}\n" for line in sentences()))
    if options.language:
        save_language(*load_language(options.language / "model"), options.out, half=True)
        (options.out / "log").mkdir(exist_ok=True)
        for name in ("recipe.json", "data.json", "metrics.jsonl"):
            shutil.copyfile(options.language / name, options.out / "log" / name)
        shutil.copyfile(options.language / "curves.png", options.out / "curves.png")
    if options.run:
        release(options.run, options.out, options.domain, options.clips)


def sentences() -> list[str]:
    """Training transcripts, without those of validation, and the text corpus; normalised, each once."""
    found: set[str] = set()
    for name in TRAINING:
        train = cut_valid(read_corpus(name))[0]
        found.update(normalise(cut.supervisions[0].text or "") for cut in train)
    text = (corpora_root() / "text" / "slurp" / "lm.txt").read_text(encoding="utf-8")
    found.update(normalise(line) for line in text.splitlines())
    return sorted(found - {""})


def release(run: Path, out: Path, domain: Path, clips: int) -> None:
    """Write the checkpoint folder and print what was fitted."""
    fitted = release_base(run, out, domain, clips=clips)
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    for metric, value in (("temperature", fitted.temperature), ("offset", fitted.offset), ("bytes", size)):
        row = {"bench": "base", "case": str(out), "metric": metric, "value": value}
        print(json.dumps({**row, "ratio_to": None, "low": None, "high": None}))


if __name__ == "__main__":
    main()
