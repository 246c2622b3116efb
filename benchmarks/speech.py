"""Word error rate of a checkpoint on real speech that it never trained on, as it would hear it in a stream.

    python benchmarks/speech.py --model models/base [--limit 100] [--chunk-frames 4] [--left-frames 32]
    python benchmarks/speech.py --model models/base --chunk-frames 8 --lm runs/sentences.txt [--network FOLDER]

Greedy CTC and greedy transducer over ``commonvoice-v1`` dev and ``librispeech-devclean-half`` dev of the corpora
(the latter went through a lossy codec: its figure is not the official dev-clean one). Free text, no grammar and no
language model. The encoder sees the recording through the mask of a stream (chunks, bounded left context), which
gives what a stream gives. Intervals are 95% bootstraps over utterances (Bisani & Ney 2004); the transducer is also
given as a ratio to CTC on the same utterances. With ``--joined 4`` recordings are also heard four in a row as one, with
the history of the stream and with all history: CTC's word error rate as a ratio to the same words heard one by one (a
model that learnt where in a clip it is gets lost in longer ones). With ``--lm SENTENCES`` CTC's beam hears with a
3-gram of these words besides, in the stream and with everything visible (``offline``); its weight and the bonus of a
word are those that are best on ``valid`` recordings of the training corpora, the same for all sets. With ``--network``
a language model that is a network (``recipes/language``) votes too, alone (``network``) and beside the 3-gram
(``both``), with a weight and a bonus of a token that are chosen likewise. ``--groups``: the transducer's also by what
is known of the speakers. ``--beside M``: CTC's word errors, and its loss in nats a token (which tells checkpoints
apart before they write words), to those of another checkpoint. Dev data is reported, never tuned on. One JSON line per
figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lines import ROOT, emit, progress
from _wer import SETS, Floats, ctc_errors, ctc_texts, dev_set, encoded, examples, valid_recordings
from encoders import by_ctc, surprise

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import ConfigError
from sayso.core.result import Result
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.hypothesis import Scorer
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.network import NetworkScorer
from sayso.decoding.ngram import NGram, WordScorer
from sayso.decoding.predictor import Predictor
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import EditCounts, word_errors
from sayso.evaluation.slices import slices
from sayso.export.onnx import export_language
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.language import load_language
from sayso.models.streaming import Context
from sayso.runtime.graphs import Graph
from sayso.text.lexicon import Lexicon
from sayso.text.tokenizer import Tokenizer
from sayso.training.transducing import transducer_greedy

BENCH = "speech"
Loaded = tuple[SpeechModel, Tokenizer]
Dev = tuple[list[str], list[Floats]]
WEIGHTS, BONUSES, VALID = (0.35, 0.5, 0.7), (2.0, 4.0, 6.0, 8.0), 90  # of a language model; recordings to choose by
VOTES, TOKENS = (0.25, 0.5, 0.75, 1.0), (1.5, 3.0)  # the network's weight, and the bonus of a token


@dataclass(frozen=True)
class Mix:
    """Weights of the 3-gram and of the network (0: without), and their bonuses of a word and of a token."""

    lm: float = 0.0
    word: float = 0.0
    network: float = 0.0
    token: float = 0.0


@torch.no_grad()
def transcribe(
    model: SpeechModel, tokenizer: Tokenizer, features: list[Floats], context: Context
) -> tuple[list[str], list[str]]:
    """Texts by CTC and by transducer, in the order of ``features`` (T, mels) each."""
    ctc, rnnt = [""] * len(features), [""] * len(features)
    for group, frames, counts in encoded(model, features, context):
        read = ctc_texts(model, tokenizer, frames, counts)
        heard = transducer_greedy(model, frames, torch.tensor(counts))
        for row, index in enumerate(group):
            ctc[index], rnnt[index] = read[row], tokenizer.decode(heard[row])
    return ctc, rnnt


def report(case: str, counts: dict[str, list[EditCounts]]) -> None:
    """Word error rates, their parts, and one decoder against the other."""
    for decoder, edits in counts.items():
        length = [item.length for item in edits]
        emit(BENCH, f"{case}/{decoder}", "wer", ratio([item.errors for item in edits], length))
        for kind in ("substitutions", "deletions", "insertions"):
            emit(BENCH, f"{case}/{decoder}", kind, ratio([getattr(item, kind) for item in edits], length))
    first, second = ([item.errors for item in counts[decoder]] for decoder in ("ctc", "rnnt"))
    emit(BENCH, f"{case}/rnnt", "wer", ratio(second, first), "ctc")


def longer(
    case: str,
    model: SpeechModel,
    tokenizer: Tokenizer,
    dev: tuple[list[str], list[Floats]],
    context: Context,
    count: int,
) -> None:
    """Recordings ``count`` in a row against the same words heard one by one, in groups of like lengths."""
    texts, features = dev
    order = sorted(range(len(texts)), key=lambda i: len(features[i]))
    groups = [order[i : i + count] for i in range(0, len(order) - count + 1, count)]
    rows = (
        [" ".join(texts[i] for i in group) for group in groups],
        [np.concatenate([features[i] for i in group]) for group in groups],
    )
    for history, seen in (("", context), (", full history", Context(context.chunk_frames))):
        alone = ctc_errors(model, tokenizer, dev, seen)
        single = [sum(alone[i].errors for i in group) for group in groups]
        together = ctc_errors(model, tokenizer, rows, seen)
        words = [edits.length for edits in together]
        place = f"{case}/ctc, {count} in a row{history}"
        emit(BENCH, place, "wer", ratio([edits.errors for edits in together], words))
        emit(BENCH, place, "wer", ratio([edits.errors for edits in together], single), "one by one")


class Listener:
    """CTC's beam with language models over what the network hears in a context."""

    def __init__(
        self, model: SpeechModel, tokenizer: Tokenizer, lm: NGram, network: Predictor | None, beam: int
    ) -> None:
        self._model, self._tokenizer, self._config = model, tokenizer, CtcBeamConfig(beam=beam)
        self._lm, self.network = lm, network

    @torch.no_grad()
    def rows(self, features: list[Floats], context: Context) -> list[Floats]:
        """Log-probabilities (rows, V) of each recording."""
        found: dict[int, Floats] = {}
        for group, frames, counts in encoded(self._model, features, context):
            log_probs = self._model.ctc(frames).numpy()
            for row, index in enumerate(group):
                found[index] = log_probs[row, : counts[row] * self._model.ctc.rate]
        return [found[index] for index in range(len(features))]

    def edits(self, texts: list[str], rows: list[Floats], mix: Mix) -> list[EditCounts]:
        """Word errors of each recording."""
        scorers: dict[str, tuple[Scorer[Any], float]] = {}
        if mix.lm:
            scorers["lm"] = (WordScorer(self._lm, self._tokenizer.pieces, bonus=mix.word), mix.lm)
        if mix.network:
            assert self.network is not None
            scorers["network"] = (NetworkScorer(self.network, mix.token), mix.network)
        search, found = self._config.build(scorers), []
        for number, (text, log_probs) in enumerate(zip(texts, rows, strict=True)):
            best = search.finish(search.step(search.start(), log_probs))[0][0]
            found.append(word_errors(text, self._tokenizer.decode(best.tokens)))
            progress(number + 1, len(texts))
        return found


def tuned(listener: Listener, valid: tuple[list[str], list[Floats]], context: Context) -> dict[str, Mix]:
    """By name the mixes that are best on ``valid``: the 3-gram's; the network's alone, and beside that 3-gram."""
    rows = listener.rows(valid[1], context)

    def best(name: str, mixes: Sequence[Mix]) -> Mix:
        errors = []
        for mix in mixes:
            edits = listener.edits(valid[0], rows, mix)
            errors.append(sum(item.errors for item in edits))
            told = f"lm {mix.lm:g}, word {mix.word:g}, network {mix.network:g}, token {mix.token:g}"
            emit(BENCH, f"valid/{name}, {told}", "wer", errors[-1] / sum(item.length for item in edits))
        return mixes[int(np.argmin(errors))]

    found = {"lm": best("lm", [Mix(*pair) for pair in product(WEIGHTS, BONUSES)])}
    if listener.network is not None:
        votes = list(product(VOTES, TOKENS))
        found["network"] = best("network", [Mix(network=weight, token=bonus) for weight, bonus in votes])
        words = found["lm"]
        both = [replace(words, network=weight, token=bonus) for weight, bonus in votes]
        found["both"] = best("both", both)
    return found


def beside(case: str, model: Loaded, other: Loaded, dev: Dev, edits: list[EditCounts], context: Context | None) -> None:
    """What CTC of one checkpoint is to that of another, each in its own streaming context unless one is given."""
    its_context = context or other[0].encoder.default_context
    its = [item.errors for item in ctc_errors(*other, dev, its_context)]
    emit(BENCH, f"{case}/ctc", "wer", ratio([item.errors for item in edits], its), "beside")
    nats, tokens = surprise(*model, dev, by_ctc, context)
    others, counts = surprise(*other, dev, by_ctc, context)
    emit(BENCH, f"{case}/ctc", "nats_per_token", ratio(nats, tokens))
    emit(BENCH, f"{case}/ctc", "nats_per_token, beside", ratio(others, counts))
    if model[1].pieces == other[1].pieces:  # else their tokens are not the same; over recordings that both can spell
        both = [place for place in range(len(tokens)) if tokens[place] and counts[place]]
        nats, others = ([found[place] for place in both] for found in (nats, others))
        emit(BENCH, f"{case}/ctc", "nats_per_token", ratio(nats, others), "beside")


def reader(folder: Path, tokenizer: Tokenizer) -> Predictor:
    """A language model that is a network, as the floor runs it."""
    model, its = load_language(folder)
    if its.sha256 != tokenizer.sha256:
        raise ConfigError(f"{folder} was trained for another tokenizer than --model's")
    exported = export_language(model)
    graph = Graph(exported.data, exported.spec, where=str(folder))
    return Predictor(graph.following, 1, graph.start())


def main() -> None:
    """Transcribe the dev sets and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--limit", type=int, help="a seeded sample of N utterances of each set")
    parser.add_argument("--chunk-frames", type=int, help="of 80 ms; default: the checkpoint's own")
    parser.add_argument("--left-frames", type=int, help="left context; default: the checkpoint's own")
    parser.add_argument("--joined", type=int, default=1, help="hear so many recordings in a row as one, too")
    parser.add_argument("--groups", action="store_true", help="by gender, age and accent, where known")
    parser.add_argument("--beside", type=Path, help="another checkpoint folder, to be compared with")
    parser.add_argument("--lm", type=Path, help="sentences, one a line, for a model of words")
    parser.add_argument("--network", type=Path, help="beside --lm: a folder of a language model that is a network")
    parser.add_argument("--beam", type=int, default=8, help="of CTC with a language model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print N references and readings on stderr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_checkpoint(arguments.model)
    other = load_checkpoint(arguments.beside) if arguments.beside is not None else None
    own = model.encoder.default_context
    context = Context(arguments.chunk_frames or own.chunk_frames, arguments.left_frames or own.left_frames)
    listener, mixes = None, {}
    if arguments.network is not None and arguments.lm is None:
        parser.error("--network is compared with a 3-gram; give --lm, the sentences of one")
    if arguments.lm is not None:
        lines = arguments.lm.read_text(encoding="utf-8").splitlines()
        lm = estimate((line.split() for line in lines), 3, Lexicon.load().words)
        network = None if arguments.network is None else reader(arguments.network, tokenizer)
        listener = Listener(model, tokenizer, lm, network, arguments.beam)
        valid, settings = valid_recordings(VALID), FeatureConfig(mels=model.config.encoder.mels)
        heard = [text for text, _ in valid], [fbank(samples, settings) for _, samples in valid]
        mixes = tuned(listener, heard, context)
    for name in SETS:
        dev = dev_set(name, model.config.encoder.mels, arguments.limit, arguments.seed)
        if dev is None:
            continue
        texts, features = dev
        ctc, rnnt = transcribe(model, tokenizer, features, context)
        for row in range(min(arguments.show, len(texts))):
            print(f"ref  {texts[row]}\nctc  {ctc[row]}\nrnnt {rnnt[row]}\n", file=sys.stderr)
        counts = {
            "ctc": [word_errors(*pair) for pair in zip(texts, ctc, strict=True)],
            "rnnt": [word_errors(*pair) for pair in zip(texts, rnnt, strict=True)],
        }
        report(name.split("/")[0], counts)
        if other is not None:
            given = context if arguments.chunk_frames or arguments.left_frames else None
            beside(name.split("/")[0], (model, tokenizer), other, dev, counts["ctc"], given)
        people = examples(name, arguments.limit, arguments.seed) if arguments.groups else None
        for field, groups in slices([(e, Result(text=t)) for e, t in zip(people or (), rnnt, strict=False)]).items():
            for value, figures in groups.items():
                emit(BENCH, f"{name.split('/')[0]}/rnnt/{field} {value}, {figures['n']}", "wer", figures.get("wer"))
        for case, seen in (("stream", context), ("offline", Context())) if listener is not None else ():
            assert listener is not None
            rows, place = listener.rows(features, seen), f"{name.split('/')[0]}/{case}"
            alone = ctc_errors(model, tokenizer, dev, seen)
            words = [edits.length for edits in alone]
            emit(BENCH, f"{place}/ctc", "wer", ratio([edits.errors for edits in alone], words))
            others = {"ctc": [edits.errors for edits in alone]}
            for kind, mix in mixes.items():
                others[kind] = [edits.errors for edits in listener.edits(texts, rows, mix)]
                emit(BENCH, f"{place}/ctc, {kind}", "wer", ratio(others[kind], words))
                against = "lm" if kind == "both" else "ctc"
                emit(BENCH, f"{place}/ctc, {kind}", "wer", ratio(others[kind], others[against]), against)
        if arguments.joined > 1:
            longer(name.split("/")[0], model, tokenizer, dev, context, arguments.joined)


if __name__ == "__main__":
    main()
