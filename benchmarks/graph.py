"""Speed and search error of the grammar graph on simulated posteriors, one core.

    sayso bench graph        (or: python benchmarks/graph.py [--tokenizer M] [--set beam=10] [domain.yaml ...])

Default domains: the bundled ``home`` and the Rhino coffee context of the corpora. Sentences are random walks of the
compiled domain. Their CTC posteriors are simulated: peaks one or two frames long between blanks, a share of the mass
on confusable tokens, some tokens plainly wrong. "speech" and "noisy" are in the domain, "babble" is random tokens. A
chunk is 320 ms: the search step plus the questions that a stream asks after it. Search error: the best hypothesis
scores less than that of a search with a far wider beam and no other limit. One JSON line per figure; ``ratio_to``
names what a figure is relative to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Network
from sayso.core.config import override, parse
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import Domain, load_domain, parse_domain
from sayso.nlu.importers import import_domain
from sayso.nlu.sample import sample
from sayso.text.tokenizer import Tokenizer, train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 4  # encoder frames of 80 ms
WIDE_BEAM = 40.0
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


def posteriors(
    tokens: list[int], vocabulary: int, rng: np.random.Generator, noisy: bool = False, rate: int = 1
) -> Doubles:
    """(T, V) log posteriors of ``tokens``, ``rate`` rows a frame; 5% of the tokens, 20% if ``noisy``, are overtaken."""
    wrong, weakest, spread = (0.2, 0.05, 0.1) if noisy else (0.05, 0.3, 0.02)
    rows: list[Doubles] = []

    def row(label: int, mass: float) -> None:
        other = rng.dirichlet(np.full(vocabulary, spread)) * (1 - mass) * 0.7
        other[0] += (1 - mass) * 0.3
        other[label] += mass
        rows.append(0.995 * other + 0.005 / vocabulary)

    previous = 0
    for token in tokens:
        for _ in range(max(rate * int(rng.integers(*BLANK_FRAMES)), int(token == previous))):
            row(0, rng.uniform(max(0.3, 2 * weakest), 0.999))
        heard = int(rng.integers(2, vocabulary)) if rng.random() < wrong else token
        for _ in range(int(rng.integers(1, 2 * rate + 1))):
            row(heard, rng.uniform(weakest, 0.98))
            if heard != token:
                rows[-1][token] += 0.05
                rows[-1] /= rows[-1].sum()
        previous = token
    for _ in range(8 * rate):
        row(0, 0.99)
    return np.log(np.array(rows))


def chunk_times_ms(search: GraphSearch, utterances: list[Doubles], rate: int) -> Doubles:
    """CPU time (the search has one thread) of every 320 ms step with the questions that a stream asks after it."""
    times: list[float] = []
    for log_probs in utterances:
        state = search.start()
        for begin in range(0, len(log_probs), rate * CHUNK):
            clock = time.process_time()
            search.step(state, log_probs[begin : begin + rate * CHUNK])
            search.stable(state)
            search.can_extend(state)
            times.append(1000 * (time.process_time() - clock))
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


def measure(name: str, automaton: Automaton, config: GraphConfig, count: int, seed: int, rate: int) -> None:
    """All figures of one domain, ``rate`` rows of posteriors a frame."""
    rng = np.random.default_rng(seed)
    vocabulary = len(automaton.pieces)
    speech = [posteriors(random_sentence(automaton, rng), vocabulary, rng, rate=rate) for _ in range(count)]
    noisy = [posteriors(random_sentence(automaton, rng), vocabulary, rng, True, rate) for _ in range(count)]
    lengths = [int(rng.integers(5, 20)) for _ in range(max(1, count // 4))]
    babble = [
        posteriors([int(t) for t in rng.integers(2, vocabulary, size=n)], vocabulary, rng, True, rate) for n in lengths
    ]
    clock = time.process_time()
    search = config.build(automaton)
    build_ms = 1000 * (time.process_time() - clock)
    report(name, "build_ms", (build_ms, build_ms, build_ms))
    chunk_times_ms(search, speech[:3], rate)
    cases = {"speech": speech, "noisy": noisy, "babble": babble}
    for case, utterances in cases.items():
        times = chunk_times_ms(search, utterances, rate)
        report(f"{name}/{case}", "ms_per_320ms", interval(times, rng))
        worst = float(np.quantile(times, 0.99))
        report(f"{name}/{case}", "ms_per_320ms_p99", (worst, worst, worst))
    wide = GraphConfig(
        beam=WIDE_BEAM, max_active=None, histories=1, commit_beam=None, open_top_k=config.open_top_k
    ).build(automaton)
    for case in ("speech", "noisy"):
        search_error(f"{name}/{case}", (search, wide), cases[case][:30], seed)


def search_error(case: str, searches: tuple[GraphSearch, GraphSearch], utterances: list[Doubles], seed: int) -> None:
    """How often pruning changes the best hypothesis, and what it costs in score: (pruned, reference)."""
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    for log_probs in utterances:
        pruned, best = (s.nbest(s.step(s.start(), log_probs), 1) for s in searches)
        if best:
            losses.append(min(best[0].score - pruned[0].score, 100.0) if pruned else 100.0)
    lost = np.array(losses)
    report(case, "search_error", interval((lost > 1e-6).astype(np.float64), rng), "wide")
    report(case, "score_lost_nats", interval(lost, rng), "wide")


def domains(paths: list[Path]) -> list[Domain]:
    """The domains to measure; Rhino contexts are imported."""
    if not paths:
        corpora = Path(os.environ.get("SAYSO_CORPORA", ROOT.parent / "shared" / "data"))
        paths = [ROOT / "domains" / "home.yaml", corpora / "coffee-dev" / "context.yaml"]
    found: list[Domain] = []
    for path in paths:
        if not path.exists():
            print(f"{path}: not here, skipped", file=sys.stderr)
        elif path.name == "context.yaml":
            found.append(parse_domain(import_domain(path, "rhino"), "coffee"))
        else:
            found.append(load_domain(path))
    return found


def tokenizer_for(found: list[Domain], path: Path | None) -> Tokenizer:
    """The tokenizer at ``path``, else one trained on samples of the domains (same vocabulary size)."""
    if path is not None:
        return Tokenizer.load(path)
    texts = [u.text for domain in found for u in sample(domain, 2000, seed=0)]
    with tempfile.TemporaryDirectory() as folder:
        return train_tokenizer(texts, Path(folder) / "tokenizer.model")


def main() -> None:
    """Compile the domains and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="search settings")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--rate", type=int, default=1, help="rows of posteriors a frame (model.ctc_rate)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = parse(GraphConfig, override({}, arguments.set), where="--set")
    found = domains(arguments.domains)
    tokenizer = tokenizer_for(found, arguments.tokenizer)
    for domain in found:
        name = "coffee" if domain.path is None else domain.name
        measure(name, compile_domain(domain, tokenizer), config, arguments.utterances, arguments.seed, arguments.rate)


if __name__ == "__main__":
    main()
