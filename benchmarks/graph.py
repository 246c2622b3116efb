"""Speed and search error of the grammar graph on simulated posteriors, one core.

    sayso bench graph            (or: python benchmarks/graph.py [--tokenizer M] [domain.yaml ...])

Sentences are random walks of the compiled domain. Their CTC posteriors are simulated: peaks one or two frames long between
blanks, a share of the mass on confusable tokens, some tokens plainly wrong. "speech" is in the domain, "babble" is random
tokens, the worst case for a beam. Search error: the pruned search's best meaning and slots differ from those of the unpruned
one. One JSON line per figure; ``ratio_to`` names what a ratio was taken to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Network
from sayso.decoding.graph import GraphConfig, GraphSearch

CHUNK = 4  # frames of 80 ms
BLANK_FRAMES = (0, 4)
Doubles = NDArray[np.float64]


def random_sentence(automaton: Automaton, rng: np.random.Generator) -> list[int]:
    """Tokens of a random walk, lists and open slots filled."""
    tokens: list[int] = []
    openers = [i for i, piece in enumerate(automaton.pieces) if i > 1 and piece.startswith("▁")]
    for node in _walk(automaton.main, rng):
        if automaton.main.token[node] >= 0:
            tokens.append(int(automaton.main.token[node]))
            continue
        call = automaton.calls[int(automaton.main.call[node])]
        if call.list is None:
            tokens += [int(t) for t in rng.choice(openers, size=int(rng.integers(1, 4)))]
        else:
            inner = automaton.lists[call.list].network
            tokens += [int(inner.token[n]) for n in _walk(inner, rng)]
    return tokens


def _walk(network: Network, rng: np.random.Generator) -> list[int]:
    path: list[int] = []
    options = network.entry
    while True:
        node = int(rng.choice(options))
        path.append(node)
        options = network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]
        final = network.final_ptr[node + 1] > network.final_ptr[node]
        if options.size == 0 or (final and rng.random() < 0.5):
            return path


def posteriors(tokens: list[int], vocabulary: int, rng: np.random.Generator, wrong: float = 0.05) -> Doubles:
    """(T, V) log posteriors of ``tokens``; a ``wrong`` share of them is overtaken by another token."""
    rows: list[Doubles] = []

    def row(label: int, mass: float) -> None:
        other = rng.dirichlet(np.full(vocabulary, 0.02)) * (1 - mass) * 0.7
        other[0] += (1 - mass) * 0.3
        other[label] += mass
        rows.append(0.995 * other + 0.005 / vocabulary)

    previous = 0
    for token in tokens:
        for _ in range(max(int(rng.integers(*BLANK_FRAMES)), int(token == previous))):
            row(0, rng.uniform(0.8, 0.999))
        heard = int(rng.integers(2, vocabulary)) if rng.random() < wrong else token
        for _ in range(int(rng.integers(1, 3))):
            row(heard, rng.uniform(0.3, 0.98))
            if heard != token:
                rows[-1][token] += 0.05
                rows[-1] /= rows[-1].sum()
        previous = token
    for _ in range(8):
        row(0, 0.99)
    return np.log(np.array(rows))


def chunk_times_ms(search: GraphSearch, utterances: list[Doubles]) -> Doubles:
    """Wall time of every 320 ms step with the questions that a stream asks after it."""
    times: list[float] = []
    for log_probs in utterances:
        state = search.start()
        for begin in range(0, len(log_probs), CHUNK):
            clock = time.perf_counter()
            search.step(state, log_probs[begin : begin + CHUNK])
            search.stable(state)
            search.can_extend(state)
            times.append(1000 * (time.perf_counter() - clock))
    return np.array(times)


def interval(values: Doubles, rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean with its 95% bootstrap interval."""
    means = rng.choice(values, size=(500, values.size)).mean(axis=1)
    return float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def report(case: str, metric: str, figures: tuple[float, float, float], ratio_to: str | None = None) -> None:
    """Print one figure."""
    value, low, high = (round(x, 4) for x in figures)
    line = {"bench": "graph", "case": case, "metric": metric, "value": value, "ratio_to": ratio_to}
    print(json.dumps({**line, "low": low, "high": high}), flush=True)


def measure(name: str, automaton: Automaton, config: GraphConfig, count: int, seed: int) -> None:
    """All figures of one domain."""
    rng = np.random.default_rng(seed)
    vocabulary = len(automaton.pieces)
    speech = [posteriors(random_sentence(automaton, rng), vocabulary, rng) for _ in range(count)]
    lengths = [int(rng.integers(5, 20)) for _ in range(max(1, count // 4))]
    babble = [posteriors([int(t) for t in rng.integers(2, vocabulary, size=n)], vocabulary, rng) for n in lengths]
    clock = time.perf_counter()
    search = config.build(automaton)
    build_ms = 1000 * (time.perf_counter() - clock)
    report(name, "build_ms", (build_ms, build_ms, build_ms))
    chunk_times_ms(search, speech[:3])
    for case, utterances in (("speech", speech), ("babble", babble)):
        times = chunk_times_ms(search, utterances)
        report(f"{name}/{case}", "ms_per_320ms", interval(times, rng))
        worst = float(np.quantile(times, 0.99))
        report(f"{name}/{case}", "ms_per_320ms_p99", (worst, worst, worst))
    unpruned = GraphConfig(beam=np.inf, max_active=None, histories=1, open_top_k=config.open_top_k).build(automaton)
    errors, losses = [], []
    for log_probs in speech[: min(count, 40)]:
        found = [s.nbest(s.step(s.start(), log_probs), 1) for s in (search, unpruned)]
        (pruned, best) = ((h[0].tokens, h[0].score) if h else ((), -np.inf) for h in found)
        losses.append(min(best[1] - pruned[1], 1000.0) if np.isfinite(best[1]) else 0.0)
        errors.append(float(losses[-1] > 1e-6))
    report(name, "search_error", interval(np.array(errors), rng), "unpruned")
    report(name, "score_lost_nats", interval(np.array(losses), rng), "unpruned")


def main() -> None:
    """Compile the domains and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pickle", nargs="*")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    import pickle
    config = GraphConfig(**{k: json.loads(v) for k, v in (o.split("=") for o in arguments.overrides)})
    for p in arguments.pickle:
        measure(Path(p).stem, pickle.load(open(p,'rb')), config, arguments.utterances, arguments.seed)


if __name__ == "__main__":
    main()
