"""One utterance as a state machine: packets of samples in, partial results out, and a final one at the end.

Samples pass through resampling, log-mel features and voice activity as they come; whenever a chunk of features is
complete the encoder runs, and with its frames the grammar search, the filler and the free transcript move on. Where the
bundle says so, an utterance that is not too long is heard once more at its end, as one chunk that sees itself wholly:
the final result is of that pass alone, and partial results are of the first (one encoder for both passes, trained with
chunks of every length, as in Zhang et al. 2020, arXiv:2012.05481). Nothing depends on how the samples were cut.
``feed``, ``close`` and ``advance`` are the parts; a server uses them to move many streams with one encoder run,
``accept`` and ``finish`` to move one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.core.automaton import text_of
from sayso.core.errors import AudioError, UsageError
from sayso.core.result import Applied, Frame, Intent, Result, Timing, Word
from sayso.decoding.graph import GraphHypothesis, GraphSearch
from sayso.decoding.graph_state import GraphState
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.words import spans_of, words_of
from sayso.nlu.followup import FOLLOW_UP
from sayso.runtime.activity import Activity
from sayso.runtime.choose import Outcome, choose
from sayso.runtime.engine import Chunk, Engine, Heard
from sayso.runtime.lists import Before, Lists, looked_up, with_lists
from sayso.runtime.present import intent_of, slots_of, timed_words
from sayso.runtime.undecided import early
from sayso.runtime.utterance import Utterance, presentable
from sayso.text.display import display

Floats = NDArray[np.float32]


class Stream:
    """One utterance of one talker, after what was ``before``. Belongs to one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        *,
        lists: Lists | None = None,
        sample_rate: int | None = None,
        before: Before | None = None,
    ) -> None:
        self._engine, manifest = engine, engine.manifest
        self._rate = sample_rate or manifest.sample_rate
        if not 1000 <= self._rate <= 1_000_000:
            raise AudioError(f"a stream at {self._rate} Hz is not possible; give the rate of the samples, e.g. 16000")
        self._resampler = None
        if self._rate != manifest.sample_rate:
            self._resampler = soxr.ResampleStream(self._rate, manifest.sample_rate, 1, "float32")
        self._fbank = engine.features.build()
        self._activity = Activity(engine.limits.speech_probability) if engine.limits.vad else None
        self._before = before
        brought = with_lists(engine, lists) if before is None else before.brought
        self._search, self._indexes = brought.search, brought.indexes
        self._neural = engine.start()
        self._features = np.zeros((0, engine.features.mels), np.float32)
        self._room = round(engine.limits.max_utterance_s * 1000 / engine.features.shift_ms)  # frames still allowed
        votes = engine.graph("slots") is not None and engine.combine.slot_weight > 0
        reads = engine.graph("fusion") is not None
        self._keep_encoded = votes or reads or engine.parser is not None or engine.by_heads
        self._begin()
        whole_s = engine.limits.whole_s if manifest.hears_whole else 0.0
        self._left = self._room - round(whole_s * 1000 / engine.features.shift_ms)  # the least room to hear it again
        self._whole: list[Floats] = []  # features, as long as they may be heard again
        self._samples = 0
        self._stable = ""
        turn = None if before is None else before.turn
        self._applied = Applied(language=manifest.languages[0], lists=brought.counts, turn=turn)
        self._busy_s, self._fed_at = 0.0, time.perf_counter()
        self._first_partial_s: float | None = None
        self._closed = False
        self._result: Result | None = None
        self.truncated = False
        self.outcome = Outcome()

    def accept(self, pcm: NDArray[Any] | bytes) -> Result:
        """Take samples and say what is understood so far (``final`` false).

        ``pcm`` is (n,) float in [-1, 1], int16, or bytes of little-endian int16; n may be 0. Raises ``AudioError`` for
        anything else and for NaN, ``UsageError`` after ``finish``.
        """
        self.feed(pcm)
        while self.ready:
            advance([self])
        return self.partial()

    def finish(self) -> Result:
        """No more samples: the final result. Calling again returns the same."""
        if self._result is None:
            began = time.perf_counter()
            self.close()
            while self.ready:
                advance([self])
            if self._whole:
                self._hear_again()
            result, self.outcome = self._meant(self._engine)
            if self._before is not None:
                result = self._before.settle(result, self.outcome)
            self._busy_s += time.perf_counter() - began
            self._result = self._complete(result, final=True, final_s=time.perf_counter() - began)
        return self._result

    def weighed(self, intent_weight: float) -> tuple[Result, Outcome]:
        """What the utterance means with another vote of the intent head; nothing is heard again. Builds try several."""
        self.finish()
        other = copy(self._engine)
        other.combine = other.combine.model_copy(update={"intent_weight": intent_weight})
        result, outcome = self._meant(other)
        return self._complete(result, final=True), outcome

    def _meant(self, engine: Engine) -> tuple[Result, Outcome]:
        free = engine.free.finish(self._free)[0]
        result, outcome = choose(engine, self._search, self._graph, self._utterance(free[0]), self._before)
        if self._search is not None and self._indexes:
            result, outcome = looked_up(engine, self._search, result, outcome, self._indexes)
        return result, replace(outcome, texts=self._texts(free))

    def feed(self, pcm: NDArray[Any] | bytes, speech: Sequence[float] | None = None) -> None:
        """Take samples without running the network: ``accept`` in parts, for ``advance`` over many streams.

        ``speech`` are the voice detector's probabilities of the hops of 512 samples that ``pcm`` completes, from a
        caller that cut the stream by them; given always or never, and only at the bundle's rate.
        """
        if self._closed:
            raise UsageError("this stream has been finished; open a new one with model.stream()")
        self._fed_at = began = time.perf_counter()
        samples = _floats(pcm)
        self._samples += len(samples)
        if not self.truncated:
            if self._resampler is not None:
                samples = self._resampler.resample_chunk(samples)
            self._listen(samples, speech)
        self._busy_s += time.perf_counter() - began

    def close(self) -> None:
        """No more samples will come; what was held back becomes ``ready``."""
        if self._closed:
            return
        self._closed = True
        if self._resampler is not None:
            self._listen(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._take(self._fbank.finish())

    @property
    def ready(self) -> bool:
        """Whether ``advance`` has a chunk to run."""
        return len(self._features) >= (1 if self._closed else self._engine.chunk)

    @property
    def complete(self) -> bool:
        """Whether the best parse is complete and cannot grow: an endpoint needs no long silence then."""
        best = self._best()
        if best is None or best.meaning is None or self._search is None or self._graph is None:
            return False
        return not self._search.can_extend(self._graph)

    @property
    def audio_s(self) -> float:
        """Seconds of samples taken."""
        return self._samples / self._rate

    def partial(self) -> Result:
        """What is understood so far; intent and slots once a whole sentence of the domain is the best reading. Where
        the bundle has an intent head, ``alternatives`` are what it makes of all chunks so far, surest first."""
        if self._result is not None:
            return self._result
        began = time.perf_counter()
        best = self._live()
        if best is None:
            heard = self._engine.free.partial(self._free)
            free = self._engine.tokenizer.decode(heard.tokens)
            self._settle(self._engine.free.stable(self._free), self._engine.tokenizer.pieces)
            result = Result(text=free, display=display(free), words=self._shown(self._free_words(heard)))
        else:
            assert self._search is not None
            text = self._search.automaton.text(best.tokens)
            result = Result(text=text, display=display(text), words=timed_words(self._engine, self._search, best))
            # a follow-up has its meaning at the endpoint, from the turns before
            if best.meaning is not None and intent_of(self._search, best) != FOLLOW_UP:
                intent = Intent(name=intent_of(self._search, best))
                slots = slots_of(self._engine, self._search, best)
                frames = (Frame(intent=intent, slots=slots),)
                result = result.model_copy(update={"intent": intent, "slots": slots, "frames": frames})
        result = early(self._engine, self._intent, result)
        now = time.perf_counter()
        if result.text and self._first_partial_s is None:
            self._first_partial_s = now - self._fed_at
        self._busy_s += now - began
        return self._complete(result.model_copy(update={"final": False, "stable": self._stable}), final=False)

    def _live(self) -> GraphHypothesis | None:
        """The best reading in the grammar, or None where the free transcript is what to show."""
        if self._search is None or self._graph is None:
            return None
        self._settle(self._certain(self._search, self._graph), self._search.automaton.pieces)
        if self._search.margin(self._graph, final=False) < self._engine.policy.margin:
            free = self._engine.tokenizer.decode(self._engine.free.partial(self._free).tokens)
            if free.startswith(self._stable):
                return None
        return self._best()

    def _best(self) -> GraphHypothesis | None:
        """The best live hypothesis, complete or not."""
        if self._search is None or self._graph is None:
            return None
        found = self._search.nbest(self._graph, 4, final=False)
        for other in found:
            # the end of a sentence pays the prior of its meaning; the same tokens without the end must not win by that
            if other.meaning is not None and other.tokens == found[0].tokens:
                return other
        return found[0] if found else None

    @staticmethod
    def _certain(search: GraphSearch, graph: GraphState) -> Sequence[int]:
        """Tokens that stay; what is in a pronounced open slot is not written before the endpoint."""
        tokens, opened = search.stable(graph), frozenset(search.automaton.open_tokens)
        return tokens[: next((at for at, token in enumerate(tokens) if token in opened), len(tokens))]

    def _settle(self, tokens: Sequence[int], pieces: Sequence[str]) -> None:
        """Stable text is whole words that a following word has closed; it never changes and never shrinks."""
        spans = spans_of(tokens, pieces)
        if len(spans) > 1:
            text = text_of(pieces[token] for token in tokens[: spans[-1][0]])
            if len(text) > len(self._stable) and text.startswith(self._stable):
                self._stable = text

    def _listen(self, samples: Floats, speech: Sequence[float] | None = None) -> None:
        if self._activity is not None:
            self._activity.accept(samples, speech)
        self._take(self._fbank.accept(samples))

    def _take(self, features: Floats) -> None:
        if len(features) > self._room:
            self.truncated = True
            features = features[: self._room]
        self._room -= len(features)
        if len(features):
            self._features = np.concatenate([self._features, features])
            if self._room >= self._left:
                self._whole.append(features)
            else:
                self._whole.clear()

    def _next_chunk(self) -> Chunk:
        size = self._engine.chunk
        chunk = Chunk(features=self._features[:size])
        self._features = self._features[size:]
        return chunk

    def _begin(self) -> None:
        """The decoders before the first frame."""
        self._graph = None if self._search is None else self._search.start()
        self._free = self._engine.free.start()
        self._encoded: list[Floats] = []
        self._log_probs: list[Floats] = []
        self._open_rows: list[Floats] = []
        self._intent: Floats | None = None
        self._nonblank = 0

    def _hear_again(self) -> None:
        """The utterance as one chunk, in place of all that was heard of it so far."""
        self._begin()
        features = np.concatenate(self._whole)
        self._whole.clear()
        self._neural = self._engine.start()
        self._hear(*self._engine.step([self._neural], [Chunk(features=features)]))

    def _hear(self, heard: Heard) -> None:
        """Move the decoders over one chunk."""
        if self._search is not None and self._graph is not None:
            self._graph = self._search.step(self._graph, heard.grammar)
        self._free = self._engine.free.step(self._free, self._engine.free_input(heard))
        self._nonblank += int((heard.log_probs.argmax(1) != 0).sum())
        if heard.intent is not None:
            self._intent = heard.intent
        if self._keep_encoded:
            self._encoded.append(heard.encoded)
        if self._engine.parser is not None:
            self._log_probs.append(heard.log_probs)
        if self._engine.open_slots is not None:
            self._open_rows.append(heard.grammar if self._engine.open_slots.by_sound else heard.log_probs)

    def _utterance(self, best: Hypothesis) -> Utterance:
        # where nobody reads along there are no frames that say something: what was heard may all be speech
        private = self._engine.manifest.private
        speech_s = self.audio_s if private else self._nonblank * self._engine.ctc_frame_s
        if self._nonblank < self._engine.limits.min_nonblank and not private:
            speech_s = 0.0
        elif self._activity is not None:
            speech_s = self._activity.speech_s
        raw_words = self._free_words(best)
        return Utterance(
            free=best,
            free_text=self._engine.tokenizer.decode(best.tokens),
            free_words=self._shown(raw_words),
            raw_words=tuple(raw_words),
            nonblank=self._nonblank,
            speech_s=speech_s,
            snr_db=None if self._activity is None else self._activity.snr_db,
            truncated=self.truncated,
            intent=self._intent,
            pool=self._neural.intent,
            encoded=np.concatenate(self._encoded) if self._encoded else None,
            log_probs=np.concatenate(self._log_probs) if self._log_probs else None,
            open_rows=np.concatenate(self._open_rows) if self._open_rows else None,
        )

    def _texts(self, nbest: Sequence[Hypothesis]) -> tuple[tuple[str, float], ...]:
        """What the free search heard, the best first; equal texts are one, with their probabilities together."""
        decode, found = self._engine.tokenizer.decode, dict[str, float]()
        for heard in nbest:
            text = decode(heard.tokens)
            found[text] = float(np.logaddexp(found[text], heard.score)) if text in found else heard.score
        return tuple(sorted(found.items(), key=lambda item: -item[1]))

    def _free_words(self, heard: Hypothesis) -> list[Word]:
        """Words as the search has them; ``_shown`` are those of results."""
        engine = self._engine
        frame_s = engine.ctc_frame_s if engine.free_config.by_ctc else engine.manifest.frame_ms / 1000
        delay_s = engine.calibration.delay_s
        return words_of(heard, engine.tokenizer.pieces, frame_s=frame_s, delay_s=delay_s)

    def _shown(self, found: Sequence[Word]) -> tuple[Word, ...]:
        return presentable(self._engine, found, self._engine.calibration.free_words)

    def _complete(self, result: Result, *, final: bool, final_s: float | None = None) -> Result:
        """Add what every result of this stream carries."""
        timing = Timing(
            audio_s=round(self.audio_s, 4),
            first_partial_s=self._first_partial_s,
            final_s=final_s,
            rtf=self._busy_s / self.audio_s if final and self._samples else None,
        )
        return result.model_copy(
            update={
                "language": self._applied.language,
                "domain": self._engine.manifest.domain,
                "applied": self._applied,
                "timing": timing,
            }
        )


def advance(streams: Sequence[Stream]) -> None:
    """Move streams of one engine by one chunk each, with one run of every graph; all must be ``ready``."""
    if not streams:
        return
    began = time.perf_counter()
    engine = streams[0]._engine
    assert all(stream._engine is engine and stream.ready for stream in streams), "streams of one engine, all ready"
    chunks = [stream._next_chunk() for stream in streams]
    heard = engine.step([stream._neural for stream in streams], chunks)
    for stream, news in zip(streams, heard, strict=True):
        stream._hear(news)
    share = (time.perf_counter() - began) / len(streams)
    for stream in streams:
        stream._busy_s += share


def _floats(pcm: NDArray[Any] | bytes) -> Floats:
    if isinstance(pcm, bytes | bytearray | memoryview):
        if len(pcm) % 2:
            raise AudioError("found an odd number of bytes; raw audio is 16-bit little-endian samples, two bytes each")
        pcm = np.frombuffer(pcm, "<i2")
    samples = np.asarray(pcm)
    if samples.ndim != 1:
        raise AudioError(f"found samples of shape {samples.shape}; a stream takes (n,): mix channels down first")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if samples.dtype.kind != "f":
        raise AudioError(f"found samples of type {samples.dtype}; a stream takes float in [-1, 1] or int16")
    if not np.isfinite(samples).all():
        raise AudioError("found NaN or infinite samples; check what recorded them")
    clipped: Floats = np.clip(samples, -1.0, 1.0).astype(np.float32)
    return clipped
