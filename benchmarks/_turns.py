"""One of two runtimes that decode the same recordings in turns, in a process of its own; answers on stdout in JSON.

    python benchmarks/_turns.py sayso BUNDLE
    python benchmarks/_turns.py sherpa FOLDER

Started by ``sherpa.py`` with the Python of whatever is measured, hence nothing but the standard library at the top. A
line of JSON on stdin names a file of raw float32 samples at 16 kHz; the answer has the tokens that greedy search found
and the processor seconds of the front (samples to features) and of the rest (features to tokens). At the end of stdin
comes the high-water mark of the memory. All work is kept on one core and one thread.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _probe import one_core, peak_mb

Decode = Callable[[array, dict[str, Any]], tuple[list[Any], float, float]]  # tokens, front_s, rest_s


def sayso(bundle: str) -> Decode:
    """The floor: its features, encoder and greedy transducer; ``floor`` and ``max_symbols`` as asked."""
    import numpy as np

    from sayso.audio.features import fbank
    from sayso.decoding.greedy import TransducerGreedyConfig
    from sayso.runtime.engine import Chunk
    from sayso.runtime.load import load

    engine = load(bundle).engine

    def decode(samples: array, asked: dict[str, Any]) -> tuple[list[Any], float, float]:
        heard = np.frombuffer(samples, np.float32)
        decoder = TransducerGreedyConfig(max_symbols=asked["max_symbols"]).build(engine.predictor, engine.join)
        settings = engine.features.model_copy(update={"floor": asked["floor"]})
        began = time.process_time()
        features = fbank(heard, settings)
        middle = time.process_time()
        network, found = engine.start(), decoder.start()
        for start in range(0, len(features), engine.chunk):
            (chunk,) = engine.step([network], [Chunk(features=features[start : start + engine.chunk])])
            decoder.step(found, chunk.encoded)
        return found.tokens, middle - began, time.process_time() - middle

    return decode


def sherpa(folder: str) -> Decode:
    """sherpa-onnx with its own defaults, greedy, on the four files of ``folder``."""
    import sherpa_onnx

    place = Path(folder)
    files = {part: str(place / f"{part}.onnx") for part in ("encoder", "decoder", "joiner")}
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        **files, tokens=str(place / "tokens.txt"), num_threads=1, decoding_method="greedy_search"
    )

    def decode(samples: array, asked: dict[str, Any]) -> tuple[list[Any], float, float]:
        began = time.process_time()
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, samples.tolist())  # its binding takes a list fastest
        stream.input_finished()
        middle = time.process_time()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        found = recognizer.tokens(stream)
        return found, middle - began, time.process_time() - middle

    return decode


def main() -> None:
    """Answer until there is nothing more to decode."""
    one_core()
    kind, place = sys.argv[1:]
    decode = {"sayso": sayso, "sherpa": sherpa}[kind](place)
    for line in sys.stdin:
        asked = json.loads(line)
        samples = array("f", Path(asked["samples"]).read_bytes())
        tokens, front, rest = decode(samples, asked)
        print(json.dumps({"tokens": tokens, "front_s": front, "rest_s": rest}), flush=True)
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
