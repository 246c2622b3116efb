"""A search of free text that finds none: that of bundles which must not write what was said."""

from __future__ import annotations

from typing import Any

from sayso.decoding.hypothesis import Hypothesis


class Mute:
    """A ``Decoder`` whose only hypothesis is empty."""

    def start(self) -> None:
        """Nothing is kept."""

    def step(self, state: None, frames: Any) -> None:
        """Nothing is heard."""

    def partial(self, state: None) -> Hypothesis:
        """Empty."""
        return Hypothesis()

    def stable(self, state: None) -> tuple[int, ...]:
        """Empty."""
        return ()

    def finish(self, state: None) -> list[list[Hypothesis]]:
        """One talker who said nothing that is told."""
        return [[Hypothesis()]]
