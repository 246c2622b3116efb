"""A shipped bundle's intent head learns what an update added, in minutes and on the bundle's own encoder.

The encoder and all that the head knows stay as they are: new intents get a row each in its last layer, the maximum of
a posteriori of a softmax in which the old rows are fixed (as in class-incremental learning: Qi et al. 2018 put in rows
the same way, without fitting them). The problem is convex in few hundred numbers. Old classes keep their order and the
distances between them; they can only lose to a new one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from sayso.audio import decode
from sayso.audio.features import fbank
from sayso.build.speech import outside
from sayso.core.bundle import Bundle
from sayso.core.config import Config
from sayso.core.errors import BundleError, DataError
from sayso.data import manifest
from sayso.data.augment import add_noise, coloured
from sayso.data.synthesise import Sentence, Spoken, SynthConfig, synthesise
from sayso.export.head import last_layer, widened
from sayso.nlu.carried import FOLDER, read_carried
from sayso.nlu.sample import sample
from sayso.runtime.engine import Chunk, Engine
from sayso.runtime.model import Model
from sayso.training.progress import Meter, Say

Floats = NDArray[np.float32]
Said = tuple[Floats, str | None]  # samples (n,) at the bundle's rate, and the intent; None: outside the domain
_LEAST = 5  # clips of each new intent
_JUDGED = 5  # every such clip is kept back to say how well it went


class TeachConfig(Config):
    """``each`` sentences of a new intent are spoken, ``old`` of the others together and what is outside the domain, by
    voices for training, clean and in noise (``snr_db``). ``l2`` is the weight of the squared rows, on what the pool
    holds at unit variance, beside the mean loss."""

    each: int = Field(default=80, ge=_LEAST)
    old: int = Field(default=240, ge=1)
    snr_db: tuple[float, float] = (5.0, 20.0)
    l2: float = Field(default=1e-3, gt=0)
    engines: tuple[str, ...] | None = None
    processes: int = Field(default=1, ge=1)


def unknown(bundle: Bundle) -> tuple[str, ...]:
    """The intents that the bundle's head was not trained on. ``BundleError`` where it has no head, or no domain file of
    its own."""
    told = bundle.manifest
    if "intent" not in told.graphs or not told.automaton:
        raise BundleError(f"{bundle.where}: has no intent head beside a domain, so there is nothing to teach")
    return tuple(spec.name for spec in told.intents if spec.name not in told.intent_classes)


def spoken(bundle: Bundle, config: TeachConfig, seed: int, say: Say) -> list[Said]:
    """Synthetic speech to teach ``unknown`` intents by. Raises ``SynthesisError`` where nothing can be spoken."""
    fresh, source, automaton = unknown(bundle), bundle.manifest.source, Model(bundle).engine.automaton
    if source is None or automaton is None:
        raise BundleError(f"{bundle.where}: carries no domain file; give one with 'sayso bundle update --domain'")
    files = {name: bundle.file(name) for name in bundle.manifest.files if name.startswith(f"{FOLDER}/")}
    domain = read_carried(source, files)
    sentences: list[Spoken] = []
    rest = max(1, config.old // max(1, len(domain.intents) - len(fresh)))
    for number, intent in enumerate(domain.intents):
        templates = [at for at, template in enumerate(domain.templates) if template.intent == intent]
        count = config.each if intent in fresh else rest
        sentences += sample(domain, count, seed=seed + number, only_templates=templates)
    strange = outside(domain, automaton, Model(bundle).engine.tokenizer)
    sentences += [Sentence(text) for text in strange]
    settings = SynthConfig(engines=config.engines, voices_each=1, processes=config.processes, seed=seed)
    rng, clips = np.random.default_rng(seed), list[Said]()
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(say, "speaking")
        made = synthesise(sentences, Path(folder), role="train", config=settings, domain=domain.name, progress=meter)
        for cut in manifest.read(made):
            example = manifest.to_example(cut)
            clean = decode.read(example.audio, bundle.manifest.sample_rate)
            noisy = add_noise(clean, coloured(len(clean), rng), float(rng.uniform(*config.snr_db)), rng)
            clips += [(clean, example.intent), (np.clip(noisy, -1, 1).astype(np.float32), example.intent)]
    return clips


def teach(bundle: Bundle, clips: Sequence[Said], config: TeachConfig, say: Say) -> tuple[bytes, tuple[str, ...]]:
    """The bundle's intent graph with a class for each of its ``unknown`` intents, and all classes in their order.

    Raises ``DataError`` for too few ``clips`` of one, or where there is nothing to learn.
    """
    fresh, old = unknown(bundle), bundle.manifest.intent_classes
    if not fresh:
        raise DataError(f"{bundle.where}: its intent head knows all intents; add one with 'sayso bundle update' first")
    classes = (*old, *fresh)
    known = [(samples, intent) for samples, intent in clips if intent is None or intent in classes]
    for name in fresh:
        have = sum(intent == name for _, intent in known)
        if have < _LEAST:
            raise DataError(f"{have} clips of '{name}' are too few to learn it from; give {_LEAST} or more")
    if "read" in bundle.manifest.graphs:
        raise BundleError(
            f"{bundle.where}: its intent head reads as well as hears (model.heads.fusion), and rows that are fitted on "
            "what it hears would not fit what it reads; train it again with the new intents"
        )
    data = bundle.file(bundle.manifest.graphs["intent"].file)
    weight, bias = last_layer(data)
    engine, meter = Engine(bundle), Meter(say, "hearing")
    rows = []
    for number, (samples, _) in enumerate(known):
        rows.append(_pooled(engine, samples))
        meter(number + 1, len(known))
    pooled = np.stack(rows)
    target = np.array([len(classes) if intent is None else classes.index(intent) for _, intent in known])
    logits = pooled @ weight.T + bias
    _say_how_well(pooled, logits, target, (len(old), len(classes)), config, say)
    found = fit_rows(pooled, logits, target, len(fresh), config.l2)
    return widened(data, found[:, :-1], found[:, -1]), classes


def fit_rows(
    pooled: NDArray[np.floating], logits: NDArray[np.floating], target: NDArray[np.integer], count: int, l2: float
) -> Floats:
    """(K, W + 1) rows of new classes, the bias last, for pooled frames (N, W), fixed ``logits`` (N, C) of the old
    classes and ``target`` (N,) among C - 1 old, K new, and the last."""
    mean, scale = pooled.mean(0), pooled.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = torch.tensor(np.concatenate([(pooled - mean) / scale, np.ones((len(pooled), 1))], 1), dtype=torch.float64)
    fixed, wanted = torch.tensor(logits, dtype=torch.float64), torch.tensor(target, dtype=torch.int64)
    rows = torch.zeros(count, x.shape[1], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [rows], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        every = torch.cat([fixed[:, :-1], x @ rows.T, fixed[:, -1:]], 1)
        value = torch.nn.functional.cross_entropy(every, wanted) + l2 * rows[:, :-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    weight, bias = rows.detach().numpy()[:, :-1] / scale, rows.detach().numpy()[:, -1]
    result: Floats = np.concatenate([weight, (bias - weight @ mean)[:, None]], 1).astype(np.float32)
    return result


def _pooled(engine: Engine, samples: Floats) -> NDArray[np.float64]:
    """(W,) what the head's pool holds at the end of an utterance, as the runtime hears it."""
    features, state = fbank(samples, engine.features), engine.start()
    size = len(features) if engine.manifest.hears_whole else engine.chunk
    for at in range(0, len(features), size):
        engine.step([state], [Chunk(features=features[at : at + size])])
    pooled: NDArray[np.float64] = state.intent["total"][0].astype(np.float64) / max(
        float(state.intent["mass"][0, 0]), 1e-6
    )
    return pooled


def _say_how_well(
    pooled: NDArray[np.float64],
    logits: NDArray[np.float64],
    target: NDArray[np.int64],
    fresh: tuple[int, int],
    config: TeachConfig,
    say: Say,
) -> None:
    """What rows that are fitted without every fifth pair of clips make of those."""
    judged = np.arange(len(target)) // 2 % _JUDGED == 0
    first, end = fresh
    rows = fit_rows(pooled[~judged], logits[~judged], target[~judged], end - first, config.l2)
    new = pooled[judged] @ rows[:, :-1].T + rows[:, -1]
    made = np.concatenate([logits[judged, :-1], new, logits[judged, -1:]], 1).argmax(1)
    is_new, got_new = ((kind >= first) & (kind < end) for kind in (target[judged], made))
    right = float((made == target[judged])[is_new].mean()) if is_new.any() else 1.0
    taken = float(got_new[~is_new].mean()) if (~is_new).any() else 0.0
    say(
        f"kept back: the head finds {right:.0%} of the new intents' clips and takes {taken:.1%} of the others' for them"
    )
