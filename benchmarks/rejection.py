"""Speech that is no command: how often a bundle answers to it, and how well its confidence tells the two apart.

    python benchmarks/rejection.py --bundle B [--positives FILE] [--limit 100] [--foreign 200 [--keep FOLDER]]

Negatives are the dev speech of ``commonvoice-v1`` and ``librispeech-devclean-half`` (read sentences, other people);
a sentence that the bundle's own grammar reads is no negative and is left out. ``false_accepts_per_hour`` counts
results with decision ``accept``, ``false_answers_per_hour`` also those that ask back. Positives, for the area under
the ROC curve, are commands of the bundle's domain: ``examples/expected.jsonl`` for ``home`` (synthetic speech), else
``coffee-dev`` (real speech); their own rejected share stands beside. ``--foreign N`` adds commands of other domains: N
queries of Snips' intents that no home or coffee machine has, spoken by voices that no training used, against N
commands of ``home``'s domain file by the same voices (for any other bundle, against its positives). AUROC is given for
the calibrated confidence (null when uncalibrated) and for the raw margin of grammar over filler. Intervals are 95%
bootstraps over recordings; where nothing was counted, the upper bound of a rate per hour is the rule of three (3
divided by the hours; Hanley & Lippman-Hand 1983). One JSON line per figure.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _lines import ROOT, corpora, emit, progress, skip
from _mouth import Mouth
from _snips import queries
from numpy.typing import NDArray

from sayso.core.errors import AudioError
from sayso.core.result import Example, Result
from sayso.data.synthesis import voices
from sayso.data.synthesise import Sentence
from sayso.evaluation.bootstrap import Estimate, general, ratio
from sayso.evaluation.evaluate import evaluate
from sayso.evaluation.examples import read_examples
from sayso.evaluation.metrics import auroc
from sayso.nlu.automaton_io import match
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import sample
from sayso.runtime.load import load
from sayso.runtime.model import Model
from sayso.text.normalise import normalise

BENCH = "rejection"
OTHERS = ("AddToPlaylist", "BookRestaurant", "RateBook", "SearchCreativeWork", "SearchScreeningEvent")
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


def some(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """All, or a seeded sample of ``limit``."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i] for i in sorted(np.random.default_rng(seed).choice(len(examples), limit, replace=False))]


def per_hour(events: Sequence[bool], hours: Sequence[float]) -> Estimate | None:
    """Events per hour; resampling cannot bound a rate of which nothing was seen, the rule of three can."""
    found = ratio(events, hours)
    return {**found, "high": 3 / sum(hours)} if found is not None and not any(events) else found


def outside(model: Model, text: str) -> bool:
    """Whether the bundle's own grammar does not read it."""
    automaton = model.engine.automaton
    return automaton is None or not match(automaton, model.engine.tokenizer, text)


def negatives(model: Model, manifest: Path, limit: int | None, seed: int) -> list[Example]:
    """Examples that must be rejected: a seeded sample without the sentences of the domain."""
    examples = some(read_examples(manifest), limit, seed)
    strange = [example for example in examples if outside(model, example.text or "")]
    if len(strange) < len(examples):
        skip(str(manifest), f"{len(examples) - len(strange)} sentences are commands of the domain")
    return [example.model_copy(update={"negative": True, "intent": None}) for example in strange]


def false_answers(case: str, heard: Sequence[Heard]) -> None:
    """Answers per hour of speech that wanted none."""
    hours = [item.result.timing.audio_s / 3600 for item in heard]
    accepted = [item.result.decision == "accept" for item in heard]
    answered = [item.result.decision != "reject" for item in heard]
    emit(BENCH, case, "hours", sum(hours))
    emit(BENCH, case, "false_accepts_per_hour", per_hour(accepted, hours))
    emit(BENCH, case, "false_answers_per_hour", per_hour(answered, hours))
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


def foreign(folder: Path, count: int, seed: int) -> list[str]:
    """Commands of other domains, as people typed them."""
    texts = {
        normalise("".join(part["text"] for part in parts)) for intent, parts in queries(folder) if intent in OTHERS
    }
    fitting = sorted(text for text in texts if 3 <= len(text.split()) <= 12)
    return [fitting[int(i)] for i in np.random.default_rng(seed).permutation(len(fitting))[:count]]


def spoken(sentences: Sequence[Sentence], place: Path) -> list[Example]:
    """By each of the held-out voices in turn; without an intent they are to be refused."""
    people = [Mouth(voice, place) for voice in voices("valid", ("flite", "espeak-ng"))]
    found = []
    for number, sentence in enumerate(sentences):
        audio = people[number % len(people)].file(sentence.text)
        strange = sentence.intent is None
        found.append(Example(audio=str(audio), text=sentence.text, intent=sentence.intent, negative=strange))
        progress(number + 1, len(sentences))
    return found


def other_domains(model: Model, commands: list[Heard], count: int, seed: int, place: Path) -> None:
    """Commands that are somebody else's."""
    if not (corpora() / "text" / "snips").is_dir():
        skip("text/snips", f"not in {corpora()}; SAYSO_CORPORA names the folder of corpora")
        return
    texts = [text for text in foreign(corpora(), count, seed) if outside(model, text)]
    others = understand(model, spoken([Sentence(text) for text in texts], place))
    if model.manifest.domain == "home":
        own = list(sample(load_domain(ROOT / "domains" / "home.yaml"), count, seed=seed))
        drawn = [Sentence(item.text, intent=item.intent) for item in own]
        commands = understand(model, spoken(drawn, place))
        refused = [item.result.decision == "reject" for item in commands]
        emit(BENCH, "commands, same voices", "false_reject_rate", ratio(refused, np.ones(len(refused))))
    false_answers("other domains", others)
    if commands:
        separation("other domains", commands, others)


def main() -> None:
    """Understand commands and other speech, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--positives", type=Path, help="commands of the bundle's domain as .jsonl")
    parser.add_argument("--limit", type=int, help="a seeded sample of N recordings of every set")
    parser.add_argument("--foreign", type=int, default=0, metavar="N", help="commands of other domains")
    parser.add_argument("--keep", type=Path, help="folder of spoken commands that stays")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = load(arguments.bundle)
    home = model.manifest.domain == "home"
    shipped, recorded = ROOT / "examples" / "expected.jsonl", corpora() / "coffee-dev" / "labels.jsonl"
    manifest = arguments.positives or (shipped if home else recorded)
    commands: list[Heard] = []
    if manifest.exists():
        meant = [item for item in read_examples(manifest) if not item.negative]
        commands = understand(model, some(meant, arguments.limit, arguments.seed))
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
    if arguments.foreign:
        with tempfile.TemporaryDirectory() as folder:
            place = arguments.keep or Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            other_domains(model, commands, arguments.foreign, arguments.seed, place)


if __name__ == "__main__":
    main()
