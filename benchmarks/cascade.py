"""A joint model beside the cascades that it must beat: recognise, then understand the text.

    python benchmarks/cascade.py --bundle B --data held-out.jsonl --noise kitchen.flac [--train train.jsonl]

On every labelled recording of ``--data``, clean and with noise at ``--snr`` dB (mean powers, seeded), three systems
hear the same samples through the same network: the bundle's own answer; its n-best free text (CTC prefix beam) matched
against its domain; and, with ``--train``, that n-best read by a small tagger that learnt intents and slots from the
transcripts of ``--train`` and from what the same recogniser makes of its recordings. Both cascades sum over the n-best
(``nlu/cascade.py``). Command acceptance, intent accuracy and slot F1 with 95% bootstrap intervals over recordings, word
error rates, and each cascade's acceptance as a ratio to the bundle's on the same recordings. ``--least`` (what a
cascade's best meaning needs) is tuned on other data or left at 0. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from _lines import emit, progress, skip

from sayso.core.bundle import read_bundle
from sayso.core.result import Example, Result
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import BootstrapConfig, ratio
from sayso.evaluation.evaluate import Pair, evaluate
from sayso.evaluation.examples import read_examples
from sayso.evaluation.predict import NoiseCondition, Run
from sayso.nlu.cascade import Matcher, Texts, Understander, answer, cascade
from sayso.runtime.load import resolve
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig
from sayso.training.understanding import Read, TextUnderstander, UnderstandingConfig, fit

BENCH = "cascade"
FIGURES = ("command_acceptance", "intent_accuracy", "slot_f1", "slu_f1", "wer")
OWN, MATCHED, TAGGED = "bundle", "cascade match", "cascade tagger"


def recogniser(path: str, nbest: int) -> Model:
    """The bundle with a free search that gives ``nbest`` texts; the rest of it is as it was."""
    bundle = copy.copy(read_bundle(resolve(path)))
    free = FreeConfig(search=CtcBeamConfig(beam=2 * nbest, nbest=nbest)).model_dump(mode="json", exclude_none=True)
    bundle.manifest = bundle.manifest.model_copy(update={"free": free})
    return Model(bundle)


def heard(model: Model, examples: list[Example], noise: NoiseCondition | None) -> Iterator[tuple[Example, Texts]]:
    """Each recording that can be read, with the n-best of its free text."""
    texts: list[Texts] = []

    def listen(samples: np.ndarray, rate: int) -> Result:
        result, outcome = model.explain(samples, rate)
        texts.append(outcome.texts)
        return result

    run = Run(listen, examples, noise, progress)
    for example, _ in run:
        yield example, texts[-1]
    for failure in run.failures:
        skip(failure.audio, failure.message)


def tagger(model: Model, train: Path, limit: int | None, config: UnderstandingConfig) -> TextUnderstander:
    """Trained on the transcripts of ``train`` and on the best text that ``model`` hears in each recording."""
    examples = read_examples(train)[:limit]
    reads = [Read(example.text, example) for example in examples if example.text]
    reads += [Read(texts[0][0], example) for example, texts in heard(model, examples, None) if texts and texts[0][0]]
    return fit(reads, config)


def report(case: str, system: str, pairs: list[Pair], own: list[Pair], seed: int) -> None:
    """The figures of one system in one condition."""
    bootstrap = BootstrapConfig(seed=seed)
    figures = evaluate(pairs, bootstrap)
    for name in FIGURES:
        found = figures[name]
        emit(BENCH, f"{case}/{system}", name, None if isinstance(found, int) else found)
    rejected = [result.decision == "reject" for _, result in pairs]
    emit(BENCH, f"{case}/{system}", "rejection_rate", ratio(rejected, np.ones(len(rejected)), bootstrap))
    if system != OWN:
        right, before = ([metrics.command_right(*pair) for pair in side] for side in (pairs, own))
        emit(BENCH, f"{case}/{system}", "command_acceptance", ratio(right, before, bootstrap), OWN)


def main() -> None:
    """Hear every condition once, let every system answer, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="a bundle with a domain")
    parser.add_argument("--data", type=Path, required=True, help="labelled recordings that nothing was trained on")
    parser.add_argument("--train", type=Path, help="labelled recordings with transcripts: the tagger's")
    parser.add_argument("--noise", help="a recording of noise; without it only clean")
    parser.add_argument("--snr", type=float, nargs="*", default=[15.0, 5.0], help="noisy conditions in dB")
    parser.add_argument("--nbest", type=int, default=8)
    parser.add_argument("--scale", type=float, default=1.0, help="of the recogniser's log scores")
    parser.add_argument("--least", type=float, default=0.0, help="probability that a cascade's answer needs")
    parser.add_argument("--epochs", type=int, default=20, help="of the tagger")
    parser.add_argument("--limit", type=int, help="only the first N recordings of either manifest")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of noise, tagger and bootstrap")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    own, model = Model(read_bundle(resolve(arguments.bundle))), recogniser(arguments.bundle, arguments.nbest)
    if model.engine.automaton is None:
        parser.exit(2, f"{arguments.bundle}: has no domain to match texts against; export it with --domain\n")
    systems: dict[str, Understander] = {MATCHED: Matcher(model.engine.automaton, model.engine.tokenizer)}
    if arguments.train is not None:
        config = UnderstandingConfig(epochs=arguments.epochs, seed=arguments.seed)
        systems[TAGGED] = tagger(model, arguments.train, arguments.limit, config)
    examples = read_examples(arguments.data)[: arguments.limit]
    for snr in [None, *(arguments.snr if arguments.noise else [])]:
        noise = None if snr is None else NoiseCondition(file=arguments.noise, snr_db=snr, seed=arguments.seed)
        case = "clean" if snr is None else f"{snr:g}dB"
        answers = list(Run(lambda samples, rate: own.understand(samples, rate), examples, noise, progress))
        report(case, OWN, answers, answers, arguments.seed)
        texts = list(heard(model, examples, noise))
        for system, understand in systems.items():
            pairs = []
            for example, found in texts:
                guesses = cascade(found, understand, scale=arguments.scale)
                pairs.append((example, answer(found, guesses, least=arguments.least)))
            report(case, system, pairs, answers, arguments.seed)


if __name__ == "__main__":
    main()
