"""Training state on disk: weights, moving average, optimiser moments and the step, as safetensors and JSON, never
pickle.

Randomness is a function of (seed, step), so nothing else is needed for a resumed run to take the identical next step.
The folder is written under a temporary name and renamed; a killed run leaves the previous checkpoint whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sayso.core.errors import ConfigError
from sayso.core.files import aside, whole


class Average:
    """Exponential moving average of a model's floating-point state; warm-up keeps early weights from lingering.

    ``ends`` is the mean of what it was at the ends of ``count`` cycles of the rate (stochastic weight averaging;
    Izmailov et al. 2018, arXiv:1803.05407).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.ends: dict[str, Tensor] = {}
        self.count = 0

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's present weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value.to(self.shadow[name].dtype), 1 - decay)
            else:
                self.shadow[name].copy_(value)

    @torch.no_grad()
    def end(self) -> None:
        """A cycle is over: the present average joins the mean of the ends."""
        self.count += 1
        for name, value in self.shadow.items():
            if name not in self.ends or not value.is_floating_point():
                self.ends[name] = value.clone()
            else:
                self.ends[name].lerp_(value, 1 / self.count)

    @contextmanager
    def applied(self, model: nn.Module, *, ends: bool = False) -> Iterator[None]:
        """The model carries the averaged weights, or the mean of the ``ends`` where there are any, inside the block,
        and its own again after it."""
        own = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.ends if ends and self.ends else self.shadow)
        try:
            yield
        finally:
            model.load_state_dict(own)


def save_state(
    folder: Path, step: int, model: nn.Module, average: Average, optimiser: torch.optim.Optimizer, extra: dict[str, Any]
) -> None:
    """Write the training state to ``folder`` atomically."""
    moments = {
        f"{i}/{k}": v for i, s in optimiser.state_dict()["state"].items() for k, v in s.items() if isinstance(v, Tensor)
    }
    with whole(folder) as fresh:
        fresh.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh / "model.safetensors")
        save_file({k: v.contiguous() for k, v in average.shadow.items()}, fresh / "average.safetensors")
        save_file({k: v.contiguous() for k, v in moments.items()}, fresh / "optimiser.safetensors")
        save_file({k: v.contiguous() for k, v in average.ends.items()}, fresh / "ends.safetensors")
        (fresh / "state.json").write_text(json.dumps({"step": step, "cycles_over": average.count, **extra}))


def load_state(folder: Path, model: nn.Module, average: Average, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore what ``save_state`` wrote; returns its JSON part (``step`` among it)."""
    if not folder.exists():  # killed between the two renames
        folder = aside(folder)
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        place = str(next(model.parameters()).device)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        average.shadow = load_file(folder / "average.safetensors", device=place)
        ends = folder / "ends.safetensors"  # runs that were begun before there were cycles have none
        average.ends = load_file(ends, device=place) if ends.is_file() else {}
        average.count = state.get("cycles_over", 0)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(folder / "optimiser.safetensors").items():
            index, _, key = name.partition("/")
            moments.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"{folder}: this training state does not fit the recipe or is damaged ({error}); delete it to start anew"
        ) from None
    return state
