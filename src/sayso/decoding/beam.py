"""What every beam search shares: prefixes that exist once, scorers on top of them, and where tokens were heard.

A prefix is a node of a tree, and a prefix met again is the same node, however many hypotheses came and went in
between; so "merged" is exact, and whatever depends on the labels alone (scores and states of scorers, what a
prediction network said) hangs on the node and is computed once. Nodes that no hypothesis needs any more are let go:
memory follows the text, not the frames.

Shape letters: ``n`` prefixes, ``m`` extensions, ``K`` scorers.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.hypothesis import Hypothesis, Scorer
from sayso.decoding.predictor import Predicted

Doubles = NDArray[np.float64]
Longs = NDArray[np.int64]
S = TypeVar("S")
COMMIT_EVERY = 16  # frames between looks for what is settled
Scorers = Mapping[str, tuple[Scorer[Any], float]]  # name -> scorer and weight


class Prefix:
    """Some labels. ``scores`` (K,) are weighted sums since the start; the rest exists while a hypothesis is here."""

    __slots__ = ("__weakref__", "depth", "known", "parent", "predicted", "scores", "states", "token", "total")

    def __init__(self, parent: Prefix | None, token: int) -> None:
        self.parent, self.token = parent, token
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.scores: tuple[float, ...] = ()
        self.total = 0.0  # of scores
        self.states: tuple[Any, ...] | None = None
        self.known: dict[int, tuple[tuple[float, ...], tuple[Any, ...]]] = {}  # extensions that were scored
        self.predicted: Predicted | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """All labels, first to last."""
        found: list[int] = []
        node: Prefix | None = self
        while node is not None and node.parent is not None:
            found.append(node.token)
            node = node.parent
        return tuple(reversed(found))

    def release(self) -> None:
        """No hypothesis is here any more; a later one may come back through the parent."""
        self.states, self.predicted = None, None
        self.known = {}


class Mark(NamedTuple):
    """One token on the best path of a hypothesis: first frame, first frame after, best log posterior."""

    previous: Mark | None
    frame: int
    end: int
    log_prob: float


class Fusion:
    """A decoder's own score and any number of weighted scorers; ``own`` names the former in a hypothesis."""

    def __init__(self, own: str, scorers: Scorers | None = None) -> None:
        self.own = own
        self._names = tuple(scorers or {})
        if own in self._names:
            raise ValueError(f"'{own}' is the decoder's own score; name the scorer otherwise")
        self._scorers = tuple((scorers or {}).values())
        for name, (_, weight) in (scorers or {}).items():
            if not math.isfinite(weight):
                raise ValueError(f"the weight of scorer '{name}' is {weight}; it must be finite")

    def __bool__(self) -> bool:
        return bool(self._scorers)

    def root(self, context: Mapping[str, Any] | None = None) -> Prefix:
        """The empty prefix of a stream."""
        root = Prefix(None, 0)
        root.scores = (0.0,) * len(self._scorers)
        root.states = tuple(scorer.start(context) for scorer, _ in self._scorers)
        return root

    def totals(self, prefixes: Sequence[Prefix]) -> Doubles:
        """(n,) weighted sums over scorers."""
        return np.array([prefix.total for prefix in prefixes])

    def extended(self, prefixes: Sequence[Prefix], rows: Longs, tokens: Longs) -> Doubles:
        """(m,) weighted sums of ``prefixes[rows[i]]`` with ``tokens[i]`` added; one call of every scorer for all."""
        if not self._scorers:
            return np.zeros(len(rows))
        pairs = [(prefixes[row], token) for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]
        new = [(prefix, token) for prefix, token in pairs if token not in prefix.known]
        if new:
            labels = np.array([token for _, token in new], dtype=np.int64)
            columns, states = [], []
            for k, (scorer, weight) in enumerate(self._scorers):
                found, following = scorer.score([_states(prefix)[k] for prefix, _ in new], labels)
                columns.append((weight * found).tolist())
                states.append(following)
            for (prefix, token), scores, memory in zip(
                new, zip(*columns, strict=True), zip(*states, strict=True), strict=True
            ):
                prefix.known[token] = (scores, memory)
        return np.array([prefix.total + sum(prefix.known[token][0]) for prefix, token in pairs])

    def fill(self, child: Prefix) -> None:
        """Give a prefix that came to life what ``extended`` found for it."""
        parent = child.parent
        if self._scorers and parent is not None and child.states is None:
            scores, child.states = parent.known[child.token]
            child.scores = tuple(a + b for a, b in zip(parent.scores, scores, strict=True))
            child.total = sum(child.scores)

    def endings(self, prefixes: Sequence[Prefix]) -> Doubles:
        """(n, K) weighted scores of ending here."""
        found = np.zeros((len(prefixes), len(self._scorers)))
        if prefixes:
            for k, (scorer, weight) in enumerate(self._scorers):
                found[:, k] = weight * scorer.final([_states(prefix)[k] for prefix in prefixes])
        return found

    def hypotheses(
        self, prefixes: Sequence[Prefix], scores: Doubles, marks: Sequence[Mark | None], n: int, *, final: bool
    ) -> list[Hypothesis]:
        """The ``n`` best of a frontier with own ``scores`` (n,), best first; ``final`` adds the scorers' endings."""
        endings = self.endings(prefixes) if final else np.zeros((len(prefixes), len(self._scorers)))
        order = np.argsort(-(scores + self.totals(prefixes) + endings.sum(axis=1)), kind="stable")[:n]
        found = []
        for row in order.tolist():
            prefix, path = prefixes[row], _path(marks[row])
            named = zip(self._names, (np.array(prefix.scores) + endings[row]).tolist(), strict=True)
            found.append(
                Hypothesis(
                    tokens=prefix.tokens,
                    frames=tuple(mark.frame for mark in path),
                    ends=tuple(mark.end for mark in path),
                    log_probs=tuple(mark.log_prob for mark in path),
                    scores={self.own: float(scores[row]), **dict(named)},
                    predictor=prefix.predicted,
                )
            )
        return found


class Alive(NamedTuple):
    """Hypotheses as rows: their labels, the search's own scores (n,), and where each was heard."""

    prefixes: Sequence[Prefix]
    scores: Doubles
    marks: Sequence[Mark | None]


class Live(Protocol):
    """One hypothesis where a search keeps them one by one."""

    @property
    def prefix(self) -> Prefix:
        """Its labels."""
        ...

    @property
    def score(self) -> float:
        """The search's own."""
        ...

    @property
    def mark(self) -> Mark | None:
        """Where its last label was heard."""
        ...


class BeamSearch(ABC, Generic[S]):
    """What a beam search over frames answers of a stream in state ``S``, whatever its hypotheses are made of."""

    def __init__(self, own: str, scorers: Scorers | None, nbest: int) -> None:
        self._fusion, self._count = Fusion(own, scorers), nbest

    def partial(self, state: S) -> Hypothesis:
        """The best hypothesis so far."""
        return self._nbest(self._alive(state), 1, final=False)[0]

    def stable(self, state: S) -> tuple[int, ...]:
        """Tokens that every live hypothesis begins with."""
        shared = common(self._alive(state).prefixes)
        return () if shared is None else shared.tokens

    def finish(self, state: S) -> list[list[Hypothesis]]:
        """One talker's n-best, best first, scorers' endings included."""
        return [self._nbest(self._ended(state), self._count, final=True)]

    @abstractmethod
    def _alive(self, state: S) -> Alive:
        """The live hypotheses."""

    @abstractmethod
    def _keep(self, state: S, rows: Longs) -> None:
        """Drop the live hypotheses that are not in ``rows``."""

    def _ended(self, state: S) -> Alive:
        """What would be if the frames ended here; ``state`` stays as it is."""
        return self._alive(state)

    def _commit(self, state: S, before: int) -> None:
        """Drop the readings that differ from the best where it heard something before frame ``before``."""
        alive = self._alive(state)
        best = int((alive.scores + self._fusion.totals(alive.prefixes)).argmax())
        self._keep(state, committed(alive.prefixes, best, alive.marks[best], before))
        release(alive.prefixes, self._alive(state).prefixes)

    def _settle_old(self, state: S, frame: int, keep: int | None) -> None:
        """Every ``COMMIT_EVERY`` frames, ``_commit`` what is older than ``keep`` of them; None: never."""
        if keep is not None and frame % COMMIT_EVERY == 0:
            self._commit(state, frame - keep)

    def _nbest(self, alive: Alive, n: int, *, final: bool) -> list[Hypothesis]:
        return self._fusion.hypotheses(alive.prefixes, alive.scores, alive.marks, n, final=final)


class Prefixes:
    """The tree of one stream."""

    def __init__(self, root: Prefix) -> None:
        self.root = root
        # a child keeps its parent alive, so an id in a key cannot be that of another, later parent
        self._children: weakref.WeakValueDictionary[tuple[int, int], Prefix] = weakref.WeakValueDictionary()

    def child(self, parent: Prefix, token: int) -> Prefix:
        """``parent`` with ``token`` added: the one node that stands for these labels."""
        key = (id(parent), token)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = Prefix(parent, token)
        return found


def families(prefixes: Sequence[Prefix]) -> tuple[Longs, Longs]:
    """Rows (children, their parents) of prefixes whose parent is in the list too."""
    rows = {prefix: row for row, prefix in enumerate(prefixes)}
    pairs = [(row, rows[prefix.parent]) for prefix, row in rows.items() if prefix.parent in rows]
    children, parents = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return children, parents


def alive(live: Sequence[Live]) -> Alive:
    """Hypotheses that are kept one by one, as rows."""
    return Alive([h.prefix for h in live], np.array([h.score for h in live]), [h.mark for h in live])


def totals(live: Sequence[Live]) -> Doubles:
    """(n,): their scores, the scorers' included."""
    return np.array([h.score + h.prefix.total for h in live])


def common(prefixes: Iterable[Prefix]) -> Prefix | None:
    """The longest prefix of all; None of nothing."""
    level = set(prefixes)
    while len(level) > 1:
        deepest = max(prefix.depth for prefix in level)
        level = {prefix.parent if prefix.depth == deepest and prefix.parent else prefix for prefix in level}
    return next(iter(level), None)


def survivors(scores: Doubles, beam: int | None, margin: float) -> Longs:
    """Rows of the ``beam`` best (None: all) within ``margin`` of the best, in rising order; ties keep the earlier row.

    Impossible rows survive only where nothing is possible: then the first ones do, so that a stream has an answer.
    """
    best = scores.max(initial=-np.inf)
    good = np.flatnonzero(scores >= best - margin) if best > -np.inf else np.arange(len(scores))
    if best > -np.inf and margin == np.inf:
        good = np.flatnonzero(scores > -np.inf)
    if beam is not None and len(good) > beam:
        good = np.sort(good[np.argsort(-scores[good], kind="stable")[:beam]])
    return good


def committed(prefixes: Sequence[Prefix], best: int, mark: Mark | None, before: int) -> Longs:
    """Rows that begin with what row ``best``, whose tokens are in ``mark``, heard before frame ``before``.

    A near tie can otherwise live for ever: both readings go on with the same words, and every later doubt is weaker.
    """
    anchor = prefixes[best]
    while mark is not None and mark.frame >= before and anchor.parent is not None:
        mark, anchor = mark.previous, anchor.parent
    return np.array([row for row, prefix in enumerate(prefixes) if _begins(prefix, anchor)], dtype=np.int64)


def release(before: Sequence[Prefix], after: Sequence[Prefix]) -> None:
    """Let go of what hangs on prefixes that no hypothesis stands at any more."""
    for prefix in set(before).difference(after):
        prefix.release()


def _begins(prefix: Prefix, anchor: Prefix) -> bool:
    node: Prefix | None = prefix
    while node is not None and node.depth > anchor.depth:
        node = node.parent
    return node is anchor


def _states(prefix: Prefix) -> tuple[Any, ...]:
    assert prefix.states is not None, "a prefix that was released"
    return prefix.states


def _path(last: Mark | None) -> list[Mark]:
    found = []
    while last is not None:
        found.append(last)
        last = last.previous
    return found[::-1]
