"""Draws ``docs/alignments.png``: where each way to text heard its labels, in one utterance of a real person.

    python benchmarks/alignments.py [--runs runs/bench-tradeoffs] [--set commonvoice-v1/dev.jsonl] [--number N]

From the runs of ``tradeoffs.py``; those that are not there are left out. Every model is told the transcript and shows
what it makes of it: CTC the posteriors of its labels, which are spikes; the attention of decoders over frames of 80 ms,
soft over everything, chosen by MoChA, within chunks, or up to a trigger of CTC (white dots) and a little further; the
transducer the probability, over all paths, that each point of its lattice is on the path. Colours are relative to the
most of each row. The utterance is the first of at most 3 s and at least four words, or that of `--number`.

With `--monotone N` no picture is drawn: of N utterances of the set, the share whose decoder only listens forwards, that
is where the centre of mass of a label's attention is nowhere more than a frame before the furthest so far. One JSON
line per run, with a 95% bootstrap over utterances.

Shape letters: ``T`` frames, ``U`` labels, ``S`` places of a lesson, ``V`` tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lines import ROOT, emit
from _wer import SETS, Floats, recordings
from numpy.typing import NDArray
from torch import Tensor

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import DataError, require
from sayso.core.files import whole
from sayso.evaluation.bootstrap import ratio
from sayso.losses.alignment import ctc_alignment, first_said
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.streaming import Context
from sayso.text.tokenizer import Tokenizer

TITLES = {
    "ctc": "CTC: spikes",
    "attention": "attention: everything",
    "chunks": "chunk attention: its chunk",
    "mocha": "MoChA: a window at a chosen frame",
    "triggered": "triggered attention: until CTC's spike and 160 ms",
    "transducer": "transducer: the lattice",
}
FRAME_S, MOST_KB = 0.08, 200
Doubles = NDArray[np.float64]


@torch.no_grad()
def heard(model: SpeechModel, samples: Floats) -> tuple[Tensor, Tensor]:
    """Encoder frames (1,T,D) and their number; whole where the decoder hears everything first."""
    features = torch.from_numpy(fbank(samples, FeatureConfig(mels=model.config.encoder.mels)))
    late = model.decoder is not None and not model.decoder.streams
    context = Context() if late else model.encoder.default_context
    encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), context)
    return encoded, frames


@torch.no_grad()
def triggers(model: SpeechModel, encoded: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """(1,U): the frame in which CTC first says each label; -1 where it cannot say them all."""
    path = ctc_alignment(model.ctc(encoded), labels, frames * model.ctc.rate, torch.tensor([labels.shape[1]]))
    return first_said(path, labels.shape[1]).div(model.ctc.rate, rounding_mode="floor")


@torch.no_grad()
def listened(model: SpeechModel, encoded: Tensor, frames: Tensor, labels: Tensor) -> tuple[Doubles, list[int]]:
    """The decoder's attention (S,T) and the label of every place; ends of chunks and of the text are the end."""
    assert model.decoder is not None
    counts = torch.tensor([labels.shape[1]])
    times = triggers(model, encoded, frames, labels) if model.decoder.aligned else None
    lesson = model.decoder.lesson(labels, counts, encoded, frames, model.config.vocab, times)
    count = int(lesson.lengths[0])
    return lesson.attention[0, :count].double().numpy(), lesson.targets[0, :count].tolist()


@torch.no_grad()
def lattice(model: SpeechModel, encoded: Tensor, labels: Tensor) -> Doubles:
    """(U+1,T): the probability that a path of the transducer passes through each point."""
    log_probs = model.joiner(encoded, model.predictor(labels))[0].double().log_softmax(-1).numpy()
    return occupied(log_probs[:, :, 0], np.take_along_axis(log_probs, _next(labels, len(log_probs)), 2)[:, :, 0])


def occupied(blank: Doubles, label: Doubles) -> Doubles:
    """Log probabilities (T,U+1) of going on to the next frame, or the next label, to occupation (U+1,T)."""
    frames, places = blank.shape
    forward, backward = np.full((frames, places), -np.inf), np.full((frames + 1, places + 1), -np.inf)
    backward[frames, places - 1] = 0.0
    for t in range(frames):
        for u in range(places):
            before = 0.0 if t == u == 0 else -np.inf
            if t:
                before = np.logaddexp(before, forward[t - 1, u] + blank[t - 1, u])
            if u:
                before = np.logaddexp(before, forward[t, u - 1] + label[t, u - 1])
            forward[t, u] = before
    for t in range(frames - 1, -1, -1):
        for u in range(places - 1, -1, -1):
            on = blank[t, u] + backward[t + 1, u]
            if u < places - 1:
                on = np.logaddexp(on, label[t, u] + backward[t, u + 1])
            backward[t, u] = on
    found: Doubles = np.exp(forward + backward[:frames, :places] - backward[0, 0]).T
    return found


def forwards(attention: Doubles) -> bool:
    """Whether no centre of mass of attention (S,T) is more than a frame before the furthest of those before it; places
    without any do not count."""
    mass = attention.sum(1)
    centres = (attention @ np.arange(attention.shape[1]))[mass > 1e-6] / mass[mass > 1e-6]
    return bool((centres >= np.maximum.accumulate(centres) - 1.0).all())


def monotone(found: dict[str, Path], clips: Sequence[tuple[str, Floats]]) -> None:
    """Print the share for every run with a decoder; texts that CTC cannot align are left out."""
    for name, folder in found.items():
        model, tokenizer = load_checkpoint(folder)
        if model.decoder is None:
            continue
        hits = []
        for text, samples in clips:
            labels = torch.tensor([tokenizer.encode(text)])
            attention, targets = listened(model, *heard(model, samples), labels)
            if targets:
                hits.append(float(forwards(attention)))
        emit("alignments", name, "monotone", ratio(hits, np.ones(len(hits))))


def _next(labels: Tensor, frames: int) -> NDArray[np.int64]:
    """(T,U+1,1): the label that comes next, any behind the last."""
    row = np.append(labels[0].numpy(), 0)
    return np.broadcast_to(row[None, :, None], (frames, len(row), 1))


def _words(rows: list[int], end: int, tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """The rows in which words begin, and the words; ends lie between tokens and belong to none."""
    spoken = [(at, tokenizer.pieces[token]) for at, token in enumerate(rows) if token != end]
    starts = [number for number, (_, piece) in enumerate(spoken) if piece.startswith("▁")]
    for first, last in zip(starts, [*starts[1:], len(spoken)], strict=True):
        yield spoken[first][0], "".join(piece for _, piece in spoken[first:last]).strip("▁")


def draw(axes: Any, name: str, model: SpeechModel, tokenizer: Tokenizer, text: str, samples: Floats) -> None:
    """One panel: time to the right, labels upwards."""
    labels = torch.tensor([tokenizer.encode(text)])
    encoded, frames = heard(model, samples)
    seconds, names = float(frames[0]) * FRAME_S, [tokenizer.pieces[token] for token in labels[0].tolist()]
    if name == "ctc":
        posteriors = model.ctc(encoded)[0].exp().detach().numpy()
        times = (np.arange(len(posteriors)) + 0.5) * FRAME_S / model.ctc.rate
        axes.plot(times, posteriors[:, 0], color="0.75", label="blank")
        for token in sorted(set(labels[0].tolist())):
            axes.plot(times, posteriors[:, token])
        spikes = triggers(model, encoded, frames, labels)[0].tolist()
        for spike, piece in zip(spikes, names, strict=True):
            axes.text((spike + 0.5) * FRAME_S, 1.03, piece.strip("▁"), ha="center", fontsize=6, rotation=60)
        axes.set(ylim=(0, 1.25), ylabel="posterior")
    else:
        if name == "transducer":
            shown, rows = lattice(model, encoded, labels), [model.config.vocab, *labels[0].tolist()]
        else:
            shown, rows = listened(model, encoded, frames, labels)
        shown = shown / np.maximum(shown.max(1, keepdims=True), 1e-9)
        extent = (0, seconds, -0.5, len(rows) - 0.5)
        axes.imshow(shown, aspect="auto", origin="lower", extent=extent, cmap="magma", vmin=0, interpolation="nearest")
        words = dict(_words(rows, model.config.vocab, tokenizer))
        axes.set_yticks(list(words), list(words.values()), fontsize=6)
        if name == "triggered":
            spikes = triggers(model, encoded, frames, labels)[0].tolist()
            axes.plot([(spike + 0.5) * FRAME_S for spike in spikes], range(len(spikes)), "w.", markersize=3)
    axes.set_title(TITLES[name], fontsize=9, loc="left", pad=14 if name == "ctc" else 4)
    axes.set_xlim(0, seconds)


def main() -> None:
    """Draw what the runs have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-tradeoffs"))
    parser.add_argument("--set", choices=SETS, default=SETS[0], help="of the corpora, for the utterance")
    parser.add_argument("--number", type=int, help="which utterance of the set")
    parser.add_argument("--monotone", type=int, metavar="N", help="count in N utterances instead of drawing one")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "alignments.png")
    options = parser.parse_args()
    found = {name: options.runs / name / "model" for name in TITLES if (options.runs / name / "model").is_dir()}
    clips = recordings(options.set, None, 0)
    if not found or clips is None:
        raise DataError(f"{options.runs} has no runs of tradeoffs.py, or the corpora lack {options.set}")
    if options.monotone is not None:
        monotone(found, [clip for clip in clips if clip[0]][: options.monotone])
        return
    short = [clip for clip in clips if len(clip[1]) <= 3 * 16000 and len(clip[0].split()) >= 4]
    text, samples = (short or clips)[0] if options.number is None else clips[options.number]
    figure = require("matplotlib.figure", extra="train", purpose="drawing").Figure(figsize=(9, 1.2 + 2.2 * len(found)))
    for axes, (name, folder) in zip(np.atleast_1d(figure.subplots(len(found), 1)), found.items(), strict=True):
        draw(axes, name, *load_checkpoint(folder), text, samples)
    axes.set_xlabel("seconds")
    figure.suptitle(f"“{text}”", fontsize=10)
    figure.tight_layout()
    for dpi in (110, 90, 70, 50):
        with whole(options.out) as fresh:
            figure.savefig(fresh, dpi=dpi, format="png")
        if options.out.stat().st_size < MOST_KB * 1000:
            break
    print(f"{options.out}: {options.out.stat().st_size // 1000} kB, {', '.join(found)}", file=sys.stderr)


if __name__ == "__main__":
    main()
