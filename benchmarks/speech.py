"""Word error rate of a checkpoint on real speech that it never trained on, as it would hear it in a stream.

    python benchmarks/speech.py --model models/base [--limit 100] [--chunk-frames 4] [--left-frames 32]

Greedy CTC and greedy transducer over ``commonvoice-v1`` dev and ``librispeech-devclean-half`` dev of the corpora
(the latter went through a lossy codec: its figure is not the official dev-clean one). Free text, no grammar and no
language model. The encoder sees the recording through the mask of a stream (chunks, bounded left context), which
gives what a stream gives. Intervals are 95% bootstraps over utterances (Bisani & Ney 2004); the transducer is also
given as a ratio to CTC on the same utterances. Dev data is reported, never tuned on. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, corpora, emit, progress, skip
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.result import Example
from sayso.decoding.greedy import CtcGreedy
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.examples import read_examples
from sayso.evaluation.metrics import EditCounts, word_errors
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.streaming import Context
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer
from sayso.training.transducing import transducer_greedy

BENCH = "speech"
SETS = ("commonvoice-v1/dev.jsonl", "librispeech-devclean-half/dev.jsonl")
BATCH_FRAMES = 12000  # padded feature frames per batch: bounds memory
Floats = NDArray[np.float32]


def choose(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """All, or a seeded sample of ``limit``."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i] for i in sorted(np.random.default_rng(seed).choice(len(examples), limit, replace=False))]


def batches(features: list[Floats]) -> Iterator[list[int]]:
    """Indices of like lengths, each batch within the bound."""
    group: list[int] = []
    for index in sorted(range(len(features)), key=lambda i: len(features[i])):
        if group and len(features[index]) * (len(group) + 1) > BATCH_FRAMES:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@torch.no_grad()
def transcribe(
    model: SpeechModel, tokenizer: Tokenizer, features: list[Floats], context: Context
) -> tuple[list[str], list[str]]:
    """Texts by CTC and by transducer, in the order of ``features`` (T, mels) each."""
    ctc, rnnt, greedy = [""] * len(features), [""] * len(features), CtcGreedy()
    done = 0
    for group in batches(features):
        sizes = [len(features[i]) for i in group]
        x = torch.zeros(len(group), max(sizes), features[group[0]].shape[1])
        for row, index in enumerate(group):
            x[row, : sizes[row]] = torch.from_numpy(features[index])
        encoded, frames = model.encoder(x, torch.tensor(sizes), context)
        log_probs = model.ctc(encoded).numpy()
        heard = transducer_greedy(model, encoded, frames)
        for row, index in enumerate(group):
            best = greedy.step(greedy.start(), log_probs[row, : int(frames[row])])
            ctc[index], rnnt[index] = tokenizer.decode(best.tokens), tokenizer.decode(heard[row])
        done += len(group)
        progress(done, len(features))
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


def main() -> None:
    """Transcribe the dev sets and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--limit", type=int, help="a seeded sample of N utterances of each set")
    parser.add_argument("--chunk-frames", type=int, help="of 80 ms; default: the checkpoint's own")
    parser.add_argument("--left-frames", type=int, help="left context; default: the checkpoint's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print N references and readings on stderr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_checkpoint(arguments.model)
    own = model.encoder.default_context
    context = Context(arguments.chunk_frames or own.chunk_frames, arguments.left_frames or own.left_frames)
    settings = FeatureConfig(mels=model.config.encoder.mels)
    for name in SETS:
        manifest = corpora() / name
        if not manifest.exists():
            skip(name, f"not in {corpora()}; SAYSO_CORPORA names the folder of corpora")
            continue
        examples = choose(read_examples(manifest), arguments.limit, arguments.seed)
        features = [fbank(decode.read(example.audio), settings) for example in examples]
        texts = [normalise(example.text or "") for example in examples]
        ctc, rnnt = transcribe(model, tokenizer, features, context)
        for row in range(min(arguments.show, len(texts))):
            print(f"ref  {texts[row]}\nctc  {ctc[row]}\nrnnt {rnnt[row]}\n", file=sys.stderr)
        counts = {
            "ctc": [word_errors(*pair) for pair in zip(texts, ctc, strict=True)],
            "rnnt": [word_errors(*pair) for pair in zip(texts, rnnt, strict=True)],
        }
        report(name.split("/")[0], counts)


if __name__ == "__main__":
    main()
