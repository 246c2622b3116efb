"""Meaning without a grammar: by the decoder, by the heads on what was read, or none; and the intents that a head sees
coming.

Nothing measures how sure these ways are, so they refuse silence, excess and what the intent head calls out of domain.
In a private bundle no result has words: those of slots are kept as values alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import text_of
from sayso.core.result import Alternative, Frame, Intent, Result, Slot, Word
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.words import spans_of, words_of
from sayso.nlu.policy import Decision, Situation, decide
from sayso.nlu.trees import frames_of
from sayso.nlu.values import tag_spans
from sayso.runtime.engine import Engine
from sayso.runtime.reading import read, states_of
from sayso.runtime.utterance import Utterance, manners, presentable, rejected
from sayso.text.display import display

Floats = NDArray[np.float32]
_COMING = 3  # intents that a partial result names


def without_domain(engine: Engine, heard: Utterance) -> Result:
    """The final result of a bundle that has no grammar (without stream fields such as timing)."""
    if engine.by_heads:
        return _headed(engine, heard)
    return _transcript(heard) if engine.parser is None else _parsed(engine, heard)


def early(engine: Engine, log_probs: Floats | None, result: Result) -> Result:
    """A partial result with what the intent head makes of all that was heard: its likeliest intents, by log
    probability (I+1,), as alternatives; where the heads decide, the likeliest is the intent so far."""
    if log_probs is None:
        return result
    names = engine.manifest.intent_classes
    best = np.argsort(-log_probs, kind="stable")[:_COMING].tolist()
    coming = tuple(
        Alternative(text=result.text, intent=names[i] if i < len(names) else None, score=float(log_probs[i]))
        for i in best
    )
    result = result.model_copy(update={"alternatives": coming})
    if engine.by_heads and coming[0].intent is not None:
        intent = Intent(name=coming[0].intent)
        result = result.model_copy(update={"intent": intent, "frames": (Frame(intent=intent),)})
    return result


def _headed(engine: Engine, heard: Utterance) -> Result:
    """The intent head's best, and slots where the slot head tags the text, the decoder's where one writes transcripts
    and else the free one; ``manifest.values`` says for which value words stand."""
    situation = Situation(intent=None, speech_s=heard.speech_s, truncated=heard.truncated)
    decision = decide(situation, engine.policy)
    if decision.reason in ("no_speech", "truncated") or heard.intent is None:
        return rejected(decision, heard, ())
    heard = read(engine, _reread(engine, heard))
    assert heard.intent is not None
    number = int(heard.intent.argmax())
    if number >= len(engine.manifest.intents):
        return rejected(Decision("reject", "out_of_domain"), heard, ())
    name, slots = engine.manifest.intents[number].name, _tagged(engine, heard)
    risk, clarify = manners(engine, name)
    decision = decide(replace(situation, intent=name, slots=slots, risk=risk, clarify=clarify), engine.policy)
    intent = Intent(name=name)
    return Result(
        stable=heard.free_text,
        text=heard.free_text,
        display=display(heard.free_text),
        intent=intent,
        slots=slots,
        frames=(Frame(intent=intent, slots=slots),),
        decision=decision.decision,
        prompt=decision.prompt,
        words=heard.free_words,
    )


def _reread(engine: Engine, heard: Utterance) -> Utterance:
    """The same with what the decoder writes in place of the free text, where there is one."""
    if engine.parser is None or heard.encoded is None or heard.log_probs is None:
        return heard
    parsed = engine.parser.parse(heard.encoded, heard.log_probs)
    spoken = Hypothesis() if parsed.spoken is None else parsed.spoken
    return replace(heard, free=spoken, free_text=parsed.text or "", free_words=_timed(engine, spoken))


def _timed(engine: Engine, spoken: Hypothesis) -> tuple[Word, ...]:
    """The words of a text that was aligned with CTC's rows."""
    found = words_of(spoken, engine.tokenizer.pieces, frame_s=engine.ctc_frame_s, delay_s=engine.calibration.delay_s)
    return presentable(engine, found, engine.calibration.free_words)


def _tagged(engine: Engine, heard: Utterance) -> tuple[Slot, ...]:
    """Slots of the text; a word has the tag of its first piece, and takes its times along."""
    graph, tokens = engine.graph("slots"), heard.free.tokens
    if graph is None or not tokens or heard.encoded is None:
        return ()
    by_rows = engine.free_config.by_ctc or engine.parser is not None
    rate = engine.manifest.ctc_rate if by_rows else 1
    at = np.minimum(np.array(heard.free.frames) // rate, len(heard.encoded) - 1)
    feed = {"frames": heard.encoded[None, at], "tokens": np.array([tokens]), "lengths": np.array([len(tokens)])}
    feed |= states_of(engine, feed["tokens"], feed["lengths"], heard.encoded)
    best = graph.run(feed)[0]["log_probs"][0].argmax(-1)
    pieces = engine.tokenizer.pieces
    spelled = [span for span in spans_of(tokens, pieces) if text_of(pieces[t] for t in tokens[span[0] : span[1] + 1])]
    firsts = [engine.manifest.tags[int(best[first])] for first, _ in spelled]
    said, found = heard.free_words, []
    for name, start, end in tag_spans(firsts):
        slot = engine.values.slot(name, " ".join(word.text for word in said[start:end]))
        found.append(slot.model_copy(update={"start": said[start].start, "end": said[end - 1].end, "source": "head"}))
    return tuple(found)


def _wordless(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Frames whose slots keep their values alone."""
    return tuple(
        frame.model_copy(update={"slots": tuple(slot.model_copy(update={"text": ""}) for slot in frame.slots)})
        for frame in frames
    )


def _valued(engine: Engine, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Frames with the values that the words of their slots stand for, where the bundle knows any."""
    known = engine.manifest.values
    return tuple(
        frame.model_copy(
            update={
                "slots": tuple(
                    slot.model_copy(update={"value": engine.values.slot(slot.name, slot.text).value})
                    if slot.name in known
                    else slot
                    for slot in frame.slots
                )
            }
        )
        for frame in frames
    )


def _parsed(engine: Engine, heard: Utterance) -> Result:
    """What the decoder writes; with nothing to doubt it by, it is refused for silence and excess alone."""
    situation = Situation(intent=None, speech_s=heard.speech_s, truncated=heard.truncated)
    decision = decide(situation, engine.policy)
    if decision.reason in ("no_speech", "truncated") or heard.encoded is None or heard.log_probs is None:
        return rejected(decision, heard, ())
    assert engine.parser is not None
    parsed = engine.parser.parse(heard.encoded, heard.log_probs)
    timed = heard.free_words if parsed.text is None else ()
    if parsed.spoken is not None:
        timed = _timed(engine, parsed.spoken)
    text = heard.free_text if parsed.text is None else parsed.text
    times = () if parsed.spoken is None else [(word.start, word.end) for word in timed]
    frames = _valued(engine, frames_of(parsed.parts, times))
    if engine.manifest.private:
        frames = _wordless(frames)
    best = frames[0] if frames else None
    if best is not None:
        risk, clarify = manners(engine, best.intent.name)
        situation = replace(situation, intent=best.intent.name, slots=best.slots, risk=risk, clarify=clarify)
        decision = decide(situation, engine.policy)
    return Result(
        stable=text,
        text=text,
        display=display(text),
        intent=None if best is None else best.intent,
        slots=() if best is None else best.slots,
        frames=frames,
        decision="accept" if best is None else decision.decision,
        prompt=None if best is None else decision.prompt,
        words=timed,
    )


def _transcript(heard: Utterance) -> Result:
    """A bundle without a domain has nothing to reject but silence and excess."""
    if heard.speech_s == 0.0:
        return rejected(Decision("reject", "no_speech"), heard, ())
    if heard.truncated:
        return rejected(Decision("reject", "truncated"), heard, ())
    text = heard.free_text
    return Result(stable=text, text=text, display=display(text), decision="accept", words=heard.free_words)
