"""What the benchmarks that judge hearing share: recordings of a dev set as features, batches of them, greedy CTC.

Shape letters: ``B`` batch, ``T`` frames, ``D`` encoder width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from _lines import corpora, progress, skip
from numpy.typing import NDArray
from torch import Tensor

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.result import Example
from sayso.data.corpora import TRAINING, read_corpus
from sayso.data.manifest import audio_path
from sayso.data.splits import cut_valid
from sayso.decoding.greedy import CtcGreedy
from sayso.evaluation.examples import read_examples
from sayso.evaluation.metrics import EditCounts, word_errors
from sayso.models.assembly import SpeechModel
from sayso.models.streaming import Context
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer
from sayso.training.greedy import Reader

SETS = ("commonvoice-v1/dev.jsonl", "librispeech-devclean-half/dev.jsonl")
BATCH_FRAMES = 12000  # padded feature frames per batch: bounds memory
Floats = NDArray[np.float32]


def dev_set(name: str, mels: int, limit: int | None, seed: int) -> tuple[list[str], list[Floats]] | None:
    """Normalised texts and features (T, mels) of a dev set of the corpora; None where it is absent (said on stderr)."""
    found, settings = recordings(name, limit, seed), FeatureConfig(mels=mels)
    if found is None:
        return None
    return [text for text, _ in found], [fbank(samples, settings) for _, samples in found]


def recordings(name: str, limit: int | None, seed: int) -> list[tuple[str, Floats]] | None:
    """Normalised texts and samples (n,) at 16 kHz of a dev set of the corpora; None where it is absent (said on
    stderr)."""
    chosen = examples(name, limit, seed)
    return None if chosen is None else [(normalise(e.text or ""), decode.read(e.audio)) for e in chosen]


def examples(name: str, limit: int | None, seed: int) -> list[Example] | None:
    """A dev set of the corpora, or a seeded sample; None where it is absent (said on stderr)."""
    manifest = corpora() / name
    if not manifest.exists():
        skip(name, f"not in {corpora()}; SAYSO_CORPORA names the folder of corpora")
        return None
    return _choose(read_examples(manifest), limit, seed)


def valid_recordings(limit: int) -> list[tuple[str, Floats]]:
    """Normalised texts and samples (n,) of about ``limit`` recordings of the validation parts of the training corpora
    that are here."""
    rows = []
    for name in TRAINING:
        valid = list(cut_valid(read_corpus(name, root=corpora()))[1]) if (corpora() / name).is_dir() else []
        rows += valid[:: max(1, len(valid) * len(TRAINING) // limit)]
    return [(normalise(cut.supervisions[0].text or ""), decode.read(audio_path(cut))) for cut in rows]


def encoded(
    model: SpeechModel, features: list[Floats], context: Context
) -> Iterator[tuple[list[int], Tensor, list[int]]]:
    """Indices of like lengths with their frames (B,T,D) and frame counts."""
    done = 0
    for group in _batches(features):
        sizes = [len(features[i]) for i in group]
        x = torch.zeros(len(group), max(sizes), features[group[0]].shape[1])
        for row, index in enumerate(group):
            x[row, : sizes[row]] = torch.from_numpy(features[index])
        out, frames = model.encoder(x, torch.tensor(sizes), context)
        yield group, out, frames.tolist()
        done += len(group)
        progress(done, len(features))


def ctc_texts(model: SpeechModel, tokenizer: Tokenizer, frames: Tensor, counts: list[int]) -> list[str]:
    """What greedy CTC reads in (B,T,D)."""
    greedy, log_probs = CtcGreedy(), model.ctc(frames).numpy()
    rows = [greedy.step(greedy.start(), log_probs[row, : count * model.ctc.rate]) for row, count in enumerate(counts)]
    return [tokenizer.decode(row.tokens) for row in rows]


@torch.no_grad()
def ctc_errors(
    model: SpeechModel, tokenizer: Tokenizer, dev: tuple[list[str], list[Floats]], context: Context
) -> list[EditCounts]:
    """Word errors of greedy CTC in each recording of ``dev``."""
    return greedy_edits(model, tokenizer, dev, context)


@torch.no_grad()
def greedy_edits(
    model: SpeechModel,
    tokenizer: Tokenizer,
    dev: tuple[list[str], list[Floats]],
    context: Context,
    by: Reader | None = None,
) -> list[EditCounts]:
    """Word errors in each recording of ``dev``, read greedily ``by`` CTC (None) or by someone else."""
    texts, features = dev
    heard = greedy_texts(model, tokenizer, features, context, by)
    return [word_errors(*pair) for pair in zip(texts, heard, strict=True)]


@torch.no_grad()
def greedy_texts(
    model: SpeechModel, tokenizer: Tokenizer, features: list[Floats], context: Context, by: Reader | None = None
) -> list[str]:
    """What is read greedily in each recording, features (T, mels), ``by`` CTC (None) or by someone else."""
    heard = [""] * len(features)
    for group, frames, counts in encoded(model, features, context):
        if by is None:
            found = ctc_texts(model, tokenizer, frames, counts)
        else:
            found = [tokenizer.decode(tokens) for tokens in by(model, frames, torch.tensor(counts))]
        for index, text in zip(group, found, strict=True):
            heard[index] = text
    return heard


def checkpoint(run: Path) -> Path:
    """The model of a run folder, or the folder itself where it is a checkpoint."""
    return run / "model" if (run / "model" / "model.json").is_file() else run


def _choose(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """All, or a seeded sample of ``limit``."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i] for i in sorted(np.random.default_rng(seed).choice(len(examples), limit, replace=False))]


def _batches(features: list[Floats]) -> Iterator[list[int]]:
    """Indices of like lengths, each batch within the bound."""
    group: list[int] = []
    for index in sorted(range(len(features)), key=lambda i: len(features[i])):
        if group and len(features[index]) * (len(group) + 1) > BATCH_FRAMES:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
