"""What streams share: the state of an encoder as a flat set of batch-first tensors.

Every state tensor has batch first and a fixed shape, and a per-row fill count says how much of it is real; so streams
of different age stack into one batch, split again and reset, and ONNX sees plain named inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What is fixed for a stream. ``chunk_frames`` and ``left_frames`` (encoder frames) None: see everything
    (offline)."""

    chunk_frames: int | None = None
    left_frames: int | None = None


@dataclass
class State:
    """Base of stream states: a dataclass whose fields are all tensors with batch first."""

    def named(self) -> dict[str, Tensor]:
        """Tensors by the names that ONNX uses."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_named(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Inverse of ``named``; KeyError when one is missing."""
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})

    @classmethod
    def stack(cls, states: Sequence[Any]) -> Self:
        """Concatenate streams along the batch."""
        return cls(**{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(cls)})

    def row(self, index: int) -> Self:
        """The state of one stream, batch kept (size 1)."""
        return type(self)(**{name: tensor[index : index + 1] for name, tensor in self.named().items()})
