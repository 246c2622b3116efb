"""How far the word times of a forced alignment are from where a synthesiser put the words.

    python benchmarks/word_times.py [--model RUN_OR_CHECKPOINT] [--domain domains/home.yaml] [--sentences 100]

flite's held-out voice `rms` says sentences of the domain and tells where each of its phones ends (`-psdur`). A word's
phones are those that flite gives it alone; sentences where the words' phones are not those of the sentence are left
out (`sentences` is how many are left). The network (`--model`, default `models/base`) aligns the known text by CTC in
its streaming context (`decoding/align.py`). `start_ms` and `end_ms` are median absolute errors, `start_bias_ms` and
`end_bias_ms` medians of alignment less truth; 95% bootstraps over words. `moved` is the same with the delay that a
build found for the network (`--calibration BUNDLE/calibration.json`). `even` is the control: told where speech begins
and ends, it spreads the words over it by their number of letters. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, emit, progress, skip
from _wer import checkpoint
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import DataError
from sayso.decoding.align import align_words
from sayso.evaluation.bootstrap import general
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.subsampling import FACTOR
from sayso.nlu.calibration import Calibration
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import sample
from sayso.text.tokenizer import Tokenizer

BENCH, PAUSE = "word_times", "pau"
Times = NDArray[np.float64]


def phones(text: str, voice: str, wav: Path) -> list[tuple[str, float, float]]:
    """(phone, start, end) in seconds of what flite writes to ``wav``."""
    command = ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(wav)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    ends = [(name, float(end)) for name, _, end in (item.rpartition(":") for item in said)]
    starts = [0.0, *(end for _, end in ends)]
    return [(name, start, end) for (name, end), start in zip(ends, starts, strict=False)]


@functools.lru_cache(maxsize=4096)
def pronunciation(word: str, voice: str) -> tuple[str, ...]:
    """The phones of a word alone."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(name for name, _, _ in phones(word, voice, Path(folder) / "word.wav") if name != PAUSE)


def truth(text: str, voice: str, wav: Path) -> Times | None:
    """(words, 2): start and end of each; None where the words' phones are not the sentence's."""
    spoken = [item for item in phones(text, voice, wav) if item[0] != PAUSE]
    words = [pronunciation(word, voice) for word in text.split()]
    if [name for word in words for name in word] != [name for name, _, _ in spoken]:
        return None
    last = np.cumsum([len(word) for word in words])
    return np.array([(spoken[end - len(word)][1], spoken[end - 1][2]) for word, end in zip(words, last, strict=True)])


def even(text: str, whole: Times) -> Times:
    """Words by their letters over the same speech."""
    letters = np.cumsum([0, *(len(word) for word in text.split())]) / len(text.replace(" ", ""))
    marks = whole[0, 0] + letters * (whole[-1, 1] - whole[0, 0])
    return np.stack([marks[:-1], marks[1:]], 1)


@torch.no_grad()
def aligned(model: SpeechModel, tokenizer: Tokenizer, text: str, wav: Path, delays: Sequence[float]) -> list[Times]:
    """(words, 2) by the network, for each of the delays."""
    features = torch.from_numpy(fbank(decode.read(wav), FeatureConfig(mels=model.config.encoder.mels)))
    encoded, _ = model.encoder(features[None], torch.tensor([len(features)]), model.encoder.default_context)
    log_probs, tokens = model.ctc(encoded)[0].numpy(), tokenizer.encode(text)
    frame_s = FACTOR / 100 / model.ctc.rate
    found = [align_words(log_probs, tokens, tokenizer.pieces, frame_s=frame_s, delay_s=d) for d in delays]
    return [np.array([(word.start, word.end) for word in words]) for words in found]


def report(case: str, errors: Times) -> None:
    """Medians of (words, 2) errors in seconds."""
    for column, side in enumerate(("start", "end")):
        values = 1000 * errors[:, column]
        emit(
            BENCH, case, f"{side}_ms", general(lambda index, v=values: float(np.median(np.abs(v[index]))), len(values))
        )
        emit(BENCH, case, f"{side}_bias_ms", general(lambda index, v=values: float(np.median(v[index])), len(values)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak, align, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a run folder or a checkpoint")
    parser.add_argument("--calibration", type=Path, help="a calibration.json whose delay to take off")
    parser.add_argument("--domain", type=Path, default=ROOT / "domains" / "home.yaml")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--voice", default="rms", help="a voice of flite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if shutil.which("flite") is None:
        skip(BENCH, "the program flite is not installed: apt install flite")
        return
    model, tokenizer = load_checkpoint(checkpoint(options.model))
    model.eval()
    delays = {"aligned": 0.0}
    if options.calibration is not None:
        delays["moved"] = Calibration.from_json(options.calibration.read_text()).delay_s
    errors: dict[str, list[Times]] = {case: [] for case in (*delays, "even")}
    sentences = sample(load_domain(options.domain), options.sentences, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        for done, utterance in enumerate(sentences, 1):
            progress(done, len(sentences))
            known = truth(utterance.text, options.voice, wav)
            try:
                found = [] if known is None else aligned(model, tokenizer, utterance.text, wav, list(delays.values()))
            except DataError:  # more tokens than frames
                continue
            if known is None or len(found[0]) != len(known):
                continue
            for case, times in zip(errors, (*found, even(utterance.text, known)), strict=True):
                errors[case].append(times - known)
    emit(BENCH, "aligned", "sentences", float(len(errors["even"])))
    for case, parts in errors.items():
        if parts:
            report(case, np.concatenate(parts))


if __name__ == "__main__":
    main()
