"""Beam search of an attention decoder: label by label, under a grammar, with CTC listening in (Watanabe et al. 2017).

The decoder is a ``Predictor`` with a context of one label whose output is logits, so that torch or ONNX may stand
behind it; a ``Constraint`` says which tokens may come next and when the sequence may end. The score is
``(1 - ctc) log p_attention + ctc log p_ctc + bonus`` a token, plus what scorers add, plus ``coverage`` for every frame
that was listened to (Chorowski and Jaitly 2017): against answers that leave speech out or go round in it. Illegal
tokens are left out without renormalising: what the decoder wanted to say elsewhere stays a cost.

Shape letters: ``n`` hypotheses, ``T`` frames, ``V`` tokens, the end included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.core.errors import ConfigError
from sayso.decoding.beam import Doubles, Fusion, Longs, Prefix, Prefixes, Scorers, survivors
from sayso.decoding.ctc_prefix import CtcPrefixScorer
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats, Predictor
from sayso.decoding.speller import COVERED, log_softmax

P = TypeVar("P")


class Constraint(Protocol[P]):
    """What may be written; ``nlu.tree_grammar`` is one."""

    @property
    def end(self) -> int:
        """The token that ends a sequence."""
        ...

    def start(self, limit: int) -> P:
        """Nothing written, at most ``limit`` tokens to come, the end included; ValueError where that is too few."""
        ...

    def legal(self, place: P) -> NDArray[np.bool_]:
        """(V,): what may come next; something always may before the end."""
        ...

    def advance(self, place: P, token: int) -> P:
        """After one more legal token."""
        ...


class AnyTokens:
    """The constraint that is none: every token but blank and the unknown, in any order; the end at the limit."""

    def __init__(self, size: int, end: int) -> None:
        self.size, self.end = size, end

    def start(self, limit: int) -> int:
        """How many tokens may come."""
        if limit < 1:
            raise ValueError(f"a limit of {limit} leaves no room for the end")
        return limit

    def legal(self, place: int) -> NDArray[np.bool_]:
        """All; at the last place the end alone."""
        mask = np.full(self.size, place > 1)
        mask[:2], mask[self.end] = False, place > 0
        return mask

    def advance(self, place: int, token: int) -> int:
        """One less; none after the end."""
        return 0 if token == self.end else place - 1


class AttentionBeamConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit."""

    kind: Literal["attention_beam"] = "attention_beam"
    beam: int | None = Field(default=4, ge=1)  # hypotheses that survive a step
    margin: float = Field(default=16.0, gt=0)  # a hypothesis worse than the best by more is dropped
    top_k: int | None = Field(default=16, ge=1)  # tokens that a hypothesis goes on with
    ctc: float = Field(default=0.3, ge=0, lt=1)  # weight of CTC where there are posteriors
    bonus: float = 0.0  # for every token: against answers that are too short
    coverage: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # for every frame that is covered
    covered_above: float = Field(default=0.5, gt=0)  # by so much attention of all tokens together
    limit: int = Field(default=96, ge=1)  # tokens, the end included
    nbest: int = Field(default=4, ge=1)

    def build(self) -> AttentionBeam:
        """A search; it holds no utterance."""
        return AttentionBeam(self)

    @staticmethod
    def exact(limit: int, **others: Any) -> AttentionBeamConfig:
        """No pruning of any kind: the cost grows with the number of possible sequences."""
        return AttentionBeamConfig(beam=None, margin=np.inf, top_k=None, limit=limit, nbest=1 << 30, **others)


class _Live(NamedTuple, Generic[P]):
    """A hypothesis that may go on: its labels, the decoder's log probability of each, where it stands, what its covered
    frames are worth."""

    prefix: Prefix
    log_probs: tuple[float, ...]
    place: P
    covered: float


@dataclass(frozen=True)
class _Ended:
    prefix: Prefix
    log_probs: tuple[float, ...]  # the end's is the last
    covered: float
    others: tuple[float, ...]  # of the scorers
    score: float


class AttentionBeam:
    """See the module."""

    def __init__(self, config: AttentionBeamConfig | None = None) -> None:
        self.config = config or AttentionBeamConfig()

    def search(
        self,
        decoder: Predictor,
        constraint: Constraint[P],
        log_probs: Floats | None = None,
        scorers: Scorers | None = None,
    ) -> list[Hypothesis]:
        """The n-best of one utterance, best first, without their end; ``frames`` and ``ends`` stay empty, for attention
        knows no times. At least one, whatever the decoder says.

        ``log_probs`` (T, V') are CTC posteriors, blank 0, of the tokens below V'. ``scorers`` see every token. The
        search stops when nothing alive can overtake the n-best; with ``scorers``, which might still add anything, it
        goes on until all have ended.
        """
        c = self.config
        scorers, own = dict(scorers or {}), 1.0
        bounded = not scorers
        if log_probs is not None and c.ctc:
            if "ctc" in scorers:
                raise ConfigError("'ctc' scores the posteriors; name the scorer otherwise")
            scorers["ctc"], own = (CtcPrefixScorer(log_probs), c.ctc), 1.0 - c.ctc
        run = _Run(c, constraint, Fusion("attention", scorers), own, tuple(scorers))
        root = run.fusion.root()
        root.predicted = decoder.start()
        live = [_Live(root, (), constraint.start(c.limit), run.covered(root))]
        tree, frames = Prefixes(root), run.frames(root)
        for step in range(c.limit):
            live = run.advance(live, tree, decoder)
            if bounded and len(run.ended) >= c.nbest:
                run.keep_nbest()
                rest = max(0.0, c.bonus) * (c.limit - step - 1) + c.coverage * frames
                live = [h for h in live if run.score(h) + rest > run.ended[-1].score]
            if not live:
                break
        run.keep_nbest()
        return [run.hypothesis(ended) for ended in run.ended]


class _Run(Generic[P]):
    """One search: what is constant in it, and what has ended."""

    def __init__(
        self, config: AttentionBeamConfig, constraint: Constraint[P], fusion: Fusion, own: float, names: Sequence[str]
    ) -> None:
        self.config, self.constraint, self.fusion = config, constraint, fusion
        self.own, self.names = own, names
        self.ended: list[_Ended] = []

    def score(self, h: _Live[P]) -> float:
        """Of an unfinished hypothesis, without what it covers."""
        return self._own(h.log_probs) + h.prefix.total

    def frames(self, prefix: Prefix) -> int:
        """How many there are to cover; 0 where nobody asks."""
        return len(self._attention(prefix)) if self.config.coverage else 0

    def covered(self, prefix: Prefix) -> float:
        """What the frames are worth that a prefix covers, those included that its next token listens to."""
        if not self.config.coverage:
            return 0.0
        return self.config.coverage * int((self._attention(prefix) > self.config.covered_above).sum())

    def _attention(self, prefix: Prefix) -> Floats:
        """(T,): how much was listened to each frame."""
        state = None if prefix.predicted is None else prefix.predicted.state
        if not isinstance(state, dict) or COVERED not in state:
            raise ConfigError("'coverage' needs a decoder that remembers what it listened to; set it to 0")
        found: Floats = state[COVERED][0]
        return found

    def keep_nbest(self) -> None:
        """Best first; equal scores keep the order of their ends."""
        self.ended = sorted(self.ended, key=lambda ended: -ended.score)[: self.config.nbest]

    def hypothesis(self, ended: _Ended) -> Hypothesis:
        """As everyone sees it."""
        scores: Mapping[str, float] = {
            "attention": self._own(ended.log_probs),
            **({"coverage": ended.covered} if self.config.coverage else {}),
            **dict(zip(self.names, ended.others, strict=True)),
        }
        return Hypothesis(tokens=ended.prefix.tokens, log_probs=ended.log_probs[:-1], scores=scores)

    def advance(self, live: list[_Live[P]], tree: Prefixes, decoder: Predictor) -> list[_Live[P]]:
        """One more token for every hypothesis; those that end are put aside."""
        prefixes = [h.prefix for h in live]
        log_probs = log_softmax(np.concatenate([_said(prefix) for prefix in prefixes]))
        legal = np.stack([self.constraint.legal(h.place) for h in live])
        self._end(live, np.flatnonzero(legal[:, self.constraint.end]), log_probs[:, self.constraint.end])
        legal[:, self.constraint.end] = False
        rows, tokens = self._considered(np.where(legal, log_probs, -np.inf), legal)
        if not len(rows):
            return []
        base = np.array([self._own(h.log_probs) + h.covered for h in live])
        added = base[rows] + self.own * log_probs[rows, tokens] + self.config.bonus
        ranked = added + self.fusion.extended(prefixes, rows, tokens)
        kept = survivors(ranked, self.config.beam, self.config.margin)
        found = []
        for row, token in zip(rows[kept].tolist(), tokens[kept].tolist(), strict=True):
            child = tree.child(prefixes[row], token)
            self.fusion.fill(child)
            place = self.constraint.advance(live[row].place, token)
            found.append(_Live(child, (*live[row].log_probs, float(log_probs[row, token])), place, 0.0))
        before = [prefixes[row].predicted for row in rows[kept].tolist()]
        after = decoder.extend([item for item in before if item is not None], tokens[kept].tolist())
        for h, predicted in zip(found, after, strict=True):
            h.prefix.predicted = predicted
        for prefix in prefixes:
            prefix.release()
        return [h._replace(covered=self.covered(h.prefix)) for h in found]

    def _end(self, live: Sequence[_Live[P]], rows: Longs, log_probs: Doubles) -> None:
        chosen = [live[row] for row in rows.tolist()]
        endings = self.fusion.endings([h.prefix for h in chosen])
        for h, row, ending in zip(chosen, rows.tolist(), endings.tolist(), strict=True):
            others = tuple(a + b for a, b in zip(h.prefix.scores, ending, strict=True))
            said = (*h.log_probs, float(log_probs[row]))
            self.ended.append(_Ended(h.prefix, said, h.covered, others, self._own(said) + h.covered + sum(others)))

    def _considered(self, scores: Doubles, legal: NDArray[np.bool_]) -> tuple[Longs, Longs]:
        """Rows and tokens worth scoring: the ``top_k`` best legal ones of every row."""
        if self.config.top_k is not None and self.config.top_k < scores.shape[1]:
            worst = np.argsort(-scores, axis=1, kind="stable")[:, self.config.top_k :]
            legal = legal.copy()
            np.put_along_axis(legal, worst, False, axis=1)
        rows, tokens = np.nonzero(legal)
        return rows, tokens

    def _own(self, log_probs: Sequence[float]) -> float:
        """What the decoder says of tokens so far, weighted, and the bonus."""
        return self.own * sum(log_probs) + self.config.bonus * len(log_probs)


def _said(prefix: Prefix) -> Doubles:
    assert prefix.predicted is not None, "a prefix that was released"
    return np.asarray(prefix.predicted.out, dtype=np.float64)
