"""Language models that are networks: an LSTM over the recogniser's own tokens (Mikolov et al. 2010; Sundermeyer et al.
2012), whose output is tied to its embedding (Press and Wolf 2017, arXiv:1608.05859).

Label 0, a recogniser's blank, which no text holds, stands for both ends: it is read before the first token and is
predicted after the last.

Shape letters: ``B`` batch, ``U`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sayso.core.config import Config, parse
from sayso.core.errors import ConfigError
from sayso.core.files import whole
from sayso.models.predictors import LstmConfig, LstmState
from sayso.text.tokenizer import Tokenizer

END = 0  # and begin
ABOUT, WEIGHTS, TOKENIZER = "language.json", "language.safetensors", "tokenizer.model"


class LanguageNetworkConfig(Config):
    """``network``'s dropout is that of its input and of its output."""

    kind: Literal["language"] = "language"
    vocab: int = Field(gt=1)
    network: LstmConfig = LstmConfig(width=512, dropout=0.3)

    def build(self) -> LanguageNetwork:
        """With new weights."""
        return LanguageNetwork(self)


class LanguageNetwork(nn.Module):
    """How probable the next token is after all tokens so far."""

    context = 1

    def __init__(self, config: LanguageNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.reader = config.network.build(config.vocab)
        self.dropout = nn.Dropout(config.network.dropout)
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        nn.init.normal_(self.reader.embedding.weight, std=config.network.width**-0.5)  # it makes logits too

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, U) tokens to log probabilities (B, U+1, V) of each, and of what follows the last."""
        return self._log_probs(self.reader(tokens))

    def loss(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Nats (B,) of padded sentences (B, U) of ``lengths`` (B,), their ends included, and of how many tokens."""
        places = torch.arange(tokens.shape[1] + 1, device=tokens.device)
        targets = nn.functional.pad(tokens, (0, 1)).masked_fill(places >= lengths[:, None], END)
        nats = -self(tokens).gather(2, targets[:, :, None])[:, :, 0]
        return (nats * (places <= lengths[:, None])).sum(1), lengths + 1

    def init_state(self, batch: int) -> LstmState:
        """Before any token; step 0 is fed ``END``."""
        return self.reader.init_state(batch)

    def advance(self, labels: Tensor, state: LstmState) -> tuple[Tensor, LstmState]:
        """(B, 1) last token, ``END`` at first, to log probabilities (B, V) of the next, and the next state."""
        out, following = self.reader.advance(labels, state)
        return self._log_probs(out), following

    def _log_probs(self, out: Tensor) -> Tensor:
        logits = nn.functional.linear(self.dropout(out), self.reader.embedding.weight, self.bias)
        return torch.log_softmax(logits.float(), -1)


def save_language(model: LanguageNetwork, tokenizer: Tokenizer, folder: Path, *, half: bool = False) -> None:
    """Write ``folder`` (each file under a temporary name, then renamed); ``half`` stores fp16 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as all_or_none:
        about, weights, tokens = (
            all_or_none.enter_context(whole(folder / name)) for name in (ABOUT, WEIGHTS, TOKENIZER)
        )
        kind = torch.float16 if half else torch.float32
        save_file({k: v.detach().to(kind, copy=True).contiguous() for k, v in model.state_dict().items()}, weights)
        about.write_text(json.dumps(model.config.model_dump(mode="json"), indent=1) + "\n")
        tokens.write_bytes(tokenizer.model)


def load_language(folder: Path) -> tuple[LanguageNetwork, Tokenizer]:
    """What ``save_language`` wrote, in eval mode. Raises ``ConfigError`` where the folder holds no such model."""
    try:
        data = json.loads((folder / ABOUT).read_text())
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: not a language model that is a network ({error}). It needs {ABOUT}, {WEIGHTS} and {TOKENIZER}, "
            "as a run of recipes/language/pieces.toml leaves them in its folder model"
        ) from None
    model = parse(LanguageNetworkConfig, data, where=str(folder / ABOUT)).build()
    try:
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        raise ConfigError(f"{folder}/{WEIGHTS} does not fit {ABOUT} ({error})") from None
    return model.eval(), Tokenizer.load(folder / TOKENIZER)
