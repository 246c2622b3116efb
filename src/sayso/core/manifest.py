"""What ``bundle.json`` says: everything a runtime must know before it opens a graph (contract 6 of the design).

Plain data, checked strictly, so that a bundle made by another version fails with the name of the field instead of later
with a shape. Graphs are listed by role; their states are named pairs with fixed shapes, so that a runtime needs no
knowledge of the architecture to stream it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from sayso.core.config import Config
from sayso.core.trees import TreeSchema

FORMAT = 1
Role = Literal[
    "encoder",
    "encoder2",
    "predictor",
    "vocab_predictor",
    "joiner",
    "ctc",
    "phones",
    "memory",
    "decoder",
    "bias",
    "intent",
    "slots",
    "fusion",
    "read",
    "language",
]  # phones: CTC of a lexicon's phones; memory: what a decoder keeps of the encoder's frames; fusion: states of a text's
# tokens, with attention to the frames; read: the intent of what was heard and of these; language: what token comes next
ROLES: tuple[str, ...] = get_args(Role)
WRITERS: tuple[Role, ...] = ("ctc", "phones", "predictor", "joiner", "slots")  # what can tell a speech word by word
WHOLE = "whole"  # the pass that hears a whole utterance again as one chunk; its graphs take any number of frames


class StatePair(Config):
    """One streaming state: fed as ``input``, returned as ``output``. ``shape`` leaves out the batch (first axis); None
    in it is the number of frames of the decoder's memory."""

    input: str
    output: str
    shape: tuple[int | None, ...]
    dtype: Literal["float32", "int64"] = "float32"
    initial: float = 0.0  # every element before the first sample


class GraphSpec(Config):
    """One ONNX graph. ``optional`` inputs may be left out by the caller and then take the given value (a scalar)."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[StatePair, ...] = ()
    optional: dict[str, float] = Field(default_factory=dict)


class PassSpec(Config):
    """One pass over the audio: with every chunk or at the endpoint. A second pass may still change ``stable`` text.

    The name ``whole`` says that its graphs take any number of frames, and that at the endpoint they hear the utterance
    again from its beginning as one chunk, whose frames see each other; ``stream`` says up to which length.

    ``search`` is ``graph`` (the domain, settings in the manifest's ``search``), ``free`` (no domain, its ``free``, with
    the decoder's graphs where that is a search of attention),
    ``open_slots`` (what open slots hold, its ``open_slots``) or ``parser`` (the decoder, its ``parser``).
    """

    name: str
    when: Literal["chunk", "endpoint"]
    graphs: tuple[Role, ...] = ()
    search: str | None = None
    inputs: tuple[str, ...] = ()


class IntentSpec(Config):
    """An intent; ``risk`` and ``clarify`` steer the policy."""

    name: str
    risk: Literal["none", "confirm"] = "none"
    clarify: str | None = None


class Manifest(Config):
    """All of ``bundle.json``. ``files`` (name to sha256) covers every file beside it, ``sha256`` itself."""

    format: Literal[1] = 1
    name: str
    description: str = ""
    languages: tuple[str, ...] = ("en",)
    sample_rate: int = 16000
    channels: int = 1
    chunk_ms: int
    left_context_ms: int
    lookahead_ms: int
    frame_ms: int = 80  # of one encoder frame
    ctc_rate: int = Field(default=1, ge=1)  # rows of CTC posteriors for each
    label_context: int = 2  # labels that the predictor sees
    features: dict[str, Any] = Field(default_factory=dict)
    passes: tuple[PassSpec, ...] = ()
    graphs: dict[Role, GraphSpec]
    precision: Literal["fp32", "int8"] = "fp32"
    tokenizer: str = "tokenizer.model"
    automaton: tuple[str, ...] = ()  # files of the compiled domain; empty: transcription only
    domain: str | None = None
    source: str | None = None  # the domain file or folder that was compiled, where the bundle carries it
    revision: int = Field(default=0, ge=0)  # how often it was updated; history/N has what revision N had else
    intents: tuple[IntentSpec, ...] = ()
    classes: tuple[str, ...] = ()  # of the intent head, where an update has changed the intents; empty: those
    tags: tuple[str, ...] = ()  # classes of the slot head
    values: dict[str, dict[str, str]] = Field(default_factory=dict)  # slot to its spoken forms to their values
    private: bool = False  # it gives no words of what was said: no graph that could write them is in it
    trees: TreeSchema | None = None  # meanings that the decoder may write
    parser: dict[str, Any] = Field(default_factory=dict)  # search of the decoder
    search: dict[str, Any] = Field(default_factory=dict)
    free: dict[str, Any] = Field(default_factory=dict)  # search of the free text; empty: older than the choice
    open_slots: dict[str, Any] = Field(default_factory=dict)  # how open slots are heard again; empty: they are not
    combine: dict[str, Any] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)
    stream: dict[str, Any] = Field(default_factory=dict)
    calibration: str | None = None
    calibrated_on: dict[str, Any] | None = None
    trained: dict[str, Any] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict)
    licence: str = "Apache-2.0"
    files: dict[str, str] = Field(default_factory=dict)
    sha256: str = ""

    @property
    def intent_classes(self) -> tuple[str, ...]:
        """What the intent head's classes mean, in their order; one more is everything else."""
        return self.classes or tuple(spec.name for spec in self.intents)

    @property
    def hears_whole(self) -> bool:
        """Whether utterances are heard again whole at the endpoint."""
        return any(step.name == WHOLE for step in self.passes)
