"""Settings that a bundle carries for the runtime: how free text is searched, how evidence is combined, and the bounds
of a stream."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sayso.core.config import Config
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.decoders import ATTENTION_DECODERS, CTC_DECODERS, TRANSDUCER_DECODERS, DecoderConfig
from sayso.decoding.greedy import CtcGreedyConfig, TransducerGreedyConfig
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.triggered_beam import TriggeredBeamConfig


class LanguageModelConfig(Config):
    """An n-gram model that votes on the free text: ``weight`` times its log probability is added.

    ``file`` is packed arrays (``decoding/arpa.py``), in a bundle one of its files. ``unit`` says what its words are:
    whole words, or the tokenizer's pieces. ``unknown`` is added to that for a whole word that the model lacks, and
    ``bonus`` for every whole word (natural logs; ``weight`` is of the sum).
    """

    kind: Literal["ngram"] = "ngram"
    file: str
    unit: Literal["words", "pieces"] = "words"
    weight: float = Field(default=0.3, allow_inf_nan=False)
    unknown: float = Field(default=0.0, le=0.0, allow_inf_nan=False)
    bonus: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _bonus_of_words(self) -> Self:
        if self.unit == "pieces" and self.bonus:
            raise ValueError("lm.bonus is for whole words; give unit = 'words' with it, or leave it out")
        return self


class NetworkConfig(Config):
    """A network that votes on the free text, token by token, beside an n-gram or alone: ``weight`` times the sum of its
    log probability and of ``bonus`` for every token (natural logs).

    ``file`` is a folder that ``sayso train`` left of a recipe of kind ``language``, in a bundle its graph.
    """

    kind: Literal["network"] = "network"
    file: str
    weight: float = Field(default=0.3, allow_inf_nan=False)
    bonus: float = Field(default=0.0, allow_inf_nan=False)


class FreeConfig(Config):
    """How text is found that no domain bounds: all there is where a bundle has none, else what stands beside it."""

    kind: Literal["free"] = "free"
    search: DecoderConfig = CtcGreedyConfig()
    lm: LanguageModelConfig | None = None
    network: NetworkConfig | None = None

    @model_validator(mode="after")
    def _a_hybrid_has_its_words_from_a_model(self) -> Self:
        if isinstance(self.search, HybridConfig) and (self.lm is None or self.lm.unit != "words"):
            raise ValueError("search 'hybrid' finds the words of a language model; give 'lm', with unit 'words'")
        if isinstance(self.search, HybridConfig) and self.lm is not None and (self.lm.unknown or self.lm.bonus):
            raise ValueError(
                "search 'hybrid' hears no word but its model's and has its own 'bonus'; leave out those of 'lm'"
            )
        if isinstance(self.search, HybridConfig) and self.network is not None:
            raise ValueError("search 'hybrid' goes by words, and 'network' by tokens; leave it out")
        return self

    @model_validator(mode="after")
    def _one_path_needs_no_model(self) -> Self:
        given = "lm" if self.lm is not None else "network" if self.network is not None else None
        if given is not None and isinstance(self.search, CtcGreedyConfig | TransducerGreedyConfig):
            every = (*CTC_DECODERS, *TRANSDUCER_DECODERS, *ATTENTION_DECODERS)
            beams = [kind for kind in every if "greedy" not in kind]
            raise ValueError(
                f"'{given}' cannot change what the one path of search '{self.search.kind}' says; choose "
                f"{', '.join(beams)}"
            )
        return self

    @property
    def by_ctc(self) -> bool:
        """Whether the search counts time in rows of the CTC head's posteriors; else it does in encoder frames."""
        return isinstance(self.search, CtcGreedyConfig | CtcBeamConfig | TriggeredBeamConfig | HybridConfig)


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
    loud noise must not be thrown away. Fewer non-blank frames than ``min_nonblank`` are no speech. Where the bundle has
    the pass ``whole``, utterances up to ``whole_s`` are heard again whole at the endpoint; 0: none.
    """

    kind: Literal["stream"] = "stream"
    max_utterance_s: float = Field(default=60.0, gt=0.0)
    vad: bool = True
    speech_probability: float = Field(default=0.3, ge=0.0, le=1.0)
    min_nonblank: int = Field(default=1, ge=0)
    whole_s: float = Field(default=15.0, ge=0.0)
