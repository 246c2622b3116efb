"""A loaded bundle as a user meets it: whole recordings, or streams; any number at once."""

from __future__ import annotations

from collections.abc import Sequence

from sayso.core.bundle import Bundle
from sayso.core.manifest import Manifest
from sayso.core.result import Result
from sayso.runtime.blocks import Audio, blocks, through
from sayso.runtime.choose import Outcome
from sayso.runtime.engine import Engine
from sayso.runtime.lists import Lists
from sayso.runtime.session import Session, SessionState
from sayso.runtime.stream import Stream, advance

__all__ = ["Audio", "Model"]


class Model:
    """Shared by many streams and threads; holds no stream itself. ``threads`` is what one encoder run may use."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.engine = Engine(bundle, threads)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.engine.manifest

    @property
    def lists(self) -> dict[str, int]:
        """The domain's slot lists and how many values each has; a stream may bring its own."""
        automaton = self.engine.automaton
        return {} if automaton is None else {name: len(value.values) for name, value in automaton.lists.items()}

    def stream(self, lists: Lists | None = None, *, sample_rate: int | None = None) -> Stream:
        """A new utterance. ``lists`` replaces slot lists for it alone: ``{"contacts": ["anna", ("mum", "+49 30 1")]}``.

        ``sample_rate`` is that of the samples to come (default: the bundle's). Raises ``UsageError`` for lists that the
        domain does not have.
        """
        return Stream(self.engine, lists=lists, sample_rate=sample_rate)

    def session(self, lists: Lists | None = None, *, state: SessionState | None = None) -> Session:
        """A new dialogue, in which every utterance is heard and understood after those before it.

        ``lists`` as of a stream, for the whole dialogue. ``state`` (``session.state``): go on with an earlier one of
        this bundle. A session belongs to one thread at a time.
        """
        return Session(self.engine, lists=lists, state=state)

    def understand(self, audio: Audio, sample_rate: int | None = None, *, lists: Lists | None = None) -> Result:
        """One recording (a path, or samples with their rate) as one utterance, through the same path as a stream.

        Memory does not grow with length; reading stops where the utterance is longer than the bundle allows, and the
        result is then a rejection (``truncated``). Raises ``AudioError``.
        """
        return self.explain(audio, sample_rate, lists=lists)[0]

    def explain(
        self, audio: Audio, sample_rate: int | None = None, *, lists: Lists | None = None
    ) -> tuple[Result, Outcome]:
        """``understand``, and the evidence behind it: for calibration and reports."""
        stream = self.stream(lists)
        return through(stream, blocks(audio, sample_rate, self.manifest.sample_rate)), stream.outcome

    def step_many(self, streams: Sequence[Stream]) -> int:
        """Advance every stream that is ready by one chunk, in one encoder run; returns how many there were.

        ``stream.feed`` and ``stream.close`` make streams ready, ``stream.partial`` and ``stream.finish`` read them.
        """
        ready = [stream for stream in streams if stream.ready]
        advance(ready)
        return len(ready)
