"""A service under paced streams of real speech: how long people wait, and what each stream costs.

    python benchmarks/serve.py [--bundle B] [--streams 1 2 4 8 16] [--seconds 20] [--engines 1] [--audio FILE ...]

Every stream is a client of its own that sends packets of ``--packet-ms`` at the pace of a microphone, one recording
after another (``_paced.py``: safe from coordinated omission), and knows where the speech in each ends (the last word of
the in-process result). Streams begin spread over two seconds.
Per number of streams:

- ``intent_ms``: from the end message's due time, which is the endpoint decision here, to the final result of an
  utterance with an intent, p50, p95, p99; ``speech_intent_ms``: the same from the end of speech;
- ``final_ms``: as ``intent_ms``, over all utterances;
- ``chunk_ms``: from the due time of the packet that held the last sample which a partial needed, to that partial;
- ``cpu_per_stream``: processor seconds of the service per second and stream; ``mb_per_stream``: growth of the resident
  memory of the service and its engines over the idle service, per stream;
- ``refused``: streams that did not fit (503), ``refusal_ms``: how long after they were due they were told; ``failed``:
  utterances that got no result; ``wrong``: results that differ from those in process (times taken aside).

``refusal_ms`` without a number of streams: the same where nobody speaks and all places are held. ``--sherpa DIR`` runs
``sherpa-onnx-online-websocket-server`` of the package ``sherpa-onnx-bin`` on the model that ``sayso export --format
sherpa`` wrote there, in the same run: the final text stands in for the intent, which it does not know. One JSON line
per figure on stdout, the table on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _lines import ROOT, emit, skip
from _paced import Clip, Ours, Process, Speak, Theirs, Waits, clips, load

import sayso
from sayso.serving.client import Client, ServiceError

BENCH = "serve"
OURS, SHERPA = "sayso", "sherpa-onnx"
SHARES = (50, 95, 99)
Row = dict[str, float | None]


def measure(
    case: str, server: Process, speak: Speak, found: list[Clip], arguments: argparse.Namespace
) -> dict[str, Row]:
    """All numbers of streams against one server: the figures of each, which are printed too."""
    rows: dict[str, Row] = {}
    packet_s = arguments.packet_ms / 1000
    asyncio.run(load(speak, found, 1, 3.0, packet_s))  # what is loaded or grown by the first of all
    idle = server.memory_mb()
    for streams in arguments.streams:
        busy, began = server.cpu_s(), time.monotonic()
        peak, stop = [idle], asyncio.Event()

        async def run(streams: int = streams, peak: list[float] = peak, stop: asyncio.Event = stop) -> Waits:
            async def watch() -> None:
                while not stop.is_set():
                    peak.append(server.memory_mb())
                    await asyncio.sleep(0.5)

            watching = asyncio.create_task(watch())
            waits = await load(speak, found, streams, arguments.seconds, packet_s)
            stop.set()
            await watching
            return waits

        waits = asyncio.run(run())
        spent = server.cpu_s() - busy
        row = {"streams": float(streams), "utterances": float(len(waits.final))}
        for metric in ("chunk", "intent", "speech_intent", "final", "refusal"):
            values = getattr(waits, metric)
            for share in SHARES:
                row[f"{metric}_ms_p{share}"] = float(np.percentile(values, share)) * 1000 if values else None
        row["cpu_per_stream"] = spent / (time.monotonic() - began) / streams
        row["mb_per_stream"] = (max(peak) - idle) / streams
        row |= {"refused": len(waits.refusal), "failed": waits.failed, "wrong": waits.wrong}
        rows[f"{case}/{streams}"] = row
        for metric, value in row.items():
            emit(BENCH, f"{case}/{streams}", metric, value)
    return rows


def table(rows: dict[str, Row]) -> str:
    """The figures that matter as Markdown; latencies are p50 / p95 / p99 in milliseconds."""
    lines = [
        "| server, streams | utterances | chunk | endpoint to intent | end of speech to intent | CPU a stream | "
        "MB a stream | refused, failed, wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():

        def shown(metric: str, row: Row = row) -> str:
            values = [row[f"{metric}_ms_p{share}"] for share in SHARES]
            return " / ".join("-" if value is None else f"{value:.0f}" for value in values)

        counts = ", ".join(f"{row[metric]:.0f}" for metric in ("refused", "failed", "wrong"))
        waits = [shown(metric) for metric in ("chunk", "intent" if row["intent_ms_p50"] else "final", "speech_intent")]
        cells = [
            name,
            f"{row['utterances']:.0f}",
            *waits,
            f"{row['cpu_per_stream']:.3f}",
            f"{row['mb_per_stream']:.2f}",
        ]
        lines.append(f"| {' | '.join([*cells, counts])} |")
    return "\n".join(lines)


async def refusal(url: str, most: int) -> float | None:
    """Seconds until the stream that does not fit is told so; None where all of ``most`` fit."""
    held, client = [], Client(url)
    try:
        for _ in range(most):
            began = time.monotonic()
            context = client.connect()
            try:
                await context.__aenter__()
            except ServiceError:
                return time.monotonic() - began
            held.append(context)
    finally:
        for context in held:
            await context.__aexit__(None, None, None)
    return None


def ours(arguments: argparse.Namespace, found: list[Clip], folder: Path) -> dict[str, Row]:
    """Sayso's service."""
    admission = "fixed" if arguments.fixed else "measured"
    most = max(64, *arguments.streams)
    (folder / "serve.toml").write_text(
        f'engines = {arguments.engines}\n[limits]\nadmission = "{admission}"\nstreams = {most}\n'
        f'connections_per_key = {2 * most}\n[telemetry]\nlog = "off"\n'
    )
    command = [sys.executable, "-c", "import sys; from sayso.cli.main import main; sys.exit(main())", "serve"]
    command += ["--bundle", f"it={arguments.bundle}", "--config", str(folder / "serve.toml"), "--port", "0"]
    began = time.monotonic()
    server = Process(command, lambda said: "/metrics" in said, folder / "log")
    try:
        emit(BENCH, OURS, "ready_s", time.monotonic() - began)
        url = next(line for line in server.said().splitlines() if line.startswith("http")).rsplit("/v1", 1)[0]
        emit(BENCH, OURS, "idle_mb", server.memory_mb())
        rows = measure(OURS, server, Ours(url).speak, found, arguments)
        waited = asyncio.run(refusal(url, 2 * most))
        emit(BENCH, OURS, "refusal_ms", None if waited is None else waited * 1000)
        return rows
    finally:
        server.stop()


def theirs(arguments: argparse.Namespace, found: list[Clip], folder: Path) -> dict[str, Row]:
    """sherpa-onnx's server on the exported model."""
    program = shutil.which("sherpa-onnx-online-websocket-server")
    if arguments.sherpa is None or program is None:
        skip(SHERPA, "give --sherpa DIR (sayso export --format sherpa), and have sherpa-onnx-bin's programs in PATH")
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = {part: next(iter(sorted(arguments.sherpa.glob(f"{part}*.onnx"))), None) for part in
             ("encoder", "decoder", "joiner")}  # fmt: skip
    command = [program, f"--port={port}", f"--tokens={arguments.sherpa / 'tokens.txt'}", "--num-work-threads=1"]
    command += [f"--{part}={file}" for part, file in files.items()]
    server = Process(command, lambda said: _answers(port), folder / "sherpa.log")
    try:
        emit(BENCH, SHERPA, "idle_mb", server.memory_mb())
        return measure(SHERPA, server, Theirs(f"ws://127.0.0.1:{port}").speak, found, arguments)
    finally:
        server.stop()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--audio", type=Path, nargs="*", help="recordings; default: examples/*.flac")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=20.0, help="of load for each number of streams")
    parser.add_argument("--packet-ms", type=int, default=100)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--fixed", action="store_true", help="let all streams in, whatever the headroom")
    parser.add_argument("--sherpa", type=Path, metavar="DIR", help="a model that sherpa-onnx can stream")
    arguments = parser.parse_args()
    files = arguments.audio or sorted((ROOT / "examples").glob("*.flac"))
    found = clips(sayso.load(arguments.bundle), files)
    emit(BENCH, "machine", "cores", os.cpu_count())
    emit(BENCH, "machine", "busy_before", os.getloadavg()[0])  # processes that wanted a core: figures need it near 0
    with tempfile.TemporaryDirectory() as folder:
        rows = ours(arguments, found, Path(folder)) | theirs(arguments, found, Path(folder))
    print(table(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
