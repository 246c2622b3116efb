"""What hearing open slots again brings: with the bundle's model of them, without, and with a model that knows nothing.

    python benchmarks/open_slots.py --bundle home --domain domains/home.yaml --work runs/open_slots [--count 60]

Held-out voices say sentences with an open slot: phrases as in training (``known``), and phrases that end in words
that no training and no model of slots holds (``strange``). Of the sentences read as the right intent, ``value`` is
the share of open values that are exactly what was said, ``char_errors`` their edit distance in letters per letter. Of
a spelled domain ``none`` is the graph alone and ``shuffled`` the negative control, a model of the same phrases with
the tokens of each in random order; of a pronounced one ``no priors`` has every word of the lexicon alike, ``pieces``
spells without lexicon and model, and ``shuffled`` gives the words each other's priors. ``final_ms`` is the median
time from the endpoint to the result. Intervals are 95% bootstraps over sentences.

``--lists 100 1000`` asks what a user's own list brings: ``strange`` phrases heard with a list of so many names that has
them among Snips' names (artists, films, places), and ``known`` phrases with one that has none of them (``irrelevant``).
``slot`` is the share of all sentences whose result has the right intent and value, refused or not, and ``points`` the
difference to no list on the same sentences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _lines import corpora, emit, progress, skip
from _snips import names as titles
from numpy.typing import NDArray

from sayso.build.negatives import EVERYDAY
from sayso.build.phrases import open_phrases
from sayso.core.result import Example
from sayso.data import manifest
from sayso.data.synthesise import SynthConfig, synthesise
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.open_slots import OpenPieces, OpenSlotConfig, OpenSlots
from sayso.decoding.open_words import OpenWords
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import char_errors
from sayso.nlu.domain import Domain, load_domain
from sayso.nlu.sample import open_templates, sample
from sayso.runtime.lists import Lists
from sayso.runtime.load import load
from sayso.runtime.model import Model
from sayso.text.lexicon import Lexicon

BENCH, SEED = "open_slots", 77  # no build samples with this seed


def spoken(domain: Domain, held: bool, count: int, work: Path) -> list[Example]:
    """``count`` sentences with an open slot by the voices of ``valid``."""
    phrases = open_phrases(40 * count, SEED, () if held else EVERYDAY, held=held)
    drawn = sample(domain, 2 * count, seed=SEED, only_templates=open_templates(domain), phrases=phrases)
    chosen = [u for u in drawn if any(slot.source == "open" for slot in u.slots)][:count]
    config = SynthConfig(voices_each=1, processes=2, seed=SEED)
    path = synthesise(chosen, work / ("strange" if held else "known"), role="valid", config=config, domain=domain.name)
    return [manifest.to_example(cut) for cut in manifest.read(path)]


def variants(model: Model) -> dict[str, OpenSlots | None]:
    """The bundle's own way of hearing open slots, what it is made of, and its negative control."""
    engine, heard = model.engine, model.engine.open_slots
    assert heard is not None and engine.automaton is not None
    rng, pieces, spelled = np.random.default_rng(SEED), engine.tokenizer.pieces, engine.automaton.spelled
    if isinstance(heard, OpenWords):
        lexicon, config, spell = Lexicon.load(), heard.config, heard.spell
        words, priors = list(heard.priors), list(heard.priors.values())
        dealt = {word: priors[i] for word, i in zip(words, rng.permutation(len(words)), strict=True)}
        return {
            "model": heard,
            "no priors": OpenWords(config, {}, lexicon, spell),
            "pieces": OpenPieces(OpenSlotConfig(), None, pieces, spelled),
            "shuffled": OpenWords(config, dealt, lexicon, spell),
        }
    assert isinstance(heard, OpenPieces)
    phrases = [engine.tokenizer.encode(text) for text in open_phrases(8000, 0, EVERYDAY)]
    text = [[pieces[tokens[i]] for i in rng.permutation(len(tokens))] for tokens in phrases]
    shuffled = OpenPieces(heard.config, estimate(text, 4, pieces[1:]), pieces, spelled)
    return {"model": heard, "none": None, "shuffled": shuffled}


def judge(model: Model, examples: list[Example], case: str, open_names: set[str]) -> None:
    """Print the figures of one variant on one set."""
    rows = []
    for number, example in enumerate(examples, 1):
        result, outcome = model.explain(example.audio)
        progress(number, len(examples))
        wanted = next(slot.text or slot.value for slot in example.slots or () if slot.name in open_names)
        found = next((slot.value for slot in outcome.slots if slot.source == "open"), "")
        errors = char_errors(wanted, found)
        rows.append((outcome.intent == example.intent, found == wanted, errors.errors, errors.length, result.timing))
    right = [row for row in rows if row[0]]
    emit(BENCH, case, "intent", ratio([row[0] for row in rows], np.ones(len(rows))))
    emit(BENCH, case, "value", ratio([row[1] for row in right], np.ones(len(right))))
    emit(BENCH, case, "char_errors", ratio([row[2] for row in right], [row[3] for row in right]))
    emit(BENCH, case, "final_ms", float(np.median([1000 * (row[4].final_s or 0.0) for row in rows])))


def answers(model: Model, examples: Sequence[Example], names: set[str], lists: Lists | None) -> NDArray[np.float64]:
    """1 for every example whose result has its intent and the value of its open slot, else 0."""
    found = []
    for number, example in enumerate(examples, 1):
        result = model.understand(example.audio, lists=lists)
        progress(number, len(examples))
        heard = {(slot.name, slot.value) for slot in result.slots}
        meant = {(slot.name, slot.value) for slot in example.slots or () if slot.name in names}
        found.append(result.intent is not None and result.intent.name == example.intent and meant <= heard)
    return np.array(found, np.float64)


def with_lists(model: Model, sets: dict[str, list[Example]], names: set[str], sizes: Sequence[int]) -> None:
    """What lists change, on the same sentences."""
    others = [name for name in titles(corpora()) if len(name) <= 40]
    if not others:
        skip("text/snips", f"not in {corpora()}; SAYSO_CORPORA names the folder of corpora")
        return
    for case, examples in sets.items():
        wanted = {(slot.name, slot.value) for item in examples for slot in item.slots or () if slot.name in names}
        alone = answers(model, examples, names, None)
        ones = np.ones(len(alone))
        emit(BENCH, f"{case}/no list", "slot", ratio(alone, ones))
        for size in sizes:
            lists: dict[str, list[str]] = {}
            for name in names:
                own = [value for slot, value in sorted(wanted) if slot == name]
                mine = own if case == "strange" else []
                fill = [other for other in others if other not in own]
                lists[name] = [*mine, *fill][:size]
            kind = f"{case}/list of {size}" if case == "strange" else f"{case}/irrelevant list of {size}"
            heard = answers(model, examples, names, lists)
            emit(BENCH, kind, "slot", ratio(heard, ones))
            emit(BENCH, kind, "points", ratio(100 * (heard - alone), ones))


def main() -> None:
    """Parse, speak, judge every variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home")
    parser.add_argument("--domain", type=Path, default=Path("domains/home.yaml"))
    parser.add_argument("--work", type=Path, default=Path("runs/open_slots"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--lists", type=int, nargs="+", metavar="N", help="what lists of so many entries bring, alone")
    options = parser.parse_args()
    model, domain = load(options.bundle), load_domain(options.domain)
    if model.engine.open_slots is None:
        parser.error(f"{options.bundle} has no model of open slots; build it with 'phrases' above 0")
    names = {name for name, spec in domain.slots.items() if spec.type == "open"}
    sets = {case: spoken(domain, case == "strange", options.count, options.work) for case in ("known", "strange")}
    if options.lists:
        with_lists(model, sets, names, options.lists)
        return
    several = variants(model)
    for case, examples in sets.items():
        for variant, opened in several.items():
            model.engine.open_slots = opened
            judge(model, examples, f"{case}, {variant}", names)


if __name__ == "__main__":
    main()
