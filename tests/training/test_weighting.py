"""Weights that move: each kind on a toy whose answer is known beforehand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sayso.training.weighting import (
    WEIGHTINGS,
    DwaConfig,
    FixedConfig,
    GradNorm,
    GradNormConfig,
    ScheduledConfig,
    Uncertainty,
    UncertaintyConfig,
    Weighting,
)


def tensors(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_fixed_is_the_weighted_sum_of_what_is_there() -> None:
    weighting = FixedConfig().build({"ctc": 0.6, "transducer": 0.4, "intent": 0.0})
    assert weighting(tensors(ctc=2.0, intent=9.0)).item() == pytest.approx(1.2)
    assert weighting.told(tensors(ctc=2.0), 0.5) == {} and not weighting.state_dict()


def test_the_schedule_hears_first() -> None:
    weighting = ScheduledConfig(middle=0.4, steepness=10.0).build({"ctc": 1.0, "slots": 0.5})
    for share in (0.0, 0.4, 0.9):
        ramp = 1 / (1 + math.exp(-10 * (share - 0.4)))
        losses = tensors(ctc=3.0, slots=2.0)
        assert weighting(losses, share=share).item() == pytest.approx(3 + ramp)
        told = {name: value.item() for name, value in weighting.told(losses, share).items()}
        assert told == {"ctc_weight": 1.0, "slots_weight": pytest.approx(ramp)}


def test_uncertainty_settles_at_the_analytic_optimum() -> None:
    """Kendall et al. 2018: the minimum over s of exp(-s) L + s/2 is at log 2L, of exp(-s) L/2 + s/2 at log L."""
    losses = tensors(ctc=3.0, intent=0.2, teacher=0.7)
    weighting = UncertaintyConfig().build({"ctc": 1.0, "intent": 0.3, "teacher": 2.0})
    assert isinstance(weighting, Uncertainty)
    optimiser = torch.optim.Adam(weighting.parameters(), lr=0.02)
    for _ in range(1500):
        optimiser.zero_grad()
        weighting(losses).backward()
        optimiser.step()
    assert weighting.noise["ctc"].item() == pytest.approx(math.log(6.0), abs=1e-3)
    assert weighting.noise["intent"].item() == pytest.approx(math.log(0.4), abs=1e-3)
    assert weighting.noise["teacher"].item() == pytest.approx(math.log(0.7), abs=1e-3)
    assert weighting.told(losses, 0.0)["teacher_weight"].item() == pytest.approx(0.5 / 0.7, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5])
def test_gradnorm_pulls_with_the_force_that_each_loss_is_due(alpha: float) -> None:
    """Chen et al. 2018 on three losses that are linear in the shared weight: their gradients have fixed norms, 1, 10
    and 0.1, and how far each fell is set once."""
    shared = nn.Parameter(torch.ones(4))
    directions = [norm * direction for norm, direction in zip((1.0, 10.0, 0.1), torch.eye(4), strict=False)]
    weighting = GradNormConfig(alpha=alpha, rate=2e-3, every=1).build({"ctc": 1.0, "intent": 0.5, "slots": 2.0})
    assert isinstance(weighting, GradNorm)

    def losses(behind: tuple[float, ...]) -> dict[str, Tensor]:
        rows = zip(weighting.names, directions, behind, strict=True)
        return {name: (shared * d).sum() - (shared * d).sum().detach() + value for name, d, value in rows}

    weighting(losses((1.0, 1.0, 1.0)), shared)
    left = (0.9, 1.0, 1.1)
    for _ in range(6000):
        weighting(losses(left), shared)
    force = weighting.factor * torch.tensor([1.0 * 1.0, 0.5 * 10.0, 2.0 * 0.1])
    due = torch.tensor(left) ** alpha
    assert weighting.factor.sum().item() == pytest.approx(3.0, rel=1e-5)
    torch.testing.assert_close(force / force.mean(), due / due.mean(), rtol=0.1, atol=0)
    before = weighting.factor.clone()
    with torch.no_grad():
        weighting(losses(left), shared)
    assert torch.equal(weighting.factor, before), "judging teaches nothing"


def test_gradnorm_leaves_alone_what_does_not_reach_the_shared_weight() -> None:
    shared, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    weighting = GradNormConfig(rate=0.1, every=1).build({"ctc": 1.0, "phones": 1.0, "intent": 1.0})
    for _ in range(20):
        weighting({"ctc": shared.sum(), "phones": (3 * other).sum(), "intent": (9 * shared).sum()}, shared)
    assert weighting.multiplier("phones", 0.0).item() == 1.0
    assert weighting.multiplier("ctc", 0.0) > 1.2 > 0.8 > weighting.multiplier("intent", 0.0)


def test_gradnorm_does_not_disturb_the_gradient() -> None:
    shared = nn.Parameter(torch.tensor([1.0, 2.0]))
    weighting = GradNormConfig(every=1).build({"ctc": 1.0, "intent": 0.5})
    total = weighting({"ctc": (shared**2).sum(), "intent": shared.sum()}, shared)
    total.backward()
    a, b = (weighting.multiplier(name, 0.0).item() for name in ("ctc", "intent"))
    assert shared.grad is not None
    torch.testing.assert_close(shared.grad, torch.tensor([2 * a + 0.5 * b, 4 * a + 0.5 * b]))


def test_dwa_has_the_numbers_of_its_formula() -> None:
    """Liu et al. 2019, eq. 7: K softmax of L(t-1)/L(t-2)/T, from means over a period of two steps."""
    weighting = DwaConfig(temperature=2.0, every=2).build({"ctc": 1.0, "intent": 1.0, "phones": 1.0})
    script = [(4.0, 1.0), (2.0, 1.0), (2.0, 0.5), (1.0, 0.9)]
    for ctc, intent in script:
        assert weighting(tensors(ctc=ctc, intent=intent)).item() == pytest.approx(ctc + intent)
    weighting(tensors(ctc=1.0, intent=1.0))
    up, down = math.exp(0.7 / 1.0 / 2), math.exp(1.5 / 3.0 / 2)
    told = weighting.told(tensors(ctc=0.0, intent=0.0, phones=0.0), 0.0)
    assert told["intent_weight"].item() == pytest.approx(2 * up / (up + down), rel=1e-6)
    assert told["ctc_weight"].item() == pytest.approx(2 * down / (up + down), rel=1e-6)
    assert told["phones_weight"].item() == 1.0, "never there"


@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_state_is_all_that_a_resumed_run_needs(kind: str) -> None:
    def fresh() -> tuple[Weighting, nn.Parameter]:
        return WEIGHTINGS[kind]().build({"ctc": 1.0, "intent": 0.5}), nn.Parameter(torch.ones(3))

    def go(weighting: Weighting, shared: nn.Parameter, steps: range) -> list[float]:
        found = []
        for step in steps:
            losses = {"ctc": (shared * 5).sum() / (step + 1), "intent": shared.sum() / (step + 1) ** 0.5}
            found.append(weighting(losses, shared, step / 900).item())
        return found

    (straight, weight), (first, _), (second, _) = fresh(), fresh(), fresh()
    whole = go(straight, weight, range(900))
    go(first, weight, range(450))
    second.load_state_dict(first.state_dict())
    assert go(second, weight, range(450, 900)) == whole[450:]
