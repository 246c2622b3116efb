"""A dialogue: utterances that are heard and understood after the ones before them.

A session is its history (a few predicted turns) and nothing else, so that its thousandth utterance costs what its
second does. The history changes two things: what the graph search expects ("and the bedroom", "the second one", "yes";
``nlu/followup.py``) and what the words mean (``nlu/context.py``). The policy's questions become turns here: a question
names the values in doubt, the answer is understood as one, and after ``QUESTIONS`` of them without an answer the safe
default follows, which is to do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from sayso.core.config import Config
from sayso.core.errors import DomainError
from sayso.core.result import Alternative, Frame, Intent, Reason, Result, Slot
from sayso.decoding.graph import GraphSearch
from sayso.nlu.context import History, Turn, in_context, refused, remember
from sayso.nlu.context_schema import schema_of
from sayso.nlu.followup import FOLLOW_UP, with_follow_ups
from sayso.nlu.policy import Doubt, Situation, doubt_of, question
from sayso.nlu.spelling import Phones, Pieces, speller_of
from sayso.runtime.blocks import Audio, blocks, through
from sayso.runtime.choose import Outcome
from sayso.runtime.engine import Engine
from sayso.runtime.lists import Brought, Lists, with_lists
from sayso.runtime.stream import Stream

QUESTIONS = 2  # in a row
# Of ten utterances behind a question nine answer it, where calibration knows commands and other talk about equally
# often. A "yes" is one syllable, and next to nothing speaks for it but that it was asked for.
ANSWERED = math.log(9.0)
_UNHEARD: Reason = "out_of_domain"


class SessionState(Config):
    """All that a session remembers, as data of at most a few kB: ``questions`` asked in a row, the last ``prompt``, and
    how many utterances there were."""

    history: History = ()
    questions: int = 0
    prompt: str = ""
    utterances: int = 0


class Session:
    """One person's dialogue, one utterance after the other. ``lists`` replaces slot lists for all of it; ``state`` is
    that of the session that this one goes on with."""

    def __init__(self, engine: Engine, *, lists: Lists | None = None, state: SessionState | None = None) -> None:
        state = state or SessionState()
        self._engine = engine
        self._brought = with_lists(engine, lists)
        self._search = self._brought.search
        self.history: History = state.history
        self._questions, self._prompt, self._utterances = state.questions, state.prompt, state.utterances
        self._speller: Pieces | Phones | None = None
        if self._search is None:
            return
        automaton = self._search.automaton
        self._schema = schema_of(automaton, {s.name: (s.risk, s.clarify) for s in engine.manifest.intents})
        with suppress(DomainError):  # another lexicon than this release's: commands are understood, follow-ups are not
            self._speller = speller_of(automaton, engine.tokenizer)

    def stream(self, *, sample_rate: int | None = None) -> Stream:
        """The next utterance. It is heard after the turns that are finished now, and becomes one when it is."""
        return Stream(self._engine, sample_rate=sample_rate, before=_Moment(self))

    def understand(self, audio: Audio, sample_rate: int | None = None) -> Result:
        """The next utterance, from a recording: a path, or samples with their rate. Raises ``AudioError``."""
        stream = self.stream()
        return through(stream, blocks(audio, sample_rate, self._engine.manifest.sample_rate))

    def forget(self) -> None:
        """Begin a new dialogue."""
        self.history, self._questions, self._prompt, self._utterances = (), 0, "", 0

    @property
    def state(self) -> SessionState:
        """What a session of the same bundle needs to go on from here, in another process too."""
        return SessionState(
            history=self.history, questions=self._questions, prompt=self._prompt, utterances=self._utterances
        )

    @property
    def waits(self) -> bool:
        """Whether a question is open."""
        return bool(self.history) and self.history[-1].open

    def search(self) -> GraphSearch | None:
        """The search of the next utterance."""
        if self._search is None or self._speller is None or not self.history:
            return self._search
        automaton = with_follow_ups(self._search.automaton, self.history, self._schema, self._speller)
        return GraphSearch(automaton, self._engine.graph_config)

    @property
    def brought(self) -> Brought:
        """Its lists, with the search of the next utterance."""
        return replace(self._brought, search=self.search())

    def meaning(self, text: str) -> Result | None:
        """What a follow-up means here; None: nothing. A refused question is a rejection."""
        heard = Result(text=text, decision="reject", reason=_UNHEARD)
        if refused(text, self.history):
            return heard.model_copy(update={"reason": "low_confidence"})
        meant = in_context(heard, self.history, self._schema)
        return None if meant.intent is None else meant

    def settle(self, result: Result, outcome: Outcome) -> Result:
        """The final result of an utterance as it is meant here; the history has it as its last turn then."""
        self._utterances += 1
        if self._search is None:
            return result
        alternatives = tuple(self._alternatives(result))
        if result.intent is not None and result.intent.name == FOLLOW_UP:
            result, doubt = self._followed(result, outcome)
        else:
            result = in_context(result, self.history, self._schema) if result.intent is not None else result
            doubt = outcome.doubt
            if result.intent is not None and not (self.waits and _means(self.history[-1], result)):
                self._questions = 0  # something else is wanted: its questions are its own
        return self._turn(result.model_copy(update={"alternatives": alternatives}), doubt)

    def _followed(self, heard: Result, outcome: Outcome) -> tuple[Result, Doubt | None]:
        """A follow-up with its meaning; what was heard in it keeps its times and confidence."""
        meant = self.meaning(heard.text)
        assert meant is not None, "the search proposes only what means something"
        update = {"decision": meant.decision, "reason": meant.reason, "prompt": meant.prompt}
        if meant.intent is None:
            return heard.model_copy(update={**update, "intent": None, "slots": (), "frames": ()}), None
        spoken = {(slot.text, slot.source): slot for slot in heard.slots}
        slots = tuple(_as_heard(slot, spoken.get((slot.text, slot.source))) for slot in meant.slots)
        intent = Intent(name=meant.intent.name, confidence=outcome.confidence)
        frame = meant.frames[0].model_copy(update={"intent": intent, "slots": slots})
        if heard.decision == "clarify":
            update |= {"decision": "clarify", "reason": None}
        return (
            heard.model_copy(update={**update, "intent": intent, "slots": slots, "frames": (frame,)}),
            doubt_of(slots) or doubt_of([slot.model_copy(update={"source": None}) for slot in slots]),
        )

    def _turn(self, result: Result, doubt: Doubt | None) -> Result:
        """Ask, ask again, or give up, and remember."""
        if result.intent is None:
            return self._unanswered(result)
        if result.decision != "clarify":
            self._questions, self.history = 0, remember(self.history, result)
            return result
        if self._questions == QUESTIONS:
            return self._given_up(result)
        self._questions += 1
        risk, clarify = self._schema.manners.get(result.intent.name, ("none", None))
        situation = Situation(intent=result.intent.name, slots=result.slots, risk=risk, clarify=clarify, doubt=doubt)
        asked, offered = (None, ()) if doubt is None else (doubt.slot, doubt.values)
        self.history = remember(self.history, result, asked=asked, offered=offered)
        self._prompt = question(situation)
        return result.model_copy(update={"prompt": self._prompt})

    def _unanswered(self, result: Result) -> Result:
        """Nothing was understood: an open question is asked once more, unless it was refused or asked enough."""
        if not self.waits:
            self._questions = 0
            return result
        last = self.history[-1]
        if refused(result.text, self.history) or self._questions == QUESTIONS:
            self._close()
            return result
        self._questions += 1
        intent = Intent(name=last.intent)
        return result.model_copy(
            update={
                "intent": intent,
                "slots": last.slots,
                "frames": (Frame(intent=intent, slots=last.slots),),
                "decision": "clarify",
                "reason": None,
                "prompt": self._prompt,
            }
        )

    def _given_up(self, result: Result) -> Result:
        """The safe default: nothing is done, and what would have been is the first alternative."""
        assert result.intent is not None
        self._close()
        guess = Alternative(text=result.text, intent=result.intent.name, slots=result.slots)
        update = {"intent": None, "slots": (), "frames": (), "decision": "reject", "reason": "low_confidence"}
        return result.model_copy(update={**update, "prompt": None, "alternatives": (guess, *result.alternatives)})

    def _close(self) -> None:
        """The open question is none any more."""
        self._questions = 0
        if self.waits:
            self.history = (*self.history[:-1], replace(self.history[-1], open=False, asked=None, offered=()))

    def _alternatives(self, result: Result) -> Iterator[Alternative]:
        """With the meanings of follow-ups."""
        for other in result.alternatives:
            if other.intent != FOLLOW_UP:
                yield other
                continue
            meant = self.meaning(other.text)
            if meant is not None and meant.intent is not None:
                yield other.model_copy(update={"intent": meant.intent.name, "slots": meant.slots})


class _Moment:
    """A session when an utterance begins (``stream.Before``)."""

    def __init__(self, session: Session) -> None:
        self._session, self.brought = session, session.brought
        self.turn = session.state.utterances + 1

    def legal(self, intent: str, text: str) -> bool:
        """Commands always are, follow-ups where they mean something."""
        return intent != FOLLOW_UP or self._session.meaning(text) is not None

    def lift(self, intent: str) -> float:
        """An open question makes its answer likely."""
        return ANSWERED if intent == FOLLOW_UP and self._session.waits else 0.0

    def settle(self, result: Result, outcome: Outcome) -> Result:
        """As ``Session.settle``."""
        return self._session.settle(result, outcome)


def _means(turn: Turn, result: Result) -> bool:
    """Whether ``result`` says again what ``turn`` said."""
    said, before = ({(slot.name, slot.value) for slot in slots} for slots in (result.slots, turn.slots))
    return result.intent is not None and result.intent.name == turn.intent and said == before


def _as_heard(slot: Slot, heard: Slot | None) -> Slot:
    """``slot`` with the times and confidence of the words that said it."""
    if heard is None:
        return slot
    return slot.model_copy(update={"confidence": heard.confidence, "start": heard.start, "end": heard.end})
