"""The whole export, readable as one page: graphs, int8, domain, calibration, card, manifest, one rename.

Calibration needs the finished runtime, so a bundle is written first and amended after it was judged; both ways end in
one atomic write.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.automaton import Automaton
from sayso.core.bundle import read_bundle, write_bundle
from sayso.core.card import CARD, card
from sayso.core.config import Config
from sayso.core.errors import BundleError
from sayso.core.manifest import WHOLE, WRITERS, IntentSpec, Manifest, PassSpec, Role
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.decoders import ATTENTION_DECODERS, AttentionDecoderConfig
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.open_slots import OpenSlotConfig
from sayso.decoding.open_words import OpenWordsConfig
from sayso.export.onnx import Exported, export_graphs, export_language, hears_whole
from sayso.export.quantise import quantise
from sayso.export.verify import verify_bundle, verify_graphs, verify_language
from sayso.models.assembly import SpeechModel
from sayso.models.language import load_language
from sayso.models.streaming import Context
from sayso.models.subsampling import FACTOR
from sayso.nlu.automaton_io import save_automaton
from sayso.nlu.calibration import Calibration
from sayso.nlu.carried import carry
from sayso.runtime.language import LM, packed
from sayso.runtime.settings import FreeConfig
from sayso.text.tokenizer import Tokenizer

Floats = NDArray[np.float32]
CALIBRATION, TOKENIZER, LANGUAGE = "calibration.json", "tokenizer.model", "language.onnx"
OPEN, WORDS = "open.npz", "words.json"
_STREAMED: tuple[Role, ...] = ("encoder", "ctc", "phones", "predictor", "joiner", "language", "intent")
_AT_END: tuple[Role, ...] = ("fusion", "read", "slots")
_PROOF_CLIPS = 4  # enough for torch against ONNX; every chunk of them is compared


class ExportConfig(Config):
    """What a bundle is called and how it streams. ``intents`` carry risk and prompts; names without an entry get none.

    ``search``, ``combine``, ``policy`` and ``stream`` are the runtime's settings, written as they are; so is ``free``,
    but that the language models' ``file`` is one on disk (ARPA or packed; a folder of a network) and goes into the
    bundle, that a search of a decoder that writes while it hears takes that decoder's frames, and that None is that
    search where the model has
    such a decoder, else the best path of CTC; and so is ``open_slots``, the model that hears open slots again at the
    endpoint. ``whole``: utterances up to ``whole_s`` of ``stream`` are heard again whole at the endpoint, where the
    encoder gains by that and the search of the text does not depend on chunks. ``calibration`` may
    be a base model's (temperature and offset only); confidences stay null until it says what it was fitted on.
    ``source`` is the domain file or folder that was compiled, for the bundle to carry.
    ``values`` say, slot by slot, for which value spoken words stand, where no domain does. ``private``: the bundle
    gives intents and values of slots and never words, because no graph that could write any is in it.
    """

    name: str
    description: str = ""
    chunk_frames: int = 4
    left_frames: int = 32
    int8: bool = True
    whole: bool = True
    languages: tuple[str, ...] = ("en",)
    licence: str = "Apache-2.0"
    intents: tuple[IntentSpec, ...] = ()
    source: str | None = None
    calibration: Calibration | None = None
    search: dict[str, Any] = Field(default_factory=dict)
    free: FreeConfig | None = None
    open_slots: OpenSlotConfig | OpenWordsConfig | None = Field(default=None, discriminator="kind")
    parser: AttentionBeamConfig = AttentionBeamConfig()
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    private: bool = False
    combine: dict[str, Any] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)
    stream: dict[str, Any] = Field(default_factory=dict)
    trained: dict[str, Any] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict)


def export_bundle(
    model: SpeechModel,
    tokenizer: Tokenizer,
    automaton: Automaton | None,
    out: Path | str,
    config: ExportConfig,
    *,
    clips: Sequence[Floats] = (),
    checks: Sequence[Floats] = (),
) -> Manifest:
    """Write a bundle (folder, or zip where ``out`` ends in ``.zip``) and return its manifest.

    ``clips`` fix the int8 scales: training recordings as samples (n,) at 16 kHz or as features (T, F). ``checks`` are
    held-out recordings as samples: what they show stands in ``figures["verification"]``. ``automaton`` None makes a
    bundle that understands by the model's decoder, if there is one, else by its heads, and otherwise transcribes;
    beside an automaton a decoder is left out. Raises ``BundleError`` where the parts do not fit each other or ONNX does
    not compute what the model does, ``DataError`` for int8 without clips or a language model that cannot be read.
    """
    _check(model, tokenizer, automaton)
    if config.private:
        _check_private(model, automaton)
    free = _free(model, config.free)
    config, language = _with_language_models(config, free)
    network = _network(free, tokenizer)
    features = FeatureConfig(mels=model.config.encoder.mels)
    heard = [fbank(clip, features) if clip.ndim == 1 else clip for clip in clips]
    exact = export_graphs(model, config.chunk_frames, config.left_frames)
    error = verify_graphs(
        model, exact, heard[:_PROOF_CLIPS] or [_noise(features)], config.chunk_frames, config.left_frames
    )
    attends = isinstance(free.search, AttentionDecoderConfig)
    unused: tuple[Role, ...] = () if attends or _parses(model, automaton) else ("memory", "decoder")
    if (automaton is None or not automaton.lexicon) and not isinstance(free.search, HybridConfig):
        unused = (*unused, "phones")
    if config.private:
        unused = (*unused, *WRITERS, "fusion", "read")  # nothing is written that could be read
    graphs = {role: graph for role, graph in exact.items() if role not in unused}
    if network is not None and not config.private:
        graphs["language"] = network
    if config.int8:
        graphs["encoder"] = quantise(
            exact["encoder"], heard, FACTOR * config.chunk_frames, whole=config.whole and hears_whole(model)
        )
    files = {graph.spec.file: graph.data for graph in graphs.values()}
    files[TOKENIZER] = tokenizer.model
    domain = _domain_files(automaton)
    files |= domain | language
    source, carried = (None, {}) if config.source is None else carry(Path(config.source))
    files |= carried
    if config.calibration is not None:
        files[CALIBRATION] = config.calibration.to_json().encode()
    manifest = _manifest(model, automaton, config, graphs, tuple(domain)).model_copy(update={"source": source})
    with tempfile.TemporaryDirectory() as folder:
        draft, twin = Path(folder) / "draft", Path(folder) / "twin"
        write_bundle(manifest, files, draft)
        if config.int8:
            write_bundle(manifest, files | {exact["encoder"].spec.file: exact["encoder"].data}, twin)
        found = verify_bundle(draft, checks, fp32=twin if config.int8 else None, error=error)
    manifest = manifest.model_copy(update={"figures": {**manifest.figures, "verification": found.figures()}})
    return write_bundle(manifest, {**files, CARD: card(manifest).encode()}, out)


def quantise_bundle(path: Path | str, out: Path | str, clips: Sequence[Floats]) -> Manifest:
    """An fp32 bundle again with an int8 encoder, its scales fixed by ``clips`` (samples (n,) or features (T, F))."""
    bundle = read_bundle(path)
    manifest = bundle.manifest
    if manifest.precision != "fp32":
        raise BundleError(f"{path}: is {manifest.precision} already; quantise the fp32 bundle it was made from")
    features = FeatureConfig(**manifest.features)
    heard = [fbank(clip, features) if clip.ndim == 1 else clip for clip in clips]
    spec = manifest.graphs["encoder"]
    chunk = round(manifest.chunk_ms / features.shift_ms)
    encoder = quantise(Exported(data=bundle.file(spec.file), spec=spec), heard, chunk, whole=manifest.hears_whole)
    files = {name: bundle.file(name) for name in manifest.files} | {spec.file: encoder.data}
    manifest = manifest.model_copy(update={"precision": "int8"})
    return write_bundle(manifest, {**files, CARD: card(manifest).encode()}, out)


def _manifest(
    model: SpeechModel,
    automaton: Automaton | None,
    config: ExportConfig,
    graphs: Mapping[Role, Exported],
    domain: tuple[str, ...],
) -> Manifest:
    features = FeatureConfig(mels=model.config.encoder.mels)
    frame_ms = round(FACTOR * features.shift_ms)
    context = Context(config.chunk_frames, config.left_frames)
    parses, free = _parses(model, automaton), config.free or FreeConfig()
    second = (PassSpec(name="parse", when="endpoint", graphs=("memory", "decoder"), search="parser"),) if parses else ()
    attends = isinstance(free.search, AttentionDecoderConfig)
    first = tuple(role for role in (*_STREAMED, *(("memory", "decoder") if attends else ())) if role in graphs)
    search = "graph" if automaton else None if config.private else "free"
    again = PassSpec(name=WHOLE, when="endpoint", graphs=first, search=search)
    return Manifest(
        name=config.name,
        description=config.description,
        languages=config.languages,
        sample_rate=features.sample_rate,
        chunk_ms=config.chunk_frames * frame_ms,
        left_context_ms=config.left_frames * frame_ms,
        lookahead_ms=round(model.encoder.lookahead_ms(context) or 0),
        frame_ms=frame_ms,
        ctc_rate=model.config.ctc_rate,
        label_context=model.predictor.context,
        features=features.model_dump(mode="json"),
        passes=(
            PassSpec(name="first", when="chunk", graphs=first, search=search),
            *((again,) if config.whole and hears_whole(model) and not attends else ()),
            PassSpec(name="choose", when="endpoint", graphs=tuple(role for role in _AT_END if role in graphs)),
            *((PassSpec(name="open slots", when="endpoint", search="open_slots"),) if config.open_slots else ()),
            *second,
        ),
        graphs={role: graph.spec for role, graph in graphs.items()},
        precision="int8" if config.int8 else "fp32",
        tokenizer=TOKENIZER,
        automaton=domain,
        domain=automaton.domain if automaton is not None else None,
        intents=_intents(model, automaton, config),
        tags=model.config.heads.tags,
        values=config.values,
        private=config.private,
        trees=model.config.trees if parses else None,
        parser=config.parser.model_dump(mode="json") if parses else {},
        search=config.search,
        free={} if config.private else free.model_dump(mode="json"),
        open_slots={} if config.open_slots is None else config.open_slots.model_dump(mode="json"),
        combine=config.combine,
        policy=config.policy,
        stream=config.stream,
        calibration=None if config.calibration is None else CALIBRATION,
        calibrated_on=_calibrated_on(config.calibration),
        trained=config.trained,
        figures=config.figures,
        licence=config.licence,
    )


def amend_bundle(
    path: Path | str, *, calibration: Calibration | None = None, out: Path | str | None = None, **fields: Any
) -> Manifest:
    """Write the bundle again (at ``out``, default in its place) with another calibration and manifest ``fields``.

    ``figures`` and ``trained`` are merged into what is there; other fields (``policy``, ``combine``, ...) are replaced.
    """
    bundle = read_bundle(path)
    files = {name: bundle.file(name) for name in bundle.manifest.files}
    if calibration is not None:
        files[CALIBRATION] = calibration.to_json().encode()
        fields = {"calibration": CALIBRATION, "calibrated_on": _calibrated_on(calibration), **fields}
    for name in {"figures", "trained"} & set(fields):
        fields[name] = {**getattr(bundle.manifest, name), **fields[name]}
    manifest = Manifest.model_validate({**bundle.manifest.model_dump(), **fields})
    return write_bundle(manifest, {**files, CARD: card(manifest).encode()}, path if out is None else out)


def _check(model: SpeechModel, tokenizer: Tokenizer, automaton: Automaton | None) -> None:
    if tokenizer.size != model.config.vocab:
        raise BundleError(
            f"the tokenizer has {tokenizer.size} tokens, the model {model.config.vocab}: they do not belong together; "
            "export with the tokenizer.model of the checkpoint"
        )
    if not model.encoder.streams:
        raise BundleError(
            f"an encoder of kind '{model.encoder.config.kind}' hears whole recordings and runs in the workshop alone; "
            "distil it into one that streams (recipes/pretrained/distil.toml) and export that"
        )
    if automaton is None:
        return
    if automaton.lexicon and model.phones is None:
        raise BundleError(
            "the domain is pronounced and the model has no head for phones; compile it without a lexicon, or train one "
            "with model.phones = true"
        )
    if automaton.tokenizer != tokenizer.sha256:
        raise BundleError("the domain was compiled with another tokenizer; compile it with the checkpoint's")
    spoken = {meaning.intent for meaning in automaton.meanings}
    known = model.config.heads.intents
    if known and (strange := sorted(spoken - set(known))):
        raise BundleError(f"the model's intent head was not trained on: {', '.join(strange)}; build the domain again")


def _check_private(model: SpeechModel, automaton: Automaton | None) -> None:
    decoder = model.decoder
    writes = decoder is not None and (decoder.streams or model.config.trees.form != "decoupled" or not _means(model))
    if automaton is not None or writes or (decoder is None and model.intent is None):
        raise BundleError(
            "a private bundle understands without words: by a decoder of decoupled trees (model.trees.form), or by an "
            "intent head where there is no decoder; and without a domain, whose sentences are words. Train either"
        )


def _means(model: SpeechModel) -> bool:
    return bool(model.config.trees.intents)


def _parses(model: SpeechModel, automaton: Automaton | None) -> bool:
    """Whether the decoder writes at the endpoint what was meant or said."""
    return automaton is None and model.decoder is not None and not model.decoder.streams


def _free(model: SpeechModel, free: FreeConfig | None) -> FreeConfig:
    """The search of free text, with the frames that the model's decoder was trained with."""
    decoder = model.decoder if model.decoder is not None and model.decoder.streams else None
    if free is None:
        free = FreeConfig() if decoder is None else FreeConfig(search=ATTENTION_DECODERS[decoder.config.kind]())
    if isinstance(free.search, HybridConfig) and model.phones is None:
        raise BundleError("free: search 'hybrid' needs a head for phones; train one with model.phones = true")
    if not isinstance(free.search, AttentionDecoderConfig):
        return free
    if decoder is None or decoder.config.kind != free.search.kind:
        has = "none that writes while it hears" if decoder is None else f"one of kind '{decoder.config.kind}'"
        raise BundleError(f"free: search '{free.search.kind}' needs a decoder of that kind; this model has {has}")
    return free.model_copy(update={"search": free.search.model_copy(update=decoder.sight)})


def _with_language_models(config: ExportConfig, free: FreeConfig) -> tuple[ExportConfig, dict[str, bytes]]:
    """The settings as the bundle has them, and the packed files that they name there."""
    files: dict[str, bytes] = {}
    lm, network, opened = free.lm, free.network, config.open_slots
    if lm is not None:
        files[LM] = packed(lm.file)
        free = free.model_copy(update={"lm": lm.model_copy(update={"file": LM})})
    if network is not None:
        free = free.model_copy(update={"network": network.model_copy(update={"file": LANGUAGE})})
    config = config.model_copy(update={"free": free})
    if opened is not None and opened.file is not None:
        name = WORDS if isinstance(opened, OpenWordsConfig) else OPEN
        files[name] = Path(opened.file).read_bytes() if name == WORDS else packed(opened.file)
        config = config.model_copy(update={"open_slots": opened.model_copy(update={"file": name})})
    return config, files


def _network(free: FreeConfig, tokenizer: Tokenizer) -> Exported | None:
    """The network that votes on free text, checked against ONNX."""
    if free.network is None:
        return None
    model, its = load_language(Path(free.network.file))
    if its.sha256 != tokenizer.sha256:
        raise BundleError(
            f"free.network: {free.network.file} was trained for another tokenizer; train it again with 'tokenizer' set "
            "to this checkpoint"
        )
    graph = export_language(model)
    verify_language(model, graph)
    return graph


def _intents(model: SpeechModel, automaton: Automaton | None, config: ExportConfig) -> tuple[IntentSpec, ...]:
    """In the order of the head's classes; without a head, of the domain's meanings or of the decoder's trees."""
    names: Sequence[str] = model.config.heads.intents or tuple(model.config.trees.intents)
    if not model.config.heads.intents and automaton is not None:
        names = list(dict.fromkeys(meaning.intent for meaning in automaton.meanings))
    given = {spec.name: spec for spec in config.intents}
    return tuple(given.get(name, IntentSpec(name=name)) for name in names)


def _domain_files(automaton: Automaton | None) -> dict[str, bytes]:
    if automaton is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        save_automaton(automaton, Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _calibrated_on(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None or calibration.calibrated_on is None:
        return None
    return {"data": calibration.calibrated_on}


def _noise(features: FeatureConfig) -> Floats:
    """Something to compare graphs on where no recording was given."""
    return np.random.default_rng(0).normal(10.0, 4.0, (200, features.mels)).astype(np.float32)
