"""How much each loss counts while training goes on: fixed, by a schedule, or by what the losses themselves do.

Every kind multiplies the recipe's own weights, which stay what they are: a loss of weight 0 is not there. The schedule
hears first and understands later. Uncertainty (Kendall et al. 2018) learns a noise for each loss. GradNorm (Chen et al.
2018) moves the weights until all losses pull at the last shared layer with a force that fits how far behind they are.
DWA (Liu et al. 2019) favours what falls slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, Tag
from torch import Tensor, nn

from sayso.core.config import Config, one_of

REGRESSIONS = ("teacher",)  # squared errors; all others are log-likelihoods
_LEAST = 1e-3  # of a weight: one that reached zero could not come back


class FixedConfig(Config):
    """The recipe's weights as they are."""

    kind: Literal["fixed"] = "fixed"

    def build(self, weights: Mapping[str, float]) -> Weighting:
        """The weighting of losses with these ``weights`` by name."""
        return Weighting(weights)


class ScheduledConfig(Config):
    """Acoustics first: the losses ``late`` grow from nearly 0 to their weight along a sigmoid, half of it when the
    share ``middle`` of the run is done; ``steepness`` is the slope's exponent per whole run."""

    kind: Literal["scheduled"] = "scheduled"
    late: tuple[str, ...] = ("intent", "slots")
    middle: float = Field(default=0.3, gt=0, lt=1)
    steepness: float = Field(default=20.0, gt=0)

    def build(self, weights: Mapping[str, float]) -> Weighting:
        """The weighting of losses with these ``weights`` by name."""
        return Scheduled(weights, self)


class UncertaintyConfig(Config):
    """Each loss L has a learnt s: exp(-s) L + s / 2 for likelihoods, exp(-s) L / 2 + s / 2 for squared errors, so that
    s settles at log 2L and log L. ``rate`` is the learning rate of every s."""

    kind: Literal["uncertainty"] = "uncertainty"
    rate: float = Field(default=5e-3, gt=0)

    def build(self, weights: Mapping[str, float]) -> Weighting:
        """The weighting of losses with these ``weights`` by name."""
        return Uncertainty(weights, self)


class GradNormConfig(Config):
    """``alpha`` is how strongly a loss that lags is pulled up, 0 makes all forces equal; weights move by about ``rate``
    at a time, once in ``every`` steps, and add up to their number. They stay as they are while the encoder is
    frozen."""

    kind: Literal["gradnorm"] = "gradnorm"
    alpha: float = Field(default=1.5, ge=0)
    rate: float = Field(default=0.025, gt=0)
    every: int = Field(default=5, ge=1)

    def build(self, weights: Mapping[str, float]) -> Weighting:
        """The weighting of losses with these ``weights`` by name."""
        return GradNorm(weights, self)


class DwaConfig(Config):
    """Weights from how much each mean over ``every`` steps fell against the one before; a large ``temperature`` makes
    them equal."""

    kind: Literal["dwa"] = "dwa"
    temperature: float = Field(default=2.0, gt=0)
    every: int = Field(default=200, ge=1)

    def build(self, weights: Mapping[str, float]) -> Weighting:
        """The weighting of losses with these ``weights`` by name."""
        return Dwa(weights, self)


class Weighting(nn.Module):
    """Fixed weights, and what the other kinds have in common. Its parameters and buffers are part of a run's state."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.names = list(self.weights)  # the order of what is kept for each

    @property
    def rate(self) -> float | None:
        """The learning rate of its own parameters; None where it has none."""
        return None

    def forward(self, losses: Mapping[str, Tensor], shared: nn.Parameter | None = None, share: float = 0.0) -> Tensor:
        """The sum to be minimised. ``shared`` is the last weight that all losses share, ``share`` how much of the run
        is done. While training (gradients on) the kinds that learn from the losses do so here."""
        self.learn(losses, shared)
        terms = [self.weights[name] * self.term(name, losses[name], share) for name in self._of(losses)]
        return torch.stack(terms).sum() if terms else 0.0 * next(iter(losses.values()))

    def enter(self, weights: Mapping[str, float]) -> None:
        """From now on these are the recipe's weights; 0 is legal, a loss that had no weight at first is not there."""
        self.weights = {name: weights[name] for name in self.names}

    def learn(self, losses: Mapping[str, Tensor], shared: nn.Parameter | None) -> None:
        """Nothing."""

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        """What a loss adds to the sum, before its fixed weight."""
        return self.multiplier(name, share) * loss

    def multiplier(self, name: str, share: float) -> Tensor:
        """What stands before a loss, beside its fixed weight: a scalar without gradient."""
        return torch.ones(())

    def told(self, losses: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Multipliers of ``losses`` for the log; nothing where all are 1 for ever."""
        if type(self) is Weighting:
            return {}
        return {f"{name}_weight": self.multiplier(name, share).detach() for name in self._of(losses)}

    def _of(self, losses: Mapping[str, Tensor]) -> list[str]:
        return [name for name in losses if self.weights.get(name, 0) > 0]


class Scheduled(Weighting):
    """See ``ScheduledConfig``."""

    def __init__(self, weights: Mapping[str, float], config: ScheduledConfig) -> None:
        super().__init__(weights)
        self.config = config

    def multiplier(self, name: str, share: float) -> Tensor:
        """A sigmoid of the ``share`` for late losses."""
        c = self.config
        grown = 1 / (1 + math.exp(-c.steepness * (share - c.middle))) if name in c.late else 1.0
        return torch.tensor(grown)


class Uncertainty(Weighting):
    """See ``UncertaintyConfig``."""

    def __init__(self, weights: Mapping[str, float], config: UncertaintyConfig) -> None:
        super().__init__(weights)
        self.config = config
        self.noise = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in self.weights})

    @property
    def rate(self) -> float | None:
        """That of the configuration."""
        return self.config.rate

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        """With the price of calling everything noise."""
        noise: Tensor = self.noise[name]
        return torch.exp(-noise) * loss * (0.5 if name in REGRESSIONS else 1.0) + noise / 2

    def multiplier(self, name: str, share: float) -> Tensor:
        """exp(-s), half of it for a squared error."""
        noise: Tensor = self.noise[name].detach()
        return torch.exp(-noise) * (0.5 if name in REGRESSIONS else 1.0)


class GradNorm(Weighting):
    """See ``GradNormConfig``. Only losses that reach the shared weight take part; the others keep their weight."""

    factor: Tensor
    first: Tensor
    calls: Tensor

    def __init__(self, weights: Mapping[str, float], config: GradNormConfig) -> None:
        super().__init__(weights)
        self.config = config
        self.register_buffer("factor", torch.ones(len(self.names)))
        self.register_buffer("first", torch.full((len(self.names),), torch.nan))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def learn(self, losses: Mapping[str, Tensor], shared: nn.Parameter | None) -> None:
        """One step along the sign of each force's distance from its target."""
        if shared is None or not (torch.is_grad_enabled() and shared.requires_grad):
            return
        self.calls += 1
        if (int(self.calls) - 1) % self.config.every:
            return
        norms: dict[int, Tensor] = {}
        for name in self._of(losses):
            if losses[name].requires_grad:
                (pull,) = torch.autograd.grad(losses[name], shared, retain_graph=True, allow_unused=True)
                if pull is not None and bool(torch.isfinite(pull).all()) and bool(pull.any()):
                    norms[self.names.index(name)] = self.weights[name] * pull.float().norm()
        if len(norms) < 2:
            return
        rows = torch.tensor(list(norms), device=self.factor.device)
        now = torch.stack([losses[self.names[row]].detach().float() for row in norms])
        self.first[rows] = torch.where(self.first[rows].isnan(), now, self.first[rows])
        behind = now / self.first[rows]
        pull = torch.stack(list(norms.values()))
        force = self.factor[rows] * pull
        target = force.mean() * (behind / behind.mean()) ** self.config.alpha
        moved = self.factor[rows] - self.config.rate * torch.sign(force - target) * pull / pull.mean()
        moved = moved.clamp(min=_LEAST)
        self.factor[rows] = moved * (len(rows) / moved.sum())

    def multiplier(self, name: str, share: float) -> Tensor:
        """The weight that was learnt."""
        learnt: Tensor = self.factor[self.names.index(name)]
        return learnt.clone()


class Dwa(Weighting):
    """See ``DwaConfig``."""

    sums: Tensor
    means: Tensor
    calls: Tensor

    def __init__(self, weights: Mapping[str, float], config: DwaConfig) -> None:
        super().__init__(weights)
        self.config = config
        self.register_buffer("sums", torch.zeros(2, len(self.names)))  # of losses, and how often they were there
        self.register_buffer("means", torch.full((2, len(self.names)), torch.nan))  # the last period's, the one before
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def learn(self, losses: Mapping[str, Tensor], shared: nn.Parameter | None) -> None:
        """Count; at the end of a period its means become the last ones."""
        if not torch.is_grad_enabled():
            return
        if int(self.calls) and int(self.calls) % self.config.every == 0:
            self.means[1] = self.means[0]
            self.means[0] = self.sums[0] / self.sums[1]  # NaN where a loss was never there
            self.sums.zero_()
        self.calls += 1
        for name in self._of(losses):
            if not bool(losses[name].isfinite()):
                continue  # that step is left out too
            self.sums[:, self.names.index(name)] += torch.stack([losses[name].detach().float(), self.sums.new_ones(())])

    def multiplier(self, name: str, share: float) -> Tensor:
        """Their number times the softmax of each ratio over the temperature; 1 for what has no two means yet."""
        ratio = self.means[0] / self.means[1]
        known = ratio.isfinite()
        place = self.names.index(name)
        if not known[place]:
            return torch.ones(())
        shares = torch.softmax((ratio / self.config.temperature).masked_fill(~known, -torch.inf), 0)
        return known.sum() * shares[place]


WEIGHTINGS = {
    "fixed": FixedConfig,
    "scheduled": ScheduledConfig,
    "uncertainty": UncertaintyConfig,
    "gradnorm": GradNormConfig,
    "dwa": DwaConfig,
}
WeightingConfig = Annotated[
    Annotated[FixedConfig, Tag("fixed")]
    | Annotated[ScheduledConfig, Tag("scheduled")]
    | Annotated[UncertaintyConfig, Tag("uncertainty")]
    | Annotated[GradNormConfig, Tag("gradnorm")]
    | Annotated[DwaConfig, Tag("dwa")],
    one_of("fixed"),
]
