"""What every search in the tables must do: contract 5 of DESIGN.md, on random posteriors and a toy transducer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from sayso.core.errors import ConfigError
from sayso.decoding.decoders import CTC_DECODERS, TRANSDUCER_DECODERS, DecoderConfig
from sayso.decoding.hypothesis import Hypothesis

sys.path.insert(0, str(Path(__file__).parents[1] / "decoding"))
from small_domains import random_log_probs
from toy_transducer import Table, Toy, random_packets

CASES = [(kind, None) for kind in CTC_DECODERS] + [
    (kind, memory) for kind in TRANSDUCER_DECODERS for memory in (False, True)
]


class Case:
    """One search and frames for it; ``seed`` draws both."""

    def __init__(self, kind: str, memory: bool | None, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.table = Table(rng, 6)
        if memory is None:
            self.config: Any = CTC_DECODERS[kind]()
            self.parts: tuple[Any, ...] = ()
            self.frames = random_log_probs(rng, 60, 6, sharpness=2.0)
        else:
            toy = Toy(rng, 6, bias=2.0, memory=memory)
            self.config, self.parts = TRANSDUCER_DECODERS[kind](), (toy.predictor, toy.join)
            self.frames = rng.normal(size=(60, 6)) * 1.5
        self.decoder = self.config.build(*self.parts)

    def finish(self, frames: np.ndarray) -> list[Hypothesis]:
        (found,) = self.decoder.finish(self.decoder.step(self.decoder.start(), frames))
        return found


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
            assert all(0 <= a < b <= len(case.frames) for a, b in zip(h.frames, h.ends, strict=True))
            assert list(h.frames) == sorted(h.frames) and h.score == sum(h.scores.values())
        lengths.append(len(found[0].tokens))
    assert min(lengths) >= 3


def test_packets_do_not_matter_and_stable_text_stays(kind: tuple[str, bool | None]) -> None:
    for seed in range(4):
        case, rng = Case(*kind, seed), np.random.default_rng(seed)
        state, stable = case.decoder.start(), ()
        for part in random_packets(rng, case.frames):
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
        case.decoder.step(first, case.frames[frame : frame + 5])
        case.decoder.step(second, case.frames[::-1][frame : frame + 5])
    assert [shape(h) for h in case.decoder.finish(first)[0]] == [shape(h) for h in case.finish(case.frames)]


def test_scorers_plug_in_or_are_refused(kind: tuple[str, bool | None]) -> None:
    case = Case(*kind, 0)
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
    assert case.finish(case.frames[:0])[0].tokens == ()
    assert case.decoder.stable(case.decoder.start()) == ()


def test_config_round_trip(kind: tuple[str, bool | None]) -> None:
    config = Case(*kind, 0).config
    assert TypeAdapter(DecoderConfig).validate_json(config.model_dump_json()) == config
