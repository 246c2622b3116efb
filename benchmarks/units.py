"""Units of text: letters and word pieces of several sizes, on one encoder that goes on learning for the same steps.

    python benchmarks/units.py [--init models/base] [--vocabs 30 128 256 512] [--steps 600] [--limit 100] [--out DIR]

Every row begins with the encoder of `--init` (and its head for phones, where it has one), a new tokenizer of so many
tokens, learnt from the training transcripts, and a new CTC head, and trains all of it by the real loop with one seed,
the same data and steps. The smallest vocabulary that spells every letter is letters alone; two of the tokens are
blank and unknown. `--init` learnt to hear for units of its own size, which favours that row a little. `wer` is greedy
CTC over dev sets of real people in the streaming context, and a ratio to the row of `--init`'s own size on the same
recordings; `tokens_per_word` of the training transcripts; `head_parameters`. Intervals are 95% bootstraps over
recordings, of one training each. One JSON line per figure. A folder given again goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _lines import ROOT, emit
from encoders import Dev, Plan, compare, dev_sets, going_on, judge, renewed, taken, training_options

from sayso.core.config import parse
from sayso.models.assembly import load_checkpoint
from sayso.text.tokenizer import train_tokenizer
from sayso.training.data import read_parts, transcripts
from sayso.training.recipe import DataConfig

BENCH = "units"


def units(plan: Plan, dev: Dev, options: argparse.Namespace) -> None:
    """Train and judge every vocabulary, that of the checkpoint's size first."""
    texts = list(transcripts(read_parts(parse(DataConfig, plan.data, where="benchmarks/units.py"))))
    words = sum(len(text.split()) for text in texts)
    own = load_checkpoint(options.init)[0].config.vocab
    its: dict[str, Any] = {}
    for size in sorted({own, *options.vocabs}, key=lambda n: (n != own, n)):
        name = f"{size} tokens"
        tokenizer = train_tokenizer(texts, options.out / f"{size}.model", vocab=size)
        start = renewed(options.init, options.out / f"{size}-init", ("encoder.", "phones."), options.seed, tokenizer)
        folder = plan.train(name, {}, start)
        model, _ = load_checkpoint(folder / "model")
        emit(BENCH, name, "tokens_per_word", sum(len(tokenizer.encode(text)) for text in texts) / words)
        emit(BENCH, name, "head_parameters", float(sum(p.numel() for p in model.ctc.parameters())))
        emit(BENCH, name, "steps", float(taken(folder)[0]))
        found = judge(folder, dev)
        its = its or found
        compare(name, f"{own} tokens", "wer", found, None if size == own else its, BENCH)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, train all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--vocabs", type=int, nargs="+", default=[30, 128, 256, 512])
    training_options(parser, limit=100)
    parser.set_defaults(corpus=["commonvoice-v1"], longest_s=8.0, rate=6e-4, steps=600)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-units"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    units(going_on(options), dev_sets(options), options)


if __name__ == "__main__":
    main()
