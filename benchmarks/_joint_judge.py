"""How the tables of ``joint.py`` are judged: one checkpoint hears the held-out recordings, clean and in noise, and
every way of understanding answers on the same frames. Answers are kept in files, so that tables cost nothing.

The values of slots come from one table for all ways that have no grammar (``nlu/values.py``, from the training labels).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from _joint_data import examples
from _lines import progress
from _wer import Floats, checkpoint, encoded
from torch import Tensor

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.automaton import Automaton
from sayso.core.result import Example, Frame, Intent, Result, Slot
from sayso.data import manifest
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.decoding.graph import GraphHypothesis, GraphSearch
from sayso.decoding.greedy import CtcGreedy
from sayso.evaluation.evaluate import Pair
from sayso.evaluation.predict import NoiseCondition, Run, write_predictions
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.nlu.cascade import Matcher, Texts, Understander, answer, cascade
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import frames_of
from sayso.nlu.values import SpokenValues, spoken_forms, tag_spans
from sayso.text.tokenizer import UNKNOWN, Tokenizer
from sayso.training import parsing
from sayso.training.understanding import Read, UnderstandingConfig, fit

HEADS, GRAPH, VOTED, PARSER, MATCHED, TAGGED = "heads", "graph", "graph+head", "parser", "match", "tagger"
FREE = "text"
DEAF, UNREAD = "heads without sound", "heads without tokens"


@dataclass(frozen=True)
class Heard:
    """A recording's encoder frames (T,D) and CTC posteriors (R,V)."""

    encoded: Tensor
    log_probs: Floats


@dataclass
class Court:
    """What all models are judged on: recordings, conditions (None: clean, else dB), the domain, and the labelled
    training speech for the tables of values and the tagger."""

    args: argparse.Namespace
    domain: Path
    manifests: dict[str, Path]
    examples: list[Example]
    noise: Path
    kind: str = "mean"
    name: str = ""  # where one training is judged on several

    @cached_property
    def values(self) -> SpokenValues:
        """From the labels of the training speech."""
        return SpokenValues(spoken_forms(slot for example in self.learnt for slot in example.slots or ()))

    @cached_property
    def learnt(self) -> list[Example]:
        """The labelled training speech."""
        return [manifest.to_example(cut) for cut in manifest.read(self.manifests["train"])]

    @cached_property
    def conditions(self) -> list[float | None]:
        """In the order of the tables."""
        return [None, *self.args.snr]

    def features(self, snr: float | None) -> list[Floats]:
        """Log-mel features (T,F) of every example in a condition, made once."""
        known: dict[float | None, list[Floats]] = self.__dict__.setdefault("_features", {})
        if snr not in known:
            known[snr] = list(heard_features(self.examples, self.condition(snr)))
        return known[snr]

    def condition(self, snr: float | None) -> NoiseCondition | None:
        """The noise of a condition; the same sound for every model."""
        if snr is None:
            return None
        return NoiseCondition(file=str(self.noise), snr_db=snr, snr_kind=self.kind)  # type: ignore[arg-type]


def heard_features(recordings: Sequence[Example], noise: NoiseCondition | None) -> Iterator[Floats]:
    """Features of what a model would hear."""
    kept: list[Floats] = []

    def listen(samples: Floats, _: int) -> Result:
        kept.append(fbank(samples, FeatureConfig()))
        return Result()

    run = Run(listen, recordings, noise)
    for _ in run:
        yield kept.pop()
    if run.failures:
        raise SystemExit(f"{run.failures[0].audio}: {run.failures[0].message}")


class Judge:
    """One trained checkpoint before the court; ``answers`` of each way of understanding, kept beside the run."""

    def __init__(self, court: Court, folder: Path) -> None:
        self.court, self.folder = court, folder
        self._heard: dict[float | None, list[Heard]] = {}

    @cached_property
    def _loaded(self) -> tuple[SpeechModel, Tokenizer]:
        return load_checkpoint(checkpoint(self.folder))

    @property
    def model(self) -> SpeechModel:
        """The network; loaded when something must be heard."""
        return self._loaded[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self._loaded[1]

    def heard(self, snr: float | None) -> list[Heard]:
        """What the network hears in a condition, in the streaming context."""
        if snr not in self._heard:
            self._heard[snr] = self._hear(self.court.features(snr))
        return self._heard[snr]

    @torch.no_grad()
    def _hear(self, features: list[Floats]) -> list[Heard]:
        found: dict[int, Heard] = {}
        for group, frames, counts in encoded(self.model, features, self.model.encoder.default_context):
            log_probs = self.model.ctc(frames).numpy()
            for row, (index, count) in enumerate(zip(group, counts, strict=True)):
                found[index] = Heard(frames[row, :count].clone(), log_probs[row, : count * self.model.ctc.rate].copy())
        return [found[index] for index in range(len(features))]

    def way(self, name: str) -> Callable[[Heard], Result]:
        """A way of understanding by its name."""
        if name in (HEADS, DEAF, UNREAD):
            return lambda heard: self.by_heads(heard, sound=name != DEAF, tokens=name != UNREAD)
        if name == FREE:
            return lambda heard: Result(text=self.greedy(heard)[2], decision="accept")
        if name in (GRAPH, VOTED):
            search = GraphSearch(self.automaton)
            return lambda heard: self.by_graph(search, heard, vote=1.0 if name == VOTED else 0.0)
        if name == PARSER:
            return self.by_parser
        understand: Understander = Matcher(self.automaton, self.tokenizer) if name == MATCHED else self.tagger
        return lambda heard: answer(texts := self.texts(heard), cascade(texts, understand))

    @cached_property
    def automaton(self) -> Automaton:
        """The domain, spelled in pieces."""
        return compile_domain(load_domain(self.court.domain), self.tokenizer)

    @cached_property
    def tagger(self) -> Understander:
        """Of texts: trained on transcripts and on what this network reads of the same recordings."""
        learnt = self.court.learnt
        reads = [Read(example.text, example) for example in learnt if example.text]
        heard = self._hear(list(heard_features(learnt[: self.court.args.reads], None)))
        reads += [Read(self.greedy(h)[2], e) for h, e in zip(heard, learnt, strict=False) if self.greedy(h)[2]]
        return fit(reads, UnderstandingConfig(epochs=self.court.args.epochs))

    def texts(self, heard: Heard) -> Texts:
        """The n-best of the CTC prefix beam, equal texts added up."""
        beam, found = CtcBeam(CtcBeamConfig(beam=16, nbest=8, commit_frames=None)), dict[str, float]()
        for hypothesis in beam.finish(beam.step(beam.start(), heard.log_probs))[0]:
            text = self.tokenizer.decode(hypothesis.tokens)
            found[text] = float(np.logaddexp(found.get(text, -np.inf), hypothesis.score))
        return sorted(found.items(), key=lambda item: -item[1])

    def greedy(self, heard: Heard) -> tuple[list[int], list[int], str]:
        """Tokens, the encoder frames that they stand on, and the text of the best path."""
        greedy = CtcGreedy()
        state = greedy.step(greedy.start(), heard.log_probs)
        frames = [frame // self.model.ctc.rate for frame in state.frames]
        return list(state.tokens), frames, self.tokenizer.decode(state.tokens)

    @torch.no_grad()
    def by_heads(self, heard: Heard, *, sound: bool = True, tokens: bool = True) -> Result:
        """Intent of the pool, slots of the tags on the best path; without ``sound`` or ``tokens`` that stream is
        hidden from heads that have both."""
        model, (read, at, text) = self.model, self.greedy(heard)
        assert model.intent is not None
        frames = heard.encoded[None] if sound else torch.zeros_like(heard.encoded[None])
        lengths, counts = torch.tensor([frames.shape[1]]), torch.tensor([len(read) if tokens else 0])
        said, pool = model.intent.step(frames, lengths, model.intent.init_state(1))
        labels = torch.tensor([read if tokens else [UNKNOWN] * len(read)], dtype=torch.int64).reshape(1, -1)
        states = None
        if model.fusion is not None and read:
            states = model.fusion(labels, torch.tensor([len(read)]), frames, lengths)
            said = model.intent.read(pool, states, counts)
        slots: tuple[Slot, ...] = ()
        if model.slots is not None and read:
            stand = frames[:, torch.tensor(at)]
            tags = model.slots(stand, labels, torch.tensor([len(read)]), states)[0].argmax(-1).tolist()
            slots = self._tagged(read, [model.config.heads.tags[tag] for tag in tags])
        return _result(text, int(said[0].argmax()), model.config.heads.intents, slots, float(said[0].max().exp()))

    def _tagged(self, read: list[int], tags: list[str]) -> tuple[Slot, ...]:
        """Slots of whole words; a word has the tag of its first piece."""
        words: list[list[int]] = []
        firsts: list[str] = []
        for token, tag in zip(read, tags, strict=True):
            if not words or self.tokenizer.pieces[token].startswith("▁"):
                words.append([])
                firsts.append(tag)
            words[-1].append(token)
        said = [self.tokenizer.decode(word) for word in words]
        found = [(name, " ".join(said[start:end]).strip()) for name, start, end in tag_spans(firsts)]
        return tuple(self.court.values.slot(name, words) for name, words in found)

    def by_graph(self, search: GraphSearch, heard: Heard, vote: float) -> Result:
        """The grammar's best sentence, with ``vote`` times the intent head's log-probability."""
        bonus = {}
        if vote and self.model.intent is not None:
            with torch.no_grad():
                said = self.model.intent(heard.encoded[None], torch.tensor([len(heard.encoded)]))[0]
            bonus = {n: vote * float(v) for n, v in zip(self.model.config.heads.intents, said, strict=False)}
        found = search.nbest(search.step(search.start(), heard.log_probs), bonus=bonus)
        if not found or found[0].meaning is None:
            return Result(decision="reject", reason="out_of_domain")
        best, meaning = found[0], search.automaton.meanings[found[0].meaning]
        slots = tuple(_slots(search, best)) + tuple(Slot(name=n, value=v) for n, v in meaning.slots)
        return _answer(search.automaton.text(best.tokens), meaning.intent, slots)

    def by_parser(self, heard: Heard) -> Result:
        """What the decoder writes under its schema."""
        model, text = self.model, self.greedy(heard)[2]
        grammar = TreeGrammar(model.config.trees, self.tokenizer.pieces)
        config = AttentionBeamConfig(beam=self.court.args.beam)
        frames = frames_of(grammar.decode(parsing.parse(model, heard.encoded, grammar, config)[0].tokens))
        if not frames:
            return Result(text=text, decision="reject", reason="out_of_domain")
        slots = tuple(self.court.values.slot(slot.name, slot.text) for slot in frames[0].slots)
        return _answer(text, frames[0].intent.name, slots)

    def early(self, snr: float | None) -> list[Floats]:
        """For every recording the intent head's probabilities (C,I+1) after each chunk of the stream."""
        assert self.model.intent is not None
        head, size, found = self.model.intent, self.model.encoder.default_context.chunk_frames or 4, []
        for heard in self.heard(snr):
            state, rows = head.init_state(1), []
            for start in range(0, len(heard.encoded), size):
                chunk = heard.encoded[None, start : start + size]
                with torch.no_grad():
                    said, state = head.step(chunk, torch.tensor([chunk.shape[1]]), state)
                rows.append(said[0].exp().numpy())
            found.append(np.stack(rows))
        return found

    def answers(self, way: str, snr: float | None) -> list[Pair]:
        """What a way of understanding makes of all recordings in a condition."""
        where, count = "clean" if snr is None else f"{snr:g}dB", len(self.court.examples)
        parts = (self.court.name, way, where, str(count))
        name = "-".join(part for part in parts if part).replace(" ", "-")
        file = self.folder / "answers" / f"{name}.jsonl"
        if not file.exists():
            understand, heard = self.way(way), self.heard(snr)
            pairs: list[Pair] = []
            for example, each in zip(self.court.examples, heard, strict=True):
                pairs.append((example, understand(each)))
                progress(len(pairs), len(heard))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_predictions(file, pairs)
        rows = [json.loads(line)["result"] for line in file.read_text(encoding="utf-8").splitlines()]
        return [(e, Result.model_validate(row)) for e, row in zip(self.court.examples, rows, strict=True)]


def home_court(args: argparse.Namespace, domain: Path, manifests: dict[str, Path], noise: Path) -> Court:
    """The held-out synthetic speech of a domain."""
    return Court(args, domain, manifests, examples(manifests, args.limit), noise)


def _slots(search: GraphSearch, best: GraphHypothesis) -> Iterator[Slot]:
    for match in best.slots:
        text = search.automaton.text(best.tokens[match.first : match.last + 1])
        yield Slot(name=match.slot, value=match.value or text, text=text)


def _result(text: str, number: int, intents: Sequence[str], slots: tuple[Slot, ...], sure: float) -> Result:
    if number >= len(intents):
        return Result(text=text, decision="reject", reason="out_of_domain")
    return _answer(text, intents[number], slots, sure)


def _answer(text: str, intent: str, slots: tuple[Slot, ...], sure: float | None = None) -> Result:
    meant = Intent(name=intent, confidence=sure)
    return Result(text=text, intent=meant, slots=slots, frames=(Frame(intent=meant, slots=slots),), decision="accept")
