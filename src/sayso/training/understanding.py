"""Training a text understander on gold and on predicted text: the second half of a cascade.

What a recogniser writes is not what people said, so a tagger that only saw transcripts fails on it (Desot et al. 2019
and many before them train on both). A predicted text gets its tags from the transcript by word alignment: words that
stand for a slot's words carry its tag, insertions within a slot belong to it, deletions vanish. The class of a sentence
is its intent together with the slots that nobody says; one class more is for what must be rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from sayso.core.config import Config
from sayso.core.errors import DataError
from sayso.core.result import Example, Slot
from sayso.models.text_tagger import TextTagger, TextTaggerConfig
from sayso.nlu.cascade import Guess
from sayso.nlu.values import SpokenValues, spoken_forms, tag_spans
from sayso.text.normalise import normalise
from sayso.training.labels import OUTSIDE, word_tags

Class = tuple[str, tuple[tuple[str, str], ...]]  # an intent and its unspoken slots
CLASSES = 3  # that a text is a guess of, at most


class UnderstandingConfig(Config):
    """How the tagger is trained. ``alike`` is how near a tagged phrase must be to one of training for its value
    (normalised Levenshtein similarity); further away it stands for itself, as in an open slot."""

    model: TextTaggerConfig = TextTaggerConfig()
    epochs: int = 20
    batch: int = 64
    rate: float = 3e-3
    alike: float = 0.75
    seed: int = 0


@dataclass(frozen=True)
class Read:
    """A text to learn from, the transcript or what a recogniser made of it, and what its recording means."""

    text: str
    example: Example


class TextUnderstander:
    """A trained tagger with its classes and values; ``nlu.cascade`` asks it what a text means."""

    def __init__(self, config: UnderstandingConfig, reads: Sequence[Read]) -> None:
        """Classes, tags and values of the meanings in ``reads``; weights fresh from ``config.seed``."""
        known = [read.example for read in reads if read.example.intent is not None]
        if not known:
            raise DataError("no text with an intent to learn understanding from; give a labelled manifest")
        self.config = config
        self.classes: list[Class | None] = [*dict.fromkeys(map(class_of, known)), None]
        names = sorted({slot.name for example in known for slot in example.slots or () if slot.text})
        self.tags = [OUTSIDE, *(f"{mark}-{name}" for name in names for mark in "BI")]
        said = [slot for example in known for slot in example.slots or () if slot.text]
        self.values = SpokenValues(spoken_forms(said), config.alike)
        torch.manual_seed(config.seed)
        self.model: TextTagger = config.model.build(len(self.classes), len(self.tags))

    @torch.no_grad()
    def __call__(self, text: str) -> list[Guess]:
        """The likeliest classes, each with the slots that the tags say; their probabilities sum to one at most."""
        words = normalise(text).split()
        if not words:
            return [Guess(intent=None, text=text)]
        self.model.eval()
        classes, tags = self.model(*self.model.rows([words]))
        spans = tag_spans([self.tags[int(i)] for i in tags[0].argmax(-1)])
        slots = [self.values.slot(name, " ".join(words[start:end])) for name, start, end in spans]
        best = torch.topk(classes[0], min(CLASSES, len(self.classes)))
        found = []
        for log_prob, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            meant = self.classes[index]
            silent = () if meant is None else tuple(Slot(name=n, value=v, source="template") for n, v in meant[1])
            found.append(
                Guess(
                    intent=None if meant is None else meant[0],
                    slots=() if meant is None else (*slots, *silent),
                    text=text,
                    probability=float(np.exp(log_prob)),
                )
            )
        return found


def fit(reads: Sequence[Read], config: UnderstandingConfig | None = None) -> TextUnderstander:
    """A text understander trained on ``reads``; the same for the same seed and order. Examples whose intent is unknown
    are left out; ``DataError`` where none is left."""
    settings = config or UnderstandingConfig()
    known = [read for read in reads if read.example.intent is not None or read.example.negative]
    understander = TextUnderstander(settings, known)
    items = [(words, _tags(read), _class(read, understander)) for read in known if (words := _words(read.text))]
    model, rng = understander.model, np.random.default_rng(settings.seed)
    optimiser = torch.optim.Adam(model.parameters(), settings.rate)
    model.train()
    for _ in range(settings.epochs):
        order = rng.permutation(len(items))
        for start in range(0, len(order), settings.batch):
            group = [items[int(i)] for i in order[start : start + settings.batch]]
            grams, lengths = model.rows([words for words, _, _ in group])
            wanted = torch.full(grams.shape[:2], -100)
            for row, (_, tags, _) in enumerate(group):
                wanted[row, : len(tags)] = torch.tensor([understander.tags.index(tag) for tag in tags])
            classes, tagged = model(grams, lengths)
            loss = torch.nn.functional.nll_loss(classes, torch.tensor([number for _, _, number in group]))
            loss = loss + torch.nn.functional.nll_loss(tagged.flatten(0, 1), wanted.flatten(), ignore_index=-100)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return understander


def class_of(example: Example) -> Class:
    """Intent and unspoken slots, sorted."""
    assert example.intent is not None, "negatives have no class of this kind"
    silent = sorted((slot.name, slot.value) for slot in example.slots or () if not slot.text)
    return example.intent, tuple(silent)


def moved_tags(words: Sequence[str], tags: Sequence[str], heard: Sequence[str]) -> list[str]:
    """The tags of ``words`` on ``heard``, aligned by minimal edits of words."""
    result: list[str] = []
    for edit in Levenshtein.opcodes(list(words), list(heard)):
        at = edit.src_start
        if edit.tag in ("equal", "replace"):
            result += tags[at : edit.src_end]
        elif edit.tag == "insert":
            inside = tags[at] if at < len(tags) and tags[at].startswith("I-") else OUTSIDE
            result += [inside] * (edit.dest_end - edit.dest_start)
    for place, tag in enumerate(result):  # a slot whose first words were deleted begins with what is left
        if tag.startswith("I-") and (place == 0 or result[place - 1][2:] != tag[2:]):
            result[place] = f"B-{tag[2:]}"
    return result


def _words(text: str) -> list[str]:
    return normalise(text).split()


def _tags(read: Read) -> list[str]:
    example, heard = read.example, _words(read.text)
    said = heard if example.text is None else _words(example.text)
    slots = [slot.model_copy(update={"text": normalise(slot.text)}) for slot in example.slots or ()]
    return moved_tags(said, word_tags(said, slots), heard)


def _class(read: Read, understander: TextUnderstander) -> int:
    example = read.example
    return understander.classes.index(None if example.intent is None else class_of(example))
