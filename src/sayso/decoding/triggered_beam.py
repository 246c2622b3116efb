"""Frame-synchronous beam search of CTC and triggered attention together (Moritz et al. 2019, 2020).

CTC's prefix search goes through the frames. The first frame in which it considers a label for a prefix is the label's
trigger: the decoder then says how likely the label is, from what was heard up to ``ahead_frames`` behind that frame,
and is not asked again as long as the prefix with the label lives. Frames are searched that much later than they come,
so a label is out exactly when its last frame is.

Shape letters: ``T`` encoder frames, ``D`` their width, ``R`` rows of CTC for each, ``V`` tokens, ``n`` prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.core.errors import ConfigError
from sayso.decoding.beam import Doubles, Scorers
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig, CtcBeamState
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats
from sayso.decoding.speller import Memory, Speller, State, joined, log_softmax, repeated


class TriggeredBeamConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit. ``ahead_frames`` and ``left_frames`` are the
    decoder's. ``ctc`` is its share in the score, the decoder has the rest."""

    kind: Literal["triggered"] = "triggered"
    ahead_frames: int = Field(default=2, ge=0)
    left_frames: int | None = Field(default=None, ge=0)
    ctc: float = Field(default=0.5, gt=0, lt=1)
    bonus: float = Field(default=0.0, allow_inf_nan=False)  # for every label: against answers that are too short
    beam: int | None = Field(default=4, ge=1)  # prefixes that survive a frame
    margin: float = Field(default=16.0, gt=0)  # a prefix worse than the best by more is dropped
    top_k: int | None = Field(default=16, ge=1)  # labels that a frame may trigger
    token_margin: float = Field(default=4.6, gt=0)  # a label a hundred times less likely than the frame's best does not
    commit_frames: int | None = Field(default=64, ge=1)  # rows of CTC; what was heard before that is settled
    nbest: int = Field(default=4, ge=1)

    def build(self, speller: Speller, end: int, scorers: Scorers | None = None) -> TriggeredBeam:
        """A search in which ``end`` ends the text, with weighted ``scorers`` by name."""
        return TriggeredBeam(self, speller, end, scorers)


class Both(NamedTuple):
    """What the search hears: encoder frames (T, D) and their log posteriors (T R, V)."""

    encoded: Floats
    log_probs: Floats


@dataclass
class Ear:
    """What was heard of one stream up to now."""

    kept: list[Memory] = field(default_factory=list)  # of every frame
    rows: list[Floats] = field(default_factory=list)  # (R, V) of frames that were not searched yet
    frame: int = 0  # the next to search

    def until(self, frame: int, left: int | None) -> Memory:
        """The memory of all frames before ``frame``, or of the ``left`` before it."""
        return joined(self.kept[0 if left is None else max(0, frame - left) : frame])


@dataclass(kw_only=True)
class TriggeredState:
    """One stream: what was heard, and CTC's search."""

    ear: Ear
    ctc: CtcBeamState


class TriggeredBeam:
    """Searches encoder frames and CTC posteriors; holds no stream."""

    def __init__(self, config: TriggeredBeamConfig, speller: Speller, end: int, scorers: Scorers | None = None) -> None:
        self.config, self._speller = config, speller
        if "attention" in (scorers or {}):
            raise ConfigError("'attention' is the decoder's own score; name the scorer otherwise")
        c = config
        search = CtcBeamConfig(
            beam=c.beam,
            margin=c.margin / c.ctc,  # scores are shares, CTC's search takes its own whole
            top_k=c.top_k,
            token_margin=c.token_margin,
            commit_frames=c.commit_frames,
            nbest=c.nbest,
        )
        own: Scorers = {"attention": (_Triggered(config, speller, end), (1 - c.ctc) / c.ctc)}
        others = {name: (scorer, weight / c.ctc) for name, (scorer, weight) in (scorers or {}).items()}
        self._search = CtcBeam(search, {**own, **others})

    def start(self, context: Mapping[str, Any] | None = None) -> TriggeredState:
        """A stream before any frame; ``context`` goes to the scorers."""
        ear = Ear()
        return TriggeredState(ear=ear, ctc=self._search.start({**(context or {}), _EAR: ear}))

    def step(self, state: TriggeredState, heard: Both) -> TriggeredState:
        """Advance in place over frames and their posteriors and return ``state``."""
        rate = len(heard.log_probs) // max(1, len(heard.encoded))
        for place, frame in enumerate(heard.encoded):
            state.ear.kept.append(self._speller.remember(frame[None]))
            state.ear.rows.append(np.array(heard.log_probs[place * rate : (place + 1) * rate]))
            if len(state.ear.kept) > state.ear.frame + self.config.ahead_frames:
                self._advance(state)
        return state

    def partial(self, state: TriggeredState) -> Hypothesis:
        """The best hypothesis so far."""
        return self._shared(self._search.partial(state.ctc))

    def stable(self, state: TriggeredState) -> tuple[int, ...]:
        """Tokens that every live prefix begins with."""
        return self._search.stable(state.ctc)

    def finish(self, state: TriggeredState) -> list[list[Hypothesis]]:
        """One talker's n-best, best first, the end and scorers' endings included."""
        held = [(prefix, prefix.states, dict(prefix.known)) for prefix in state.ctc.live]
        ear, frame, rows = state.ear, state.ear.frame, list(state.ear.rows)
        ended = TriggeredState(ear=ear, ctc=replace(state.ctc, live=list(state.ctc.live)))
        while ear.rows:
            self._advance(ended)
        (found,) = self._search.finish(ended.ctc)
        ear.frame, ear.rows = frame, rows  # as they were: prefixes and ear are the stream's own
        for prefix, states, known in held:
            prefix.states, prefix.known = states, known
        return [[self._shared(h) for h in found]]

    def _advance(self, state: TriggeredState) -> None:
        """Search the next frame."""
        ear = state.ear
        for row in ear.rows.pop(0):
            for prefix in state.ctc.live:
                prefix.known.clear()  # a label that did not survive has its trigger still to come
            self._search.step(state.ctc, row[None])
        ear.frame += 1

    def _shared(self, h: Hypothesis) -> Hypothesis:
        """Scores as shares."""
        return replace(h, scores={name: self.config.ctc * value for name, value in h.scores.items()})


_EAR = "ear"


class _Place(NamedTuple):
    """The last label and the decoder's state before it, how many were written, and what is heard."""

    ear: Ear
    label: int
    state: State
    written: int


class _Triggered:
    """The decoder as a scorer of CTC's prefixes; each is asked with all that is heard at that moment."""

    def __init__(self, config: TriggeredBeamConfig, speller: Speller, end: int) -> None:
        self._speller, self._end, self._bonus = speller, end, config.bonus / (1 - config.ctc)
        self._ahead, self._left = config.ahead_frames, config.left_frames

    def start(self, context: Mapping[str, Any] | None = None) -> _Place:
        """Nothing written."""
        assert context is not None, "the search names its ear"
        return _Place(context[_EAR], 0, self._speller.start(), 0)

    def score(self, states: Sequence[_Place], tokens: NDArray[np.int64]) -> tuple[Doubles, list[_Place]]:
        """The log probability of each label, and the bonus. A decoder that can write no more says nothing of it."""
        different = list({id(place): place for place in states}.values())
        able = [place for place in different if self._able(place)]
        ear = states[0].ear
        log_probs, after = self._asked(able, ear.frame + 1 + self._ahead)
        rows = {id(place): row for row, place in enumerate(able)}
        scores, following = np.full(len(states), self._bonus), []
        for i, (place, token) in enumerate(zip(states, tokens.tolist(), strict=True)):
            row = rows.get(id(place))
            if row is None:
                following.append(place._replace(label=token))
                continue
            scores[i] += log_probs[row, token]
            following.append(_Place(ear, token, after[row], place.written + 1))
        return scores, following

    def final(self, states: Sequence[_Place]) -> Doubles:
        """The log probability of the end, from everything."""
        scores, frames = np.zeros(len(states)), len(states[0].ear.kept)
        rows = [row for row, place in enumerate(states) if self._able(place) and frames]
        if rows:
            scores[rows] = self._asked([states[row] for row in rows], frames)[0][:, self._end]
        return scores

    def _able(self, place: _Place) -> bool:
        return self._speller.longest is None or place.written < self._speller.longest

    def _asked(self, places: Sequence[_Place], until: int) -> tuple[Doubles, list[State]]:
        """Log probabilities (n, V) and next states, from the frames before ``until``."""
        if not places:
            return np.zeros((0, 0)), []
        left = None if self._left is None else self._left + self._ahead + 1
        memory = places[0].ear.until(until, left)
        labels = np.array([place.label for place in places], dtype=np.int64)
        logits, after = self._speller.write(labels, [place.state for place in places], repeated(memory, len(places)))
        return log_softmax(logits), after
