"""Whether what sources name as a teacher fits the run: its tokens, its width, the network that its frames are of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from sayso.core.errors import ConfigError
from sayso.data.teacher import NETWORK, TOKENIZER
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.text.tokenizer import Tokenizer
from sayso.training.batches import Item
from sayso.training.recipe import LossWeights, Source


def check_teacher(source: Source, tokenizer: Tokenizer) -> None:
    """What is said of tokens is said of the run's own."""
    if source.teacher is None:
        return
    _check_tokens(Path(source.teacher) / TOKENIZER, tokenizer)


def _check_tokens(path: Path, tokenizer: Tokenizer) -> None:
    if path.is_file() and Tokenizer.load(path).sha256 != tokenizer.sha256:
        raise ConfigError(
            f"{path}: other tokens than this run's; set data.tokenizer to it, or begin with a checkpoint that has it"
        )


def lender(sources: Iterable[Source], tokenizer: Tokenizer) -> SpeechModel:
    """The network whose encoded frames all ``teacher`` folders hold."""
    folders = sorted({Path(source.teacher) for source in sources if source.teacher is not None})
    without = [str(folder) for folder in folders if not (folder / NETWORK).is_dir()]
    if without or not folders:
        raise ConfigError(
            "training.weights.distil_transducer needs sources with 'teacher', folders of a network's encoded frames "
            "with the network beside them (benchmarks/teach.py --checkpoint DIR --encoded); "
            + (f"without one: {', '.join(without)}" if without else "no source has any")
        )
    _check_tokens(folders[0] / NETWORK / TOKENIZER, tokenizer)
    model, _ = load_checkpoint(folders[0] / NETWORK)
    mine = model.state_dict()
    for folder in folders[1:]:
        its = load_checkpoint(folder / NETWORK)[0].state_dict()
        if mine.keys() != its.keys() or not all(torch.equal(its[name], weight) for name, weight in mine.items()):
            raise ConfigError(
                f"{folder} has another network than {folders[0]}; take one teacher for all sources (make the folders "
                "anew with benchmarks/teach.py --encoded)"
            )
    return model


def taught_width(model: SpeechModel, items: Sequence[Item], lender: SpeechModel | None, weights: LossWeights) -> int:
    """How many numbers a teacher has for every 80 ms; 0 without one."""
    name = next((name for name in ("teacher", "distil", "distil_transducer") if getattr(weights, name)), None)
    if name is None:
        return 0
    widths = sorted({int(item.teacher.shape[1]) for item in items if item.teacher is not None})
    if not widths:
        raise ConfigError(
            f"training.weights.{name} needs a source with 'teacher': a folder that holds something of its clips "
            "(benchmarks/teach.py); none does"
        )
    if len(widths) > 1:
        raise ConfigError(
            f"the sources' 'teacher' folders hold {' and '.join(map(str, widths))} numbers for every 80 ms; take one "
            "teacher for all"
        )
    tokens = model.ctc.rate * model.config.vocab
    if weights.distil and widths != [tokens]:
        raise ConfigError(
            f"training.weights.distil needs a source with 'teacher': a folder of {tokens} log-probabilities for every "
            f"80 ms (benchmarks/teach.py --checkpoint, of a network with this tokenizer); found {widths[0]}"
        )
    if lender is not None and widths != [lender.encoder.width]:
        raise ConfigError(
            f"training.weights.distil_transducer: the sources' 'teacher' folders hold {widths[0]} numbers for every "
            f"80 ms, and the encoder of the network beside them says {lender.encoder.width}; make them anew "
            "(benchmarks/teach.py --checkpoint DIR --encoded)"
        )
    if weights.distil_transducer and not any(item.teacher is not None and item.tokens for item in items):
        raise ConfigError(
            "training.weights.distil_transducer is about the ways to say a transcript, and none of the clips that the "
            "sources' 'teacher' folders hold has one; 'distil' does without"
        )
    return widths[0]
