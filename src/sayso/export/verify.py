"""The proof that a bundle is its model, and that it answers the same however it is asked.

Four comparisons, each able to fail: PyTorch against ONNX in fp32 on every graph, numbers; int8 against fp32, decisions;
a whole recording against the same in random packets, results; a stream alone against the same stream in a batch with
loud noise, results.

Shape letters: ``T`` feature frames, ``F`` mel bins, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError
from sayso.core.manifest import Role
from sayso.core.result import Result
from sayso.decoding.predictor import Predictor
from sayso.export.onnx import Exported, hears_whole
from sayso.export.quantise import chunks, whole_frames
from sayso.models.assembly import SpeechModel
from sayso.models.decoders import Decoder
from sayso.models.language import LanguageNetwork
from sayso.models.streaming import Context
from sayso.models.subsampling import FACTOR
from sayso.runtime.graphs import Graph, State
from sayso.runtime.model import Model

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
TOLERANCE = 1e-4
AGREEMENT = 0.99


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared. Shares are of ``clips``; None where there was nothing to compare."""

    torch_onnx_error: float
    clips: int = 0
    int8_agreement: float | None = None
    streamed_agreement: float | None = None
    batched_agreement: float | None = None

    @property
    def passed(self) -> bool:
        """Numbers within ``TOLERANCE``, int8 within ``AGREEMENT``, the other two everywhere."""
        return (
            self.torch_onnx_error <= TOLERANCE
            and (self.int8_agreement is None or self.int8_agreement >= AGREEMENT)
            and self.streamed_agreement in (None, 1.0)
            and self.batched_agreement in (None, 1.0)
        )

    def figures(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "passed": self.passed}


def verify_graphs(
    model: SpeechModel, graphs: Mapping[Role, Exported], features: Sequence[Floats], chunk_frames: int, left_frames: int
) -> float:
    """Largest difference between PyTorch and fp32 ONNX over all graphs, streaming ``features`` (T, F) each; where
    chunks may have any length, in chunks twice as long and as one chunk too.

    Encoder outputs are compared after every chunk, so state errors add up before they are seen. Raises ``BundleError``
    beyond ``TOLERANCE``: then this version of the exporter and the model do not go together.
    """
    model.eval()
    sessions = {role: Graph(item.data, item.spec, where="export") for role, item in graphs.items()}
    worst = 0.0
    with torch.no_grad():
        for clip in features:
            sizes = [FACTOR * chunk_frames]
            if hears_whole(model):
                sizes += [2 * sizes[0], whole_frames(clip)]
            for size in sizes:
                state = model.encoder.init_state(1, Context(chunk_frames, left_frames))
                worst = max(worst, _streamed(model, sessions, chunks(clip, size), state))
    if not worst <= TOLERANCE:
        raise BundleError(
            f"the exported graphs differ from the model by {worst:.2g}, more than {TOLERANCE:g}: not written"
        )
    return worst


@torch.no_grad()
def verify_language(model: LanguageNetwork, graph: Exported, steps: int = 40) -> float:
    """Largest difference between PyTorch reading a text at once and ONNX reading it token by token. Raises
    ``BundleError`` beyond ``TOLERANCE``."""
    tokens = torch.arange(steps)[None] * 7 % model.config.vocab
    wanted, session = model.eval()(tokens), Graph(graph.data, graph.spec, where="export")
    reader = Predictor(session.following, 1, session.start())
    said, worst = reader.start(), 0.0
    for place in range(steps + 1):
        worst = max(worst, _apart(wanted[:, place], said.out))
        if place < steps:
            (said,) = reader.extend([said], [int(tokens[0, place])])
    if not worst <= TOLERANCE:
        raise BundleError(f"the language model's graph differs from it by {worst:.2g}, more than {TOLERANCE:g}")
    return worst


def verify_bundle(
    path: Path | str,
    clips: Sequence[Floats],
    *,
    fp32: Path | str | None = None,
    error: float = 0.0,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Verification:
    """Compare a written bundle with itself and, where given, with its ``fp32`` twin on ``clips`` (n,) at 16 kHz.

    ``error`` is what ``verify_graphs`` found. No clips: nothing but ``error`` is judged. ``progress`` is told how many
    clips of how many are done.
    """
    if not clips:
        return Verification(torch_onnx_error=error)
    model = Model(read_bundle(path))
    twin = None if fp32 is None else Model(read_bundle(fp32))
    rng = np.random.default_rng(seed)
    streamed, batched, agreeing = [], [], []
    for done, clip in enumerate(clips, 1):
        whole = model.understand(clip)
        streamed.append(_identical(whole, _in_packets(model, clip, rng)))
        batched.append(_same(whole, _beside_noise(model, clip, rng)))
        if twin is not None:
            agreeing.append(_same(twin.understand(clip), whole))
        progress(done, len(clips))
    return Verification(
        torch_onnx_error=error,
        clips=len(clips),
        int8_agreement=float(np.mean(agreeing)) if agreeing else None,
        streamed_agreement=float(np.mean(streamed)),
        batched_agreement=float(np.mean(batched)),
    )


def _streamed(
    model: SpeechModel, sessions: Mapping[Role, Graph], pieces: Iterable[tuple[Floats, int]], state: Any
) -> float:
    """One clip in ``pieces`` (1, n, F) with their lengths, from the encoder's fresh ``state``."""
    worst, pool = 0.0, None if model.intent is None else model.intent.init_state(1)
    memory = sessions["encoder"].start()
    opinion = sessions["intent"].start() if "intent" in sessions else {}
    for x, length in pieces:
        lengths = torch.tensor([length])
        expected, counts, state = model.encoder.step(torch.from_numpy(x), lengths, state)
        got, memory = sessions["encoder"].run({"x": x, "lengths": lengths.numpy()}, memory)
        worst = max(worst, _apart(expected, got["out"]), _apart(counts, got["out_lengths"]))
        encoded = expected.numpy()
        worst = max(worst, _apart(model.ctc(expected), sessions["ctc"].run({"x": encoded})[0]["log_probs"]))
        if model.phones is not None:
            sounds = sessions["phones"].run({"x": encoded})[0]["log_probs"]
            worst = max(worst, _apart(model.phones(expected), sounds))
        if model.intent is not None and pool is not None:
            wanted, pool = model.intent.step(expected, counts, pool)
            given, opinion = sessions["intent"].run({"x": encoded, "lengths": counts.numpy()}, opinion)
            worst = max(worst, _apart(wanted, given["log_probs"]))
        worst = max(worst, _labels(model, sessions, expected[0], pool, opinion))
    if model.decoder is not None:
        worst = max(worst, _written(model.decoder, sessions, expected))
    return worst


def _labels(
    model: SpeechModel, sessions: Mapping[Role, Graph], encoded: Tensor, pool: Tensor | None, opinion: State
) -> float:
    """Predictor, joiner, slot head and fusion, read into the intent head's ``pool``, on the frames (C, D) of one chunk
    with labels made up from their number."""
    count = encoded.shape[0]
    labels = (torch.arange(count * model.predictor.context) * 7 % model.config.vocab).view(count, -1)
    predicted = model.predictor.step(labels)
    worst = _apart(predicted, sessions["predictor"].run({"labels": labels.numpy()})[0]["out"])
    feed = {"encoded": encoded.numpy(), "predicted": predicted.numpy()}
    worst = max(worst, _apart(model.joiner.step(encoded, predicted), sessions["joiner"].run(feed)[0]["logits"]))
    tokens, lengths, states = labels[None, :, 0], torch.tensor([count]), None
    heard = {"tokens": tokens.numpy(), "lengths": lengths.numpy()}
    if model.fusion is not None:
        states = model.fusion(tokens, lengths, encoded[None], lengths)
        read = {"counts": heard["lengths"], "states": states.numpy()}
        got = sessions["fusion"].run({**heard, "counts": heard["lengths"], "x": encoded[None].numpy()})[0]["states"]
        worst = max(worst, _apart(states, got))
        if model.intent is not None and pool is not None:
            meant = model.intent.read(pool, states, lengths)
            worst = max(worst, _apart(meant, sessions["read"].run({**read, **opinion})[0]["log_probs"]))
    if model.slots is not None:
        expected = torch.log_softmax(model.slots(encoded[None], tokens, lengths, states).float(), -1)
        slot_feed = {"frames": encoded[None].numpy(), **heard}
        if states is not None:
            slot_feed["states"] = states.numpy()
        worst = max(worst, _apart(expected, sessions["slots"].run(slot_feed)[0]["log_probs"]))
    return worst


def _written(decoder: Decoder[Any], sessions: Mapping[Role, Graph], encoded: Tensor) -> float:
    """A few labels, made up from their number, over frames (1, C, D)."""
    lengths = torch.tensor([encoded.shape[1]])
    memory, state = decoder.memory(encoded, lengths), decoder.init_state(1, encoded.shape[1])
    kept, _ = sessions["memory"].run({"x": encoded.numpy(), "lengths": lengths.numpy()})
    worst, cache = 0.0, sessions["decoder"].start(frames=encoded.shape[1])
    for label in range(min(4, decoder.longest or 4)):
        expected, state = decoder.step(torch.tensor([label]), state, memory)
        got, cache = sessions["decoder"].run({"labels": np.array([label]), **kept}, cache)
        worst = max(worst, _apart(expected, got["logits"]))
    return worst


def _apart(expected: Tensor, got: NDArray[Any]) -> float:
    return float(np.abs(expected.numpy().astype(np.float64) - got.astype(np.float64)).max(initial=0.0))


def _in_packets(model: Model, clip: Floats, rng: np.random.Generator) -> Result:
    stream = model.stream()
    start = 0
    while start < len(clip):
        size = int(rng.choice([160, 512, 1600, 5120, 8191]))
        stream.accept(clip[start : start + size])
        start += size
    return stream.finish()


def _beside_noise(model: Model, clip: Floats, rng: np.random.Generator) -> Result:
    """The clip in one batch with white noise at full scale, one chunk ahead of it."""
    noise = np.clip(rng.normal(size=len(clip) + 5120), -1.0, 1.0).astype(np.float32)
    quiet, loud = model.stream(), model.stream()
    loud.feed(noise[:5120])
    model.step_many([loud])
    for start in range(0, len(clip), 4000):
        quiet.feed(clip[start : start + 4000])
        loud.feed(noise[5120 + start : 9120 + start])
        while model.step_many([loud, quiet]):
            pass
    quiet.close()
    loud.close()
    while model.step_many([loud, quiet]):
        pass
    return quiet.finish()


def _same(first: Result, second: Result) -> bool:
    """The same decision: outcome, intent and slot values; the text where a bundle without a domain only transcribes."""
    return _essence(first) == _essence(second)


def _identical(first: Result, second: Result) -> bool:
    """The same in everything but the clock."""
    return first.model_dump(exclude={"timing"}) == second.model_dump(exclude={"timing"})


def _essence(result: Result) -> tuple[Any, ...]:
    intent = None if result.intent is None else result.intent.name
    text = result.text if result.decision == "accept" and intent is None else None
    return result.decision, intent, tuple((slot.name, slot.value) for slot in result.slots), text
