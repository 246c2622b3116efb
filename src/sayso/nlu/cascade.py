"""Recognise, then understand the text: the baseline that every joint model is measured beside.

A recogniser's n-best list is a distribution over texts, an understander of text gives one over meanings; the cascade
sums over what was said: P(meaning | audio) = sum over texts of P(text | audio) P(meaning | text), the texts'
probabilities being their scores made to sum to one (Hakkani-Tür et al. 2006 on word confusion networks; Wang et al.
2011 for the n-best form). So a meaning that several texts share may win over that of the best text. ``Matcher``
understands the sentences of a domain; whatever else maps a text to ``Guess``es may take its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sayso.core.automaton import Automaton
from sayso.core.result import Alternative, Frame, Intent, Reason, Result, Slot
from sayso.nlu.automaton_io import match
from sayso.nlu.spelling import Tokens
from sayso.text.display import display

Texts = Sequence[tuple[str, float]]  # texts and their log scores, best first


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a text may mean; ``intent`` None: nothing that is known. ``text`` is the likeliest that means it."""

    intent: str | None
    slots: tuple[Slot, ...] = ()
    text: str = ""
    probability: float = 1.0


Understander = Callable[[str], Sequence[Guess]]


class Matcher:
    """Understands exactly the sentences of a compiled domain; several meanings of one share by their priors."""

    def __init__(self, automaton: Automaton, tokenizer: Tokens) -> None:
        self.automaton, self.tokenizer = automaton, tokenizer

    def __call__(self, text: str) -> list[Guess]:
        """Probabilities that sum to one; the guess of no intent where the domain does not say ``text``."""
        found = match(self.automaton, self.tokenizer, text)
        if not found:
            return [Guess(intent=None, text=text)]
        best = max(meaning.weight for meaning, _ in found)
        shares = [math.exp(meaning.weight - best) for meaning, _ in found]
        return [
            Guess(intent=meaning.intent, slots=slots, text=text, probability=share / sum(shares))
            for (meaning, slots), share in zip(found, shares, strict=True)
        ]


def cascade(texts: Texts, understand: Understander, *, scale: float = 1.0) -> list[Guess]:
    """Every meaning of an n-best list with its probability, the likeliest first; [] for no texts.

    ``scale`` multiplies the log scores: below 1 it flattens a recogniser that is too sure of itself. Equal meanings
    have equal intents and slot values; they keep the words of the text that gives them most. Equal probabilities stay
    in the order of the list.
    """
    if not texts:
        return []
    best = max(scale * score for _, score in texts)
    weights = [math.exp(scale * score - best) for _, score in texts]
    total = math.fsum(weights)
    found: dict[tuple[str | None, tuple[tuple[str, str], ...]], tuple[Guess, float, float]] = {}
    for (text, _), weight in zip(texts, weights, strict=True):
        for guess in understand(text):
            key = (guess.intent, tuple(sorted((slot.name, slot.value) for slot in guess.slots)))
            share = weight / total * guess.probability
            known, mass, most = found.get(key, (guess, 0.0, 0.0))
            found[key] = (guess if share > most else known, mass + share, max(share, most))
    guesses = [replace(guess, probability=mass) for guess, mass, _ in found.values()]
    return sorted(guesses, key=lambda guess: -guess.probability)


def answer(texts: Texts, guesses: Sequence[Guess], *, least: float = 0.0) -> Result:
    """A result of ``guesses``: the likeliest that knows an intent, refused where there is none or where it has no more
    probability than ``least``. What no intent explains is not held against it, since exact sentences are few among all
    that a recogniser writes; ``least`` decides that. Silence (no text) is ``no_speech``; confidence stays null, because
    the probabilities are not calibrated."""
    heard = texts[0][0] if texts else ""
    known = [guess for guess in guesses if guess.intent is not None]
    others = tuple(
        Alternative(text=g.text, intent=g.intent, slots=g.slots, score=math.log(max(g.probability, 1e-300)))
        for g in known
    )
    if not known or known[0].probability <= least:
        reason: Reason = "out_of_domain" if heard else "no_speech"
        return Result(
            stable=heard, text=heard, display=display(heard), decision="reject", reason=reason, alternatives=others
        )
    best = known[0]
    frame = Frame(intent=Intent(name=best.intent or ""), slots=best.slots)
    return Result(
        stable=best.text,
        text=best.text,
        display=display(best.text),
        intent=frame.intent,
        slots=frame.slots,
        frames=(frame,),
        decision="accept",
        alternatives=others[1:],
    )
