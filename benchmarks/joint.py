"""Joint understanding in tables: heads beside cascade and grammar, weights that move, curricula, coarse labels, the
share of synthetic speech, no transcripts, early intents, domains left out.

    python benchmarks/joint.py systems weighting --out runs/joint

Every row is a training of ``--steps`` equal steps from ``--init`` by the real loop, on synthetic speech of ``--domain``
(made once) with the same data, batches and rate, judged on voices that training does not hear, on sentences like those
of training (``seen``), of held-out templates and with held-out slot values, clean and with ``--noise`` at ``--snr``
dB (mean powers, seeded). All ways of understanding hear the same frames; those that have the grammar (``graph``,
``match``) know its held-out templates and values, the others know neither. Trainings and answers are kept in ``--out``
and are taken from there; so a run that was stopped goes on, and tables share their trainings. Figures of several
``--seeds`` are added up by recording; intervals are 95% bootstraps over recordings, which say nothing about other
trainings. A ratio is on the same recordings. One JSON line per figure; the case is TABLE/ROW/CONDITION. With
``--people`` the domain is the coffee machine's, and the judges are the orders of real people, with the kitchen's noise
by the ratio of loudest frames, as the published figures have it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from _joint_counts import Doubles, added, counted, quotient
from _joint_data import spoken
from _joint_judge import DEAF, FREE, GRAPH, HEADS, MATCHED, PARSER, TAGGED, UNREAD, VOTED, Court, Judge, home_court
from _joint_runs import DOMAINS, GRID, SHARES, Workshop, coarse_of, coffee_court, coffee_domain, coffee_speech
from _lines import ROOT, corpora, emit, skip
from _wer import SETS, ctc_errors, dev_set

from sayso.core.errors import DataError
from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import general, ratio
from sayso.evaluation.evaluate import Pair

BENCH = "joint"
_JUDGES = 3  # in memory, beside the present one
MAIN = ("command_acceptance", "intent_accuracy", "slu_f1")


class NotYet(DataError):
    """A training that ``--ready`` does without."""


class Bench:
    """The trainings and their answers, as tables ask for them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        if args.people:
            args.domain = coffee_domain(args)
            manifests = coffee_speech(args)
            self.court = replace(coffee_court(args), manifests=manifests, name="people")
        else:
            manifests = spoken(args, args.domain, args.out / args.domain.stem)
            noise = args.noise or corpora() / "noise" / "doing_the_dishes.flac"
            self.court = home_court(args, args.domain, manifests, noise)
        self.shop = Workshop(args, manifests)
        self._judges: dict[Path, Judge] = {}

    def judge(self, run: str, seed: int, court: Court | None = None) -> Judge:
        """One training, done if it is not there; the last few are kept in memory."""
        if self.args.ready and not self.shop.is_trained(run, seed):
            raise NotYet(f"row '{run}' is not trained")
        folder = self.shop.trained(run, seed)
        if folder not in self._judges:
            kept = list(self._judges.items())[-_JUDGES:]
            self._judges = {**dict(kept), folder: Judge(court or self.court, folder)}
        return self._judges[folder]

    def pairs(self, run: str, way: str, snr: float | None, court: Court | None = None) -> list[list[Pair]]:
        """Answers by seed."""
        return [self.judge(run, seed, court).answers(way, snr) for seed in range(self.args.seeds)]

    def row(self, case: str, run: str, way: str, beside: tuple[str, str] | None = None) -> None:
        """Figures of a way of understanding with a training in every condition; ``beside``: also as ratios to those of
        another training and way."""
        for snr in self.court.conditions:
            where = f"{case}/{condition(snr)}"
            try:
                found = added(self.pairs(run, way, snr))
                other = None if beside in (None, (run, way)) else added(self.pairs(*beside, snr))  # type: ignore[misc]
            except NotYet as missing:
                skip(where, str(missing))
                continue
            words = way == FREE  # which means nothing
            for metric, (top, bottom) in found.items():
                if metric == "wer" or not words:
                    emit(BENCH, where, metric, ratio(top, bottom))
            for metric in (("wer",) if words else MAIN) if other is not None and beside is not None else ():
                if metric not in found or metric not in other:
                    continue
                emit(BENCH, where, metric, quotient(found[metric], other[metric]), "/".join(beside))
            if snr is None and not words:
                self._kinds(where, run, way)

    def _kinds(self, where: str, run: str, way: str) -> None:
        """What is asked of a model in parts: sentences like those of training, templates and values that it lacks."""
        kinds = dict.fromkeys(example.source for example in self.court.examples)
        for kind in kinds if len(kinds) > 1 else ():
            some = [[pair for pair in each if pair[0].source == kind] for each in self.pairs(run, way, None)]
            emit(BENCH, f"{where}/{kind}", "command_acceptance", ratio(*added(some)["command_acceptance"]))


def condition(snr: float | None) -> str:
    """Its name."""
    return "clean" if snr is None else f"{snr:g}dB"


def systems(bench: Bench) -> None:
    """Every way to a meaning: from sound alone, recognise then understand, jointly with each head, with the grammar."""
    cascade = ("hear", TAGGED)
    for case, run in (("hearing alone", "hear"), ("joint hearing", "joint")):
        bench.row(f"systems/{case}", run, FREE, ("hear", FREE))
    for case, run, way in (
        ("single task (no transcripts, decoder)", "meaning", PARSER),
        ("cascade, grammar match", "hear", MATCHED),
        ("cascade, tagger", "hear", TAGGED),
        ("joint, heads", "joint", HEADS),
        ("joint, heads, fused", "fused", HEADS),
        ("joint, heads, fused, no sound", "fused", DEAF),
        ("joint, heads, fused, no tokens", "fused", UNREAD),
        ("joint, decoder of words and labels", "coupled", PARSER),
        ("joint, decoder of labels", "decoupled", PARSER),
        ("joint hearing, tagger", "joint", TAGGED),
        ("grammar graph", "hear", GRAPH),
        ("grammar graph, intent head votes", "joint", VOTED),
    ):
        bench.row(f"systems/{case}", run, way, cascade)


def weighting(bench: Bench) -> None:
    """Weights of the losses: as they are, and by each rule that moves them."""
    for case in ("fixed", "scheduled", "uncertainty", "gradnorm", "dwa"):
        bench.row(f"weighting/{case}", "joint" if case == "fixed" else case, HEADS, ("joint", HEADS))


def grid(bench: Bench) -> None:
    """What meaning weighs beside hearing, fixed: what weights that move have to beat."""
    for by in sorted((*GRID, 1.0)):
        bench.row(f"grid/fixed x{by:g}", "joint" if by == 1 else f"fixed x{by:g}", HEADS, ("joint", HEADS))


def regularisation(bench: Bench) -> None:
    """Against learning by heart, one thing at a time; with how honest the intent head's probability is."""
    for case in ("none", "label smoothing", "weight noise", "layer dropout", "rooms and noise"):
        run = "joint" if case == "none" else case
        bench.row(f"regularisation/{case}", run, HEADS, ("joint", HEADS))
        bench.row(f"regularisation/{case}, words", run, FREE, ("joint", FREE))
        for snr in bench.court.conditions:
            pairs = [pair for each in bench.pairs(run, HEADS, snr) for pair in each if pair[1].intent is not None]
            sure = np.array([result.intent.confidence for _, result in pairs if result.intent is not None], float)
            right = np.array([metrics.intent_right(*pair) for pair in pairs], float)
            figure = general(lambda index, s=sure, r=right: metrics.ece(s[index], r[index]), len(pairs))  # type: ignore[misc]
            emit(BENCH, f"regularisation/{case}/{condition(snr)}", "ece", figure)


def curriculum(bench: Bench) -> None:
    """In what order, and in which stages; with what the validations on the way said."""
    for case in ("flat", "stages", "shortest first", "cleanest first", "surest first"):
        run = "joint" if case == "flat" else case
        bench.row(f"curriculum/{case}", run, HEADS, ("joint", HEADS))
        for seed in range(bench.args.seeds):
            lines = (bench.shop.trained(run, seed) / "metrics.jsonl").read_text().splitlines()
            for line in map(json.loads, lines):
                for metric in ("valid_wer", "valid_intent"):
                    if metric in line:
                        emit(BENCH, f"curriculum/{case}/seed {seed}/step {line['step']}", metric, line[metric])


def phased(bench: Bench) -> None:
    """A fifth of the intents finely labelled: alone, and with coarse labels of all others."""
    for case, run in (
        ("all fine", "joint"),
        ("a fifth fine", "fifth"),
        ("a fifth fine, others coarse", "phased"),
        ("all coarse", "coarse"),
    ):
        bench.row(f"phased/{case}", run, HEADS, ("fifth", HEADS))
        for snr in bench.court.conditions:
            right = sum(
                np.array([coarse_of(e.intent) == coarse_of(r.intent and r.intent.name) for e, r in pairs], float)
                for pairs in bench.pairs(run, HEADS, snr)
            )
            top = np.asarray(right)
            figure = ratio(top, np.full(top.shape, bench.args.seeds))
            emit(BENCH, f"phased/{case}/{condition(snr)}", "coarse_accuracy", figure)


def untold(bench: Bench) -> None:
    """The same decoder with and without transcripts to learn from, and the intent head of both."""
    for case, run in (("with transcripts", "decoupled"), ("without", "meaning")):
        bench.row(f"untold/{case}, decoder", run, PARSER, ("decoupled", PARSER))
        bench.row(f"untold/{case}, intent head", run, HEADS)


def early(bench: Bench) -> None:
    """The intent head while people speak: how often it is right so long before the end, and when it may be believed."""
    chunk_s = 0.32
    for snr in bench.court.conditions:
        tops, hits = [], []
        for seed in range(bench.args.seeds):
            judge = bench.judge("joint", seed)
            names = [*judge.model.config.heads.intents, None]
            for example, rows in zip(bench.court.examples, judge.early(snr), strict=True):
                tops.append(rows.max(1))
                hits.append(np.array([names[best] == example.intent for best in rows.argmax(1)]))
        where = f"early/{condition(snr)}"
        for before in (6, 5, 4, 3, 2, 1, 0):
            right = [hit[-1 - before] if len(hit) > before else False for hit in hits]
            case = f"{where}/{before * chunk_s:.2f} s before the end"
            emit(BENCH, case, "intent_accuracy", ratio(right, np.ones(len(right))))
        for sure in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
            _believed(f"{where}/believed from {sure:g}", tops, hits, sure, chunk_s)


def _believed(where: str, tops: list[Doubles], hits: list[Doubles], sure: float, chunk_s: float) -> None:
    """Deciding at the first chunk that is so sure, at the end where none is."""
    at = [int((top >= sure).argmax()) if (top >= sure).any() else len(top) - 1 for top in tops]
    early_s = [(len(top) - 1 - place) * chunk_s for place, top in zip(at, tops, strict=True)]
    right = [float(hit[place]) for place, hit in zip(at, hits, strict=True)]
    emit(BENCH, where, "intent_accuracy", ratio(right, np.ones(len(right))))
    emit(BENCH, where, "seconds_before_the_end", ratio(early_s, np.ones(len(early_s))))


def synthetic(bench: Bench) -> None:
    """The share of synthetic speech in every batch, judged on real people: orders to a coffee machine that the grammar
    understands, and word errors of other sentences."""
    court = coffee_court(bench.args)
    sets = {name: dev_set(name, 80, bench.args.dev, 0) for name in SETS}
    for share in SHARES:
        for seed in range(bench.args.seeds):
            judge = bench.judge(f"share {share:g}", seed, court)
            for snr in court.conditions if court.examples else ():
                found = counted(judge.answers(GRAPH, snr))
                case = f"synthetic/{share:g}/seed {seed}/coffee {condition(snr)}"
                for metric in MAIN:
                    emit(BENCH, case, metric, ratio(*found[metric]))
            for name, dev in sets.items():
                if dev is not None:
                    context = judge.model.encoder.default_context
                    edits = ctc_errors(judge.model, judge.tokenizer, dev, context)
                    wer = ratio([e.errors for e in edits], [e.length for e in edits])
                    emit(BENCH, f"synthetic/{share:g}/seed {seed}/{name}", "wer", wer)


def transfer(bench: Bench) -> None:
    """One part of the domain left out of training at a time: what the others teach about it, by part."""
    for left in (None, *DOMAINS):
        run = "hear" if left is None else f"without {left}"
        for part, intents in DOMAINS.items():
            if left not in (None, part) and not bench.args.matrix:
                continue
            for snr in bench.court.conditions:
                some = [[p for p in each if p[0].intent in intents] for each in bench.pairs(run, GRAPH, snr)]
                read = [[p for p in each if p[0].intent in intents] for each in bench.pairs(run, FREE, snr)]
                where = f"transfer/{'nothing' if left is None else left} left out/{part}/{condition(snr)}"
                emit(BENCH, where, "command_acceptance", ratio(*added(some)["command_acceptance"]))
                emit(BENCH, where, "wer", ratio(*added(read)["wer"]))


TABLES: dict[str, Callable[[Bench], None]] = {
    "systems": systems,
    "untold": untold,
    "early": early,
    "phased": phased,
    "weighting": weighting,
    "grid": grid,
    "regularisation": regularisation,
    "curriculum": curriculum,
    "synthetic": synthetic,
    "transfer": transfer,
}


def main() -> None:
    """Train what is not there, judge, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/joint"))
    parser.add_argument("--domain", type=Path, default=ROOT / "domains" / "home.yaml")
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base")
    parser.add_argument("--coffee", type=Path, help="the coffee machine's domain file; default: imported from corpora")
    parser.add_argument("--people", action="store_true", help="of the coffee machine, judged on real people")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-seconds", type=float, default=16.0)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of every row")
    parser.add_argument("--sentences", type=int, default=2400, help="of the domain to train on")
    parser.add_argument("--each", type=int, default=80, help="sentences of each held-out kind")
    parser.add_argument("--noise", type=Path, help="a recording of noise; default: doing the dishes, of the corpora")
    parser.add_argument("--snr", type=float, nargs="*", default=[15.0, 5.0], help="noisy conditions in dB")
    parser.add_argument("--beam", type=int, default=4, help="of the decoder")
    parser.add_argument("--epochs", type=int, default=10, help="of the cascade's tagger")
    parser.add_argument("--reads", type=int, default=1000, help="training recordings that the tagger reads too")
    parser.add_argument("--dev", type=int, default=200, help="clips of each real dev set")
    parser.add_argument("--limit", type=int, help="judge the first N recordings of each kind")
    parser.add_argument("--ready", action="store_true", help="leave out rows whose trainings are not there yet")
    parser.add_argument("--matrix", action="store_true", help="transfer: every part under every training")
    args = parser.parse_args()
    unknown = [name for name in args.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table '{unknown[0]}'; there are {', '.join(TABLES)}")
    if args.people and (parts := {"phased", "transfer", "synthetic"} & set(args.tables or TABLES)):
        parser.error(f"--people: table '{min(parts)}' is about the home or has people of its own; name others")
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    for name in args.tables or TABLES:
        try:
            TABLES[name](bench)
        except DataError as error:
            skip(name, str(error))


if __name__ == "__main__":
    main()
