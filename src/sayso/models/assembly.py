"""The whole model: one encoder shared by CTC, transducer and understanding heads; and its checkpoint on disk.

A checkpoint is a folder: ``model.json`` (the config), ``model.safetensors`` (weights, fp16 when shipped) and
``tokenizer.model``. Never pickle.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sayso.core.config import Config, parse
from sayso.core.errors import ConfigError
from sayso.core.files import whole
from sayso.core.trees import TreeSchema
from sayso.models.decoders import STREAMING, Decoder, DecoderConfig
from sayso.models.encoders import Encoder, EncoderConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.fusion import Fusion
from sayso.models.heads import HeadConfig, IntentHead, SlotHead
from sayso.models.joiners import AdditiveConfig, JoinerConfig
from sayso.models.predictors import PredictorConfig, StatelessConfig
from sayso.text.lexicon import PHONES
from sayso.text.tokenizer import Tokenizer


class ModelConfig(Config):
    """All parts of a model. ``vocab`` includes the blank (token 0). The CTC head gives ``ctc_rate`` rows for each
    encoder frame: CTC can write at most one label a row, and fast talk has more labels than frames of 80 ms. A
    ``decoder`` writes meanings that ``trees`` allows; where that has no intents, transcripts. ``phones`` adds a second
    CTC head of the same rate for the phones of ``text/lexicon.py``: a grammar then listens for sounds, not spellings.
    """

    vocab: int = 256
    ctc_rate: int = Field(default=1, ge=1, le=4)
    phones: bool = False
    encoder: EncoderConfig = ConformerConfig()
    predictor: PredictorConfig = StatelessConfig()
    joiner: JoinerConfig = AdditiveConfig()
    heads: HeadConfig = HeadConfig()
    decoder: DecoderConfig | None = None
    trees: TreeSchema = TreeSchema()

    @model_validator(mode="after")
    def _streams_write_texts(self) -> Self:
        if self.decoder is not None and self.trees.intents and self.decoder.kind in STREAMING:
            raise ValueError(f"a decoder of kind '{self.decoder.kind}' writes transcripts; leave model.trees out")
        return self

    def build(self) -> SpeechModel:
        """Randomly initialised model."""
        return SpeechModel(self)


class CtcHead(nn.Module):
    """Frames to label log-probabilities (Graves et al. 2006), ``rate`` rows for each frame."""

    def __init__(self, width: int, vocab: int, rate: int = 1) -> None:
        super().__init__()
        self.rate = rate
        self.out = nn.Linear(width, rate * vocab)

    def forward(self, frames: Tensor) -> Tensor:
        """(B,T,D) to (B,rate T,V)."""
        logits = self.out(frames).float().unflatten(2, (self.rate, -1)).flatten(1, 2)
        return torch.log_softmax(logits, -1)


class SpeechModel(nn.Module):
    """Encoder and heads; ``intent`` and ``slots`` are None in a base model, which knows no domain; ``decoder``,
    ``phones`` and ``fusion`` where the config has none."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder: Encoder[Any] = config.encoder.build()
        # one that came from elsewhere knows more of itself than it was asked
        self.config = config.model_copy(update={"encoder": self.encoder.config})
        width = self.encoder.width
        self.ctc = CtcHead(width, config.vocab, config.ctc_rate)
        self.predictor = config.predictor.build(config.vocab)
        self.joiner = config.joiner.build(width, self.predictor.width, config.vocab)
        heads = config.heads
        self.intent = IntentHead(heads, width) if heads.intents else None
        self.slots = SlotHead(heads, width, config.vocab) if heads.tags else None
        # last: the same seed draws what it drew before there were decoders
        size = config.trees.size(config.vocab)
        self.decoder: Decoder[Any] | None = None if config.decoder is None else config.decoder.build(width, size)
        self.phones = CtcHead(width, len(PHONES), config.ctc_rate) if config.phones else None
        fusion = heads.fusion if heads.intents or heads.tags else None
        self.fusion: Fusion | None = None
        if fusion is not None:
            self.fusion = fusion.build(heads.width, width, config.vocab, heads.dropout)


def save_checkpoint(model: SpeechModel, tokenizer: Tokenizer, folder: Path, *, half: bool = False) -> None:
    """Write ``folder`` (each file under a temporary name, then renamed); ``half`` stores fp16 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if half and value.is_floating_point() else value).detach().clone().contiguous()
        for name, value in model.state_dict().items()
    }
    names = ("tokenizer.model", "model.json", "model.safetensors")
    with ExitStack() as all_or_none:
        tokens, about, tensors = (all_or_none.enter_context(whole(folder / name)) for name in names)
        save_file(weights, tensors)
        about.write_text(json.dumps(model.config.model_dump(mode="json"), indent=1) + "\n")
        tokens.write_bytes(tokenizer.model)


def load_checkpoint(
    folder: Path,
    *,
    heads: HeadConfig | None = None,
    decoder: tuple[DecoderConfig, TreeSchema] | None = None,
    phones: bool = False,
) -> tuple[SpeechModel, Tokenizer]:
    """Model (fp32, eval mode) and tokenizer. With ``heads``, understanding heads are made anew for these classes; with
    ``decoder`` and the schema of its trees, that; with ``phones`` a head for them where the checkpoint has none.

    Raises ``ConfigError`` where the folder is not a checkpoint or its weights do not fit its config.
    """
    try:
        data = json.loads((folder / "model.json").read_text())
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: not a model checkpoint ({error}). It needs model.json, model.safetensors and tokenizer.model; "
            "the general English one is models/base of a checkout"
        ) from None
    config = parse(ModelConfig, data, where=str(folder / "model.json"))
    fresh: tuple[str, ...] = ()
    if heads is not None:
        config, fresh = config.model_copy(update={"heads": heads}), ("intent.", "slots.", "fusion.")
    if decoder is not None:
        config = config.model_copy(update={"decoder": decoder[0], "trees": decoder[1]})
        fresh = (*fresh, "decoder.")
    if phones and not config.phones:
        config, fresh = config.model_copy(update={"phones": True}), (*fresh, "phones.")
    weights = {k: v for k, v in weights.items() if not k.startswith(fresh)}
    model = config.build()
    missing, unexpected = model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, strict=False
    )
    wrong = [name for name in missing if not name.startswith(fresh)] + list(unexpected)
    if wrong:
        raise ConfigError(f"{folder}/model.safetensors does not fit model.json: {', '.join(wrong[:5])}")
    return model.eval(), Tokenizer.load(folder / "tokenizer.model")
