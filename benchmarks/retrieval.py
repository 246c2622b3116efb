"""Entries of a user's list found by what a recogniser made of them: recall, "not in the list", speed.

    python benchmarks/retrieval.py [--corpora FOLDER] [--sizes 100 1000 10000 100000] [--queries 500]
        [--spoken N] [--bundle B] [--seed 0] [--tune]

Lists are the names of songs, artists, albums, films, places and playlists in Snips' texts, and beyond those two-part
names made of their words, up to each size. Queries are real names of the list after simulated errors: ``letters``
drops, doubles and exchanges letters (one in ten); ``words`` puts other words of the same texts that sound alike in
place of half of the words (one of the eight nearest by phones). Each query is an n-best of four such texts that share
most of their errors. ``--spoken N`` takes N names as a bundle really heard them from voices of engines that no training
used, with the n-best of its free text. Queries that no list holds are names left out of it; the ``irrelevant`` case
asks a list of other names for all of them, and an answer there is wrong.

recall@1 and @5: the right entry is the first, or among five. ``answered_right``: it is the first and taken for what was
said. ``answered_wrong``: what was taken so is wrong, over queries whose entry is in the list, and over those whose is
not (``absent``). ``auroc`` tells the two apart by score alone. Ablations take one part away at the largest size: the
sound (letters alone), the letters (sound alone), the edit distance (cosine alone), the n-best (its best text alone),
the lead (the threshold alone), the lexicon (the letters' skeleton instead of phones). Speed is of ``find`` on one
thread, and of ``add`` of one entry until it is found; ``cpu`` is processor time, which other work on the machine does
not lengthen. Intervals are 95% bootstraps. One JSON line per figure.

``--tune`` asks for other names, with other errors, and shows what each ``ratio`` gives. ``RetrievalConfig`` has the one
that answers most right less wrong there, so the usual run measures on names that chose nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from _lines import corpora, emit, progress, skip
from _snips import names
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from sayso.core.errors import SaysoError
from sayso.data.synthesis import ENGINES
from sayso.data.synthesis.engine import SAMPLE_RATE, finish
from sayso.evaluation.bootstrap import Estimate, ratio
from sayso.evaluation.metrics import auroc
from sayso.nlu.phonetic import SkeletonKey, SpokenKey
from sayso.nlu.retrieval import ListIndex, Texts
from sayso.runtime.load import load

BENCH = "retrieval"
NEAR, NBEST = 8, 4
RATIOS = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)


def made(known: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """More names of two parts: first words of some, last words of others."""
    words = [name.split() for name in known]
    taken, found = set(known), dict[str, None]()
    while len(found) < count:
        first, second = (words[int(i)] for i in rng.integers(len(words), size=2))
        name = " ".join([*first[: int(rng.integers(1, 3))], *second[-int(rng.integers(1, 3)) :]])
        if name not in taken:
            found[name] = None
    return list(found)


class Errors:
    """Simulated recognition errors."""

    def __init__(self, texts: Sequence[str], rng: np.random.Generator) -> None:
        self.rng, self.key = rng, SpokenKey()
        self.words = sorted({word for text in texts for word in text.split()})
        self.keys = [self.key.key(word) for word in self.words]
        self._near: dict[str, list[str]] = {}

    def letters(self, text: str) -> str:
        """Letters dropped, doubled and exchanged."""
        made = []
        for char in text:
            luck = self.rng.random()
            if luck < 0.03:
                continue
            if luck < 0.05:
                made.append(char)
            made.append(chr(97 + int(self.rng.integers(26))) if 0.05 <= luck < 0.1 and char != " " else char)
        return " ".join("".join(made).split())

    def sounds(self, word: str) -> str:
        """Half of the words become others that sound alike."""
        near = self.near(word) if self.rng.random() < 0.5 else [word]
        return near[int(self.rng.integers(len(near)))]

    def near(self, word: str) -> list[str]:
        """The words nearest to ``word`` by their phones, without it."""
        if word not in self._near:
            distance = cdist([self.key.key(word)], self.keys, scorer=Levenshtein.normalized_distance)[0]
            order = np.argsort(distance, kind="stable")[: NEAR + 1]
            self._near[word] = [self.words[int(i)] for i in order if self.words[int(i)] != word][:NEAR]
        return self._near[word]

    def nbest(self, text: str, make: Callable[[str], str]) -> Texts:
        """Up to four different texts, their log scores falling. As in a recogniser's list, most words are wrong in the
        same way in all of them: each is the first with three in ten words heard anew."""
        first = [make(word) or word for word in text.split()]
        found = {" ".join(first): None}
        for _ in range(NBEST - 1):
            again = [make(word) or word if self.rng.random() < 0.3 else said
                     for word, said in zip(text.split(), first, strict=True)]  # fmt: skip
            found[" ".join(again)] = None
        falls = np.concatenate([[0.0], np.cumsum(self.rng.exponential(0.7, len(found) - 1))])
        return [(heard, -float(fall)) for heard, fall in zip(found, falls, strict=True)]


def spoken(texts: Sequence[str], bundle: str) -> dict[str, Texts]:
    """What ``bundle`` heard of ``texts``, by voices for judging."""
    voices = [
        (engine, voice)
        for engine in ENGINES.values()
        if engine.missing() is None
        for voice in engine.voices()
        if voice.role in ("valid", "examples")
    ]
    if not voices:
        skip("spoken names", "no speech engine with a voice for judging")
        return {}
    model, heard = load(bundle), dict[str, Texts]()
    for number, text in enumerate(texts):
        engine, voice = voices[number % len(voices)]
        try:
            samples = finish(engine.speak(text, voice), np.random.default_rng(number))
        except SaysoError as error:
            skip(text, str(error))
            continue
        heard[text] = model.explain(samples, SAMPLE_RATE)[1].texts or [("", 0.0)]
        progress(number + 1, len(texts))
    return heard


def share(values: Sequence[bool]) -> Estimate | None:
    """How many are true, with an interval."""
    return ratio([float(value) for value in values], [1.0] * len(values)) if values else None


def judge(index: ListIndex, queries: Sequence[tuple[str, Texts]], absent: Sequence[Texts], case: str) -> None:
    """Figures of one list."""
    first, five, right, wrong = [], [], [], []
    clocks = {"ms": time.perf_counter, "cpu_ms": time.process_time}
    times: dict[str, list[float]] = {name: [] for name in clocks}
    scores: list[float] = []
    for name, heard in queries:
        began = {name: clock() for name, clock in clocks.items()}
        found, known = index.look(heard)
        for unit, clock in clocks.items():
            times[unit].append(1000 * (clock() - began[unit]))
        top = found[0] if found else None
        first.append(top is not None and top.text == name)
        five.append(any(entry.text == name for entry in found))
        right.append(known and first[-1])
        wrong.append(known and not first[-1])
        scores.append(top.score if top is not None and first[-1] else 0.0)
    for metric, values in () if not queries else (
        ("recall_at_1", first), ("recall_at_5", five), ("answered_right", right), ("answered_wrong", wrong),
    ):  # fmt: skip
        emit(BENCH, case, metric, share(values))
    looks = [index.look(heard, 1) for heard in absent]
    others = [found[0].score if found else 0.0 for found, _ in looks]
    if others:
        emit(BENCH, case, "absent_answered_wrong", share([known for _, known in looks]))
        right_scores = [s for s, ok in zip(scores, first, strict=True) if ok]
        if right_scores:
            emit(BENCH, case, "auroc", auroc(right_scores, others))
    for unit, taken in times.items():
        for part in (50, 95):
            if taken:
                emit(BENCH, case, f"p{part}_{unit}", float(np.percentile(taken, part)))


def ablations(
    index: ListIndex,
    entries: Sequence[str],
    queries: dict[str, list[tuple[str, Texts]]],
    absent: dict[str, list[Texts]],
) -> None:
    """Each part taken away from ``index``, which holds ``entries``, with the rest as it is."""
    usual = index.config
    cut = {
        "without sound": {"sound": 0.0},
        "without letters": {"sound": 1.0},
        "without edit distance": {"edit": 0.0},
        "best text alone": {"texts": 1},
        "without lead": {"ratio": 1.0},
    }
    for name, change in cut.items():
        index.config = usual.model_copy(update=change)
        for kind in queries:
            judge(index, queries[kind], absent[kind], f"{len(entries)}/{kind}/{name}")
    plainer = ListIndex(entries, phonetic=SkeletonKey())
    for kind in queries:
        judge(plainer, queries[kind], absent[kind], f"{len(entries)}/{kind}/skeleton for sound")


def ratios(index: ListIndex, queries: Sequence[tuple[str, Texts]], absent: Sequence[Texts], case: str) -> None:
    """The trade that ``ratio`` makes; 1 is the threshold alone."""
    usual = index.config
    for ratio_ in RATIOS:
        index.config = usual.model_copy(update={"ratio": ratio_})
        best = [(name, index.best(heard)) for name, heard in queries]
        right = share([found is not None and found.text == name for name, found in best])
        emit(BENCH, f"{case}/ratio {ratio_}", "answered_right", right)
        emit(BENCH, f"{case}/ratio {ratio_}", "absent_answered_wrong", share([bool(index.best(h)) for h in absent]))
    index.config = usual


def changes(index: ListIndex, fresh: Sequence[str]) -> None:
    """Milliseconds from an entry that comes to its being found, and that goes to its being gone."""
    came, went = [], []
    for name in fresh:
        began = time.perf_counter()
        index.add([name])
        assert index.find(name, 1)[0].text == name
        came.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        index.remove([name])
        assert all(found.text != name for found in index.find(name, 1))
        went.append(1000 * (time.perf_counter() - began))
    emit(BENCH, f"{len(index)}/add and find", "p95_ms", float(np.percentile(came, 95)))
    emit(BENCH, f"{len(index)}/remove and find", "p95_ms", float(np.percentile(went, 95)))


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=None, help="default: SAYSO_CORPORA")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--spoken", type=int, default=0, metavar="N", help="names that are spoken and heard")
    parser.add_argument("--bundle", default="home")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tune", action="store_true", help="other names, and every ratio")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    known = names(arguments.corpora or corpora())
    if not known:
        parser.error("no Snips texts; set SAYSO_CORPORA")
    known = [known[int(i)] for i in rng.permutation(len(known))]
    if arguments.tune:
        used = 2 * arguments.queries
        known, rng = [*known[used:], *known[:used]], np.random.default_rng(arguments.seed + 1)
    out, held = known[: arguments.queries], known[arguments.queries :]
    every = [*held, *made(known, max(0, max(arguments.sizes) - len(held)), rng)]
    emit(BENCH, "names", "real", len(held))
    errors = Errors(known, rng)
    asked = held[: arguments.queries]
    makers = {"letters": errors.letters, "words": errors.sounds}
    queries = {kind: [(name, errors.nbest(name, make)) for name in asked] for kind, make in makers.items()}
    absent = {kind: [errors.nbest(name, make) for name in out] for kind, make in makers.items()}
    if arguments.spoken:
        count = arguments.spoken
        heard = spoken([*asked[:count], *out[:count]], arguments.bundle)
        queries["spoken"] = [(name, heard[name]) for name in asked[:count] if name in heard]
        absent["spoken"] = [heard[name] for name in out[:count] if name in heard]
    for size in sorted(arguments.sizes):
        began = time.perf_counter()
        index = ListIndex(every[:size])
        emit(BENCH, str(size), "build_s", time.perf_counter() - began)
        for kind in queries:
            (ratios if arguments.tune else judge)(
                index, [query for query in queries[kind] if query[0] in index], absent[kind], f"{size}/{kind}"
            )
        if arguments.tune:
            continue
        changes(index, [f"{name} again" for name in out[:50]])
    for kind in () if arguments.tune else queries:
        others = ListIndex(every[-min(arguments.sizes) :])
        judge(others, [], [heard for _, heard in queries[kind]], f"irrelevant/{kind}")
    if not arguments.tune:
        ablations(index, every[: max(arguments.sizes)], queries, absent)


if __name__ == "__main__":
    main()
