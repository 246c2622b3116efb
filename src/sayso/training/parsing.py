"""Decoding with a model in training: its attention decoder and its CTC head behind the floor's searches.

Shape letters: ``B`` batch, ``T`` encoder frames, ``D`` encoder width, ``V`` vocabulary, ``n`` hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayso.decoding.attention_beam import AnyTokens, AttentionBeam, AttentionBeamConfig
from sayso.decoding.decoders import ATTENTION_DECODERS, AttentionDecoderConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats
from sayso.decoding.speller import Memory, State, predictor
from sayso.decoding.triggered_beam import Both, TriggeredBeamConfig
from sayso.models.assembly import SpeechModel
from sayso.models.decoders import Decoder
from sayso.models.decoders import Memory as Kept
from sayso.nlu.tree_grammar import TreeGrammar


@torch.no_grad()
def parse(
    model: SpeechModel,
    encoded: Tensor,
    grammar: TreeGrammar,
    config: AttentionBeamConfig | None = None,
    *,
    constrained: bool = True,
) -> list[Hypothesis]:
    """The n-best of one utterance's frames (T,D); ``grammar.decode`` reads their tokens. The model should be in eval
    mode.

    CTC listens in to coupled trees, which hold every word; of decoupled ones it would miss the others. Not
    ``constrained``, any tokens may be written, and ``grammar.decode`` may refuse what comes of it.
    """
    assert model.decoder is not None, "a model without a decoder"
    config = config or AttentionBeamConfig()
    config = config.model_copy(update={"limit": min(config.limit, model.decoder.longest or config.limit)})
    log_probs = model.ctc(encoded[None])[0].numpy() if grammar.schema.form == "coupled" and config.ctc else None
    decoder = predictor(ModelSpeller(model.decoder), encoded.numpy())
    search = AttentionBeam(config).search
    if constrained:
        return search(decoder, grammar, log_probs)
    return search(decoder, AnyTokens(grammar.size, grammar.end), log_probs)


@torch.no_grad()
def transcribe(model: SpeechModel, encoded: Tensor, config: AttentionDecoderConfig | None = None) -> list[Hypothesis]:
    """The n-best texts of one utterance's frames (T,D) by a decoder that writes while it hears, with the search of its
    name. The model should be in eval mode."""
    assert model.decoder is not None, "a model without a decoder"
    log_probs = model.ctc(encoded[None])[0].cpu().numpy()
    config = streaming_search(model, config)
    search: Any = config.build(ModelSpeller(model.decoder), model.config.vocab)
    frames = encoded.cpu().numpy()
    heard = Both(frames, log_probs) if isinstance(config, TriggeredBeamConfig) else frames
    found: list[Hypothesis] = search.finish(search.step(search.start(), heard))[0]
    return found


def streaming_search(model: SpeechModel, config: AttentionDecoderConfig | None = None) -> AttentionDecoderConfig:
    """``config``, default that of the decoder's name, with the decoder's own frames."""
    assert model.decoder is not None and model.decoder.streams, "a decoder that does not stream"
    chosen = config or ATTENTION_DECODERS[model.decoder.config.kind]()
    return chosen.model_copy(update=model.decoder.sight)


@torch.no_grad()
def decoder_greedy(model: SpeechModel, encoded: Tensor, lengths: Tensor) -> list[list[int]]:
    """Tokens of every row of frames (B,T,D): by a beam of one where the decoder writes while it hears, else the best
    token
    after the other, a batch at a time, as many as there are frames at most."""
    assert model.decoder is not None, "a model without a decoder"
    decoder, end = model.decoder, model.config.vocab
    if decoder.streams:
        one: Any = ATTENTION_DECODERS[decoder.config.kind](beam=1, nbest=1)
        rows = [encoded[row, :length] for row, length in enumerate(lengths.tolist())]
        return [list(transcribe(model, frames, one)[0].tokens) for frames in rows]
    memory, state = decoder.memory(encoded, lengths), decoder.init_state(len(encoded), encoded.shape[1])
    last, ended = torch.zeros_like(lengths), torch.zeros_like(lengths, dtype=torch.bool)
    found: list[list[int]] = [[] for _ in range(len(encoded))]
    most = int(lengths.max()) if len(lengths) else 0
    for _ in range(min(most, decoder.longest or most)):
        logits, state = decoder.step(last, state, memory)
        last = logits.argmax(1)
        ended = ended | (last == end)
        for row in (~ended).nonzero()[:, 0].tolist():
            found[row].append(int(last[row]))
        if bool(ended.all()):
            break
    return found


class ModelSpeller:
    """A model's decoder as searches see it."""

    def __init__(self, decoder: Decoder[Any]) -> None:
        self._decoder, self._kind = decoder, type(decoder.init_state(1, 1))
        self._device = next(decoder.parameters()).device

    @property
    def longest(self) -> int | None:
        """The decoder's."""
        return self._decoder.longest

    def start(self, frames: int | None = None) -> State:
        """As the contract says."""
        return _arrays(self._decoder.init_state(1, frames).named())

    @torch.no_grad()
    def remember(self, encoded: Floats) -> Memory:
        """As the contract says."""
        frames = torch.from_numpy(np.asarray(encoded))[None].to(self._device)
        kept = self._decoder.memory(frames, torch.tensor([len(encoded)], device=self._device))
        return _arrays(kept.named(), "memory_")

    @torch.no_grad()
    def write(self, labels: NDArray[np.int64], states: Sequence[State], memory: Memory) -> tuple[Floats, list[State]]:
        """As the contract says."""
        heard = Kept(**{name.removeprefix("memory_"): self._there(value) for name, value in memory.items()})
        state = {name: self._there(np.concatenate([s[name] for s in states])) for name in states[0]}
        logits, following = self._decoder.step(self._there(labels), self._kind.from_named(state), heard)
        return logits.cpu().numpy(), [_arrays(following.row(row).named()) for row in range(len(states))]

    def _there(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _arrays(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, NDArray[Any]]:
    return {prefix + name: tensor.cpu().numpy() for name, tensor in tensors.items()}
