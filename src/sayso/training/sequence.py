"""Expected errors as a loss of a recipe (MWER; Prabhavalkar et al. 2018): hypotheses come from CTC's prefix beam search
on the batch itself, their likelihoods, which learn, from CTC or from the transducer.

Shape letters: ``B`` batch, ``R`` rows of CTC, ``T`` frames, ``M`` hypotheses of all clips, ``N`` of one clip at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sayso.core.config import Config
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.evaluation.metrics import edit_counts
from sayso.losses import ctc_loss, expected_errors_loss, transducer_loss
from sayso.models.assembly import SpeechModel

Errors = Callable[[Sequence[int], Sequence[int]], float]


class SequenceConfig(Config):
    """Whose likelihood ``of`` the best ``nbest`` hypotheses learns; the search keeps twice as many prefixes."""

    of: Literal["ctc", "transducer"] = "ctc"
    nbest: int = Field(default=4, ge=2)


@dataclass(frozen=True)
class Heard:
    """One pass: CTC's log-probabilities (B,R,V) and rows (B,), encoder frames (B,T,D) and their counts (B,)."""

    log_probs: Tensor
    rows: Tensor
    encoded: Tensor
    frames: Tensor


def token_errors(reference: Sequence[int], hypothesis: Sequence[int]) -> float:
    """Edits between tokens."""
    return edit_counts(reference, hypothesis).errors


class SequenceLoss:
    """``errors(reference tokens, hypothesis tokens)`` counts; word errors need a tokenizer, which a run has."""

    def __init__(self, config: SequenceConfig, errors: Errors = token_errors) -> None:
        self.config, self.errors = config, errors
        search = CtcBeamConfig(beam=2 * config.nbest, nbest=config.nbest, commit_frames=None)
        self.search = CtcBeam(search)

    def __call__(self, model: SpeechModel, heard: Heard, references: Tensor, counts: Tensor) -> Tensor:
        """Mean over the clips of the expected errors above the mean of each list; ``references`` (B,U) are what was
        said, of which ``counts`` (B,) are real."""
        found = [self._nbest(heard, clip) for clip in range(len(heard.rows))]
        sizes = torch.tensor([len(each) for each in found])
        device = heard.log_probs.device
        clips = torch.arange(len(found)).repeat_interleave(sizes).to(device)
        labels = [torch.tensor(tokens, dtype=torch.int64) for each in found for tokens in each]
        lengths = torch.tensor([len(each) for each in labels], device=device)
        # one more row makes room for a label where all hypotheses are empty
        targets = pad_sequence([*labels, torch.zeros(1, dtype=torch.int64)], batch_first=True)[:-1].to(device)
        likely = self._likelihoods(model, heard, clips, targets, lengths)
        places = torch.cat([torch.arange(int(count)) for count in sizes]).to(device)
        scores = likely.new_zeros(len(found), self.config.nbest).index_put((clips, places), likely)
        errors = torch.zeros(scores.shape)
        for clip, each in enumerate(found):
            said = references[clip, : int(counts[clip])].tolist()
            for place, tokens in enumerate(each):
                errors[clip, place] = self.errors(said, tokens)
        return expected_errors_loss(scores, errors.to(scores.device), sizes.to(scores.device))

    def _nbest(self, heard: Heard, clip: int) -> list[tuple[int, ...]]:
        posteriors = heard.log_probs[clip, : int(heard.rows[clip])].detach().float().cpu().numpy()
        lists = self.search.finish(self.search.step(self.search.start(), posteriors))
        return [hypothesis.tokens for hypothesis in lists[0]]

    def _likelihoods(self, model: SpeechModel, heard: Heard, clips: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """Log-likelihoods (M,) of targets (M,U) of the clips (M,)."""
        if self.config.of == "ctc":
            return -ctc_loss(heard.log_probs[clips], targets, heard.rows[clips], lengths, reduction="none")
        logits = model.joiner(heard.encoded[clips], model.predictor(targets))
        return -transducer_loss(logits, targets, heard.frames[clips], lengths, reduction="none")
