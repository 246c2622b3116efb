"""Settings that a bundle carries for the runtime: how evidence is combined, and the bounds of a stream."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sayso.core.config import Config


class CombineConfig(Config):
    """How the grammar graph and the network's heads agree on a meaning.

    ``intent_weight`` multiplies the intent head's log-probability and is added to every complete path of that intent;
    ``slot_weight`` does the same with the slot head's mean log-probability of the tags a path implies. 0 is graph only.
    """

    kind: Literal["sum"] = "sum"
    intent_weight: float = Field(default=1.0, ge=0.0)
    slot_weight: float = Field(default=0.0, ge=0.0)
    nbest: int = Field(default=4, ge=1)


class StreamConfig(Config):
    """Bounds of one utterance. ``vad`` False trusts the recogniser alone to tell speech from silence.

    ``speech_probability`` is what a 32 ms hop needs to count as speech; lower than an endpointer's, because speech in
    loud noise must not be thrown away. Fewer non-blank frames than ``min_nonblank`` are no speech.
    """

    kind: Literal["stream"] = "stream"
    max_utterance_s: float = Field(default=60.0, gt=0.0)
    vad: bool = True
    speech_probability: float = Field(default=0.3, ge=0.0, le=1.0)
    min_nonblank: int = Field(default=1, ge=0)
