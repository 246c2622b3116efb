"""The same weights in sherpa-onnx and on the floor: do they hear the same, and which is faster.

    python benchmarks/sherpa.py --sherpa-python PY [--model models/base] [--clips 100] [--audio FILE ...]

A checkpoint is exported twice in fp32, as a bundle and in the form that sherpa-onnx loads (``export/sherpa.py``); both
decode the same recordings greedily with at most one label a frame, clip by clip in turns (who begins alternates), each
in a process of its own on one core with one thread. Default recordings: real ``valid`` speech of the training corpora,
split as training splits it. Silence completes the last chunk of each, since sherpa-onnx decodes whole chunks only, and
the floor is given the mirrored 7.5 ms that sherpa-onnx hears first and its higher feature floor. ``identical_tokens``
is the share of clips with equal tokens; on stderr stand those that differ. Further cases say what the floor's own
settings change in those tokens: its lower feature floor (``own_floor``), up to three labels a frame (``three_labels``).
``rtf`` is processor time from samples to tokens, ``front_rtf`` the features alone (for sherpa-onnx with the hand-over
of samples to its binding), ``network_rtf`` the rest. Ratios are of Sayso to sherpa-onnx. Where a process happens to
have its weights in memory moves its speed by some percent, so both are begun anew every ``--renew`` recordings, and
intervals of times are 95% bootstraps over these pairs of processes; those of shares are over recordings. ``peak_mb`` is
the most that a process took. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from _lines import ROOT, corpora, emit, progress
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.core.errors import DataError
from sayso.data.corpora import TRAINING, read_corpus
from sayso.data.manifest import audio_path
from sayso.data.splits import cut_valid
from sayso.evaluation.bootstrap import ratio
from sayso.export.bundle import ExportConfig, export_bundle
from sayso.export.sherpa import MIRRORED, QUIET, export_sherpa
from sayso.models.assembly import load_checkpoint
from sayso.text.tokenizer import Tokenizer

BENCH, SHERPA, WORKER = "sherpa", "sherpa-onnx", Path(__file__).with_name("_turns.py")
LIMITS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CHUNK = 32 * 160  # samples of a chunk of four encoder frames
WINDOW, SHIFT = 400, 160
SAME = {"floor": QUIET, "max_symbols": 1}
OWN = {"own_floor": {"floor": 2.0, "max_symbols": 1}, "three_labels": {"floor": QUIET, "max_symbols": 3}}
Floats = NDArray[np.float32]


class Worker:
    """A process that decodes what it is asked to."""

    def __init__(self, python: str, kind: str, place: Path) -> None:
        command = [python, str(WORKER), kind, str(place)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **LIMITS})
        self._kind = kind

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()

    def ask(self, samples: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """``tokens``, ``front_s`` and ``rest_s`` of a file of raw samples."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"samples": str(samples), **settings}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def peak_mb(self) -> float:
        """Ends the process; its high-water mark."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return float(self._answer()["peak_mb"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DataError(f"{self._kind}: its process ended with code {self._process.wait()}; see above for why")
        answer: dict[str, Any] = json.loads(line)
        return answer


def export(model: Path, out: Path) -> Tokenizer:
    """``out/bundle`` and ``out/sherpa``, made where they are not there yet."""
    network, tokenizer = load_checkpoint(model)
    size = {"chunk_frames": CHUNK // SHIFT // 8, "left_frames": network.config.encoder.left_frames}
    if not (out / "bundle").exists():
        export_bundle(network, tokenizer, None, out / "bundle", ExportConfig(name=model.name, int8=False, **size))
    if not (out / "sherpa").exists():
        export_sherpa(network, tokenizer, out / "sherpa", **size)
    return tokenizer


def valid_speech(count: int, seed: int) -> list[str]:
    """``count`` recordings (all, where there are fewer) of the validation parts of the training corpora."""
    present = [name for name in TRAINING if (corpora() / name).is_dir()]
    cuts = [cut for name in present for cut in cut_valid(read_corpus(name, root=corpora()))[1]]
    chosen = np.random.default_rng(seed).permutation(len(cuts))[:count]
    return [audio_path(cuts[i]) for i in sorted(chosen.tolist())]


def both_ways(samples: Floats) -> tuple[Floats, Floats]:
    """The samples for the floor and for sherpa-onnx that give both the same features, whole chunks of them."""
    chunks = max(1, -(-(len(samples) + MIRRORED - WINDOW + SHIFT) // CHUNK))
    theirs = np.zeros(CHUNK * chunks - SHIFT + WINDOW - MIRRORED, np.float32)
    theirs[: len(samples)] = samples
    return np.concatenate([theirs[:MIRRORED][::-1], theirs]), theirs


def measure(arguments: argparse.Namespace, exports: Path, folder: Path, tokenizer: Tokenizer) -> None:
    """All figures; a fresh pair of processes for every few recordings."""
    ids = {piece.replace("▁", " ", 1): i for i, piece in enumerate(tokenizer.pieces)}
    same: dict[str, list[bool]] = {name: [] for name in ("same", *OWN)}
    times: dict[str, list[tuple[float, float]]] = {"sayso": [], SHERPA: []}
    peaks: dict[str, list[float]] = {"sayso": [], SHERPA: []}
    audio: list[float] = []
    for first in range(0, len(arguments.audio), arguments.renew):
        files = arguments.audio[first : first + arguments.renew]
        with ExitStack() as stack:
            ours = stack.enter_context(Worker(sys.executable, "sayso", exports / "bundle"))
            theirs = stack.enter_context(Worker(arguments.sherpa_python, "sherpa", exports / "sherpa"))
            spent, seconds = together(files, (ours, theirs), folder, same, lambda names: [ids[name] for name in names])
            audio.append(seconds)
            for name, worker in (("sayso", ours), (SHERPA, theirs)):
                times[name].append(spent[name])
                peaks[name].append(worker.peak_mb())
        progress(first + len(files), len(arguments.audio))
    report(same, times, audio, peaks)


def together(
    files: list[str],
    workers: tuple[Worker, Worker],
    folder: Path,
    same: dict[str, list[bool]],
    to_ids: Callable[[list[str]], list[int]],
) -> tuple[dict[str, tuple[float, float]], float]:
    """Front and other processor seconds of both over ``files``, and seconds of audio; ``same`` grows by each file."""
    places = (folder / "ours.f32", folder / "theirs.f32")
    sums, seconds = {"sayso": np.zeros(2), SHERPA: np.zeros(2)}, 0.0
    for done, file in enumerate([files[0], *files]):
        for samples, place in zip(both_ways(decode.read(file)), places, strict=True):
            samples.tofile(place)
        turns = list(zip(sums, workers, places, strict=True))[:: 1 if done % 2 else -1]
        heard = {name: worker.ask(place, SAME) for name, worker, place in turns}
        if not done:
            continue  # the first time warms up
        seconds += places[1].stat().st_size / 4 / 16000
        for name, answer in heard.items():
            sums[name] += answer["front_s"], answer["rest_s"]
        theirs, found = to_ids(heard[SHERPA]["tokens"]), {"same": heard["sayso"]["tokens"]}
        found |= {name: workers[0].ask(places[0], settings)["tokens"] for name, settings in OWN.items()}
        for name, tokens in found.items():
            same[name].append(tokens == theirs)
        if found["same"] != theirs:
            print(f"{file}: tokens {found['same']} here, {theirs} in {SHERPA}", file=sys.stderr)
    return {name: (float(pair[0]), float(pair[1])) for name, pair in sums.items()}, seconds


def report(
    same: dict[str, list[bool]],
    times: dict[str, list[tuple[float, float]]],
    audio: list[float],
    peaks: dict[str, list[float]],
) -> None:
    """Shares of recordings; times and memory, whose units are pairs of processes."""
    for name, shares in same.items():
        case = "sayso" if name == "same" else f"sayso/{name}"
        emit(BENCH, case, "identical_tokens", ratio(shares, [1] * len(shares)), SHERPA)
    for metric, part in (("rtf", slice(0, 2)), ("front_rtf", slice(0, 1)), ("network_rtf", slice(1, 2))):
        sums = {name: np.array(rows)[:, part].sum(1) for name, rows in times.items()}
        for name, values in sums.items():
            emit(BENCH, name, metric, ratio(values, audio))
        emit(BENCH, "sayso", metric, ratio(sums["sayso"], sums[SHERPA]), SHERPA)
    for name, values in peaks.items():
        emit(BENCH, name, "peak_mb", max(values))
    emit(BENCH, "sayso", "peak_mb", ratio(peaks["sayso"], peaks[SHERPA]), SHERPA)


def main() -> None:
    """Export, decode, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--sherpa-python", default=sys.executable, metavar="PY", help="a Python with sherpa_onnx")
    parser.add_argument("--clips", type=int, default=100, help="of valid speech, where no --audio is named")
    parser.add_argument("--audio", nargs="*", help="recordings instead")
    parser.add_argument("--exports", type=Path, help="keep both exports in this folder, or take them from it")
    parser.add_argument("--renew", type=int, default=10, help="recordings that a pair of processes decodes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.audio = arguments.audio or valid_speech(arguments.clips, arguments.seed)
    if not arguments.audio:
        parser.error("no recordings: name some with --audio, or set SAYSO_CORPORA")
    with tempfile.TemporaryDirectory() as folder:
        exports = arguments.exports or Path(folder)
        measure(arguments, exports, Path(folder), export(arguments.model, exports))


if __name__ == "__main__":
    main()
