"""The second pass: what only the whole utterance says is said at the endpoint, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sayso.audio.features import fbank
from sayso.core.manifest import PassSpec
from sayso.runtime.model import Model
from sayso.runtime.stream import advance

PASSES = (
    PassSpec(name="first", when="chunk"),
    PassSpec(name="whole", when="endpoint", graphs=("encoder", "ctc")),
    PassSpec(name="choose", when="endpoint"),
)


@pytest.fixture(scope="module")
def deaf(tones: Any) -> Model:
    """Hears nothing in a chunk."""
    model: Model = tones.model(deaf=True, passes=PASSES)
    return model


def timeless(model: Model, samples: Any) -> Any:
    result, outcome = model.explain(samples)
    return result.model_dump(exclude={"timing"}), outcome


def test_partials_are_of_the_first_pass_and_the_result_of_the_second(
    deaf: Model, model: Model, tones: Any, cut: Any
) -> None:
    samples = tones.say("turn on the kitchen light")
    wanted = timeless(model, samples)
    assert timeless(deaf, samples) == wanted and wanted[0]["intent"]["name"] == "turn_on"
    for seed in range(4):
        stream = deaf.stream()
        for packet in cut(samples, np.random.default_rng(seed)):
            assert stream.accept(packet).text == ""
        assert (stream.finish().model_dump(exclude={"timing"}), stream.outcome) == wanted
        assert stream.partial() == stream.finish()


def test_what_the_first_pass_hears_is_not_heard_twice(model: Model, tones: Any) -> None:
    """Evidence, times, heads and counts are those of one hearing."""
    opinion = {"turn_off": 0.0}
    once, again = tones.model(opinion=opinion), tones.model(opinion=opinion, passes=PASSES)
    for text in ("turn off hall light", "call bob", "coffee"):
        assert timeless(again, tones.say(text)) == timeless(once, tones.say(text))


@pytest.mark.parametrize("transducer", [False, True])
def test_a_transcript_is_of_the_second_pass(tones: Any, transducer: bool) -> None:
    free = {"search": {"kind": "greedy" if transducer else "ctc_greedy"}}
    settings: dict[str, Any] = {"domain": False, "transducer": transducer, "free": free}
    heard = timeless(tones.model(deaf=True, passes=PASSES, **settings), tones.say("call anna"))
    assert heard == timeless(tones.model(**settings), tones.say("call anna")) and heard[0]["words"]
    assert tones.model(deaf=True, **settings).understand(tones.say("call anna")).reason == "no_speech"


def test_too_long_utterances_keep_the_first_pass(tones: Any) -> None:
    samples = tones.say("call anna")
    frames = len(fbank(samples))
    for whole_s, heard in ((0.0, False), ((frames - 1) / 100, False), (frames / 100, True)):
        model = tones.model(deaf=True, passes=PASSES, stream={"vad": False, "whole_s": whole_s})
        stream = model.stream()
        for packet in np.array_split(samples, 20):
            stream.accept(packet)
        result = stream.finish()
        assert (result.reason, result.intent is None) == ((None, False) if heard else ("no_speech", True))


def test_without_the_pass_nothing_is_heard_again(tones: Any) -> None:
    model = tones.model(deaf=True)
    assert model.understand(tones.say("call anna")).reason == "no_speech"


def test_nothing_is_left_of_others(deaf: Model, model: Model, tones: Any) -> None:
    """Streams side by side, one after the other, with lists of their own, and an empty one."""
    texts = ["call anna", "turn off hall light", "call bob"]
    streams = [deaf.stream() for _ in texts]
    for stream, text in zip(streams, texts, strict=True):
        stream.feed(tones.say(text))
        stream.close()
    while ready := [stream for stream in streams if stream.ready]:
        advance(ready)
    for stream, text in zip(streams, texts, strict=True):
        assert (stream.finish().model_dump(exclude={"timing"}), stream.outcome) == timeless(model, tones.say(text))
    assert deaf.stream().finish().reason == "no_speech"
    lists = {"area": ["hall", "light"]}
    result = deaf.understand(tones.say("turn on light light"), lists=lists)
    assert [slot.value for slot in result.slots] == ["light"]
    assert deaf.understand(tones.say("turn on light light")).decision == "reject"
