"""What streams share: how far an encoder looks, and its state as a flat set of batch-first tensors.

Every state tensor has batch first and a fixed shape, and a per-row fill count says how much of it is real; so streams
of different age stack into one batch, split again and reset, and ONNX sees plain named inputs and outputs. Only an
unbounded history (``left_frames`` None) grows, and that exists in the workshop alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What is fixed for a stream, in encoder frames; ``models/masks.py`` says which mask each setting is.

    ``chunk_frames``: a frame sees its own chunk to the end; None: everything (offline). ``left_frames``: and so much
    before the chunk; None: all history. ``right_frames``: and so much after it, in every layer again. Raises ValueError
    for what no mask is.
    """

    chunk_frames: int | None = None
    left_frames: int | None = None
    right_frames: int = 0

    def __post_init__(self) -> None:
        """Checks the settings against each other."""
        if self.chunk_frames is None:
            if self.left_frames is not None or self.right_frames:
                raise ValueError("without chunk_frames everything is seen: left_frames and right_frames need it")
        elif self.chunk_frames < 1 or (self.left_frames or 0) < 0 or self.right_frames < 0:
            raise ValueError(f"{self}: chunk_frames is at least 1, the others are at least 0")

    @property
    def held_frames(self) -> int:
        """Frames that a layer of a stream holds back until what they may see on the right has come: whole chunks."""
        return 0 if self.chunk_frames is None else -(-self.right_frames // self.chunk_frames) * self.chunk_frames


@dataclass
class State:
    """Base of stream states: a dataclass of tensors with batch first; a part that a stream does without is None."""

    def named(self) -> dict[str, Tensor]:
        """Tensors by the names that ONNX uses."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @classmethod
    def from_named(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Inverse of ``named``; KeyError when one is missing."""
        return cls(**{f.name: tensors[f.name] for f in fields(cls) if f.default is MISSING or f.name in tensors})

    @classmethod
    def stack(cls, states: Sequence[Any]) -> Self:
        """Concatenate streams along the batch."""
        parts = [state.named() for state in states]
        return cls.from_named({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def row(self, index: int) -> Self:
        """The state of one stream, batch kept (size 1)."""
        return self.from_named({name: tensor[index : index + 1] for name, tensor in self.named().items()})
