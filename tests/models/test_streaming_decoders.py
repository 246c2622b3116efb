"""Decoders that write while they hear: what each place may hear, and that nothing later ever changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sayso.models.decoders import Decoder
from sayso.models.decoders.lstm import LstmDecoderConfig
from sayso.models.decoders.masked import ChunkDecoderConfig, TriggeredDecoderConfig, chunk_targets
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.streaming import Context

END = 10
LSTM = LstmDecoderConfig(width=12, attention=8, location=0)
TRANSFORMER = TransformerDecoderConfig(width=12, layers=2, heads=2, feedforward=16, longest=24)
CONFIGS = {
    "chunk": ChunkDecoderConfig(chunk_frames=3, core=LSTM),
    "chunk with history": ChunkDecoderConfig(chunk_frames=3, left_frames=2, core=LSTM),
    "triggered": TriggeredDecoderConfig(ahead_frames=2, core=TRANSFORMER),
    "triggered with a window": TriggeredDecoderConfig(ahead_frames=1, left_frames=3, core=TRANSFORMER),
    "triggered LSTM": TriggeredDecoderConfig(ahead_frames=0, core=LSTM),
}
LABELS = torch.tensor([[3, 4, 4, 2, 9], [5, 6, 0, 0, 0]])
COUNTS, LENGTHS = torch.tensor([5, 2]), torch.tensor([10, 7])
TIMES = torch.tensor([[0, 2, 3, 3, 8], [4, 5, 0, 0, 0]])


@pytest.fixture(params=sorted(CONFIGS))
def decoder(request: pytest.FixtureRequest) -> Decoder[Any]:
    torch.manual_seed(0)
    return CONFIGS[request.param].build(6, 11).double().eval()


def frames_of(seed: int = 1) -> Tensor:
    return torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def allowed(decoder: Decoder[Any], targets: list[int], times: list[int], length: int) -> list[tuple[int, int]]:
    """First and last frame + 1 that each place may hear, from the definition."""
    c, found, chunk, label = decoder.config, [], 0, 0
    for token in targets:
        if isinstance(c, ChunkDecoderConfig):
            first = chunk * c.chunk_frames
            found.append((max(0, first - c.left_frames), min(length, first + c.chunk_frames)))
            chunk += token == END
        else:
            assert isinstance(c, TriggeredDecoderConfig)
            trigger = length - 1 - c.ahead_frames if token == END else times[label]
            last = min(length, trigger + c.ahead_frames + 1)
            first = 0 if c.left_frames is None else max(0, trigger - c.left_frames)
            found.append((first, last))
            label += 1
    return found


def test_labels_stand_in_their_chunks() -> None:
    targets, lengths = chunk_targets(LABELS, COUNTS, TIMES, LENGTHS, 3, END)
    assert targets[0, : lengths[0]].tolist() == [3, 4, END, 4, 2, END, 9, END, END]
    assert targets[1, : lengths[1]].tolist() == [END, 5, 6, END, END]
    alone, count = chunk_targets(LABELS[1:], COUNTS[1:], TIMES[1:], LENGTHS[1:], 3, END)
    assert alone[0, : count[0]].tolist() == targets[1, : lengths[1]].tolist()
    nothing, count = chunk_targets(LABELS[:1], torch.tensor([0]), TIMES[:1], torch.tensor([4]), 3, END)
    assert nothing[0, : count[0]].tolist() == [END, END]


@torch.no_grad()
def test_a_lesson_is_what_steps_over_the_allowed_frames_say(decoder: Decoder[Any]) -> None:
    """The mask of the whole equals frames that are not there at all."""
    encoded = frames_of()
    lesson = decoder.lesson(LABELS, COUNTS, encoded, LENGTHS, END, TIMES)
    for row in range(2):
        targets = lesson.targets[row, : lesson.lengths[row]].tolist()
        spans = allowed(decoder, targets, TIMES[row].tolist(), int(LENGTHS[row]))
        state, last = decoder.init_state(1), 0
        for place, (token, (first, end)) in enumerate(zip(targets, spans, strict=True)):
            heard = encoded[row : row + 1, first:end]
            memory = decoder.memory(heard, torch.tensor([end - first]))
            logits, state = decoder.step(torch.tensor([last]), state, memory)
            torch.testing.assert_close(logits[0], lesson.logits[row, place], rtol=0, atol=1e-9)
            outside = lesson.attention[row, place].clone()
            outside[first:end] = 0
            assert not outside.any() and abs(float(lesson.attention[row, place].sum()) - 1) < 1e-9
            last = token


@torch.no_grad()
def test_later_frames_never_change_an_earlier_place(decoder: Decoder[Any]) -> None:
    """Bit for bit."""
    encoded = frames_of()
    lesson = decoder.lesson(LABELS, COUNTS, encoded, LENGTHS, END, TIMES)
    spans = allowed(decoder, lesson.targets[0, : lesson.lengths[0]].tolist(), TIMES[0].tolist(), 10)
    moved = 0
    for cut in range(1, 10):
        other = torch.cat([encoded[:, :cut], frames_of(2)[:, cut:] * 3], 1)
        changed = decoder.lesson(LABELS, COUNTS, other, LENGTHS, END, TIMES)
        earlier = next((place for place, (_, end) in enumerate(spans) if end > cut), len(spans))
        assert torch.equal(changed.logits[0, :earlier], lesson.logits[0, :earlier])
        moved += bool((changed.logits[0, earlier:] != lesson.logits[0, earlier:]).all(-1).all())
    assert moved >= 5, "later frames are not heard at all"


@torch.no_grad()
def test_features_after_a_chunk_never_change_what_it_says() -> None:
    """Encoder and decoder together, bit for bit: both with chunks of four frames."""
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=8, width=16, layers=2, heads=2, feedforward=24).build().double().eval()
    decoder = ChunkDecoderConfig(chunk_frames=4, core=LSTM).build(16, 11).double().eval()
    x = torch.randn(1, 8 * 16, 80, dtype=torch.float64)
    lengths, counts = torch.tensor([8 * 16]), torch.tensor([5])
    times = torch.tensor([[1, 5, 5, 9, 14]])

    def logits(features: Tensor) -> tuple[Tensor, Tensor]:
        encoded, frames = encoder(features, lengths, Context(4, 8))
        lesson = decoder.lesson(LABELS[:1], counts, encoded, frames, END, times)
        return lesson.logits[0], (lesson.targets[0] == END).cumsum(0) - (lesson.targets[0] == END).long()

    whole, chunk = logits(x)
    for k in range(3):
        other = x.clone()
        other[:, 8 * 4 * (k + 1) :] += 2.0
        changed, _ = logits(other)
        assert torch.equal(changed[chunk <= k], whole[chunk <= k])
        assert not torch.equal(changed[chunk == k + 1], whole[chunk == k + 1])
