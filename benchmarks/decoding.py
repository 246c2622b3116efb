"""Speed and memory of every search on the floor, one core, one thread.

    sayso bench decoding        (or: python benchmarks/decoding.py [--bundle home] [--audio FILE ...] [--beam 4])

Every search hears the same recordings through the same bundle in chunks of the bundle's size; a language model (4-gram
over word pieces, estimated here from the sentences of ``--text``) goes into those whose case ends in ``+lm``. ``rtf``
is the whole floor: features, encoder, heads and the search. ``search_rtf`` is the search alone, joiner and predictor
runs included. Both are processor time, so that other work on the machine does not lengthen them; encoder and searches
take turns file by file. ``peak_mb`` is that of a process that runs nothing but this search. Ratios are to the greedy
search on the same encoder output. Intervals are 95% bootstraps over recordings. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _lines import ROOT, emit, progress, skip
from _probe import one_core, peak_mb
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.audio.features import fbank
from sayso.core.errors import DataError
from sayso.decoding.decoders import CTC_DECODERS, TRANSDUCER_DECODERS
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.ngram import NGramScorer
from sayso.evaluation.bootstrap import ratio
from sayso.runtime.engine import Chunk, Engine
from sayso.runtime.load import load
from sayso.text.normalise import normalise

BENCH, LM_ORDER, LM_WEIGHT = "decoding", 4, 0.3
GREEDY = {"ctc": "ctc_greedy", "transducer": "greedy"}
LIMITS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
Floats = NDArray[np.float32]


def searches(engine: Engine, beam: int, text: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Case name -> what it hears (ctc, transducer) and the search; language models where there is text."""
    lm: dict[str, Any] | None = None
    if text:
        model = estimate(
            [[engine.tokenizer.pieces[i] for i in engine.tokenizer.encode(line)] for line in text], LM_ORDER
        )
        lm = {"lm": (NGramScorer(model, engine.tokenizer.pieces), LM_WEIGHT)}
    found: dict[str, tuple[str, Any]] = {}
    tables: list[tuple[str, Any, tuple[Any, ...]]] = [("ctc", CTC_DECODERS, ())]
    if engine.has_transducer:
        tables.append(("transducer", TRANSDUCER_DECODERS, (engine.predictor, engine.join)))
    else:
        skip("transducer searches", "the bundle has no predictor and joiner")
    for side, table, parts in tables:
        for kind, config in table.items():
            limits = {} if kind in GREEDY.values() else {"beam": beam}
            name = f"{side}/{kind}" + (f"{beam}" if limits else "")
            found[name] = (side, config(**limits).build(*parts))
            if lm and limits:
                found[f"{name}+lm"] = (side, config(**limits).build(*parts, scorers=lm))
    return found


def hear(engine: Engine, samples: Floats) -> list[tuple[Floats, Floats]]:
    """The network's (log posteriors, encoder frames) of every chunk."""
    features, state, found = fbank(samples, engine.features), engine.start(), []
    for start in range(0, len(features), engine.chunk):
        (heard,) = engine.step([state], [Chunk(features=features[start : start + engine.chunk])])
        found.append((heard.log_probs, heard.encoded))
    return found


def search(decoder: Any, chunks: Sequence[Floats]) -> None:
    """One recording, partials and stable text asked for after every chunk as a stream does."""
    state = decoder.start()
    for chunk in chunks:
        decoder.step(state, chunk)
        decoder.partial(state)
        decoder.stable(state)
    decoder.finish(state)


def measure(arguments: argparse.Namespace) -> None:
    """Real-time factors of all searches, and peak memory of each in a process of its own."""
    engine = load(arguments.bundle).engine
    cases = searches(engine, arguments.beam, lines(arguments.text))
    audio: list[float] = []
    network: list[float] = []
    spent: dict[str, list[float]] = {name: [] for name in cases}
    hear(engine, decode.read(arguments.audio[0]))
    for done, file in enumerate(arguments.audio, 1):
        samples = decode.read(file)
        began = time.process_time()
        heard = hear(engine, samples)
        network.append(time.process_time() - began)
        audio.append(len(samples) / engine.manifest.sample_rate)
        for name, (side, decoder) in cases.items():
            chunks = [pair[side == "transducer"] for pair in heard]
            began = time.process_time()
            search(decoder, chunks)
            spent[name].append(time.process_time() - began)
        progress(done, len(arguments.audio))
    emit(BENCH, "network", "rtf", ratio(network, audio))
    for name, (side, _) in cases.items():
        base = f"{side}/{GREEDY[side]}"
        whole, first = (np.array(network) + np.array(spent[case]) for case in (name, base))
        emit(BENCH, name, "rtf", ratio(whole, audio))
        emit(BENCH, name, "search_rtf", ratio(spent[name], audio))
        if name != base:
            emit(BENCH, name, "rtf", ratio(whole, first), base)
            emit(BENCH, name, "search_rtf", ratio(spent[name], spent[base]), base)
        emit(BENCH, name, "peak_mb", memory(arguments, name))


def memory(arguments: argparse.Namespace, case: str) -> float | None:
    """Peak MB of a process that runs one search alone over the recordings."""
    command = [sys.executable, __file__, "--bundle", arguments.bundle, "--beam", str(arguments.beam), "--only", case]
    command += ["--audio", *map(str, arguments.audio)] + (["--text", str(arguments.text)] if arguments.text else [])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **LIMITS})
    if done.returncode != 0:
        skip(f"memory of {case}", (done.stderr.strip().splitlines() or ["no message"])[-1])
        return None
    return float(json.loads(done.stdout)["peak_mb"])


def alone(arguments: argparse.Namespace) -> None:
    """One search over all recordings; prints the peak of this process."""
    engine = load(arguments.bundle).engine
    text = lines(arguments.text) if arguments.only.endswith("+lm") else []
    side, decoder = searches(engine, arguments.beam, text)[arguments.only]
    for file in arguments.audio:
        search(decoder, [pair[side == "transducer"] for pair in hear(engine, decode.read(file))])
    print(json.dumps({"peak_mb": peak_mb()}))


def lines(path: Path | None) -> list[str]:
    """Sentences of a text file; none without one."""
    if path is None:
        return []
    try:
        return [text for line in path.read_text(encoding="utf-8").splitlines() if (text := normalise(line))]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--audio", type=Path, nargs="*", help="recordings; default: examples/*.flac")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--text", type=Path, help="sentences for a language model, one a line")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.audio = arguments.audio or sorted((ROOT / "examples").glob("*.flac"))
    if not arguments.audio:
        parser.error("no recordings: name some with --audio, or make examples/ with benchmarks/examples.py")
    one_core()
    if arguments.only:
        alone(arguments)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
