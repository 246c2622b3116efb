"""Easy clips first (Bengio et al. 2009): in which order, or up to which difficulty, clips are drawn.

``sorted`` is SortaGrad (Amodei et al. 2016, arXiv:1512.02595, section 3.3): the first epochs go from easy to hard batch
by batch. ``competence`` (Platanios et al. 2019, arXiv:1903.09848, equation 7) draws from the easiest share of the clips
only, and that share grows with the root of the step. Both are functions of the step, so that a resumed run draws what
it would have drawn. Shape letter: ``N`` clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Tag, model_validator

from sayso.core.config import Config, one_of

Doubles = NDArray[np.float64]
_ROUNDS = 10  # draws before a competence has grown fully, at least


class _CurriculumConfig(Config):
    by: Literal["length", "noise", "loss"] = "length"


class SortedConfig(_CurriculumConfig):
    """The first ``epochs`` of a stage go from easy to hard, later ones are in random order."""

    kind: Literal["sorted"] = "sorted"
    epochs: int = Field(default=1, ge=1)

    def competence(self, step: int) -> float:
        """Everything, always."""
        return 1.0

    def longest(self, step: int) -> int | None:
        """A whole epoch."""
        return None

    def in_order(self, epoch: int) -> bool:
        """Whether the batches of an epoch go from easy to hard."""
        return epoch < self.epochs


class CompetenceConfig(_CurriculumConfig):
    """The share of clips, easiest first, grows from ``start`` to ``end`` in the first ``steps`` of a stage; equal ones
    are a limit that stays."""

    kind: Literal["competence"] = "competence"
    start: float = Field(default=0.1, gt=0, le=1)
    end: float = Field(default=1.0, gt=0, le=1)
    steps: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end = {self.end} is below start = {self.start}; easy clips come first")
        return self

    def competence(self, step: int) -> float:
        """The share of clips that ``step`` of a stage may draw from."""
        low, high = self.start**2, self.end**2
        return min(self.end, math.sqrt(low + (high - low) * step / self.steps))

    def longest(self, step: int) -> int | None:
        """For how many steps a draw holds, at most: what grows must be drawn again."""
        growing = step < self.steps and self.end > self.start
        return max(1, self.steps // _ROUNDS) if growing else None

    def in_order(self, epoch: int) -> bool:
        """Never: easy enough clips come in random order."""
        return False


CURRICULA = {"sorted": SortedConfig, "competence": CompetenceConfig}
CurriculumConfig = Annotated[
    Annotated[SortedConfig, Tag("sorted")] | Annotated[CompetenceConfig, Tag("competence")], one_of("competence")
]


@dataclass(frozen=True)
class Curriculum:
    """A configuration, and the rank of every clip (N,): the share of clips that are easier, in [0, 1)."""

    config: SortedConfig | CompetenceConfig
    ranks: Doubles

    def allowed(self, step: int) -> NDArray[np.bool_]:
        """Boolean (N,): the clips that a draw at ``step`` of a stage takes; the easiest always."""
        chosen: NDArray[np.bool_] = self.ranks < self.config.competence(step)
        return chosen


def ranks_of(difficulty: Doubles, groups: NDArray[np.bool_] | None = None) -> Doubles:
    """Ranks in [0, 1) of difficulties (N,), easiest first, ties in their order; within each of two ``groups``, so that
    neither is all easy."""
    ranks = np.empty(len(difficulty))
    groups = np.zeros(len(difficulty), np.bool_) if groups is None else groups
    for group in (False, True):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(difficulty[members], kind="stable")]
        ranks[order] = np.arange(len(members)) / max(1, len(members))
    return ranks
