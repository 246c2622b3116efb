"""What an engine did in the last half second, as it counts it; ``wire.Stats`` is what it says of that."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeVar

from sayso.serving.wire import Stats

SAMPLES = 200  # measurements of one kind in a Stats frame
Number = TypeVar("Number", int, float)


@dataclass
class Tally:
    """What was done since ``began``."""

    began: float = field(default_factory=time.monotonic)
    busy_s: float = 0.0
    audio_s: float = 0.0
    skipped: int = 0
    batch: list[int] = field(default_factory=list)
    compute_s: list[float] = field(default_factory=list)
    queue_s: list[float] = field(default_factory=list)

    def note(self, where: list[Number], value: Number) -> None:
        """Keep a measurement, unless there are many already."""
        if len(where) < SAMPLES:
            where.append(value)

    def stats(self, streams: int) -> Stats:
        """For the service."""
        return Stats(
            wall_s=time.monotonic() - self.began,
            busy_s=self.busy_s,
            audio_s=self.audio_s,
            streams=streams,
            skipped_partials=self.skipped,
            batch=self.batch,
            compute_s=self.compute_s,
            queue_s=self.queue_s,
        )
