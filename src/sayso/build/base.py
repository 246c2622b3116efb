"""The base checkpoint made ready to build from: fp16 weights, and what only real speech can teach a calibration.

A build calibrates on synthetic speech; the base adds one token temperature (Guo et al. 2017) and one rejection
offset, both fitted on ``valid`` speech of real people. The offset is the margin over the filler that ordinary talk
rarely reaches in a grammar it has nothing to do with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sayso.audio.decode import read
from sayso.audio.features import fbank
from sayso.core.errors import AudioError, DataError
from sayso.core.files import whole
from sayso.data.corpora import CORPORA, corpora_root, read_corpus
from sayso.data.manifest import audio_path
from sayso.data.splits import cut_valid
from sayso.decoding.graph import GraphSearch
from sayso.losses.alignment import ctc_emission_frames
from sayso.models.assembly import CtcHead, SpeechModel, load_checkpoint, save_checkpoint
from sayso.nlu.calibration import Calibration, fit_offset, fit_temperature, tempered
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.text.lexicon import Lexicon
from sayso.text.normalise import normalise
from sayso.text.tokenizer import UNKNOWN

Floats = NDArray[np.float32]


def release_base(
    checkpoint: Path, out: Path, domain: Path, *, clips: int = 240, false_accept: float = 0.05
) -> Calibration:
    """Write ``checkpoint`` to ``out`` in fp16 with ``calibration.json`` fitted on ``clips`` real ``valid`` recordings.

    ``domain`` is any grammar: its margin on talk that is not in it gives the offset. ``DataError`` without corpora.
    """
    model, tokenizer = load_checkpoint(checkpoint)
    spelled = _posteriors(model, model.ctc, tokenizer.encode, clips)
    start = Calibration(temperature=_temperature(spelled))
    if model.phones is None:
        search = GraphSearch(compile_domain(load_domain(domain), tokenizer))
        sounds = [start.tempered(log_probs) for log_probs, _ in spelled]
    else:
        lexicon = Lexicon.load()
        spoken = _posteriors(model, model.phones, lexicon.phones, clips)
        start = start.model_copy(update={"phone_temperature": _temperature(spoken)})
        search = GraphSearch(compile_domain(load_domain(domain), tokenizer, lexicon))
        sounds = [tempered(log_probs, start.phone_temperature) for log_probs, _ in spoken]
    margins = [search.margin(search.step(search.start(), log_probs), False) for log_probs in sounds]
    calibration = start.model_copy(update={"offset": fit_offset(margins, false_accept=false_accept)})
    save_checkpoint(model, tokenizer, out, half=True)
    with whole(out / "calibration.json") as fresh:
        fresh.write_text(calibration.to_json())
    return calibration


def _temperature(heard: list[tuple[Floats, list[int]]]) -> float:
    """Of the rows at which the best alignments first emit their labels."""
    rows = [_emissions(log_probs, labels) for log_probs, labels in heard if labels]
    return fit_temperature(np.concatenate(rows), np.concatenate([np.asarray(said) for _, said in heard if said]))


@torch.no_grad()
def _posteriors(
    model: SpeechModel, head: CtcHead, labels: Callable[[str], list[int]], clips: int
) -> list[tuple[Floats, list[int]]]:
    """Log-probabilities (T, V) of a CTC head in the streaming context and ``labels`` of the transcripts of about
    ``clips`` valid recordings."""
    root = corpora_root()
    found: list[tuple[Floats, list[int]]] = []
    present = [name for name in CORPORA if (root / name / "train.jsonl").is_file()]
    for name in present:
        valid = list(cut_valid(read_corpus(name))[1])
        for cut in valid[: clips // len(present)]:
            said = labels(normalise(cut.supervisions[0].text or ""))
            try:
                features = torch.from_numpy(fbank(read(audio_path(cut))))
            except AudioError:
                continue
            if (head is model.phones or UNKNOWN not in said) and len(features) >= 32:
                encoded = model.encoder(features[None], torch.tensor([len(features)]))[0]
                found.append((head(encoded)[0].numpy(), said))
    if not found:
        raise DataError(f"{root}: no training speech here to calibrate the base on; set SAYSO_CORPORA")
    return found


def _emissions(log_probs: Floats, said: list[int]) -> Floats:
    """The rows (U, V) at which the best alignment first emits each label."""
    frames, count = torch.tensor([len(log_probs)]), torch.tensor([len(said)])
    at = ctc_emission_frames(torch.from_numpy(log_probs)[None], torch.tensor([said]), frames, count)
    rows: Floats = log_probs[at[0].numpy()]
    return rows
