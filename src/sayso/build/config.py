"""How much of everything a build uses. The defaults suit ten to twenty minutes on a small machine."""

from __future__ import annotations

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from sayso.core.config import Config
from sayso.data.augment import AugmentConfig
from sayso.nlu.calibration import Costs
from sayso.training.recipe import LossWeights, Source, TrainingConfig


class Replay(Config):
    """Real speech of a corpus that keeps the base from forgetting what people sound like: ``clips`` of its train
    split, and as many ``copies`` of each in noise and rooms as the build's ``augment`` makes them.

    ``negative`` also trains the intent head to call it out of domain. Off by default: where all commands are synthetic
    and all real people are negatives, the head may learn to tell people from synthesisers.
    """

    corpus: str
    clips: int = Field(gt=0)
    weight: float = Field(default=1.0, gt=0)
    negative: bool = False
    copies: int = Field(default=0, ge=0)


class BuildConfig(Config):
    """Amounts. ``sentences_per_minute`` of training are spoken, at least ``least_sentences``, at most
    ``most_sentences``, each by ``voices_each`` voices, and heard clean and in ``copies`` augmented versions.
    ``open_share`` as many again are sentences with an open slot, where there is one.

    ``held_templates`` and ``held_values`` are shares of templates and slot values that training never hears;
    ``seen``, ``unseen_templates`` and ``unseen_values`` how many sentences of each kind the held-out voices speak.
    ``train_negatives`` sentences of the domain's and our everyday ones, and ``train_talk`` transcripts of the
    replayed corpora, are spoken as what must be rejected. ``noisy`` and ``rooms`` of the seen ones are heard again
    in noise (``snr_db``) and in rooms. ``negatives`` are sentences outside the domain, ``real_negatives`` clips of
    real speech of validation parts, ``real_commands`` others whose sentences are lent to the grammar; both are heard in
    noise too. One half of all these calibrates, the other is reported. ``quantise`` clips fix
    int8 scales, ``checks`` clips prove the bundle. ``intent_weights`` are tried for the intent head's vote beside
    the graph, and the best on the calibrating half is kept (the smallest of equals; 0 is the graph alone).
    ``phrases`` is how many the model of open slots is estimated from, where the domain has one (0: no such model).
    ``recordings`` are trained on beside what is spoken: your own of the domain's commands, or more general speech.
    ``pronounce``: the grammar listens for the lexicon's phones where the base has a head for them, not for spellings.
    """

    kind: Literal["build"] = "build"
    sentences_per_minute: int = Field(default=250, gt=0)
    least_sentences: int = Field(default=300, gt=0)
    most_sentences: int = Field(default=4000, gt=0)
    open_share: float = Field(default=0.1, ge=0)
    phrases: int = Field(default=8000, ge=0)
    voices_each: int = Field(default=1, ge=1)
    copies: int = Field(default=1, ge=0)
    engines: tuple[str, ...] | None = None
    held_templates: float = Field(default=0.1, ge=0, lt=1)
    held_values: float = Field(default=0.1, ge=0, lt=1)
    train_negatives: int = Field(default=150, ge=0)
    train_talk: int = Field(default=450, ge=0)
    seen: int = Field(default=90, gt=0)
    unseen_templates: int = Field(default=50, ge=0)
    unseen_values: int = Field(default=50, ge=0)
    noisy: int = Field(default=70, ge=0)
    rooms: int = Field(default=30, ge=0)
    snr_db: tuple[float, float] = (3.0, 20.0)
    negatives: int = Field(default=50, ge=0)
    real_negatives: int = Field(default=80, ge=0)
    real_commands: int = Field(default=80, ge=0)
    quantise: int = Field(default=120, gt=0)
    checks: int = Field(default=100, ge=0)
    replay: tuple[Replay, ...] = (
        Replay(corpus="commonvoice-v1", clips=1000),
        Replay(corpus="librispeech-tc5", clips=150),
        Replay(corpus="speechocean762-adults", clips=300, weight=0.7),
    )
    recordings: tuple[Source, ...] = ()
    pronounce: bool = True
    augment: AugmentConfig = AugmentConfig()
    costs: Costs = Costs()
    intent_weights: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    training: TrainingConfig = TrainingConfig(
        steps=1_000_000,
        batch_seconds=60.0,
        rate=7e-4,
        warmup=50,
        chunks=(4, 4, 8),
        ema=0.99,
        checkpoint_every=50,
        validate_every=150,
        validate_clips=60,
        threads=os.cpu_count() or 1,
        weights=LossWeights(phone_ctc=0.6, intermediate=0.2, transducer_share=0.2),
    )
    processes: int = Field(default=os.cpu_count() or 1, ge=1)
    work: str = "runs/build"

    @model_validator(mode="after")
    def _own_length(self) -> Self:
        for name in ("minutes", "seed"):
            if getattr(self.training, name) != TrainingConfig.model_fields[name].default:
                raise ValueError(f"'training.{name}': a build has its own; give --{name} (in Python build({name}=...))")
        return self
