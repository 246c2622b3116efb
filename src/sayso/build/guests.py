"""Real people as users whom nobody recorded: their sentences are lent to the domain's grammar while they are heard.

A build has no real speech of its domain, so that whatever calibrates it on commands of synthetic voices takes real
people for strangers: they are heard with less certainty, and are refused. Speakers of `valid` parts say other
sentences; put beside the domain's own, each is a command like any other, and what the search then says of it is what
it says of real users. The network's heads know nothing of such sentences, and are not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.build.config import BuildConfig
from sayso.core.errors import AudioError, DataError
from sayso.core.result import Example
from sayso.data import manifest
from sayso.data.corpora import read_corpus
from sayso.data.splits import cut_valid
from sayso.decoding.graph import GraphSearch
from sayso.nlu.compile import compile_domain
from sayso.nlu.grammar import Chars
from sayso.nlu.schema import Domain, Template
from sayso.runtime.model import Model
from sayso.text.lexicon import Lexicon
from sayso.text.normalise import normalise
from sayso.text.tokenizer import UNKNOWN, Tokenizer

Floats = NDArray[np.float32]
LONGEST_S = 8.0  # commands are short, and long clips are rejected for their length
_WORDS = (2, 10)


def real_speech(config: BuildConfig, inside: Callable[[str], bool], root: Path | None) -> list[list[Example]]:
    """Short clips of the validation parts, corpus by corpus, of which the domain's grammar accepts no text."""
    rows: list[list[Example]] = []
    for replay in config.replay if root is not None else ():
        try:
            valid = cut_valid(read_corpus(replay.corpus, root=root))[1]
        except DataError:
            continue  # this corpus is not here
        found = [manifest.to_example(cut) for cut in valid if cut.duration <= LONGEST_S]
        rows.append([example for example in found if not inside(example.text or "")])
    return rows


def spread(rows: Sequence[Sequence[Example]], count: int) -> Iterator[tuple[Example, Floats]]:
    """At most ``count`` of them with their samples, from every corpus as many, spread evenly."""
    left = count
    for row in rows:
        for example in row[:: max(1, len(row) * len(rows) // max(1, count))]:
            if not left:
                return
            try:
                samples = decode.read(example.audio)
            except AudioError:
                continue
            left -= 1
            yield example, samples


def sentence(example: Example, tokenizer: Tokenizer) -> str | None:
    """What a guest may lend; None where it is no sentence of a command's length that can be spelled."""
    text = normalise(example.text or "")
    short = _WORDS[0] <= len(text.split()) <= _WORDS[1]
    return text if short and UNKNOWN not in tokenizer.encode(text) else None


def lent(sentence: str) -> str:
    """The intent of a sentence that a guest lends; no domain file can name one so."""
    return f"a guest's: {sentence}"


def with_guests(model: Model, domain: Domain, sentences: Sequence[str]) -> Model:
    """The same bundle with a grammar that has these ``sentences`` too, each as likely as an intent of the domain."""
    engine = copy(model.engine)
    assert engine.automaton is not None, "builds have a grammar"
    weight = sum(template.weight for template in domain.templates) / len(domain.intents)
    templates = tuple(
        Template(intent=lent(text), text=text, file="", line=0, tree=Chars(text), weight=weight)
        for text in dict.fromkeys(sentences)
    )
    wider = replace(domain, templates=(*domain.templates, *templates))
    lexicon = Lexicon.load() if engine.automaton.lexicon else None
    engine.automaton = compile_domain(wider, engine.tokenizer, lexicon)
    engine.search = GraphSearch(engine.automaton, engine.graph_config)
    twin = copy(model)
    twin.engine = engine
    return twin
