"""A recipe: the typed content of one TOML file that the training loop reads.

``[model]`` says what is trained (or ``init`` a checkpoint to start from), ``[data]`` on what, ``[training]`` how.
Recipes hold data, never code; ``key=value`` overrides change one value at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sayso.core.config import Config, override, parse, read_toml
from sayso.core.errors import nearest
from sayso.data.augment import AugmentConfig
from sayso.models.assembly import ModelConfig
from sayso.models.predictors import LstmConfig
from sayso.training.curriculum import CurriculumConfig
from sayso.training.labels import Refinement
from sayso.training.lattice import FullConfig, TransducerConfig
from sayso.training.masking import MaskedConfig
from sayso.training.noise import WeightNoiseConfig
from sayso.training.sequence import SequenceConfig
from sayso.training.weighting import FixedConfig, WeightingConfig


class Source(Config):
    """Speech to train on: a corpus folder under the corpora (``corpus``) or a manifest of cuts (``manifest``).

    ``copies`` augmented versions are made once beside the clean one; ``weight`` is the share of batches it gets
    relative to its size; ``negative``: other people's talk, the intent head learns to call it out of domain. ``clips``
    takes that many of the split's clips, chosen by the hash of their ids; ``longest_s`` leaves out longer ones. A
    corpus is cut into training and validation here; a manifest is taken whole, for training or (``split = "valid"``)
    for validation. ``phones`` is a file of phone alignments (``data/phones.py``) for the loss of that name; clips that
    it does not know do without. ``teacher`` is likewise a folder of what another network makes of its clips
    (``data/teacher.py``).
    ``disfluencies`` of the transcripts (filled pauses, repeats, restarts) are kept, or removed so that the network
    learns to pass over them. ``transcripts`` false: nothing of what was said word by word is learnt from, intents and
    the values of slots alone (by the intent head and a decoder of decoupled trees), as where no more was labelled.
    ``unlabelled`` speech is heard without its transcripts, if it has any: for losses that need none.
    """

    corpus: str | None = None
    manifest: str | None = None
    split: Literal["train", "valid"] = "train"
    clips: int | None = Field(default=None, gt=0)
    longest_s: float | None = Field(default=None, gt=0)
    phones: str | None = None
    teacher: str | None = None
    disfluencies: Literal["keep", "remove"] = "keep"
    transcripts: bool = True
    augment: AugmentConfig | None = None
    clean: bool = True
    copies: int = Field(default=0, ge=0)
    weight: float = Field(default=1.0, gt=0)
    negative: bool = False
    unlabelled: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.corpus is None) == (self.manifest is None):
            raise ValueError("a source names either a 'corpus' or a 'manifest'")
        if not self.clean and not self.copies:
            raise ValueError("a source without clean clips and without copies gives nothing; set one of the two")
        return self


class DataConfig(Config):
    """Sources, and where the tokenizer comes from (``tokenizer_text``: plain files of extra sentences to train it
    on; ``tokenizer``: that of a checkpoint, or a ``tokenizer.model``, instead of one trained here).
    ``synthetic_share`` of every batch's speech is then synthetic, whatever the sources hold; None: as it comes.
    ``refinements`` are the later versions of the intents' schema: clips may carry labels of any of them. ``written``:
    the network learns to write what was said as ``text/display.py`` shows it ("5:45"), and so does the tokenizer."""

    train: tuple[Source, ...] = ()
    synthetic_share: float | None = Field(default=None, ge=0, le=1)
    refinements: tuple[Refinement, ...] = ()
    tokenizer_text: tuple[str, ...] = ()
    tokenizer: str | None = None
    written: bool = False
    cache: str = "runs/cache"
    processes: int = 2

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        if self.tokenizer is not None and self.tokenizer_text:
            raise ValueError(
                "'tokenizer' is one that exists, and 'tokenizer_text' is to train one on; remove one of them"
            )
        return self


class SpecAugmentConfig(Config):
    """SpecAugment (Park et al. 2019) and feature-domain tempo and vocal-tract warps, drawn anew for every batch.

    ``noise`` is the share of clips that get coloured noise besides, at ``noise_db`` below the mean power of the clip:
    what copies of the recordings bring is heard many times, this is never the same. Of these noises ``recorded`` is the
    share that was recorded (the corpora's folder ``noise``; coloured where there is none), ``babble`` the share that is
    three to six other clips of the batch, and ``clatter`` the share of all others that comes in bursts.
    """

    frequency_masks: int = 2
    frequency_width: int = 20
    time_share: float = 0.12
    time_width: int = 20
    tempo: float = 0.12
    vocal_tract: float = 0.1
    level: float = 2.0  # natural-log energy, uniform in +-level
    noise: float = Field(default=0.0, ge=0, le=1)
    noise_db: tuple[float, float] = (3.0, 25.0)
    recorded: float = Field(default=0.0, ge=0, le=1)
    babble: float = Field(default=0.0, ge=0, le=1)
    clatter: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.recorded + self.babble > 1:
            raise ValueError(
                f"spec.recorded {self.recorded:g} and spec.babble {self.babble:g} are shares of the same noises; their "
                "sum may be 1 at most, lower one of them"
            )
        return self


class LossWeights(Config):
    """Weights of the summed losses; the transducer sees ``transducer_share`` of each batch's rows to save time.

    ``phone_ctc``: CTC of the transcript's phones (``text/lexicon.py``) by the head of ``model.phones``.
    ``intermediate``: CTC once more, by the same heads, on the encoder's middle layer (Lee and Watanabe 2021).
    ``phones``: cross-entropy of the aligned phones there, two to a frame, by a head that is not kept (hierarchical
    multitask training, Krishna et al. 2018); sources bring the alignments. ``consistency``: every clip is heard in two
    augmented views of one tempo, and each is taught what the other hears (``losses/consistency.py``; 0.2 in the paper);
    a batch then holds half as many clips. ``teacher``: the layer below the last predicts a teacher's features by a
    linear map that is not kept (Chang et al. 2022, DistilHuBERT); sources bring them. ``distil``: CTC's head says in
    every frame what a teacher's does (Hinton et al. 2015), both at ``distil_temperature``; ``teacher`` folders of the
    sources then hold log-probabilities of the model's own tokens instead. ``distil_transducer``: in
    every point of its lattice the transducer says as a teacher's does whether a blank, the next label or another
    follows (Panchapagesan et al. 2021), on the rows of ``transducer_share``, summed over the lattice, per label; the
    folders then hold the teacher's encoded frames and its network. ``masked``: codes of hidden stretches, for which
    nothing need be written (``training/masking.py``; BEST-RQ, Chiu et al. 2022). ``sequence``: expected word errors
    over an n-best list (Prabhavalkar et al. 2018), for networks that hear already. ``decoder``: cross-entropy of what
    the model's decoder is to write, with ``decoder_smoothing`` of every target spread over all tokens. ``guided``:
    what of its attention strays from the diagonal costs (Tachibana et al. 2018), which shows it where to look at first.
    ``quantity``: what a label's attention lacks to one costs (Inaguma and Kawahara 2021, arXiv:2103.00422); only
    monotonic attention, which may choose no frame, lacks any.
    """

    ctc: float = Field(default=0.6, ge=0)
    phone_ctc: float = Field(default=0.0, ge=0)
    intermediate: float = Field(default=0.0, ge=0)
    phones: float = Field(default=0.0, ge=0)
    consistency: float = Field(default=0.0, ge=0)
    teacher: float = Field(default=0.0, ge=0)
    distil: float = Field(default=0.0, ge=0)
    distil_temperature: float = Field(default=1.0, gt=0)
    distil_transducer: float = Field(default=0.0, ge=0)
    masked: float = Field(default=0.0, ge=0)
    transducer: float = Field(default=0.4, ge=0)
    transducer_share: float = Field(default=0.4, gt=0, le=1)
    sequence: float = Field(default=0.0, ge=0)
    intent: float = Field(default=0.5, ge=0)
    slots: float = Field(default=0.3, ge=0)
    decoder: float = Field(default=0.0, ge=0)
    decoder_smoothing: float = Field(default=0.1, ge=0, lt=1)
    guided: float = Field(default=0.0, ge=0)
    quantity: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _guided_where_there_is_attention(self) -> Self:
        if (self.guided or self.quantity) and not self.decoder:
            raise ValueError("'guided' and 'quantity' are about a decoder's attention; give 'decoder' a weight too")
        return self

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Self:
        if not any(self.by_loss().values()):
            raise ValueError("all losses have weight 0; give at least one a weight")
        return self

    def by_loss(self) -> dict[str, float]:
        """The weight of every loss."""
        others = ("transducer_share", "decoder_smoothing", "distil_temperature")
        return {name: value for name, value in self.model_dump().items() if name not in others}


class StageConfig(Config):
    """A part of a run. ``share`` is how long it lasts, relative to the other stages. ``weights`` replaces some of
    ``training.weights`` and ``curriculum`` that of the run while it lasts; ``freeze`` adds to ``training.freeze``."""

    name: str
    share: float = Field(default=1.0, gt=0)
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    curriculum: CurriculumConfig | None = None

    @model_validator(mode="after")
    def _known_losses(self) -> Self:
        losses = LossWeights().by_loss()
        for name in self.weights:
            if name not in losses:
                raise ValueError(f"stage '{self.name}': weights.{name} is not known; {nearest(name, losses)}")
        return self


class TrainingConfig(Config):
    """Optimisation. ``batch_seconds`` is the audio in one step; stop at ``steps`` or ``minutes``, whichever is first.

    ``freeze`` lists parameter-name prefixes that stay as they are. ``chunks`` are drawn per batch (0: everything
    visible). ``transducer`` says how that loss is computed, its weight stands among ``weights``, and ``weighting`` how
    those move; ``masked`` says what that loss hides. The rate falls along a
    cosine in each of ``cycles`` equal parts of the run; the mean of the weights at their ends is what is kept
    (stochastic weight averaging; Izmailov et al. 2018). ``stages`` are gone through one after another; ``curriculum``
    says which clips come first in each. Gradients are clipped to the global norm ``clip``, and with ``autoclip`` to
    that percentile of the norms so far (10 in the paper) where it is lower. ``label_smoothing`` is that of intents and
    slots.
    """

    seed: int = 0
    steps: int = 6000
    minutes: float | None = None
    batch_seconds: float = 90.0
    accumulate: int = 1
    rate: float = 1.5e-3
    warmup: int = 500
    cycles: int = Field(default=1, ge=1)
    decay: float = 0.02
    final_rate: float = 0.02  # of ``rate``, at the end of the cosine
    clip: float = Field(default=2.0, gt=0)
    autoclip: float | None = Field(default=None, gt=0, le=100)
    ema: float = 0.999
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the processor multiplies it itself
    chunks: tuple[int, ...] = (4, 4, 8, 0)
    left_frames: int = 32
    freeze: tuple[str, ...] = ()
    checkpoint_every: int = 500
    validate_every: int = 500
    validate_clips: int = 300
    threads: int = 2
    weights: LossWeights = LossWeights()
    weighting: WeightingConfig = FixedConfig()
    masked: MaskedConfig = MaskedConfig()
    transducer: TransducerConfig = FullConfig()
    sequence: SequenceConfig = SequenceConfig()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    spec: SpecAugmentConfig = SpecAugmentConfig()
    weight_noise: WeightNoiseConfig = WeightNoiseConfig()
    curriculum: CurriculumConfig | None = None
    stages: tuple[StageConfig, ...] = ()

    @model_validator(mode="after")
    def _stages_make_sense(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names; found {', '.join(names)}")
        for number in range(len(names)):
            if not any(self.during(number).weights.by_loss().values()):
                raise ValueError(f"stage '{names[number]}': all losses have weight 0; give at least one a weight")
        most = self.at_most()
        if sum(weight > 0 for weight in (most.teacher, most.distil, most.distil_transducer)) > 1:
            raise ValueError(
                "'teacher' learns features, 'distil' log-probabilities and 'distil_transducer' encoded frames, and a "
                "source's folder holds one of the three; set the weights of the others to 0"
            )
        return self

    def stage_at(self, share: float) -> int:
        """Which stage is on when this share of the run is done; 0 where there are none."""
        lasting = [stage.share for stage in self.stages]
        ends = [sum(lasting[: number + 1]) / sum(lasting) for number in range(len(lasting) - 1)]
        return sum(share >= end - 1e-9 for end in ends)

    def during(self, number: int) -> TrainingConfig:
        """The settings as they are in stage ``number``."""
        if not self.stages:
            return self
        stage = self.stages[number]
        changed = {
            "weights": self.weights.model_copy(update=stage.weights),
            "freeze": (*self.freeze, *stage.freeze),
            "curriculum": stage.curriculum or self.curriculum,
        }
        return self.model_copy(update=changed)

    def at_most(self) -> LossWeights:
        """The largest weight that each loss ever has: what a run must be able to learn."""
        every = [self.during(number).weights.by_loss() for number in range(max(1, len(self.stages)))]
        return self.weights.model_copy(update={name: max(each[name] for each in every) for name in every[0]})


class Recipe(Config):
    """The whole file. ``init`` is a checkpoint folder; then ``model`` may only name heads, dropout, and more or fewer
    encoder layers (the first ones)."""

    name: str = "run"
    init: str | None = None
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()


class LanguageTraining(Config):
    """How long and how fast. ``batch_tokens`` are those of a batch, padded; ``ema`` the decay of the average."""

    seed: int = 0
    epochs: int = Field(default=12, gt=0)
    batch_tokens: int = Field(default=4000, gt=0)
    rate: float = Field(default=3e-3, gt=0)
    warmup: int = Field(default=100, gt=0)
    decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.99, gt=0, lt=1)
    threads: int = Field(default=2, ge=1)


class LanguageRecipe(Config):
    """A language model that is a network (``models/language.py``): sentences of ``text`` (files, one a line) and of the
    transcripts of ``data``, whose validation parts judge, if it has any. ``tokenizer`` is that of the recogniser that
    it will help: its checkpoint, or its ``tokenizer.model``."""

    kind: Literal["language"] = "language"
    name: str = "language"
    tokenizer: str
    text: tuple[str, ...] = ()
    network: LstmConfig = LstmConfig(width=512, dropout=0.3)
    data: DataConfig = DataConfig()
    training: LanguageTraining = LanguageTraining()


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Read a TOML recipe with ``key=value`` overrides; ``ConfigError`` names the key and the nearest legal one."""
    return parse(Recipe, override(read_toml(path), overrides), where=str(path))


def load_language_recipe(path: Path, overrides: list[str]) -> LanguageRecipe:
    """The same of a recipe that begins with ``kind = "language"``."""
    return parse(LanguageRecipe, override(read_toml(path), overrides), where=str(path))
