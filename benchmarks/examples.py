"""Makes ``examples/``: recordings for a first try of the ``home`` domain, and what they mean.

    python benchmarks/examples.py [--out examples]

The voice is one that training never hears (role ``examples`` of ``data.synthesis``), one sentence is outside the
domain and one is spoken in noise, coloured noise at 10 dB because no corpus may enter the repository. The expected
meaning is read off the compiled grammar; a sentence that it reads in no way, or in two, is a mistake and stops the
script. Everything is seeded: running it again changes no file. Prints one JSON line per recording.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile  # type: ignore[import-untyped]
from _lines import ROOT, emit
from numpy.typing import NDArray

from sayso.audio.mix import mix
from sayso.core.automaton import Automaton
from sayso.core.files import write_text
from sayso.data.augment import coloured
from sayso.data.synthesis import ENGINES, Voice, voices
from sayso.data.synthesis.engine import finish
from sayso.nlu.automaton_io import match
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import sample
from sayso.text.tokenizer import Tokenizer, train_tokenizer

SAMPLE_RATE = 16000
SEED = 20
PINK = 1.0  # slope of the noise: as much power in every octave, like a room


@dataclass(frozen=True)
class Line:
    """A sentence to speak: ``meant`` False is outside the domain; ``snr_db`` None is clean."""

    text: str
    meant: bool = True
    snr_db: float | None = None

    @property
    def file(self) -> str:
        """The sentence as a file name."""
        return "-".join(self.text.split()) + ("" if self.snr_db is None else "-in-noise") + ".flac"


LINES = (
    Line("turn on the kitchen lights"),
    Line("dim the bedroom lights to thirty percent"),
    Line("set the thermostat in the living room to twenty one degrees"),
    Line("start a timer for five minutes and thirty seconds"),
    Line("lock the front door"),
    Line("add oat milk to the shopping list"),
    Line("set the volume to forty percent"),
    Line("will it be windy tomorrow"),
    Line("close the blinds in the office"),
    Line("activate the movie scene"),
    Line("the museum has a new painting of a ship", meant=False),
    Line("turn off the desk lamp please", snr_db=10.0),
)


def meaning(automaton: Automaton, tokenizer: Tokenizer, line: Line) -> dict[str, Any]:
    """The line of ``expected.jsonl``; ValueError where the grammar does not read the sentence in exactly one way."""
    found = match(automaton, tokenizer, line.text)
    read = {(m.intent, tuple((s.name, s.value) for s in slots)) for m, slots in found}
    if len(read) != int(line.meant):
        raise ValueError(f"'{line.text}' should have {int(line.meant)} meanings in the domain, has {sorted(read)}")
    intent, slots = next(iter(read)) if read else (None, ())
    return {"audio": line.file, "intent": intent, "slots": [{"name": n, "value": v} for n, v in slots]}


def speak(line: Line, voice: Voice, seed: int) -> NDArray[np.float32]:
    """(n,) at 16 kHz: the sentence, with its noise where it has some."""
    rng = np.random.default_rng([SEED, seed])
    samples = finish(ENGINES[voice.engine].speak(line.text, voice), rng)
    if line.snr_db is None:
        return samples
    return mix(samples, coloured(len(samples), rng, PINK), line.snr_db, "mean", rng)


def write_flac(path: Path, samples: NDArray[np.float32]) -> None:
    """16-bit FLAC, under a temporary name, then renamed."""
    data = io.BytesIO()
    soundfile.write(data, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(data.getvalue())
    os.replace(fresh, path)


def main() -> None:
    """Speak, derive what is expected, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=Path, default=ROOT / "domains" / "home.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "examples")
    arguments = parser.parse_args()
    domain = load_domain(arguments.domain)
    with tempfile.TemporaryDirectory() as folder:
        # any tokenizer will do: meaning is matched by letters
        tokenizer = train_tokenizer([u.text for u in sample(domain, 2000, seed=0)], Path(folder) / "tokenizer.model")
    automaton = compile_domain(domain, tokenizer)
    expected = [meaning(automaton, tokenizer, line) for line in LINES]
    voice = voices(role="examples", engines=["flite"])[0]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed, line in enumerate(LINES):
        samples = speak(line, voice, seed)
        write_flac(arguments.out / line.file, samples)
        emit("examples", line.file, "audio_s", len(samples) / SAMPLE_RATE)
    write_text(arguments.out / "expected.jsonl", (json.dumps(row) + "\n" for row in expected))


if __name__ == "__main__":
    main()
