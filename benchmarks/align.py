"""Which phone is heard when, in every training recording: the teacher of the loss `phones`.

    pip install pocketsphinx==5.1.1        # brings its English model; in an environment of its own or in .venv-dev
    python benchmarks/align.py --out runs/phones --jobs 2
    python benchmarks/align.py --out runs/phones --manifest runs/asr/cuts.jsonl.gz      # runs/phones/asr.jsonl

Forced alignment of the training transcripts by PocketSphinx (Huggins-Daines et al. 2006), a file per corpus, as
`data/phones.py` reads it; about 40 times faster than the speech on one core. A sentence with a word that its dictionary
does not know is left out. A run that was stopped goes on. Nothing of the aligner enters a model or a bundle.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sayso.audio import decode
from sayso.core.errors import AudioError, UsageError
from sayso.data import manifest
from sayso.data.corpora import TRAINING, read_corpus
from sayso.data.manifest import audio_path

Task = tuple[str, str, str]  # id, audio, text
_decoder: Any = None


def main() -> None:
    """Align every corpus that is here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/phones"))
    parser.add_argument("--corpus", nargs="*", default=TRAINING)
    parser.add_argument("--manifest", nargs="+", type=Path, help="cuts of your own instead of the corpora")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="so many clips of each corpus")
    options = parser.parse_args()
    try:
        import pocketsphinx  # noqa: F401
    except ImportError:
        raise UsageError("aligning needs PocketSphinx: pip install pocketsphinx==5.1.1") from None
    options.out.mkdir(parents=True, exist_ok=True)
    sources = {path.parent.name: manifest.read(path) for path in options.manifest or ()}
    for name, cuts in sources.items() if sources else ((name, read_corpus(name)) for name in options.corpus):
        align(name, cuts, options.out / f"{name}.jsonl", options.jobs, options.limit)


def align(name: str, cuts: Iterable[Any], out: Path, jobs: int, limit: int | None) -> None:
    """Append what is missing to ``out``, a line per recording; ``phones`` is empty where nothing could be aligned."""
    known = {json.loads(line)["id"] for line in out.read_text().splitlines()} if out.exists() else set()
    tasks = [(cut.id, str(audio_path(cut)), cut.supervisions[0].text or "") for cut in islice(cuts, limit)]
    left = [task for task in tasks if task[0] not in known]
    done = aligned = 0
    with out.open("a") as file:
        for line in _aligned(left, jobs):
            file.write(json.dumps(line) + "\n")
            done, aligned = done + 1, aligned + bool(line["phones"])
            if done % 200 == 0 or done == len(left):
                file.flush()
                print(f"{name}: {done} of {len(left)}, {aligned} aligned", file=sys.stderr, flush=True)


def _aligned(tasks: Iterable[Task], jobs: int) -> Iterator[dict[str, Any]]:
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_align, tasks, chunksize=20)


def _align(task: Task) -> dict[str, Any]:
    name, audio, text = task
    words = re.sub(r"[^a-z' ]", " ", text.lower()).split()
    try:
        phones = _phones(audio, words)
    except (AudioError, RuntimeError):  # the aligner raises RuntimeError where no path fits
        phones = []
    return {"id": name, "phones": phones}


def _phones(audio: str, words: list[str]) -> list[tuple[str, int, int]]:
    """Two passes: words against the audio, then the phones inside them."""
    from pocketsphinx import Config, Decoder

    global _decoder
    if _decoder is None:
        _decoder = Decoder(Config(samprate=16000, loglevel="FATAL", bestpath=False))
    if not words or any(_decoder.lookup_word(word) is None for word in words):
        return []
    pcm = (decode.read(audio) * 32767).astype("<i2").tobytes()
    _decoder.set_align_text(" ".join(words))
    for inner in (False, True):
        if inner:
            _decoder.set_alignment()
        _decoder.start_utt()
        _decoder.process_raw(pcm, full_utt=True)
        _decoder.end_utt()
    return [(phone.name, phone.start, phone.duration) for phone in _decoder.get_alignment().phones()]


if __name__ == "__main__":
    main()
