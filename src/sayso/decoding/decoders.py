"""The searches, by name. A new one is one file here and one line in a table; the contract tests then run on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.greedy import CtcGreedyConfig, TransducerGreedyConfig
from sayso.decoding.transducer_beam import TRANSDUCER_BEAMS, AlsdConfig, ModifiedConfig, TsdConfig

CTC_DECODERS = {"ctc_greedy": CtcGreedyConfig, "ctc_beam": CtcBeamConfig}
TRANSDUCER_DECODERS = {"greedy": TransducerGreedyConfig, **TRANSDUCER_BEAMS}
DecoderConfig = Annotated[
    CtcGreedyConfig | CtcBeamConfig | TransducerGreedyConfig | TsdConfig | AlsdConfig | ModifiedConfig,
    Field(discriminator="kind"),
]
