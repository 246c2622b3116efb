"""Training a language model that is a network: sentences in, nats out.

Every sentence is read once an epoch, in batches of like lengths. Warm-up and cosine over all of it, AdamW, clipping and
a moving average of weights as for speech; after every epoch the average is judged on sentences that are not learnt, and
the best of them is the model. Randomness is a function of (seed, epoch), so a run goes on from its last epoch as if it
had not been stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from torch import Tensor

from sayso.core.errors import DataError
from sayso.core.files import aside, write_text
from sayso.models.language import LanguageNetwork, LanguageNetworkConfig, save_language
from sayso.text.normalise import normalise
from sayso.text.tokenizer import UNKNOWN, Tokenizer
from sayso.training.checkpoint import Average, load_state, save_state
from sayso.training.clipping import Clipper
from sayso.training.data import Part, described, read_lines, read_parts, transcripts
from sayso.training.progress import Say
from sayso.training.recipe import LanguageRecipe

HELD = 20
Batch = tuple[Tensor, Tensor]  # (B, U) tokens, (B,) lengths


def fit_language(settings: LanguageRecipe, folder: Path, say: Say) -> Path:
    """Train what ``settings`` say, from where ``folder/state`` left off; returns the folder of the model.

    Ctrl-C keeps the best epoch so far. Raises ``DataError`` where there is nothing to learn.
    """
    c = settings.training
    torch.set_num_threads(c.threads)
    torch.manual_seed(c.seed)
    tokenizer = Tokenizer.load(settings.tokenizer)
    parts = read_parts(settings.data, speech=False)
    learnt, kept = sentences(settings, parts, tokenizer)
    about = [*described(parts), *({"source": name, "sha256": _hash(name)} for name in settings.text)]
    write_text(folder / "data.json", [json.dumps(about, indent=1) + "\n"])
    fabric = lightning_fabric.Fabric(accelerator="auto", devices=1)
    model = LanguageNetworkConfig(vocab=tokenizer.size, network=settings.network).build()
    fabric.to_device(model)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": c.decay}, {"params": others, "weight_decay": 0.0}], lr=c.rate
    )
    average, clipper = Average(model, c.ema), Clipper(c.clip, None)
    epoch, best, before = 0, math.inf, 0.0
    state = folder / "state"
    if state.exists() or aside(state).exists():
        found = load_state(state, model, average, optimiser)
        epoch, best, before = found["step"], found["best"] or math.inf, found["seconds"]
        say(f"resuming {folder} after epoch {epoch}")
    began = time.monotonic() - before
    try:
        while epoch < c.epochs:
            nats = _epoch(model, fabric, learnt, (optimiser, clipper, average), settings, epoch)
            epoch += 1
            with average.applied(model):
                figure = nats_per_token(model, kept, c.batch_tokens)
                if figure < best or epoch == 1:
                    best = figure
                    save_language(model, tokenizer, folder / "model")
            say(f"epoch {epoch} of {c.epochs}  nats a token {nats:.3f}, of what is not learnt {figure:.3f}")
            _log(folder, {"step": epoch, "total": round(nats, 4)}, {"step": epoch, "valid_nats": round(figure, 4)})
            extra = {"seconds": time.monotonic() - began, "best": best if math.isfinite(best) else None}
            save_state(state, epoch, model, average, optimiser, extra)
    except KeyboardInterrupt:
        kept_so_far = "keeping the best epoch so far" if epoch else "before the first epoch was over"
        say(f"interrupted: {kept_so_far}; the same command goes on")
    return folder / "model"


def sentences(
    settings: LanguageRecipe, parts: Sequence[Part], tokenizer: Tokenizer
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of the sentences to learn, each once, and of those to judge by: transcripts of validation parts, where
    there are none every ``HELD``th of the sentences.

    What the tokenizer cannot spell is left out. Raises ``DataError`` where nothing is left, or a file is no text.
    """
    texts = dict.fromkeys(transcripts(parts))
    for name in settings.text:
        texts |= dict.fromkeys(normalise(line) for line in read_lines(name, "text"))
    judged = {normalise(cut.supervisions[0].text or "") for part in parts for cut in part.valid if cut.supervisions}
    judged -= {""}
    learnt, kept = (
        [tokens for text in some if text and UNKNOWN not in (tokens := tokenizer.encode(text))]
        for some in ([text for text in texts if text not in judged], sorted(judged))
    )
    if not kept:
        learnt, kept = [row for n, row in enumerate(learnt) if n % HELD], learnt[::HELD]
    if not learnt:
        raise DataError("no sentence to learn; give 'text' (files, a sentence a line) or 'data.train'")
    return learnt, kept


def batches(rows: Sequence[Sequence[int]], batch_tokens: int, rng: np.random.Generator | None) -> list[Batch]:
    """All sentences in batches of like lengths, in an order that ``rng`` draws (None: from short to long)."""
    noise = np.zeros(len(rows)) if rng is None else rng.random(len(rows))
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), noise[i]))
    groups: list[list[int]] = [[]]
    for i in order:
        if groups[-1] and (len(groups[-1]) + 1) * (len(rows[i]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(i)
    if rng is not None:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    return [_padded([rows[i] for i in group]) for group in groups]


@torch.no_grad()
def nats_per_token(model: LanguageNetwork, rows: Sequence[Sequence[int]], batch_tokens: int = 4000) -> float:
    """How surprised the model is by sentences, their ends included."""
    model.eval()
    total, count = 0.0, 0
    for tokens, lengths in _on(model, batches(rows, batch_tokens, None)):
        nats, counts = model.loss(tokens, lengths)
        total, count = total + float(nats.sum()), count + int(counts.sum())
    return total / count


def _epoch(
    model: LanguageNetwork,
    fabric: lightning_fabric.Fabric,
    rows: Sequence[Sequence[int]],
    parts: tuple[torch.optim.Optimizer, Clipper, Average],
    settings: LanguageRecipe,
    epoch: int,
) -> float:
    """One pass over all sentences; nats a token."""
    c, (optimiser, clipper, average) = settings.training, parts
    torch.manual_seed(c.seed * 1_000_003 + epoch)
    drawn = batches(rows, c.batch_tokens, np.random.default_rng((c.seed, epoch)))
    total, count = 0.0, 0
    model.train()
    for number, (tokens, lengths) in enumerate(_on(model, drawn)):
        step = epoch * len(drawn) + number  # of every epoch as many, so that what is to come is known
        share = step / (c.epochs * len(drawn))
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = c.rate * min(1.0, (step + 1) / c.warmup) * (0.02 + 0.98 * cosine)
        nats, counts = model.loss(tokens, lengths)
        loss = nats.sum() / counts.sum()
        fabric.backward(loss)
        if clipper(model.parameters()).finite:
            optimiser.step()
        optimiser.zero_grad()
        average.update(model, step + 1)
        total, count = total + float(nats.sum().detach()), count + int(counts.sum())
    return total / count


def _hash(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _padded(rows: Sequence[Sequence[int]]) -> Batch:
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return tokens, lengths


def _on(model: LanguageNetwork, drawn: Sequence[Batch]) -> Iterator[Batch]:
    place = model.bias.device
    for tokens, lengths in drawn:
        yield tokens.to(place), lengths.to(place)


def _log(folder: Path, *rows: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
