"""Word error rate of a checkpoint on real speech that it never trained on, as it would hear it in a stream.

    python benchmarks/speech.py --model models/base [--limit 100] [--chunk-frames 4] [--left-frames 32]

Greedy CTC and greedy transducer over ``commonvoice-v1`` dev and ``librispeech-devclean-half`` dev of the corpora
(the latter went through a lossy codec: its figure is not the official dev-clean one). Free text, no grammar and no
language model. The encoder sees the recording through the mask of a stream (chunks, bounded left context), which
gives what a stream gives. Intervals are 95% bootstraps over utterances (Bisani & Ney 2004); the transducer is also
given as a ratio to CTC on the same utterances. With ``--joined 4`` recordings are also heard four in a row as one, with
the history of the stream and with all history: CTC's word error rate as a ratio to the same words heard one by one (a
model that learnt where in a clip it is gets lost in longer ones). Dev data is reported, never tuned on. One JSON line
per figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, emit
from _wer import SETS, Floats, ctc_errors, ctc_texts, dev_set, encoded

from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import EditCounts, word_errors
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.streaming import Context
from sayso.text.tokenizer import Tokenizer
from sayso.training.transducing import transducer_greedy

BENCH = "speech"


@torch.no_grad()
def transcribe(
    model: SpeechModel, tokenizer: Tokenizer, features: list[Floats], context: Context
) -> tuple[list[str], list[str]]:
    """Texts by CTC and by transducer, in the order of ``features`` (T, mels) each."""
    ctc, rnnt = [""] * len(features), [""] * len(features)
    for group, frames, counts in encoded(model, features, context):
        read = ctc_texts(model, tokenizer, frames, counts)
        heard = transducer_greedy(model, frames, torch.tensor(counts))
        for row, index in enumerate(group):
            ctc[index], rnnt[index] = read[row], tokenizer.decode(heard[row])
    return ctc, rnnt


def report(case: str, counts: dict[str, list[EditCounts]]) -> None:
    """Word error rates, their parts, and one decoder against the other."""
    for decoder, edits in counts.items():
        length = [item.length for item in edits]
        emit(BENCH, f"{case}/{decoder}", "wer", ratio([item.errors for item in edits], length))
        for kind in ("substitutions", "deletions", "insertions"):
            emit(BENCH, f"{case}/{decoder}", kind, ratio([getattr(item, kind) for item in edits], length))
    first, second = ([item.errors for item in counts[decoder]] for decoder in ("ctc", "rnnt"))
    emit(BENCH, f"{case}/rnnt", "wer", ratio(second, first), "ctc")


def longer(
    case: str,
    model: SpeechModel,
    tokenizer: Tokenizer,
    dev: tuple[list[str], list[Floats]],
    context: Context,
    count: int,
) -> None:
    """Recordings ``count`` in a row against the same words heard one by one, in groups of like lengths."""
    texts, features = dev
    order = sorted(range(len(texts)), key=lambda i: len(features[i]))
    groups = [order[i : i + count] for i in range(0, len(order) - count + 1, count)]
    rows = (
        [" ".join(texts[i] for i in group) for group in groups],
        [np.concatenate([features[i] for i in group]) for group in groups],
    )
    for history, seen in (("", context), (", full history", Context(context.chunk_frames))):
        alone = ctc_errors(model, tokenizer, dev, seen)
        single = [sum(alone[i].errors for i in group) for group in groups]
        together = ctc_errors(model, tokenizer, rows, seen)
        words = [edits.length for edits in together]
        place = f"{case}/ctc, {count} in a row{history}"
        emit(BENCH, place, "wer", ratio([edits.errors for edits in together], words))
        emit(BENCH, place, "wer", ratio([edits.errors for edits in together], single), "one by one")


def main() -> None:
    """Transcribe the dev sets and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--limit", type=int, help="a seeded sample of N utterances of each set")
    parser.add_argument("--chunk-frames", type=int, help="of 80 ms; default: the checkpoint's own")
    parser.add_argument("--left-frames", type=int, help="left context; default: the checkpoint's own")
    parser.add_argument("--joined", type=int, default=1, help="hear so many recordings in a row as one, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print N references and readings on stderr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_checkpoint(arguments.model)
    own = model.encoder.default_context
    context = Context(arguments.chunk_frames or own.chunk_frames, arguments.left_frames or own.left_frames)
    for name in SETS:
        dev = dev_set(name, model.config.encoder.mels, arguments.limit, arguments.seed)
        if dev is None:
            continue
        texts, features = dev
        ctc, rnnt = transcribe(model, tokenizer, features, context)
        for row in range(min(arguments.show, len(texts))):
            print(f"ref  {texts[row]}\nctc  {ctc[row]}\nrnnt {rnnt[row]}\n", file=sys.stderr)
        counts = {
            "ctc": [word_errors(*pair) for pair in zip(texts, ctc, strict=True)],
            "rnnt": [word_errors(*pair) for pair in zip(texts, rnnt, strict=True)],
        }
        report(name.split("/")[0], counts)
        if arguments.joined > 1:
            longer(name.split("/")[0], model, tokenizer, dev, context, arguments.joined)


if __name__ == "__main__":
    main()
