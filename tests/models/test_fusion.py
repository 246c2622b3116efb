"""Heads that read as well as hear: what pads or is missing changes nothing, and both streams count."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.fusion import Fusion, FusionConfig
from sayso.models.heads import HeadConfig, IntentHead, SlotHead
from sayso.text.tokenizer import UNKNOWN


def _streams() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 20, (3, 6), generator=generator)
    return tokens, torch.tensor([6, 2, 0]), torch.randn(3, 9, 12, generator=generator), torch.tensor([9, 4, 7])


@torch.no_grad()
def test_a_row_is_the_same_alone_and_padding_says_nothing() -> None:
    torch.manual_seed(0)
    fusion = FusionConfig().build(16, 12, 20, 0.1).eval()
    tokens, counts, frames, lengths = _streams()
    together = fusion(tokens, counts, frames, lengths)
    assert bool(together.isfinite().all()) and not bool(together[2].any()) and not bool(together[1, 2:].any())
    for row in (0, 1):
        u, t = int(counts[row]), int(lengths[row])
        alone = fusion(
            tokens[row : row + 1, :u], counts[row : row + 1], frames[row : row + 1, :t], lengths[row : row + 1]
        )
        torch.testing.assert_close(together[row, :u], alone[0], atol=1e-6, rtol=1e-5)
    spoilt_frames, spoilt_tokens = frames.clone(), tokens.clone()
    spoilt_frames[1, 4:], spoilt_tokens[1, 2:] = 99.0, 3
    torch.testing.assert_close(fusion(spoilt_tokens, counts, spoilt_frames, lengths), together)


@torch.no_grad()
def test_without_tokens_the_sound_alone_decides_and_with_them_the_pool_is_of_both() -> None:
    torch.manual_seed(0)
    config = HeadConfig(intents=("a", "b"), width=16, fusion=FusionConfig())
    head = IntentHead(config, 12).eval()
    tokens, counts, frames, lengths = _streams()
    states = FusionConfig().build(16, 12, 20, 0.0).eval()(tokens, counts, frames, lengths)
    heard, pool = head.step(frames, lengths, head.init_state(3))
    read = head.read(pool, states, counts)
    torch.testing.assert_close(read[2], heard[2])
    assert float((read[0] - heard[0]).abs().max()) > 1e-3
    assert head.read_score is not None and head.read_value is not None
    scores = torch.cat([head.score(frames[1, :4])[:, 0], head.read_score(states[1, :2])[:, 0]])
    values = torch.cat([head.value(frames[1, :4]).tanh(), head.read_value(states[1, :2]).tanh()])
    pooled = torch.softmax(scores, 0) @ values
    torch.testing.assert_close(read[1], torch.log_softmax(head.out(pooled), -1))


def test_training_hides_tokens_and_whole_readings_in_their_shares() -> None:
    torch.manual_seed(0)
    fusion = FusionConfig(unknown=0.2, empty=0.4).build(16, 12, 20, 0.0)
    tokens, counts = torch.full((400, 10), 5), torch.full((400,), 10)
    hidden, left = fusion.spoilt(tokens, counts)
    assert float((hidden == UNKNOWN).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((left == 0).float().mean()) == pytest.approx(0.4, abs=0.07)
    assert bool(((left == 0) | (left == 10)).all()) and bool(((hidden == 5) | (hidden == UNKNOWN)).all())
    same = fusion.eval().spoilt(tokens, counts)
    assert same[0] is tokens and same[1] is counts


def test_what_needs_both_streams_is_learnt_and_lost_without_either() -> None:
    """The intent is the token's kind and the sound's kind; the tag of a token is the sound's kind."""
    torch.manual_seed(0)
    config = HeadConfig(
        intents=("aa", "ab", "ba", "bb"), tags=("O", "B-x"), width=16, dropout=0.0, fusion=FusionConfig(layers=1)
    )
    fusion = FusionConfig(layers=1, unknown=0.0, empty=0.0).build(16, 8, 4, 0.0)
    intent, slots = IntentHead(config, 8), SlotHead(config, 8, 4)
    parts = torch.nn.ModuleList([fusion, intent, slots])
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(2, 8, generator=generator)

    def batch(size: int) -> tuple[torch.Tensor, ...]:
        said, sound = (torch.randint(0, 2, (size,), generator=generator) for _ in range(2))
        frames = kinds[sound][:, None] + 0.3 * torch.randn(size, 5, 8, generator=generator)
        return said[:, None] + 2, frames, 2 * said + sound, sound[:, None]

    def answers(tokens: torch.Tensor, frames: torch.Tensor, *, read: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        size = len(tokens)
        counts, lengths = torch.ones(size, dtype=torch.int64), torch.full((size,), 5)
        states = fusion(tokens, counts, frames, lengths)
        _, pool = intent.step(frames, lengths, intent.init_state(size))
        return intent.read(pool, states, counts * int(read)), slots(frames[:, :1] * 0, tokens, counts, states)

    optimiser = torch.optim.Adam(parts.parameters(), 1e-2)
    for _ in range(120):
        tokens, frames, wanted, tags = batch(64)
        said, tagged = answers(tokens, frames)
        loss = functional.nll_loss(said, wanted) + functional.cross_entropy(tagged[:, 0], tags[:, 0])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    tokens, frames, wanted, tags = batch(400)

    def right(said: torch.Tensor, gold: torch.Tensor) -> float:
        return float((said.argmax(-1).flatten() == gold.flatten()).float().mean())

    with torch.no_grad():
        said, tagged = answers(tokens, frames)
        assert right(said, wanted) > 0.95 and right(tagged, tags) > 0.95
        deaf, unread = answers(tokens, frames * 0), answers(tokens, frames, read=False)
        assert right(deaf[0], wanted) < 0.7 and right(deaf[1], tags) < 0.7
        assert right(unread[0], wanted) < 0.7


def test_a_model_has_it_where_the_recipe_says_so() -> None:
    encoder = ConformerConfig(channels=24, width=32, layers=1, heads=2, feedforward=48, kernel=5)
    heads = HeadConfig(intents=("a",), tags=("O",), width=16, fusion=FusionConfig(heads=2))
    assert isinstance(ModelConfig(vocab=20, encoder=encoder, heads=heads).build().fusion, Fusion)
    assert ModelConfig(vocab=20, encoder=encoder).build().fusion is None
    with pytest.raises(ValueError, match=r"width = 18 must be a multiple of fusion\.heads = 4"):
        FusionConfig().build(18, 12, 20, 0.0)
