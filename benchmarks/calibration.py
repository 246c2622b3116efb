"""How far confidence is a probability: of intents, slots and words, before and after calibration, held out and shifted.

    python benchmarks/calibration.py --domain domains/home.yaml [--bundle home] [--sentences 60] [--keep FOLDER]

Sentences of the domain and its ``out_of_domain`` are spoken by voices that training never heard: ``held out`` (flite),
``voices`` (formant synthesis, which is far from people), ``noise`` (the former at 5 to 15 dB SNR, coloured). Per kind
and case: ECE over bins of equal mass, NLL, Brier score and the share that is right. ``before`` is the bundle with all
temperatures at 1, and of an intent the intent head's probability; ``after`` is the bundle's confidence; ``power``
raises that to the power that fits every second ``held out`` sentence best, measured on the others everywhere: what one
more temperature for this domain would give. ``scaled`` does the same with a scale and an offset on log odds, which is
what builds fit for slots and for words: one for words of the graph's sentence, one for those heard without it (``free
word``; ``word`` is both). Within each kind the order stays as it is. ``cost`` compares the policy's decisions with
accepting everything, in the units of ``Costs`` (a wrong answer 5, a refused command 2, a question 1), per utterance.
Ctrl-C gives figures of what was heard so far. One JSON line per figure; intervals of shares and costs are 95%
bootstraps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _lines import emit, progress
from _mouth import Floats, Mouth
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.data.augment import add_noise, coloured
from sayso.data.synthesis import voices
from sayso.data.synthesise import Sentence, Spoken
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import brier, ece, word_hits
from sayso.nlu.calibration import Costs, Scaling, fit_scaling
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import sample
from sayso.runtime.choose import Outcome
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH = "calibration"
LEAST = 1e-6
KINDS = ("intent", "slot", "graph word", "free word")
WORDS = KINDS[2:]


Rows = dict[str, list[tuple[float, bool]]]  # by kind: confidence, and whether it was right


@dataclass
class Seen:
    """One sentence: its confidences, and what the decision cost beside accepting whatever was guessed."""

    judged: bool
    before: Rows
    after: Rows
    cost: float
    always: float


def rows(spoken: Spoken, result: Result, outcome: Outcome) -> Rows:
    """Confidences beside what was said. Guesses behind rejections count: confidence is about them; of their slots none
    is shown."""
    wanted = {(slot.name, slot.value) for slot in spoken.slots}
    found: Rows = {kind: [] for kind in KINDS}
    if outcome.confidence is not None:
        found["intent"].append((outcome.confidence, right(spoken, outcome)))
    shown = outcome.slots if result.decision != "reject" else ()
    for log_probs, slot in zip(outcome.slot_log_probs, shown, strict=False):
        certain = float(np.exp(np.mean(log_probs))) if slot.confidence is None else slot.confidence
        found["slot"].append((certain, (slot.name, slot.value) in wanted))
    hits = word_hits(spoken.text, [word.text for word in result.words])
    kind = "free word" if result.decision == "reject" else "graph word"
    found[kind] += [(w.confidence, hit) for w, hit in zip(result.words, hits, strict=True) if w.confidence is not None]
    return found


def right(spoken: Spoken, outcome: Outcome) -> bool:
    """Whether the best guess is what was meant."""
    same = {(s.name, s.value) for s in outcome.slots} == {(s.name, s.value) for s in spoken.slots}
    return spoken.intent is not None and outcome.intent == spoken.intent and same


def judge(spoken: Spoken, samples: Floats, model: Model, plain: Model, judged: bool) -> Seen:
    """Hear a sentence, with the temperatures and without."""
    costs, (result, outcome) = Costs(), model.explain(samples, 16000)
    before, after = rows(spoken, *plain.explain(samples, 16000)), rows(spoken, result, outcome)
    if outcome.evidence is not None:
        before["intent"] = [(float(np.exp(outcome.evidence.head)), right(spoken, outcome))]
    correct, guessed = right(spoken, outcome), outcome.intent is not None
    missed = costs.false_reject if spoken.intent is not None else 0.0
    accepted = 0.0 if correct else costs.false_accept
    price = {"accept": accepted, "clarify": costs.clarify, "reject": missed if correct or not guessed else 0.0}
    return Seen(judged, before, after, price[result.decision], accepted if guessed else missed)


def nll(confidence: Floats, right: Floats) -> float:
    """Mean negative log-likelihood of the outcomes."""
    clipped = np.clip(confidence, LEAST, 1 - LEAST)
    return float(-np.mean(np.where(right, np.log(clipped), np.log1p(-clipped))))


def power(confidence: Floats, right: Floats) -> float:
    """The power of confidences that fits best: the inverse of a temperature."""
    grid = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))
    return float(min(grid, key=lambda p: nll(np.clip(confidence, LEAST, 1.0) ** p, right)))


def table(found: Sequence[Seen], kind: str, when: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidences, and whether they were right."""
    pairs = [row for seen in found for row in getattr(seen, when)[kind]]
    return np.array([c for c, _ in pairs], np.float32), np.array([hit for _, hit in pairs], np.bool_)


def mapped(way: str, scores: Floats, exponent: float, scaling: Scaling) -> Floats:
    """Confidences as ``way`` has them."""
    if way == "scaled":
        return np.array([scaling(float(score)) for score in scores], np.float32)
    return scores**exponent if way == "power" else scores


def report(cases: dict[str, list[Seen]]) -> None:
    """The table."""
    fitting = [seen for seen in cases["held out"] if not seen.judged]
    powers, scalings = dict[str, float](), dict[str, Scaling]()
    for kind in KINDS:
        scores, hits = table(fitting, kind, "after")
        powers[kind], scalings[kind] = power(scores, hits) if len(scores) else 1.0, fit_scaling(scores, hits)
        emit(BENCH, f"{kind}/power", "power", powers[kind])
        emit(BENCH, f"{kind}/scaled", "scale", scalings[kind].scale)
        emit(BENCH, f"{kind}/scaled", "offset", scalings[kind].offset)
    for case, found in cases.items():
        judged = [seen for seen in found if seen.judged]
        for kinds in (*((kind,) for kind in KINDS), WORDS):
            name = kinds[0] if len(kinds) == 1 else "word"
            for way in ("before", "after", "power", "scaled"):
                parts = [(kind, *table(judged, kind, "before" if way == "before" else "after")) for kind in kinds]
                hits = np.concatenate([hits for _, _, hits in parts])
                scores = np.concatenate([mapped(way, row, powers[kind], scalings[kind]) for kind, row, _ in parts])
                if not len(scores):
                    continue
                if way in ("before", "after"):
                    emit(BENCH, f"{name}/{case}/{way}", "right", ratio(hits.astype(float), np.ones(len(hits))))
                for metric, measure in (("ece", ece), ("nll", nll), ("brier", brier)):
                    emit(BENCH, f"{name}/{case}/{way}", metric, measure(scores, hits))
    for case, found in cases.items():
        ones = np.ones(len(found))
        emit(BENCH, case, "utterances", len(found))
        if found:
            emit(BENCH, f"cost/{case}", "policy", ratio([seen.cost for seen in found], ones))
            emit(BENCH, f"cost/{case}", "always accept", ratio([seen.always for seen in found], ones))


def main() -> None:
    """Speak, hear, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--domain", type=Path, required=True, help="the domain file that the bundle was built from")
    parser.add_argument("--sentences", type=int, default=60, help="of the domain; half as many outside it")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="folder of recordings that stays")
    arguments = parser.parse_args()
    model, domain = load(arguments.bundle), load_domain(arguments.domain)
    plain = load(arguments.bundle)
    ones: dict[str, object] = {"temperature": 1.0, "phone_temperature": 1.0, "slot_temperature": 1.0}
    ones |= {"slots": Scaling(), "words": Scaling(), "free_words": Scaling()}
    plain.engine.calibration = plain.engine.calibration.model_copy(update=ones)
    inside: list[Spoken] = list(sample(domain, arguments.sentences, seed=arguments.seed))
    outside = [Sentence(text) for text in domain.out_of_domain[: arguments.sentences // 2]]
    rng = np.random.default_rng(arguments.seed)
    every = [*inside, *outside]
    order = [every[i] for i in rng.permutation(len(every))]
    cases: dict[str, list[Seen]] = {"held out": [], "noise": [], "voices": []}
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        place = arguments.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        people = [Mouth(voice, place) for voice in voices("valid", ("flite",))]
        formant = [Mouth(voice, place) for voice in voices("valid", ("espeak-ng",))]
        for number, spoken in enumerate(order):
            clean = people[number % len(people)](spoken.text)
            noise = coloured(len(clean), rng)
            sounds = {
                "held out": clean,
                "noise": np.clip(add_noise(clean, noise, float(rng.uniform(5, 15)), rng), -1, 1),
                "voices": formant[number % len(formant)](spoken.text),
            }
            for case, samples in sounds.items():
                cases[case].append(judge(spoken, samples, model, plain, case != "held out" or number % 2 == 1))
            progress(number + 1, len(order))
    report(cases)


if __name__ == "__main__":
    main()
