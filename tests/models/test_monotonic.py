"""Monotonic chunkwise attention: the parallel expectation is the recursion, the hard choice never goes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sayso.models.decoders.mocha import MochaDecoderConfig, chunk_weights, expected_alignment


def by_loop(energy: Tensor, before: Tensor) -> Tensor:
    """Equation 8 of Raffel et al. 2017, frame after frame."""
    p, found = energy.double().sigmoid(), torch.zeros_like(energy, dtype=torch.float64)
    for row in range(len(energy)):
        q = 0.0
        for j in range(energy.shape[1]):
            q = (1 - p[row, j - 1]) * q + before[row, j].double() if j else before[row, 0].double()
            found[row, j] = p[row, j] * q
    return found


def energies(labels: int, frames: int, scale: float, kind: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(labels * frames)
    return (torch.randn(labels, 3, frames, generator=generator, dtype=torch.float64) * scale - 1).to(kind)


@pytest.mark.parametrize(("kind", "precision"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
@pytest.mark.parametrize(("labels", "frames"), [(1, 1), (7, 25), (20, 750)])
def test_all_frames_at_once_are_the_loop(
    labels: int, frames: int, scale: float, kind: torch.dtype, precision: float
) -> None:
    heard = torch.ones(3, frames, dtype=torch.bool)
    first = torch.zeros(3, frames, dtype=torch.float64)
    first[:, 0] = 1
    fast, slow = first, first
    for energy in energies(labels, frames, scale, kind):
        fast, slow = expected_alignment(energy, fast, heard), by_loop(energy, slow)
        torch.testing.assert_close(fast, slow, rtol=0, atol=precision)
        assert (fast.sum(1) <= 1 + 1e-9).all() and (fast >= 0).all()


def test_padding_is_never_chosen_and_changes_nothing() -> None:
    energy, first = energies(1, 12, 3.0, torch.float64)[0], torch.zeros(3, 12, dtype=torch.float64)
    first[:, 0] = 1
    heard = torch.arange(12)[None] < torch.tensor([12, 7, 1])[:, None]
    found = expected_alignment(energy, first, heard)
    assert not found[~heard].any()
    torch.testing.assert_close(found[1, :7], expected_alignment(energy[1:2, :7], first[1:2, :7], heard[1:2, :7])[0])


def test_the_expectation_has_the_gradient_of_the_loop_and_survives_extremes() -> None:
    energy = energies(4, 15, 2.0, torch.float64)
    first = torch.zeros(3, 15, dtype=torch.float64)
    first[:, 0] = 1
    gradients = []
    for way in (lambda e, b: expected_alignment(e, b, torch.ones(3, 15, dtype=torch.bool)), by_loop):
        x = energy.clone().requires_grad_()
        chosen = first
        for each in x:
            chosen = way(each, chosen)
        (chosen * torch.arange(15)).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-9)
    x = torch.tensor([[[500.0, -500.0] * 8]] * 3, requires_grad=True)
    chosen = torch.zeros(1, 16, dtype=torch.float64)
    chosen[:, 0] = 1
    for each in x:
        chosen = expected_alignment(each, chosen, torch.ones(1, 16, dtype=torch.bool))
    chosen.sum().backward()
    assert chosen.isfinite().all() and x.grad is not None and x.grad.isfinite().all()


def test_a_choice_is_shared_within_its_chunk() -> None:
    generator = torch.Generator().manual_seed(0)
    energy, chosen = torch.randn(2, 9, generator=generator), torch.rand(2, 9, generator=generator) / 9
    heard = torch.arange(9)[None] < torch.tensor([9, 6])[:, None]
    chosen = chosen * heard
    for width in (1, 3, 20):
        wanted = torch.zeros(2, 9)
        for row in range(2):
            for k in range(9):
                inside = list(range(max(0, k - width + 1), k + 1))
                if heard[row, k]:
                    shares = torch.softmax(energy[row, inside], 0)
                    wanted[row, inside] += chosen[row, k] * shares
        found = chunk_weights(energy, chosen, heard, width)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(found.sum(1), chosen.sum(1))


def test_noise_in_training_alone_and_a_bias_that_begins_by_moving_on() -> None:
    torch.manual_seed(0)
    decoder = MochaDecoderConfig(width=8, attention=4, dropout=0.0, noise=1.0).build(6, 9)
    labels, frames, lengths = torch.tensor([[3, 4]]), torch.randn(1, 12, 6), torch.tensor([12])
    again = [decoder.train()(labels, frames, lengths) for _ in range(2)]
    assert not torch.equal(*again)
    again = [decoder.eval()(labels, frames, lengths) for _ in range(2)]
    assert torch.equal(*again)
    quiet = MochaDecoderConfig(width=8, attention=4, dropout=0.0, noise=0.0).build(6, 9).train()
    assert torch.equal(quiet(labels, frames, lengths), quiet(labels, frames, lengths))
    assert decoder.choice.offset.item() == -1.0 and decoder.choice.scale.item() == 0.5
    assert float(decoder.choice.direction.detach().norm()) > 0
    energy = decoder.choice(torch.randn(1, 8), decoder.memory(frames, lengths).keys[:, 0])
    assert (energy < 0).float().mean() > 0.5


@torch.no_grad()
def test_the_expectation_becomes_the_choice_where_energies_are_clear() -> None:
    """Trained with noise, energies are far from zero; then both ways hear the same."""
    torch.manual_seed(0)
    decoder = MochaDecoderConfig(width=8, attention=4, dropout=0.0, noise=0.0, bias=-0.1).build(6, 9).double()
    decoder.choice.scale.mul_(1e6)
    decoder.choice.offset.mul_(1e6)
    labels, lengths = torch.randint(1, 9, (4, 5)), torch.tensor([14, 9, 5, 1])
    frames = torch.randn(4, 14, 6, dtype=torch.float64)
    soft, hard = decoder.train()(labels, frames, lengths), decoder.eval()(labels, frames, lengths)
    torch.testing.assert_close(soft, hard, rtol=0, atol=1e-9)
    _, listened = decoder.attended(labels, frames, lengths)
    assert (listened.sum(-1) > 0.5).any() and (listened.sum(-1) < 0.5).any(), "nothing or everything was chosen"


@torch.no_grad()
def test_the_hard_choice_only_moves_forward() -> None:
    torch.manual_seed(1)
    decoder = MochaDecoderConfig(width=8, attention=4, dropout=0.0, bias=-0.01).build(6, 9).eval()
    frames, lengths = torch.randn(5, 30, 6), torch.full((5,), 30)
    memory, state = decoder.memory(frames, lengths), decoder.init_state(5)
    before = state.at
    looked = torch.zeros(5, dtype=torch.int64)
    for label in range(9):
        _, state = decoder.step(torch.full((5,), label), state, memory)
        assert (state.at >= before).all()
        looked += (state.at - before) + (state.at < 30)
        before = state.at
    assert (looked <= 30 + 9).all() and before.max() > 0
