"""Semantic parsing with a model in training: its decoder and its CTC head behind the floor's search.

Shape letters: ``T`` encoder frames, ``D`` encoder width, ``n`` hypotheses.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayso.decoding.attention_beam import AnyTokens, AttentionBeam, AttentionBeamConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats, Predictor
from sayso.models.assembly import SpeechModel
from sayso.models.decoders import Decoder
from sayso.models.decoders.transformer import Memory, TransformerDecoderState
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
    config = config.model_copy(update={"limit": min(config.limit, model.decoder.config.longest)})
    log_probs = model.ctc(encoded[None])[0].numpy() if grammar.schema.form == "coupled" and config.ctc else None
    decoder = predictor(model.decoder, encoded)
    search = AttentionBeam(config).search
    if constrained:
        return search(decoder, grammar, log_probs)
    return search(decoder, AnyTokens(grammar.size, grammar.end), log_probs)


def predictor(decoder: Decoder, encoded: Tensor) -> Predictor:
    """The decoder over one utterance's frames (T,D), as searches see it."""
    memory = decoder.memory(encoded[None], torch.tensor([len(encoded)]))

    @torch.no_grad()
    def run(
        labels: NDArray[np.int64], states: list[TransformerDecoderState]
    ) -> tuple[Floats, list[TransformerDecoderState]]:
        heard = Memory.stack([memory] * len(states))
        logits, following = decoder.step(torch.from_numpy(labels[:, 0]), type(states[0]).stack(states), heard)
        return logits.numpy(), [following.row(row) for row in range(len(states))]

    return Predictor(run, context=1, initial=decoder.init_state(1))
