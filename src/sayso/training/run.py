"""One training run: a recipe in, a run folder out; the same call on an unfinished folder goes on where it stopped.

The folder holds ``recipe.json`` (everything resolved), ``data.json`` (what was read, with hashes), ``tokenizer.model``,
``metrics.jsonl``, ``timing.jsonl``, ``curves.png``, ``state/`` (to go on from) and ``model/`` (the averaged weights, a
checkpoint). The settings of a run are fixed when it begins; only how long it lasts (if it is one cycle and has no
stages), and with how many threads, may change later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sayso.core.config import parse, read_toml
from sayso.core.errors import ConfigError, DataError, require
from sayso.core.files import whole
from sayso.models.assembly import ModelConfig, SpeechModel, load_checkpoint
from sayso.models.growth import quicken, with_layers
from sayso.text.display import display
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.data import (
    Part,
    described,
    differing_keys,
    feature_statistics,
    gather,
    read_lines,
    read_parts,
    transcripts,
)
from sayso.training.language import fit_language
from sayso.training.loop import Trainer
from sayso.training.progress import Say, to_stderr
from sayso.training.recipe import DataConfig, LanguageRecipe, Recipe, load_language_recipe, load_recipe
from sayso.training.teaching import lender

LENGTH = ("training.minutes", "training.steps")  # but not where it says when cycles or stages end
MAY_CHANGE = (*LENGTH, "training.threads", "data.processes", "data.cache")
# model keys that may be set beside init
DROPOUTS = ("dropout", "attention_dropout", "layer_dropout")
BESIDE_INIT = (
    "heads",
    "ctc_rate",
    "phones",
    "decoder",
    "trees",
    "encoder.layers",
    *(f"encoder.{name}" for name in DROPOUTS),
)
NO_LOSSES = ("step", "seconds", "rate", "norm", "limit", "clipped", "skipped")  # in a line of metrics.jsonl
TOKENIZER, RECIPE, METRICS, CURVES = "tokenizer.model", "recipe.json", "metrics.jsonl", "curves.png"
SOURCES = "data.json"


def train(recipe: Path, overrides: list[str], out: Path | None = None, say: Say | None = None) -> Path:
    """Train what ``recipe`` with ``overrides`` says in ``out`` (default ``runs/NAME``); returns the run folder.

    Ctrl-C keeps the weights so far. Raises ``ConfigError`` for a wrong recipe, or one that differs from what the
    folder was begun with, ``DataError`` for missing data.
    """
    if read_toml(recipe).get("kind") == "language":
        about = load_language_recipe(recipe, overrides)
        folder = out or Path("runs") / about.name
        _begin(about, folder, ("training.threads",))
        try:
            fit_language(about, folder, say or to_stderr)
        finally:
            draw_curves(folder)
        return folder
    settings = load_recipe(recipe, overrides)
    return run(settings, out or Path("runs") / settings.name, say or to_stderr)


def run(settings: Recipe, folder: Path, say: Say) -> Path:
    """``train`` with settings that were read already."""
    torch.set_num_threads(settings.training.threads)
    torch.manual_seed(settings.training.seed)
    in_parts = settings.training.cycles > 1 or settings.training.stages
    _begin(settings, folder, [key for key in MAY_CHANGE if not in_parts or key not in LENGTH])
    parts, spec = read_parts(settings.data), settings.training.spec
    model, tokenizer = _model(settings, folder, parts)
    noises = spec.noise > 0 and spec.recorded > 0 and model.encoder.config.hears == "features"
    with whole(folder / SOURCES) as fresh:
        fresh.write_text(json.dumps(described(parts, noises=noises), indent=1) + "\n")
    if settings.training.at_most().phone_ctc > 0 and model.phones is None:
        raise ConfigError("training.weights.phone_ctc needs a head for phones; set model.phones = true beside it")
    if settings.data.written and (model.config.heads.tags or model.config.decoder is not None):
        raise ConfigError(
            "data.written: tags and decoders are about words as they are spoken, and cannot be learnt beside written "
            "ones; remove model.heads.tags and model.decoder, or data.written"
        )
    lent = lender(settings.data.train, tokenizer) if settings.training.at_most().distil_transducer > 0 else None
    corpus = gather(
        settings.data, tokenizer, model.config, say, seed=settings.training.seed, parts=parts, noises=noises
    )
    corpus.lender = lent
    if settings.init is None and model.encoder.config.hears == "features":
        mean, scale = feature_statistics(corpus)
        model.encoder.mean.copy_(mean)
        model.encoder.scale.copy_(scale)
    try:
        Trainer(model, tokenizer, corpus, settings.training, folder, say).fit()
    finally:
        draw_curves(folder)
    return folder


def read_sources(folder: Path) -> dict[str, dict[str, str]]:
    """``{"data": {source and side: clips, hours, sha256}}`` of a run, for the card of what is made of it, which names
    no more of a path than its end; {} for a folder without ``data.json``, ``DataError`` for one that is damaged."""
    file = folder / SOURCES
    if not file.is_file():
        return {}
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        found: dict[str, str] = {}
        for row in rows:
            for side in ("train", "valid"):
                if side in row:
                    name, about = "/".join(Path(row["source"]).parts[-2:]), row[side]
                    found[f"{name}, {side}"] = f"{about['clips']} clips, {about['hours']} h, sha256 {about['sha256']}"
        return {"data": found}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not what a run writes ({error}); remove it to go on without it") from None


def draw_curves(folder: Path) -> Path | None:
    """``metrics.jsonl`` of a run as ``curves.png``: losses above, validation WER (of a language model its nats a token)
    below; None without any."""
    file = folder / METRICS
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    steps = {row["step"]: row for row in rows if "total" in row}  # a resumed run says some steps twice
    kind = "valid_nats" if any("valid_nats" in row for row in rows) else "valid_wer"
    judged = {row["step"]: row[kind] for row in rows if kind in row and "ends" not in row}
    means = {row["step"]: row["valid_wer"] for row in rows if "valid_wer" in row and "ends" in row}
    if not steps and not judged:
        return None
    figure = require("matplotlib.figure", extra="train", purpose="drawing curves").Figure(figsize=(8, 7))
    above, below = figure.subplots(2, 1, sharex=True)
    order = sorted(steps)
    for name in [key for key in (steps[order[-1]] if order else {}) if key not in NO_LOSSES]:
        above.plot(order, [steps[step].get(name) for step in order], label=name)
    above.set_ylabel("loss")
    below.plot(sorted(judged), [judged[step] for step in sorted(judged)], "o-", label="on valid")
    if means:
        below.plot(sorted(means), [means[step] for step in sorted(means)], "s", label="of the mean of the ends")
    below.set_ylabel("nats a token" if kind == "valid_nats" else "word error rate")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend()
    figure.tight_layout()
    with whole(folder / CURVES) as fresh:
        figure.savefig(fresh, dpi=110, format="png")
    return folder / CURVES


def _begin(settings: Recipe | LanguageRecipe, folder: Path, may: Sequence[str]) -> None:
    """Write what the run is, or compare with what it was begun as."""
    file = folder / RECIPE
    if file.exists():
        try:
            old = parse(type(settings), json.loads(file.read_text()), where=str(file))
        except ValueError as error:
            raise ConfigError(f"{file}: damaged ({error}); delete {folder} to start anew") from None
        changed = [key for key in differing_keys(old, settings) if key not in may]
        if changed:
            raise ConfigError(
                f"{folder} was begun with other settings: {', '.join(changed)} differ. Only {', '.join(may)} "
                "may change; give another --out, or delete the folder to start anew"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with whole(file) as fresh:
        fresh.write_text(json.dumps(settings.model_dump(mode="json"), indent=1) + "\n")


def _model(settings: Recipe, folder: Path, parts: list[Part]) -> tuple[SpeechModel, Tokenizer]:
    heads = settings.model.heads
    if settings.init is not None:
        if settings.data.tokenizer is not None:
            raise ConfigError("'init' brings its own tokenizer; remove data.tokenizer")
        others = [key for key in differing_keys(ModelConfig(), settings.model) if not key.startswith(BESIDE_INIT)]
        decoder = None if settings.model.decoder is None else (settings.model.decoder, settings.model.trees)
        model, tokenizer = load_checkpoint(
            Path(settings.init),
            heads=heads if heads.intents or heads.tags else None,
            decoder=decoder,
            phones=settings.model.phones,
        )
        if others:
            raise ConfigError(
                f"'init' fixes the model; model.{others[0]} cannot be set beside it. Only {', '.join(BESIDE_INIT)} may"
            )
        return _grown(model, settings), tokenizer
    path = folder / TOKENIZER
    if path.exists():
        tokenizer = Tokenizer.load(path)
    elif settings.data.tokenizer is not None:
        tokenizer = Tokenizer.load(settings.data.tokenizer)
        if tokenizer.size != settings.model.vocab:
            raise ConfigError(
                f"model.vocab = {settings.model.vocab}, and data.tokenizer has {tokenizer.size} tokens; set it so"
            )
        with whole(path) as fresh:
            fresh.write_bytes(tokenizer.model)
    else:
        texts = [*transcripts(parts), *_extra(settings.data)]
        if settings.data.written:
            texts = [display(text) for text in texts]
        try:
            tokenizer = train_tokenizer(texts, path, vocab=settings.model.vocab)
        except RuntimeError as error:
            raise ConfigError(
                f"no tokenizer of model.vocab = {settings.model.vocab} tokens can be trained on {len(texts)} sentences "
                f"({error}); choose a smaller vocabulary or add data.tokenizer_text"
            ) from None
    return settings.model.build(), tokenizer


def _grown(model: SpeechModel, settings: Recipe) -> SpeechModel:
    """The checkpoint's model with the encoder depth, dropout and CTC rate that the recipe itself names."""
    encoder, named = settings.model.encoder, settings.model.encoder.model_fields_set
    dropout = {key: getattr(encoder, key) for key in DROPOUTS if key in named}
    if dropout:
        unknown = [key for key in dropout if key not in type(model.config.encoder).model_fields]
        if unknown:
            kind = model.config.encoder.kind
            raise ConfigError(
                f"model.encoder.{unknown[0]}: the encoder of 'init' is '{kind}', which has none; remove it"
            )
        config = model.config.encoder.model_copy(update=dropout)
        again = model.config.model_copy(update={"encoder": config}).build()
        again.load_state_dict(model.state_dict())
        model = again
    if "ctc_rate" in settings.model.model_fields_set:
        try:
            model = quicken(model, settings.model.ctc_rate)
        except ValueError as error:
            raise ConfigError(f"model.ctc_rate = {settings.model.ctc_rate}: {error}") from None
    if "layers" not in named:
        return model
    try:
        return with_layers(model, encoder.layers)
    except ValueError as error:
        raise ConfigError(f"model.encoder.layers = {encoder.layers}: {error}") from None


def _extra(data: DataConfig) -> Iterator[str]:
    """Further sentences for the tokenizer, spelled as the recogniser spells."""
    for name in data.tokenizer_text:
        for line in read_lines(name, "data.tokenizer_text"):
            text = re.sub(r"[^a-z' ]", "", normalise(line)).strip()
            if text:
                yield text
