"""What every search must do: contract 5 of DESIGN.md, on random posteriors, a toy transducer, a toy attention decoder
and noisy phones."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from sayso.core.errors import ConfigError
from sayso.decoding.decoders import ATTENTION_DECODERS, CTC_DECODERS, TRANSDUCER_DECODERS, DecoderConfig
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.triggered_beam import Both
from sayso.text.lexicon import Lexicon

sys.path.insert(0, str(Path(__file__).parents[1] / "decoding"))
from small_domains import random_log_probs
from test_hybrid import MODEL, TEXTS, WEIGHT, clear, spell
from toy_speller import END, ToySpeller
from toy_transducer import Table, Toy

CASES = [(kind, None) for kind in CTC_DECODERS] + [
    (kind, memory) for kind in TRANSDUCER_DECODERS for memory in (False, True)
]
CASES += [(kind, None) for kind in ATTENTION_DECODERS] + [("hybrid", None)]
LENGTH, RATE = 60, 2


class Case:
    """One search and frames for it; ``seed`` draws both."""

    def __init__(self, kind: str, memory: bool | None, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.table = Table(rng, 6)
        self.frames: Any
        self.parts: tuple[Any, ...]
        if kind == "hybrid":
            self.config: Any = HybridConfig(commit_frames=32)
            self.parts, self.frames = (MODEL, WEIGHT, Lexicon.load(), spell), noisy_phones(rng)
        elif kind in ATTENTION_DECODERS:
            self.config = ATTENTION_DECODERS[kind]()
            speller = ToySpeller(rng, monotonic=kind == "mocha", bias={"mocha": 1.0}.get(kind, -1.0))
            self.parts = (speller, END)
            self.frames = rng.normal(size=(LENGTH, 6)) * 1.5
            if kind == "triggered":
                self.frames = Both(self.frames, random_log_probs(rng, LENGTH * RATE, 6, sharpness=2.0))
        elif memory is None:
            self.config = CTC_DECODERS[kind]()
            self.parts = ()
            self.frames = random_log_probs(rng, LENGTH, 6, sharpness=2.0)
        else:
            toy = Toy(rng, 6, bias=2.0, memory=memory)
            self.config, self.parts = TRANSDUCER_DECODERS[kind](), (toy.predictor, toy.join)
            self.frames = rng.normal(size=(LENGTH, 6)) * 1.5
        self.rows = LENGTH * (RATE if kind == "triggered" else 1)  # what it counts time in
        self.decoder = self.config.build(*self.parts)

    def cut(self, first: int, last: int, *, backwards: bool = False) -> Any:
        """Some frames, of these or of the reverse."""
        if isinstance(self.frames, Both):
            step = -1 if backwards else 1
            encoded, log_probs = self.frames.encoded[::step], self.frames.log_probs[::step]
            return Both(encoded[first:last], log_probs[first * RATE : last * RATE])
        return (self.frames[::-1] if backwards else self.frames)[first:last]

    def packets(self, rng: np.random.Generator) -> list[Any]:
        places = [0, *np.sort(rng.integers(0, LENGTH + 1, size=6)).tolist(), LENGTH]
        return [self.cut(a, b) for a, b in itertools.pairwise(places)]

    def finish(self, frames: Any) -> list[Hypothesis]:
        (found,) = self.decoder.finish(self.decoder.step(self.decoder.start(), frames))
        return found


def noisy_phones(rng: np.random.Generator) -> np.ndarray:
    """Log posteriors of texts one after the other, hard to hear."""
    texts = [TEXTS[int(i)] for i in rng.integers(0, len(TEXTS), 9)]
    rows = np.concatenate([clear(Lexicon.load().phones(text), 1) for text in texts])[:LENGTH]
    rows = rows + rng.normal(0, 1.5, rows.shape)
    found: np.ndarray = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    assert len(found) == LENGTH
    return found


def test_no_search_is_left_out() -> None:
    union, _ = get_args(DecoderConfig)
    assert {config.model_fields["kind"].default for config in get_args(union)} == {kind for kind, _ in CASES}


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def kind(request: pytest.FixtureRequest) -> tuple[str, bool | None]:
    return request.param


def shape(h: Hypothesis) -> tuple[Any, ...]:
    return h.tokens, h.frames, h.ends, h.log_probs, tuple(h.scores.items())


def test_a_hypothesis_is_whole(kind: tuple[str, bool | None]) -> None:
    lengths = []
    for seed in range(4):
        case = Case(*kind, seed)
        found = case.finish(case.frames)
        assert found and len({h.tokens for h in found}) == len(found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            assert len(h.tokens) == len(h.frames) == len(h.ends) == len(h.log_probs)
            assert 0 not in h.tokens and all(p <= 0 for p in h.log_probs)
            assert all(0 <= a < b <= case.rows for a, b in zip(h.frames, h.ends, strict=True))
            assert list(h.frames) == sorted(h.frames) and h.score == sum(h.scores.values())
        lengths.append(len(found[0].tokens))
    assert min(lengths) >= 3


def test_packets_do_not_matter_and_stable_text_stays(kind: tuple[str, bool | None]) -> None:
    for seed in range(4):
        case, rng = Case(*kind, seed), np.random.default_rng(seed)
        state, stable = case.decoder.start(), ()
        for part in case.packets(rng):
            assert case.decoder.step(state, part) is state
            now = case.decoder.stable(state)
            assert now[: len(stable)] == stable
            assert case.decoder.partial(state).tokens[: len(now)] == now
            stable = now
        whole = [shape(h) for h in case.finish(case.frames)]
        assert [shape(h) for h in case.decoder.finish(state)[0]] == whole
        assert [shape(h) for h in case.decoder.finish(state)[0]] == whole, "finish changed the state"
        assert all(tokens[: len(stable)] == stable for tokens, *_ in whole)


def test_streams_do_not_see_each_other(kind: tuple[str, bool | None]) -> None:
    case = Case(*kind, 0)
    first, second = case.decoder.start(), case.decoder.start()
    for frame in range(0, 60, 5):
        case.decoder.step(first, case.cut(frame, frame + 5))
        case.decoder.step(second, case.cut(frame, frame + 5, backwards=True))
    assert [shape(h) for h in case.decoder.finish(first)[0]] == [shape(h) for h in case.finish(case.frames)]


def test_scorers_plug_in_or_are_refused(kind: tuple[str, bool | None]) -> None:
    case = Case(*kind, 0)
    if kind[0] == "hybrid":  # it is made of its scorers
        assert {name for h in case.finish(case.frames) for name in h.scores} == {"ctc", "lm"}
        return
    scorers = {"lm": (case.table, 0.5)}
    if kind[0] in ("greedy", "ctc_greedy"):
        with pytest.raises(ConfigError, match="lm; choose"):
            case.config.build(*case.parts, scorers=scorers)
        return
    decoder = case.config.build(*case.parts, scorers=scorers)
    (found,) = decoder.finish(decoder.step(decoder.start(), case.frames))
    for h in found:
        assert h.scores["lm"] == pytest.approx(0.5 * case.table.whole(h.tokens))
        assert h.score == pytest.approx(sum(h.scores.values()))
    silent = case.config.build(*case.parts, scorers={"lm": (case.table, 0.0)})
    (same,) = silent.finish(silent.step(silent.start(), case.frames))
    assert same[0].tokens == case.finish(case.frames)[0].tokens


def test_nothing_gives_the_empty_hypothesis(kind: tuple[str, bool | None]) -> None:
    case = Case(*kind, 0)
    assert case.finish(case.cut(0, 0))[0].tokens == ()
    assert case.decoder.stable(case.decoder.start()) == ()


def test_config_round_trip(kind: tuple[str, bool | None]) -> None:
    config = Case(*kind, 0).config
    assert TypeAdapter(DecoderConfig).validate_json(config.model_dump_json()) == config
