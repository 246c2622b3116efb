"""Streams understand exactly what was said, whatever the packets, the neighbours and the lists."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sayso.core.errors import AudioError, UsageError
from sayso.core.result import Result
from sayso.nlu.calibration import Calibration, Scaling
from sayso.runtime.model import Model


def meaning(result: Result) -> tuple[Any, ...]:
    return result.decision, result.intent and result.intent.name, tuple((s.name, s.value) for s in result.slots)


def timeless(result: Result) -> dict[str, Any]:
    return result.model_dump(exclude={"timing"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("turn on the kitchen light", ("accept", "turn_on", (("area", "Kitchen"),))),
        ("turn off hall light", ("accept", "turn_off", (("area", "hall"),))),
        ("call bob", ("clarify", "call", (("contacts", "bob"),))),
    ],
)
def test_understands(model: Model, tones: Any, text: str, expected: Any) -> None:
    result = model.understand(tones.say(text))
    assert meaning(result) == expected
    assert result.final and result.text == result.stable == text and result.display == text.capitalize()
    assert result.frames[0].intent == result.intent and result.frames[0].slots == result.slots
    assert result.prompt == ("Call whom?" if expected[0] == "clarify" else None)
    assert [word.text for word in result.words] == text.split()
    assert result.domain == "tones" and result.language == "en"


def test_times_are_where_the_tones_were(model: Model, tones: Any) -> None:
    result = model.understand(tones.say("turn on hall light", lead_s=0.8))
    tokens = 0
    for word in result.words:  # every token takes 0.4 s and sounds for 0.24 s of them
        count = len(tones.tokenizer.encode(word.text))
        assert word.start == pytest.approx(0.8 + 0.4 * tokens, abs=0.081)
        assert word.end == pytest.approx(0.8 + 0.4 * (tokens + count - 1) + 0.08, abs=0.081)
        tokens += count
    hall = result.words[2]
    assert (result.slots[0].start, result.slots[0].end) == (hall.start, hall.end)


@pytest.mark.parametrize("seed", range(6))
def test_packets_change_nothing(model: Model, tones: Any, cut: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = ["turn on the kitchen light", "call anna", "coffee uncle"][seed % 3]
    samples = tones.say(text)
    whole = model.understand(samples)
    stream, stable = model.stream(), ""
    for packet in cut(samples, rng):
        partial = stream.accept(packet)
        assert not partial.final
        assert partial.stable.startswith(stable), "stable text changed"
        assert partial.text.startswith(partial.stable)
        stable = partial.stable
    final = stream.finish()
    assert timeless(final) == timeless(whole)
    if final.decision != "reject":
        assert final.text.startswith(stable) and len(stable.split()) >= len(text.split()) - 1


def test_stable_is_whole_words(model: Model, tones: Any) -> None:
    stream = model.stream()
    text = "turn on the kitchen light"
    seen = {stream.accept(packet).stable for packet in np.array_split(tones.say(text), 60)}
    assert seen == {" ".join(text.split()[:n]) for n in range(5)}


def test_partials_carry_the_meaning_once_it_is_complete(model: Model, tones: Any) -> None:
    stream = model.stream()
    partials = [stream.accept(packet) for packet in np.array_split(tones.say("call anna"), 30)]
    assert partials[3].intent is None and not stream.outcome.hypotheses
    assert partials[-1].intent is not None and partials[-1].intent.name == "call"
    assert partials[-1].slots[0].value == "anna"
    assert stream.complete


def test_complete_waits_for_the_whole_sentence(model: Model, tones: Any) -> None:
    stream = model.stream()
    states = []
    for packet in np.array_split(tones.say("turn on hall light", lead_s=0), 80):
        text = stream.accept(packet).text
        states.append((text == "turn on hall light", stream.complete))
    assert (True, True) in states
    assert all(done for done, complete in states if complete)


def test_one_result_for_ever(model: Model, tones: Any) -> None:
    stream = model.stream()
    stream.accept(tones.say("call bob"))
    first = stream.finish()
    assert stream.finish() is first and stream.partial() is first
    with pytest.raises(UsageError, match="finished"):
        stream.accept(np.zeros(5, np.float32))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate(tones: Any, rate: int) -> None:
    if rate == 8000:  # the highest tones do not fit below 4 kHz
        text, model = "call", tones.model(domain=False)
    else:
        text, model = "turn off hall light", tones.model()
    samples = tones.say(text, rate=rate)
    stream = model.stream(sample_rate=rate)
    for packet in np.array_split(samples, 17):
        stream.accept(packet)
    result = stream.finish()
    if rate != 8000:
        assert result.text == text and model.understand(samples, rate).text == text
    assert result.timing.audio_s == pytest.approx(len(samples) / rate, abs=1e-3)


def test_integers_and_bytes_are_the_same_samples(model: Model, tones: Any) -> None:
    pcm = np.round(tones.say("call anna") * 32767).astype("<i2")
    results = []
    for form in (pcm, pcm.tobytes(), pcm.astype(np.float32) / 32768, pcm.astype(np.float64) / 32768):
        stream = model.stream()
        stream.accept(form)
        results.append(timeless(stream.finish()))
    assert results[0]["text"] == "call anna"
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    ("pcm", "what"),
    [
        (np.zeros((5, 2), np.float32), "shape"),
        (np.zeros(5, np.int64), "int64"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([np.inf], np.float32), "infinite"),
        (b"abc", "odd"),
    ],
)
def test_samples_that_make_no_sense(model: Model, pcm: Any, what: str) -> None:
    with pytest.raises(AudioError, match=what):
        model.stream().accept(pcm)


def test_alone_as_in_a_batch_with_loud_noise(model: Model, tones: Any) -> None:
    rng = np.random.default_rng(0)
    samples = {0: tones.say("turn on the kitchen light"), 1: tones.say("call bob", lead_s=0.5)}
    noise = np.clip(rng.normal(size=200_000), -1, 1).astype(np.float32)
    alone = {key: timeless(model.understand(value)) for key, value in samples.items()}
    streams = {0: model.stream(), 1: model.stream(), 2: model.stream(), 3: model.stream()}
    feeds = {key: iter(np.array_split(value, 40)) for key, value in {**samples, 2: noise, 3: noise[:7777]}.items()}
    most = 0
    for _ in range(41):
        for key, feed in feeds.items():
            packet = next(feed, None)
            if packet is None:
                streams[key].close()
            else:
                streams[key].feed(packet)
        while count := model.step_many(list(streams.values())):
            most = max(most, count)
    assert most >= 3, "they never shared a batch"
    for key in samples:
        assert timeless(streams[key].finish()) == alone[key]


class TestNothingToUnderstand:
    def test_silence(self, model: Model) -> None:
        for samples in (np.zeros(16000, np.float32), np.zeros(1, np.float32)):
            result = model.understand(samples)
            assert (result.decision, result.reason) == ("reject", "no_speech")
            assert result.text == "" and result.intent is None and result.alternatives == ()

    def test_a_stream_that_got_nothing(self, model: Model) -> None:
        result = model.stream().finish()
        assert (result.decision, result.reason, result.timing.audio_s) == ("reject", "no_speech", 0.0)
        assert result.timing.rtf is None

    def test_tones_without_speech_by_the_detector(self, tones: Any) -> None:
        listening = tones.model(stream={"vad": True})
        result = listening.understand(tones.say("call anna"))
        assert (result.decision, result.reason) == ("reject", "no_speech")

    def test_out_of_domain(self, model: Model, tones: Any) -> None:
        result = model.understand(tones.say("coffee uncle"))
        assert (result.decision, result.reason) == ("reject", "out_of_domain")
        assert result.text == "coffee uncle" and result.intent is None and result.slots == () and result.frames == ()
        guess = result.alternatives[0]
        assert guess.intent is not None and guess.score < -1.0

    def test_half_a_command(self, model: Model, tones: Any) -> None:
        result = model.understand(tones.say("turn on the"))
        assert (result.decision, result.intent) == ("reject", None)

    def test_truncated(self, tones: Any) -> None:
        short = tones.model(stream={"vad": False, "max_utterance_s": 4.0})
        samples = np.concatenate([tones.say("call anna"), np.zeros(64000, np.float32)])
        result = short.understand(samples)
        assert (result.decision, result.reason, result.intent) == ("reject", "truncated", None)
        assert result.alternatives[0].intent == "call" and result.text == "call anna"
        stream = short.stream()
        stream.accept(samples)
        for _ in range(50):  # an hour costs what four seconds cost
            stream.accept(np.ones(16000, np.float32))
        assert stream.truncated and len(stream._features) < 32
        assert stream.finish().text == "call anna"
        assert short.understand(tones.say("call anna")[:63_000]).decision == "clarify", "four seconds are allowed"


class TestLists:
    def test_replaced_for_one_stream_only(self, model: Model, tones: Any) -> None:
        samples = tones.say("call uncle geoffrey")
        lists = {"contacts": [("uncle geoffrey", "+44 1"), "bob", "bob"]}
        own = model.understand(samples, lists=lists)
        assert meaning(own) == ("clarify", "call", (("contacts", "+44 1"),))
        assert own.slots[0].text == "uncle geoffrey" and own.slots[0].source == "list:contacts"
        assert own.applied.lists == {"contacts": 2}, "repeats do not count"
        assert model.understand(samples).decision == "reject"
        assert model.understand(samples).applied.lists == {}
        assert model.understand(tones.say("call anna"), lists=lists).decision == "reject", "the old value is gone"
        assert model.understand(tones.say("turn on hall light"), lists=lists).decision == "accept"
        assert model.lists == {"area": 2, "contacts": 2}

    @pytest.mark.parametrize(
        ("lists", "what"),
        [
            ({"contact": ["anna"]}, "did you mean 'contacts'"),
            ({"contacts": []}, "needs a sequence"),
            ({"contacts": "anna"}, "needs a sequence"),
            ({"contacts": ["?!"]}, "spoken"),
        ],
    )
    def test_mistakes(self, model: Model, lists: Any, what: str) -> None:
        with pytest.raises(UsageError, match=what):
            model.stream(lists)

    def test_a_bundle_without_a_domain(self, tones: Any) -> None:
        with pytest.raises(UsageError, match="no domain"):
            tones.model(domain=False).stream({"contacts": ["anna"]})


class TestChoosing:
    def test_uncalibrated_says_null(self, model: Model, tones: Any) -> None:
        result = model.understand(tones.say("turn on hall light"))
        assert result.intent is not None and result.intent.confidence is None
        assert all(part.confidence is None for part in itertools.chain(result.slots, result.words))

    def test_calibrated(self, tones: Any) -> None:
        calibration = Calibration(weights={"margin": 2.0, "free": 1.0}, bias=1.0, calibrated_on="tones")
        files = {"calibration.json": calibration.to_json().encode()}
        fields = {"calibration": "calibration.json", "calibrated_on": {"data": "tones"}, "files": files}
        model = tones.model(**fields)
        result, outcome = model.explain(tones.say("turn on hall light"))
        assert result.intent is not None and outcome.evidence is not None
        assert result.intent.confidence == calibration.confidence(outcome.evidence)
        assert result.intent.confidence == pytest.approx(1 / (1 + np.exp(-(2 * outcome.evidence.margin + 1 + 1))))
        assert result.slots[0].confidence == calibration.slot_confidence(outcome.slot_log_probs[0])
        assert result.words[0].confidence is not None
        refused, outcome = model.explain(tones.say("coffee uncle"))
        assert refused.decision == "reject"
        assert np.exp(refused.alternatives[0].score) == pytest.approx(outcome.confidence)

    def test_words_are_scaled_by_where_they_come_from(self, tones: Any) -> None:
        fitted = Calibration(weights={"margin": 2.0, "free": 1.0}, bias=1.0, calibrated_on="tones")
        scaled = fitted.model_copy(update={"words": Scaling(offset=1.0), "free_words": Scaling(scale=0.5)})
        files = {"c.json": scaled.to_json().encode()}
        model = tones.model(calibration="c.json", calibrated_on={"data": "tones"}, files=files)
        for said, decision, scaling in (
            ("turn on hall light", "accept", scaled.words),
            ("coffee uncle", "reject", scaled.free_words),
        ):
            result, outcome = model.explain(tones.say(said))
            raw = outcome.words if decision == "accept" else outcome.free_words
            assert result.decision == decision and len(result.words) == len(raw) > 0
            assert [word.confidence for word in result.words] == [scaling(word.confidence or 0.0) for word in raw]
            assert [word.confidence for word in result.words] != [word.confidence for word in raw]

    def test_temperature_flattens_and_keeps_the_order(self, tones: Any) -> None:
        files = {"c.json": Calibration(temperature=3.0).to_json().encode()}
        warm = tones.model(calibration="c.json", files=files)
        samples = tones.say("turn on hall light")
        flat, sharp = warm.explain(samples)[1], tones.model().explain(samples)[1]
        assert flat.hypotheses[0].tokens == sharp.hypotheses[0].tokens
        assert sum(flat.hypotheses[0].scores) < sum(sharp.hypotheses[0].scores)

    def test_words_and_slots_begin_earlier_by_the_delay(self, tones: Any) -> None:
        files = {"c.json": Calibration(delay_s=0.25).to_json().encode()}
        samples = tones.say("turn on hall light")
        late, early = (m.understand(samples) for m in (tones.model(), tones.model(calibration="c.json", files=files)))
        assert early.text == late.text and len(early.words) == 4
        for before, after in zip(late.words, early.words, strict=True):
            assert after.start == pytest.approx(max(0.0, before.start - 0.25), abs=1e-3)
        assert early.words[-1].end == late.words[-1].end
        assert all(one.end <= other.start for one, other in itertools.pairwise(early.words))
        hall = early.words[2]
        assert (early.slots[0].text, early.slots[0].start, early.slots[0].end) == ("hall", hall.start, hall.end)

    def test_the_intent_head_votes(self, tones: Any) -> None:
        samples = tones.say("turn on hall light")
        opinion = {"turn_off": -0.01, "turn_on": -4.0}
        wide = {"beam": 1000.0, "commit_beam": None}
        _, outcome = tones.model(opinion=opinion, combine={"intent_weight": 1000.0}, search=wide).explain(samples)
        assert outcome.intent == "turn_off", "a heavy vote must win over the audio"
        deaf, outcome = tones.model(opinion=opinion, combine={"intent_weight": 0.0}, search=wide).explain(samples)
        assert deaf.intent is not None and deaf.intent.name == "turn_on"
        assert outcome.evidence is not None
        assert outcome.evidence.head == pytest.approx(-4.0) and outcome.evidence.head_gap == pytest.approx(-3.99)

    def test_another_vote_on_what_was_heard_is_that_of_another_bundle(self, tones: Any) -> None:
        samples = tones.say("turn on hall light")
        opinion = {"turn_off": -0.01, "turn_on": -4.0}
        wide = {"beam": 1000.0, "commit_beam": None}
        stream = tones.model(opinion=opinion, combine={"intent_weight": 0.5}, search=wide).stream()
        stream.accept(samples)
        first = stream.finish(), stream.outcome
        for weight, wanted in ((1000.0, "turn_off"), (0.0, "turn_on"), (0.5, first[1].intent)):
            bundle = tones.model(opinion=opinion, combine={"intent_weight": weight}, search=wide)
            result, outcome = bundle.explain(samples)
            again, same = stream.weighed(weight)
            assert same == outcome and outcome.intent == wanted
            assert again.model_dump(exclude={"timing"}) == result.model_dump(exclude={"timing"})
        assert (stream.finish(), stream.outcome) == first

    def test_transcription_only(self, tones: Any) -> None:
        model = tones.model(domain=False)
        stream = model.stream()
        seen = [stream.accept(packet).stable for packet in np.array_split(tones.say("coffee uncle"), 20)]
        result = stream.finish()
        assert (result.decision, result.text, result.intent) == ("accept", "coffee uncle", None)
        assert "coffee" in seen and set(seen) <= {"", "coffee"}
        assert model.understand(np.zeros(9000, np.float32)).reason == "no_speech"


def test_timing_is_measured(model: Model, tones: Any) -> None:
    result = model.understand(tones.say("call anna"))
    timing = result.timing
    assert timing.first_partial_s is not None and 0 < timing.first_partial_s < 1
    assert timing.final_s is not None and 0 < timing.final_s < 1
    assert timing.rtf is not None and 0 < timing.rtf < 1
