"""People who say "turn on the uh light": commands by held-out voices, fluent and with filled pauses.

    python benchmarks/hesitation.py --bundle home --domain domains/home.yaml [--commands 60] [--penalties 1]

Sentences of the domain (those without open slots) are spoken by the voices that only validate, as they are and with one
or two of "uh", "um" and "er" between words, drawn by a seed, the same sound for every row. `accepted` is intent and all
slots right and the decision accept; `wrong` another meaning accepted. Rows: the search as if it knew no pauses (`none`,
what is compared with), and with each of `--penalties` for a frame of one. Then `talk`: what of the validation parts of
the training corpora, none of it a command, is accepted. Intervals are 95% bootstraps over commands. One JSON line per
figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _lines import ROOT, emit, progress
from _wer import Floats, valid_recordings

from sayso.data.synthesis import ENGINES, voices
from sayso.data.synthesis.engine import finish
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.evaluation.bootstrap import ratio
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import Utterance, sample
from sayso.runtime.load import load
from sayso.runtime.model import Model
from sayso.text.lexicon import PAUSES

BENCH, NONE, RATE = "hesitation", "none", 16000
SAID = ("uh,", "um,", "er,")


def hesitating(text: str, rng: np.random.Generator) -> str:
    """With one or two filled pauses before words."""
    words = text.split()
    for _ in range(int(rng.integers(1, 3))):
        words.insert(int(rng.integers(len(words))), str(rng.choice(SAID)))
    return " ".join(words)


def spoken(domain: Path, count: int, seed: int) -> list[tuple[Utterance, Floats, Floats]]:
    """Utterances, said fluently and with pauses."""
    wanted = [u for u in sample(load_domain(domain), count, seed=seed) if all(s.source != "open" for s in u.slots)]
    mouths, found = voices("valid"), []
    for number, utterance in enumerate(wanted):
        rng, voice = np.random.default_rng((seed, number)), mouths[number % len(mouths)]
        texts = (utterance.text, hesitating(utterance.text, rng))
        fluent, paused = (finish(ENGINES[voice.engine].speak(text, voice), rng) for text in texts)
        found.append((utterance, fluent, paused))
        progress(number + 1, len(wanted))
    return found


def heard(model: Model, utterance: Utterance, samples: Floats) -> tuple[bool, bool]:
    """Whether it is accepted as what it means, and as something else."""
    result = model.understand(samples, RATE)
    if result.decision != "accept" or result.intent is None:
        return False, False
    slots = {slot.name: slot.value for slot in result.slots}
    right = result.intent.name == utterance.intent and slots == {s.name: s.value for s in utterance.slots}
    return right, not right


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak, hear and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home")
    parser.add_argument("--domain", type=Path, default=ROOT / "domains" / "home.yaml")
    parser.add_argument("--commands", type=int, default=60)
    parser.add_argument("--talk", type=int, default=90, help="recordings of other people")
    parser.add_argument("--penalties", type=float, nargs="+", default=[GraphConfig().pause_penalty])
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args(arguments)
    model, said = load(options.bundle), spoken(options.domain, options.commands, options.seed)
    talk = valid_recordings(options.talk)
    engine, settings = model.engine, model.engine.graph_config
    assert engine.automaton is not None, "a bundle without a domain"
    its: dict[str, list[float]] = {}
    for case in (NONE, *options.penalties):
        given = {"pauses": ()} if case == NONE else {"pauses": PAUSES, "pause_penalty": case}
        engine.search = GraphSearch(engine.automaton, settings.model_copy(update=given))
        name = NONE if case == NONE else f"penalty {case:g}"
        for place, kind in enumerate(("fluent", "paused")):
            found = [heard(model, row[0], row[1 + place]) for row in said]
            right, wrong = ([float(pair[which]) for pair in found] for which in (0, 1))
            emit(BENCH, f"{name}/{kind}", "accepted", ratio(right, [1.0] * len(right)))
            emit(BENCH, f"{name}/{kind}", "wrong", ratio(wrong, [1.0] * len(wrong)))
            if case == NONE:
                its[kind] = right
            else:
                emit(BENCH, f"{name}/{kind}", "accepted", ratio(right, its[kind]), NONE)
        taken = [float(model.understand(samples, RATE).decision == "accept") for _, samples in talk]
        emit(BENCH, f"{name}/talk", "accepted", ratio(taken, [1.0] * len(taken)))


if __name__ == "__main__":
    main()
