"""What many streams share: the graphs, tokenizer, compiled domain and settings of one bundle; and one batched step.

Everything here is read-only after loading, so any number of streams, in any number of threads, use one engine. ``step``
advances several streams with a single encoder run; rows of a batch do not see each other, so a stream answers the same
alone and beside others.

Shape letters: ``T`` feature frames of a chunk, ``F`` mel bins, ``C`` encoder frames, ``D`` width, ``V`` tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sayso.audio.features import FeatureConfig
from sayso.core.automaton import Automaton
from sayso.core.bundle import Bundle
from sayso.core.config import Config, parse
from sayso.core.errors import BundleError, ConfigError, DataError
from sayso.decoding.arpa import load_ngram
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.beam import Scorers
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.decoders import CTC_DECODERS, AttentionDecoderConfig
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.decoding.greedy import CtcGreedyConfig, TransducerGreedyConfig
from sayso.decoding.hybrid import Hybrid, HybridConfig
from sayso.decoding.hypothesis import Decoder, Scorer
from sayso.decoding.mute import Mute
from sayso.decoding.network import NetworkScorer
from sayso.decoding.ngram import NGram, NGramScorer, WordScorer
from sayso.decoding.open_slots import OpenPieces, OpenSlotConfig, OpenSlots
from sayso.decoding.open_words import OpenWords, OpenWordsConfig, read_priors
from sayso.decoding.predictor import Predictor
from sayso.decoding.triggered_beam import Both, TriggeredBeamConfig
from sayso.nlu.automaton_io import load_automaton
from sayso.nlu.calibration import Calibration, tempered
from sayso.nlu.policy import PolicyConfig
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.values import SpokenValues
from sayso.runtime.graphs import Graph, State, split, stack
from sayso.runtime.parser import Parser
from sayso.runtime.settings import CombineConfig, FreeConfig, StreamConfig
from sayso.runtime.speller import GraphSpeller
from sayso.text.lexicon import Lexicon
from sayso.text.tokenizer import Tokenizer

Floats = NDArray[np.float32]
C = TypeVar("C", bound=Config)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Features (n, F) of one stream, 0 < n <= T; n < T only for its last chunk, n > T only for a whole utterance
    heard from a fresh state, where the manifest has that pass."""

    features: Floats


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the network says about one chunk of one stream; ``intent`` (I,) covers all that was heard so far."""

    encoded: Floats  # (C, D)
    log_probs: Floats  # (C times the CTC head's rate, V); in a private bundle (..., 1), blank
    grammar: Floats  # what the grammar listens to: the same, or as many rows of phones
    sounds: Floats | None = None  # rows of phones, where somebody listens to them
    intent: Floats | None = None


@dataclass(kw_only=True)
class NeuralState:
    """The network's memory of one stream; batch 1."""

    encoder: State
    intent: State


class Engine:
    """A loaded bundle without any stream."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        manifest = bundle.manifest
        self.bundle, self.manifest = bundle, manifest
        self.tokenizer = Tokenizer(bundle.file(manifest.tokenizer), where=f"{bundle.where}/{manifest.tokenizer}")
        self.features = self._settings(FeatureConfig, "features")
        self.combine = self._settings(CombineConfig, "combine")
        self.policy = self._settings(PolicyConfig, "policy")
        self.limits = self._settings(StreamConfig, "stream")
        self.calibration = self._calibration()
        self.automaton = self._automaton()
        graph = self._settings(GraphConfig, "search")
        self.graph_config = graph
        self.search = None if self.automaton is None else GraphSearch(self.automaton, graph)
        self.chunk = round(manifest.chunk_ms / self.features.shift_ms)
        self._graphs = {
            role: Graph(bundle.file(spec.file), spec, where=bundle.where, threads=threads)
            for role, spec in manifest.graphs.items()
        }
        self.free_config = self._settings(FreeConfig, "free")
        if not manifest.free and self.has_transducer:  # what bundles older than the choice were calibrated with
            self.free_config = FreeConfig(search=TransducerGreedyConfig())
        self.free = self._free()
        self.open_slots = self._open_slots()
        self.parser = self._parser()
        self.values = SpokenValues(manifest.values)

    def graph(self, role: str) -> Graph | None:
        """A graph by role, None where the bundle has none."""
        return self._graphs.get(role)  # type: ignore[call-overload, no-any-return]

    def start(self) -> NeuralState:
        """A stream before its first chunk."""
        intent = self.graph("intent")
        return NeuralState(encoder=self._graphs["encoder"].start(), intent={} if intent is None else intent.start())

    def step(self, states: Sequence[NeuralState], chunks: Sequence[Chunk]) -> list[Heard]:
        """Advance stream ``i`` over chunk ``i``, in place: one run of each graph for all of them."""
        batch = len(chunks)
        frame = round(self.manifest.frame_ms / self.features.shift_ms)
        longest = max(len(chunk.features) for chunk in chunks)
        x = np.zeros((batch, max(self.chunk, -(-longest // frame) * frame), self.features.mels), np.float32)
        for row, chunk in zip(x, chunks, strict=True):
            row[: len(chunk.features)] = chunk.features
        lengths = np.array([len(chunk.features) for chunk in chunks], np.int64)
        out, following = self._graphs["encoder"].run({"x": x, "lengths": lengths}, stack([s.encoder for s in states]))
        encoded, frames = out["out"], out["out_lengths"]
        if self.manifest.private:
            log_probs = np.zeros((batch, encoded.shape[1] * self.manifest.ctc_rate, 1), np.float32)
        else:
            log_probs = self.calibration.tempered(self._graphs["ctc"].run({"x": encoded})[0]["log_probs"])
        for state, memory in zip(states, split(following, batch), strict=True):
            state.encoder = memory
        pronounced = self.automaton is not None and bool(self.automaton.lexicon)
        sounds: Floats | None = None
        if pronounced or isinstance(self.free_config.search, HybridConfig):
            sounds = self._graphs["phones"].run({"x": encoded})[0]["log_probs"]
            sounds = tempered(sounds, self.calibration.phone_temperature)
        grammar = sounds if sounds is not None and pronounced else log_probs
        intents, rate = self._intents(states, encoded, frames), self.manifest.ctc_rate
        return [
            Heard(
                encoded=encoded[i, :n].copy(),
                log_probs=log_probs[i, : n * rate].copy(),
                grammar=grammar[i, : n * rate].copy(),
                sounds=None if sounds is None else sounds[i, : n * rate].copy(),
                intent=intents[i],
            )
            for i, n in enumerate(frames.tolist())
        ]

    def warm(self) -> None:
        """Make now what the first utterance that needs it would otherwise wait for."""
        if isinstance(self.open_slots, OpenWords):
            self.open_slots.warm()

    @property
    def ctc_frame_s(self) -> float:
        """Seconds of one row of CTC posteriors."""
        return self.manifest.frame_ms / 1000 / self.manifest.ctc_rate

    @property
    def predictor(self) -> Predictor:
        """The transducer's prediction network, with or without a state."""
        graph = self._graphs["predictor"]
        return Predictor(graph.following, self.manifest.label_context, graph.start())

    def join(self, encoded: Floats, predicted: Floats) -> Floats:
        """Transducer joiner: (B, D) and (B, J) to logits (B, V)."""
        return self._graphs["joiner"].run({"encoded": encoded, "predicted": predicted})[0]["logits"]

    @property
    def by_heads(self) -> bool:
        """Whether the intent head, and the slot head on the text, decide: where neither a grammar nor a decoder of
        meanings does."""
        means = self.parser is not None and self.parser.means
        return self.automaton is None and not means and self.graph("intent") is not None

    @property
    def has_transducer(self) -> bool:
        """Whether a search may ask the transducer."""
        return "predictor" in self._graphs and "joiner" in self._graphs

    def free_input(self, heard: Heard) -> Any:
        """What the search of the free text takes of a chunk."""
        search = self.free_config.search
        if isinstance(search, TriggeredBeamConfig):
            return Both(heard.encoded, heard.log_probs)
        if isinstance(search, HybridConfig):
            return heard.sounds
        return heard.log_probs if self.free_config.by_ctc else heard.encoded

    def _free(self) -> Decoder[Any]:
        """The search of the free text; it holds no stream."""
        if self.manifest.private:
            return Mute()
        search = self.free_config.search
        if isinstance(search, HybridConfig):
            return self._hybrid(search)
        scorers = self._scorers(self.free_config)
        if isinstance(search, CtcGreedyConfig | CtcBeamConfig):
            return search.build(scorers)
        if isinstance(search, AttentionDecoderConfig):
            speller = self._speller()
            if speller is None:
                raise BundleError(
                    f"{self.bundle.where}/bundle.json: free: search '{search.kind}' needs the graphs 'memory' and "
                    f"'decoder', which this bundle lacks; choose {' or '.join(CTC_DECODERS)}"
                )
            return search.build(speller, self.tokenizer.size, scorers)
        if not self.has_transducer:
            raise BundleError(
                f"{self.bundle.where}/bundle.json: free: search '{search.kind}' needs the graphs 'predictor' and "
                f"'joiner', which this bundle lacks; choose {' or '.join(CTC_DECODERS)}"
            )
        return search.build(self.predictor, self.join, scorers)

    def _hybrid(self, search: HybridConfig) -> Hybrid:
        lm = self.free_config.lm
        assert lm is not None, "the settings say so"
        if "phones" not in self._graphs:
            raise BundleError(
                f"{self.bundle.where}/bundle.json: free: search 'hybrid' needs the graph 'phones', which this bundle "
                f"lacks; choose {' or '.join(CTC_DECODERS)}"
            )
        return search.build(self._ngram(lm.file), lm.weight, Lexicon.load(), self.tokenizer.encode)

    def _parser(self) -> Parser | None:
        """The second pass that writes meanings, where the bundle has one."""
        speller, schema = self._speller(), self.manifest.trees
        if speller is None or schema is None:
            return None
        return Parser(
            speller, TreeGrammar(schema, self.tokenizer.pieces), self._settings(AttentionBeamConfig, "parser")
        )

    def _speller(self) -> GraphSpeller | None:
        """The attention decoder, where the bundle has one."""
        memory, decoder = self.graph("memory"), self.graph("decoder")
        return None if memory is None or decoder is None else GraphSpeller(memory, decoder)

    def _scorers(self, config: FreeConfig) -> Scorers | None:
        """The bundle's language models and their weights."""
        scorers: dict[str, tuple[Scorer[Any], float]] = {}
        lm, network, pieces = config.lm, config.network, self.tokenizer.pieces
        if lm is not None:
            model = self._ngram(lm.file)
            words = lm.unit == "words"
            scorer = WordScorer(model, pieces, lm.unknown, lm.bonus) if words else NGramScorer(model, pieces)
            scorers["lm"] = (scorer, lm.weight)
        if network is not None:
            graph = self.graph("language")
            if graph is None:
                raise BundleError(
                    f"{self.bundle.where}/bundle.json: free: 'network' needs the graph 'language', which this bundle "
                    "lacks; export it again"
                )
            reader = Predictor(graph.following, 1, graph.start())
            scorers["network"] = (NetworkScorer(reader, network.bonus), network.weight)
        return scorers or None

    def _open_slots(self) -> OpenSlots | None:
        """What hears the domain's open slots again; None where there are none, or they are spelled and there is no
        model of them."""
        automaton = self.automaton
        if automaton is None or all(call.list is not None for call in automaton.calls):
            return None
        if not self.manifest.open_slots and not automaton.lexicon:
            return None
        if self.manifest.open_slots.get("kind") == "words":
            words, spelled = self._settings(OpenWordsConfig, "open_slots"), automaton.spelled
            priors = read_priors(self.bundle.file(words.file), f"{self.bundle.where}/{words.file}")
            return OpenWords(
                words, priors, Lexicon.load(), lambda word: [spelled + piece for piece in self.tokenizer.encode(word)]
            )
        config = self._settings(OpenSlotConfig, "open_slots")
        model = None if config.file is None else self._ngram(config.file)
        return OpenPieces(config, model, self.tokenizer.pieces, automaton.spelled)

    def _ngram(self, name: str) -> NGram:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "lm.npz"
            file.write_bytes(self.bundle.file(name))
            try:
                return load_ngram(file)
            except DataError:
                raise BundleError(
                    f"{self.bundle.where}/{name}: not a packed language model; export the bundle again"
                ) from None

    def _intents(
        self, states: Sequence[NeuralState], encoded: Floats, frames: NDArray[np.int64]
    ) -> list[Floats | None]:
        graph = self.graph("intent")
        if graph is None:
            return [None] * len(states)
        out, following = graph.run({"x": encoded, "lengths": frames}, stack([state.intent for state in states]))
        for state, row in zip(states, split(following, len(states)), strict=True):
            state.intent = row
        return list(out["log_probs"].copy())

    def _settings(self, kind: type[C], field: str) -> C:
        data: dict[str, Any] = getattr(self.manifest, field)
        try:
            return parse(kind, data, where=f"{self.bundle.where}/bundle.json: {field}")
        except ConfigError as error:
            raise BundleError(f"{error}; export the bundle again with this version") from None

    def _calibration(self) -> Calibration:
        if self.manifest.calibration is None:
            return Calibration()
        try:
            return Calibration.from_json(self.bundle.file(self.manifest.calibration).decode())
        except (ValidationError, ValueError) as error:
            raise BundleError(
                f"{self.bundle.where}/{self.manifest.calibration}: not a calibration of this version ({error}); "
                "export the bundle again"
            ) from None

    def _automaton(self) -> Automaton | None:
        names = self.manifest.automaton
        if not names:
            return None
        with tempfile.TemporaryDirectory() as folder:  # numpy maps archives from files; these two are small
            for name in names:
                (Path(folder) / Path(name).name).write_bytes(self.bundle.file(name))
            automaton = load_automaton(Path(folder))
        if automaton.lexicon and "phones" not in self.manifest.graphs:
            raise BundleError(
                f"{self.bundle.where}/bundle.json: graphs: the domain is pronounced, which needs the graph 'phones'; "
                "export the bundle again"
            )
        if automaton.tokenizer != self.tokenizer.sha256:
            raise BundleError(
                f"{self.bundle.where}: the domain was compiled for another tokenizer; export the bundle again"
            )
        return automaton
