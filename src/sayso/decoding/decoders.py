"""The searches, by name. A new one is one file here and one line in a table; the contract tests then run on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sayso.decoding.chunk_beam import ChunkBeamConfig
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.greedy import CtcGreedyConfig, TransducerGreedyConfig
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.mocha_beam import MochaBeamConfig
from sayso.decoding.transducer_beam import TRANSDUCER_BEAMS, AlsdConfig, ModifiedConfig, TsdConfig
from sayso.decoding.triggered_beam import TriggeredBeamConfig

CTC_DECODERS = {"ctc_greedy": CtcGreedyConfig, "ctc_beam": CtcBeamConfig}
TRANSDUCER_DECODERS = {"greedy": TransducerGreedyConfig, **TRANSDUCER_BEAMS}
# of the attention decoders with these names that write while they hear
ATTENTION_DECODERS = {"chunk": ChunkBeamConfig, "mocha": MochaBeamConfig, "triggered": TriggeredBeamConfig}
AttentionDecoderConfig = ChunkBeamConfig | MochaBeamConfig | TriggeredBeamConfig
DecoderConfig = Annotated[
    CtcGreedyConfig
    | CtcBeamConfig
    | TransducerGreedyConfig
    | TsdConfig
    | AlsdConfig
    | ModifiedConfig
    | ChunkBeamConfig
    | MochaBeamConfig
    | TriggeredBeamConfig
    | HybridConfig,
    Field(discriminator="kind"),
]
