"""What a build speaks: sentences to train on, sentences that only held-out voices say, and everyday talk.

Templates and slot values are held out of training, so that the report can say how the model does on wording and on
words that it never heard. Sentences outside the domain are the domain's own and general ones; what the grammar accepts
is no negative and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import CutSet  # type: ignore[import-untyped]

from sayso.build.config import BuildConfig
from sayso.build.negatives import EVERYDAY
from sayso.build.phrases import open_phrases
from sayso.core.automaton import Automaton
from sayso.data.synthesis import Role
from sayso.data.synthesise import Sentence, Spoken, SynthConfig, synthesise
from sayso.nlu.automaton_io import match
from sayso.nlu.domain import Domain
from sayso.nlu.sample import Utterance, open_templates, other_values, sample, split_domain
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer
from sayso.training.progress import Meter, Say

TRAIN, TRAIN_NEGATIVE = "train", "train-negative"
SEEN, UNSEEN_TEMPLATES, UNSEEN_VALUES, NEGATIVE = "seen", "unseen-templates", "unseen-values", "negative"
_EACH_INTENT = 8  # sentences that every intent gets at least, however rare its templates


@dataclass(frozen=True)
class Script:
    """Sentences by kind; empty kinds are left out."""

    spoken: dict[str, Sequence[Spoken]]

    def role(self, kind: str) -> Role:
        """Whose voices speak ``kind``."""
        return "train" if kind.startswith("train") else "valid"


def write_script(
    domain: Domain, strange: Sequence[str], talk: Sequence[str], minutes: float, config: BuildConfig, seed: int
) -> Script:
    """Draw all sentences; the amount to train on grows with ``minutes`` of training (0: what int8 scales need).

    ``strange`` is what must be rejected (see ``outside``), ``talk`` more of it to train on.
    """
    split = split_domain(domain, seed, config.held_templates, config.held_values)
    wanted = min(config.most_sentences, max(config.least_sentences, round(config.sentences_per_minute * minutes)))
    count = wanted if minutes > 0 else config.quantise
    train = open_phrases(2 * max(count, config.least_sentences), seed, (*EVERYDAY, *talk))
    known = {"exclude_templates": split.templates, "exclude_values": split.values, "phrases": train}
    drawn = sample(domain, count, seed=seed, **known)  # type: ignore[arg-type]
    # what a list holds is learnt in a few sentences, what anybody may say is not
    opened, more = open_templates(domain), round(config.open_share * count)
    wild = sample(domain, more, seed=seed + 5, only_templates=opened, **known)  # type: ignore[arg-type]
    wild = [u for u in wild if any(slot.source == "open" for slot in u.slots)]
    drawn = _different(drawn, wild)
    drawn += _missing(domain, drawn, seed, train)
    rest = other_values(domain, split.values)
    strangers = {"exclude_values": rest, "phrases": open_phrases(config.least_sentences, seed, held=True)}
    values = sample(domain, config.unseen_values // 5, seed=seed + 6, only_templates=opened, **strangers)  # type: ignore[arg-type]
    values += sample(domain, 4 * config.unseen_values, seed=seed + 2, **strangers)  # type: ignore[arg-type]
    unseen = [u for u in values if any(s.source == "open" or s.value in split.values.get(s.name, ()) for s in u.slots)]
    templates = sample(domain, config.unseen_templates, seed=seed + 3, only_templates=split.templates, phrases=train)
    order = np.random.default_rng((seed, 4)).permutation(len(strange))
    cut = min(config.negatives, len(strange) // 3)
    valid_part, train_part = order[:cut], order[cut:][: config.train_negatives if minutes > 0 else 0]
    spoken: dict[str, Sequence[Spoken]] = {
        TRAIN: drawn,
        TRAIN_NEGATIVE: [Sentence(text) for text in dict.fromkeys([*(strange[int(i)] for i in train_part), *talk])],
        SEEN: sample(domain, config.seen, seed=seed + 1, **known),  # type: ignore[arg-type]
        UNSEEN_TEMPLATES: templates if split.templates else [],
        UNSEEN_VALUES: _different(unseen)[: config.unseen_values],
        NEGATIVE: [Sentence(strange[int(i)]) for i in valid_part],
    }
    return Script({kind: sentences for kind, sentences in spoken.items() if sentences})


def outside(domain: Domain, automaton: Automaton, tokenizer: Tokenizer) -> list[str]:
    """Sentences that must be rejected, normalised: the domain's, then everyday ones that its grammar does not
    accept."""
    every = dict.fromkeys(normalise(text) for text in (*domain.out_of_domain, *EVERYDAY))
    return [text for text in every if text and not match(automaton, tokenizer, text)]


def everyday_talk(parts: Sequence[CutSet], count: int, seed: int, inside: Callable[[str], bool]) -> list[str]:
    """``count`` transcripts of 2 to 12 words that are not in the domain: what people say, for synthetic voices to
    say."""
    texts = dict.fromkeys(cut.supervisions[0].text or "" for part in parts for cut in part if cut.supervisions)
    short = [text for text in texts if 2 <= len(text.split()) <= 12]
    order = np.random.default_rng((seed, 8)).permutation(len(short))
    found: list[str] = []
    for number in order:
        if len(found) == count:
            break
        if not inside(short[int(number)]):
            found.append(short[int(number)])
    return found


def speak(script: Script, folder: Path, domain: Domain, config: BuildConfig, seed: int, say: Say) -> dict[str, Path]:
    """Synthesise each kind into ``folder/KIND``; what is there is kept. Returns the manifests by kind."""
    manifests = {}
    for kind, sentences in script.spoken.items():
        each = config.voices_each if kind == TRAIN else 1
        settings = SynthConfig(engines=config.engines, voices_each=each, processes=config.processes, seed=seed)
        manifests[kind] = synthesise(
            sentences,
            folder / kind,
            role=script.role(kind),
            config=settings,
            domain=domain.name,
            negative=kind.endswith("negative"),
            progress=Meter(say, f"speaking {kind}"),
        )
    return manifests


def _different(*parts: Sequence[Utterance]) -> list[Utterance]:
    """All of them, each sentence of an intent once."""
    return list({(u.text, u.intent): u for part in parts for u in part}.values())


def _missing(domain: Domain, drawn: Sequence[Utterance], seed: int, phrases: Sequence[str]) -> list[Utterance]:
    """Sentences of the intents that the draw brought too few of."""
    more: list[Utterance] = []
    for number, intent in enumerate(domain.intents):
        have = sum(utterance.intent == intent for utterance in drawn)
        if have < _EACH_INTENT:
            templates = [i for i, template in enumerate(domain.templates) if template.intent == intent]
            known = {utterance.text for utterance in drawn}
            found = sample(domain, _EACH_INTENT, seed=seed + 100 + number, only_templates=templates, phrases=phrases)
            more += [u for u in found if u.text not in known or not have]
    return more
