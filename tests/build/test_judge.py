"""What a build reads off held-out speech."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sayso.build import speech
from sayso.build.config import BuildConfig
from sayso.build.judge import NOISE, Clip, Heard, calibrate
from sayso.core.result import Example, Result, Slot, Word
from sayso.nlu.calibration import Calibration, Evidence
from sayso.runtime.choose import Outcome


def heard(onset: float, start: float, *, kind: str = speech.SEEN, text: str = "stop it", margin: float = 1.0) -> Heard:
    """A clip that begins at ``onset`` and whose first word was said to begin at ``start``."""
    t = np.arange(16000) / 16000
    samples = (0.3 * np.sin(2 * np.pi * 200 * t) * (t >= onset) + 1e-4 * np.sin(t)).astype(np.float32)
    words = (Word(text="stop", start=start, end=start + 0.1), Word(text="it", start=0.8, end=0.9))
    example = Example(audio="a.wav", text="stop it", intent="stop", slots=(), negative=False)
    result = Result(text=text, words=words, decision="accept")
    return Heard(Clip(kind, example, samples, False), result, Outcome(evidence=Evidence(margin=margin), intent="stop"))


def test_the_delay_is_that_of_clean_clips_that_were_read_rightly() -> None:
    clips = [heard(0.1 + 0.02 * n, 0.1 + 0.02 * n + 0.15 + 0.01 * (n % 3 - 1)) for n in range(9)]
    others = [heard(0.1, 0.9, kind=NOISE), heard(0.1, 0.9, text="stop that")] * 20
    wrong = Heard(clips[0].clip, Result(text="go"), Outcome(evidence=Evidence(margin=-1.0), intent="go"))
    known = Calibration(delay_s=0.03)  # times were moved by this already
    fitted, _ = calibrate([*clips, *others, wrong], known, BuildConfig(), lambda text: None)
    assert fitted.delay_s == pytest.approx(0.18, abs=0.011)
    few, _ = calibrate([*clips[:7], *others, wrong], known, BuildConfig(), lambda text: None)
    assert few.delay_s == known.delay_s


def test_words_are_scaled_as_results_will_show_them() -> None:
    """Of what will be answered the guess's words, of what will be refused those that were heard without the graph."""
    found = []
    for number in range(60):
        right = number % 3 > 0
        item = heard(0.1, 0.25)
        said = tuple(Word(text=text, start=0, end=1, confidence=0.5) for text in ("stop", "it"))
        free = tuple(Word(text=text, start=0, end=1, confidence=0.5) for text in ("top", "it", "at", "tip"))
        evidence = Evidence(margin=3.0 if right else -3.0)
        outcome = Outcome(evidence=evidence, intent="stop" if right else "go", words=said, free_words=free)
        found.append(Heard(item.clip, item.result, outcome))
    fitted, policy = calibrate(found, Calibration(), BuildConfig(), lambda text: None)
    assert (
        (fitted.confidence(Evidence(margin=-3.0)) or 0)
        < policy.reject
        < (fitted.confidence(found[1].outcome.evidence) or 0)
    )
    assert fitted.words(0.5) == pytest.approx(81 / 82, abs=1e-3)  # all of 80 right, smoothed
    assert fitted.free_words(0.5) == pytest.approx((20 * 21 / 22 + 60 / 62) / 80, abs=1e-3)  # 20 of 80 right


def test_slots_are_as_often_right_as_they_are_said_to_be() -> None:
    """Tokens that say 0.95 of slots of which six in ten are right, and 0.5 of those of which half are: no temperature
    makes both true."""
    found = []
    for number in range(400):
        item, sure = heard(0.1, 0.25), number % 2 == 0
        right = number // 2 % 10 < (6 if sure else 5)
        clip = replace(
            item.clip, example=item.clip.example.model_copy(update={"slots": (Slot(name="area", value="a"),)})
        )
        outcome = Outcome(
            evidence=Evidence(margin=float(number % 7)),
            intent="stop" if right else "go",
            slots=(Slot(name="area", value="a" if right else "b"),),
            slot_log_probs=((math.log(0.95 if sure else 0.5),),),
        )
        found.append(Heard(clip, item.result, outcome))
    fitted, _ = calibrate(found, Calibration(), BuildConfig(), lambda text: None)
    assert fitted.slot_confidence([math.log(0.95)]) == pytest.approx(0.6, abs=0.03)
    assert fitted.slot_confidence([math.log(0.5)]) == pytest.approx(0.5, abs=0.03)


def test_heads_do_not_decide_who_is_refused() -> None:
    """Here they tell right from wrong by themselves, as they do wherever all commands are synthetic."""
    told = []
    for number in range(40):
        right = number % 2 == 0
        item = heard(0.1, 0.25)
        evidence = Evidence(margin=0.5 + (0.01 if right else -0.01) * (number % 5), head=-0.01 if right else -9.0)
        told.append(Heard(item.clip, item.result, Outcome(evidence=evidence, intent="stop" if right else "go")))
    fitted, _ = calibrate(told, Calibration(), BuildConfig(), lambda text: None)
    assert fitted.confidence(Evidence(margin=0.5, head=-9.0)) == fitted.confidence(Evidence(margin=0.5, head=0.0))
    assert fitted.weights["margin"] > 0
