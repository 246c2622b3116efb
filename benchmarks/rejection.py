"""Speech that is no command: how often a bundle answers to it, and how well its confidence tells the two apart.

    python benchmarks/rejection.py --bundle B [--positives FILE] [--limit 100]

Negatives are the dev speech of ``commonvoice-v1`` and ``librispeech-devclean-half`` (read sentences, other people);
a sentence that the bundle's own grammar reads is no negative and is left out. ``false_accepts_per_hour`` counts
results with decision ``accept``, ``false_answers_per_hour`` also those that ask back. Positives, for the area under
the ROC curve, are commands of the bundle's domain: ``examples/expected.jsonl`` for ``home`` (synthetic speech), else
``coffee-dev`` (real speech); their own rejected share stands beside. AUROC is given for the calibrated confidence
(null when uncalibrated) and for the raw margin of grammar over filler. Intervals are 95% bootstraps over recordings.
One JSON line per figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _lines import ROOT, corpora, emit, progress, skip
from numpy.typing import NDArray

from sayso.core.errors import AudioError
from sayso.core.result import Example, Result
from sayso.evaluation.bootstrap import general, ratio
from sayso.evaluation.evaluate import evaluate
from sayso.evaluation.examples import read_examples
from sayso.evaluation.metrics import auroc
from sayso.nlu.automaton_io import match
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH = "rejection"
SETS = ("commonvoice-v1/dev.jsonl", "librispeech-devclean-half/dev.jsonl")
NO_PARSE = -50.0  # nats per frame: below any margin of a parse


@dataclass(frozen=True)
class Heard:
    """One recording: what was expected, what came out, and the margin behind it."""

    example: Example
    result: Result
    margin: float


def understand(model: Model, examples: Sequence[Example]) -> list[Heard]:
    """All examples; what cannot be read is reported and left out."""
    found = []
    for number, example in enumerate(examples, 1):
        try:
            result, outcome = model.explain(example.audio)
        except AudioError as error:
            skip(example.audio, str(error))
            continue
        evidence = outcome.evidence
        margin = evidence.margin if evidence is not None and outcome.intent is not None else NO_PARSE
        found.append(Heard(example, result, max(NO_PARSE, margin)))
        progress(number, len(examples))
    return found


def negatives(model: Model, manifest: Path, limit: int | None, seed: int) -> list[Example]:
    """Examples that must be rejected: a seeded sample without the sentences of the domain."""
    examples = read_examples(manifest)
    if limit is not None and limit < len(examples):
        examples = [
            examples[i] for i in sorted(np.random.default_rng(seed).choice(len(examples), limit, replace=False))
        ]
    automaton = model.engine.automaton
    strange = [
        example
        for example in examples
        if automaton is None or not match(automaton, model.engine.tokenizer, example.text or "")
    ]
    if len(strange) < len(examples):
        skip(str(manifest), f"{len(examples) - len(strange)} sentences are commands of the domain")
    return [example.model_copy(update={"negative": True, "intent": None}) for example in strange]


def false_answers(case: str, heard: Sequence[Heard]) -> None:
    """Answers per hour of speech that wanted none."""
    hours = [item.result.timing.audio_s / 3600 for item in heard]
    accepted = [item.result.decision == "accept" for item in heard]
    answered = [item.result.decision != "reject" for item in heard]
    emit(BENCH, case, "hours", sum(hours))
    emit(BENCH, case, "false_accepts_per_hour", ratio(accepted, hours))
    emit(BENCH, case, "false_answers_per_hour", ratio(answered, hours))
    emit(BENCH, case, "false_accept_rate", ratio(accepted, np.ones(len(accepted))))


def separation(case: str, commands: Sequence[Heard], others: Sequence[Heard]) -> None:
    """Commands against the rest: area under the ROC curve by confidence and by margin."""
    figures = evaluate([(item.example, item.result) for item in (*commands, *others)])
    area = figures["rejection_auroc"]
    emit(BENCH, case, "rejection_auroc", None if isinstance(area, int) else area)
    margins = np.array([item.margin for item in (*commands, *others)])
    positive = np.arange(len(margins)) < len(commands)

    def statistic(index: NDArray[np.int64]) -> float:
        chosen, command = margins[index], positive[index]
        return auroc(chosen[command], chosen[~command])

    emit(BENCH, case, "margin_auroc", general(statistic, len(margins)))


def main() -> None:
    """Understand commands and other speech, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--positives", type=Path, help="commands of the bundle's domain as .jsonl")
    parser.add_argument("--limit", type=int, help="a seeded sample of N recordings of each negative set")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = load(arguments.bundle)
    home = model.manifest.domain == "home"
    shipped, recorded = ROOT / "examples" / "expected.jsonl", corpora() / "coffee-dev" / "labels.jsonl"
    manifest = arguments.positives or (shipped if home else recorded)
    commands: list[Heard] = []
    if manifest.exists():
        commands = understand(model, [item for item in read_examples(manifest) if not item.negative])
        refused = [item.result.decision == "reject" for item in commands]
        emit(BENCH, "commands", "false_reject_rate", ratio(refused, np.ones(len(refused))))
    else:
        skip(str(manifest), "not here; --positives names commands of this domain")
    for name in SETS:
        if not (corpora() / name).exists():
            skip(name, f"not in {corpora()}; SAYSO_CORPORA names the folder of corpora")
            continue
        case = name.split("/")[0]
        others = understand(model, negatives(model, corpora() / name, arguments.limit, arguments.seed))
        false_answers(case, others)
        if commands:
            separation(case, commands, others)


if __name__ == "__main__":
    main()
