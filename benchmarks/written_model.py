"""A network that writes "5:45" itself, beside one that hears words and rules that write them.

    sayso data synth recipes/written/numbers.yaml --out runs/written -n 3000 --voices-each 1 \\
        --engine espeak-ng --engine flite
    sayso data synth recipes/written/numbers.yaml --out runs/written-known -n 600 --voices-each 1 --seed 1 \\
        --engine espeak-ng --engine flite
    python benchmarks/align.py --manifest runs/written/cuts.jsonl.gz --out runs/phones
    sayso train recipes/written/spoken.toml
    sayso train recipes/written/written.toml
    python benchmarks/written_model.py

The two recipes differ in `data.written` alone. Recordings whose words occur in training are left out. Both networks
are read by greedy CTC in the context of a stream. What is right is what the rules make of the true words, so `rules on
the true words` must give 1 and is no merit of theirs (benchmarks/written.py has that); `no rules` shows what they are
worth. `exact_text` is the share of recordings written exactly so; `exact_numbers`, of those with a number, time, price
or date, the share in which all that holds digits is, by kind too. The network's figures are also given as ratios to
those of the rules on the same recordings. `numbers_made_up` is the share of sentences without any in which digits are
written. Intervals are 95% bootstraps over recordings (Bisani & Ney 2004). One JSON line per figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _lines import emit
from _wer import checkpoint, greedy_texts

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import DataError
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.examples import read_examples
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import load_checkpoint
from sayso.text.display import display
from sayso.text.normalise import normalise
from sayso.text.written import RULES, Written

BENCH = "written model"
RULED, NETWORK, CONTROL, BARE = "heard, then rules", "written by the network", "rules on the true words", "no rules"


class Unwritten:
    """A writer that leaves all words as they were said."""

    def write(self, text: str) -> Written:
        """No spans."""
        return Written(words=tuple(text.split()))


def figures(text: str) -> tuple[str, ...]:
    """What holds digits in a written text, times with the half of the day behind them."""
    words = text.split()
    return tuple(
        f"{word} {after}" if after in ("am", "pm") else word
        for word, after in zip(words, [*words[1:], ""], strict=False)  # of nothing heard there is no word
        if any(char.isnumeric() for char in word)
    )


def unheard(recordings: Path, training: Path) -> list[tuple[str, str]]:
    """Audio and true words of the recordings that say what no training clip does; ``DataError`` for none."""
    known = {normalise(example.text or "") for example in read_examples(training)}
    found = [(str(e.audio), normalise(e.text or "")) for e in read_examples(recordings)]
    left = [(audio, text) for audio, text in found if text and text not in known]
    if not left:
        raise DataError(f"{recordings}: every sentence occurs in {training}; synthesise with another --seed")
    return left


def heard(run: Path, recordings: Sequence[tuple[str, str]]) -> list[str]:
    """What greedy CTC of a run reads in each recording."""
    model, tokenizer = load_checkpoint(checkpoint(run))
    settings = FeatureConfig(mels=model.config.encoder.mels)
    features = [fbank(decode.read(audio), settings) for audio, _ in recordings]
    return greedy_texts(model, tokenizer, features, model.encoder.default_context)


def compare(said: Sequence[str], spoken: Sequence[str], written: Sequence[str]) -> None:
    """Print all figures: true words, words as one network heard them, and texts as the other wrote them."""
    truth = [display(text) for text in said]
    systems = {
        RULED: [display(text) for text in spoken],
        NETWORK: list(written),
        CONTROL: [display(text) for text in said],
        BARE: [display(text, Unwritten()) for text in spoken],
    }
    kinds: dict[str, list[int]] = {"": [at for at, text in enumerate(truth) if figures(text)]}
    for at in kinds[""]:
        for kind in {span.kind for span in RULES.write(said[at]).spans}:
            kinds.setdefault(f"/{kind}", []).append(at)
    plain = sorted({*range(len(truth))} - {*kinds[""]})
    emit(BENCH, "recordings", "count", len(truth))
    for kind, places in sorted(kinds.items()):
        emit(BENCH, f"recordings with numbers{kind}", "count", len(places))
    edits = [word_errors(*pair) for pair in zip(said, spoken, strict=True)]
    emit(BENCH, RULED, "wer", ratio([e.errors for e in edits], [e.length for e in edits]))

    def judge(metric: str, places: list[int], right: Callable[[str, str], bool], kind: str = "") -> None:
        marks = {name: [float(right(texts[at], truth[at])) for at in places] for name, texts in systems.items()}
        for name, row in marks.items():
            emit(BENCH, name + kind, metric, ratio(row, [1.0] * len(row)))
        emit(BENCH, NETWORK + kind, metric, ratio(marks[NETWORK], marks[RULED]), RULED)

    judge("exact_text", [*range(len(truth))], lambda text, true: text == true)
    for kind, places in sorted(kinds.items()):
        judge("exact_numbers", places, lambda text, true: figures(text) == figures(true), kind)
    judge("numbers_made_up", plain, lambda text, true: bool(figures(text)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the recordings with both networks and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spoken", type=Path, default=Path("runs/written-by-rules"), help="run that learnt words")
    parser.add_argument("--written", type=Path, default=Path("runs/written-by-network"), help="run that learnt so")
    parser.add_argument("--data", type=Path, default=Path("runs/written-known"), help="recordings with their words")
    parser.add_argument("--train", type=Path, default=Path("runs/written"), help="what both were trained on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print N references and readings on stderr")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recordings = unheard(options.data, options.train)
    said = [text for _, text in recordings]
    spoken, written = (heard(run, recordings) for run in (options.spoken, options.written))
    for row in range(min(options.show, len(said))):
        shown = (display(said[row]), display(spoken[row]), written[row])
        print("true    {}\nrules   {}\nnetwork {}\n".format(*shown), file=sys.stderr)
    compare(said, spoken, written)


if __name__ == "__main__":
    main()
