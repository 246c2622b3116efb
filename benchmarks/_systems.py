"""The systems of ``tradeoffs.py``: what their heads are, how large they are made, and their bundles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sayso.core.bundle import Bundle, read_bundle
from sayso.core.config import parse
from sayso.decoding.arpa import save_ngram
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.decoders import ATTENTION_DECODERS
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.transducer_beam import ModifiedConfig
from sayso.export.bundle import ExportConfig, export_bundle
from sayso.models.assembly import ModelConfig, SpeechModel, load_checkpoint, save_checkpoint
from sayso.runtime.settings import FreeConfig
from sayso.text import lexicon
from sayso.training.data import read_parts, transcripts
from sayso.training.recipe import DataConfig

REFERENCE, HYBRID, ALONE, WITHIN = "ctc", "hybrid", "attention-alone", 0.03
ENCODER = {
    "kind": "conformer",
    "channels": 96,
    "width": 144,
    "layers": 4,
    "heads": 4,
    "feedforward": 384,
    "dropout": 0.0,
}
CORE: dict[str, Any] = {"kind": "lstm", "attention": 128, "location": 0}
Settings = Callable[[int], dict[str, Any]]  # the width of a head -> a part of the model


@dataclass(frozen=True)
class System:
    """One row of the table: its head, the weights of its losses, how it searches, and what can be said of it before
    anything is measured."""

    head: Settings
    weights: dict[str, float]
    free: FreeConfig | None
    labels: str  # do they depend on each other
    listens: str
    run: str | None = None  # the system whose training this one reads differently
    ctc: float = AttentionBeamConfig().ctc  # its weight in the beam of a decoder that hears everything first


def _decoder(**settings: Any) -> Settings:
    return lambda width: {"decoder": {**settings, "width": width}}


def _masked(**settings: Any) -> Settings:
    return lambda width: {"decoder": {**settings, "core": {**CORE, "width": width}}}


def _transducer(width: int) -> dict[str, Any]:
    return {"predictor": {"kind": "lstm", "width": width}, "joiner": {"kind": "additive", "width": 256}}


WRITES = {"ctc": 0.3, "transducer": 0.0, "decoder": 0.7}
GUIDED = {**WRITES, "guided": 1.0}
CHOOSES = {**WRITES, "quantity": 1.0}
LSTM = {"attention": 128}
SYSTEMS: dict[str, System] = {
    REFERENCE: System(
        lambda width: {}, {"ctc": 1.0, "transducer": 0.0}, FreeConfig(search=CtcBeamConfig()), "no", "a frame"
    ),
    "attention": System(_decoder(kind="lstm", **LSTM), GUIDED, None, "yes", "everything"),
    ALONE: System(_decoder(kind="lstm", **LSTM), GUIDED, None, "yes", "everything", run="attention", ctc=0.0),
    "chunks": System(_masked(kind="chunk", chunk_frames=8), WRITES, None, "yes", "its chunk"),
    "mocha": System(_decoder(kind="mocha", **LSTM), CHOOSES, None, "yes", "a window at a chosen frame"),
    "triggered": System(_masked(kind="triggered", ahead_frames=2), WRITES, None, "yes", "until 160 ms after CTC's"),
    "transducer": System(
        _transducer, {"ctc": 0.3, "transducer": 0.7}, FreeConfig(search=ModifiedConfig()), "yes", "a frame"
    ),
    HYBRID: System(
        lambda width: {"phones": True}, {"phone_ctc": 1.0, "ctc": 0.0, "transducer": 0.0}, None, "words do", "a frame"
    ),
}  # fmt: skip
WIDTH = 256  # of the transducer's predictor


def head_parameters(model: SpeechModel, system: System) -> int:
    """Of what the system has besides encoder and CTC head."""
    used: list[nn.Module] = [model.decoder] if model.decoder is not None else []
    if system.weights["transducer"]:
        used = [model.predictor, model.joiner]
    if model.phones is not None:
        used = [model.phones]
    return sum(p.numel() for part in used for p in part.parameters())


def trunk_of(vocab: int, init: Path | None) -> dict[str, Any]:
    """What all systems have in common: the encoder and the labels, here or of a checkpoint."""
    if init is None:
        return {"vocab": vocab, "ctc_rate": 2, "encoder": ENCODER}
    config = load_checkpoint(init)[0].config
    return config.model_dump(mode="json", include={"vocab", "ctc_rate", "encoder"})


def begun(settings: dict[str, Any], init: Path, folder: Path, seed: int) -> Path:
    """A checkpoint of a system whose encoder, CTC head and head for phones are those of ``init``, all else new."""
    trained, tokenizer = load_checkpoint(init)
    torch.manual_seed(seed)
    model = parse(ModelConfig, settings, where="benchmarks/tradeoffs.py").build()
    kept = ("encoder.", "ctc.", *(("phones.",) if model.phones is not None else ()))
    model.load_state_dict({k: v for k, v in trained.state_dict().items() if k.startswith(kept)}, strict=False)
    save_checkpoint(model, tokenizer, folder)
    return folder


def sized(name: str, trunk: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The model whose head has as many parameters as the transducer's within 3%, and how many; by bisection."""

    def settings_of(system: System, width: int) -> dict[str, Any]:
        return {**trunk, **system.head(width)}

    def count(system: System, width: int) -> int:
        model = parse(ModelConfig, settings_of(system, width), where="benchmarks/tradeoffs.py").build()
        return head_parameters(model, system)

    system, target = SYSTEMS[name], count(SYSTEMS["transducer"], WIDTH)
    if name in (REFERENCE, HYBRID):
        return settings_of(system, WIDTH), count(system, WIDTH)
    low, high = 16, 4 * WIDTH
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(system, middle) <= target else (low, middle)
    found = count(system, low)
    if abs(found / target - 1) > WITHIN:
        raise SystemExit(f"{name}: no width gives {target} parameters; {low} gives {found}")
    return settings_of(system, low), found


def words_of(data: dict[str, Any], out: Path) -> str:
    """The file of a 3-gram of the training transcripts, over all words of the lexicon."""
    parts = read_parts(parse(DataConfig, data, where="benchmarks/tradeoffs.py"))
    save_ngram(estimate((text.split() for text in transcripts(parts)), 3, lexicon.Lexicon.load().words), out)
    return str(out)


def export(name: str, folder: Path, out: Path, longest_s: float, free: FreeConfig | None) -> Bundle:
    """The bundle of a run; as new as the run."""
    model, tokenizer = load_checkpoint(folder / "model")
    if free is None and model.decoder is not None and model.decoder.streams:
        free = FreeConfig(search=ATTENTION_DECODERS[model.decoder.config.kind]())
    config = ExportConfig(
        name=name,
        int8=False,
        free=free,
        parser=AttentionBeamConfig(limit=max(96, round(10 * longest_s)), ctc=SYSTEMS[name].ctc),
        stream={"vad": False, "min_nonblank": 0, "max_utterance_s": longest_s + 10},
    )
    export_bundle(model, tokenizer, None, out, config)
    return read_bundle(out)


def used_mb(bundle: Bundle, name: str) -> float:
    """Megabytes of the graphs that this system runs."""
    roles = {"encoder", "ctc"}
    if SYSTEMS[name].weights["transducer"]:
        roles = {"encoder", "predictor", "joiner"}
    elif name == HYBRID:
        roles = {"encoder", "phones"}
    elif name != REFERENCE:
        roles |= {"memory", "decoder"}
    more = 0
    if name == HYBRID:
        dictionary = Path(lexicon.__file__).with_name("data") / "lexicon.en.npz"
        more = len(bundle.file(bundle.manifest.free["lm"]["file"])) + dictionary.stat().st_size
    return (
        more / 1e6
        + sum(len(bundle.file(spec.file)) for role, spec in bundle.manifest.graphs.items() if role in roles) / 1e6
    )
