"""What ``evaluate`` says beyond its headline: more figures of meaning, trust and time, by groups, for ``--details``.

The headline's names are frozen; these may grow. A figure is None where it does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sayso.core.result import Result
from sayso.evaluation import metrics, semantics
from sayso.evaluation.bootstrap import BootstrapConfig, Estimate, Ints, general, rate, ratio
from sayso.evaluation.costs import accepted, cost_coverage, decided
from sayso.evaluation.evaluate import Figures, Pair, compared, confidences, evaluate, f1, judged_of, transcribed
from sayso.evaluation.live import Trace
from sayso.evaluation.slices import slices
from sayso.evaluation.talkers import company_errors, in_company
from sayso.nlu.calibration import Costs
from sayso.text.normalise import normalise

_POINTS = 200


def details(
    pairs: Sequence[Pair],
    bootstrap: BootstrapConfig | None = None,
    traces: Sequence[Trace] = (),
    *,
    streams: Mapping[str, Sequence[Result]] | None = None,
) -> dict[str, Any]:
    """One JSON object: ``figures`` (the headline), ``more`` with those of ``listened``, ``risk_coverage`` (coverage,
    risk and confidence by row, 200 rows at most), ``cost_coverage`` (coverage, mean cost, confidence), ``latency``
    (seconds) and ``slices``.
    """
    company = in_company([example for example, _ in pairs])
    scores, right, _ = confidences(pairs)
    return {
        "figures": evaluate(pairs, bootstrap),
        "more": more(pairs, bootstrap) | listened(pairs, bootstrap, streams=streams),
        "risk_coverage": _rows(metrics.risk_coverage(scores, right)),
        "cost_coverage": _rows(cost_coverage(pairs, Costs())),
        "latency": {name: quantiles(values) for name, values in latencies(pairs, traces).items() if values},
        "slices": slices([pair for pair in pairs if pair[0].audio not in company], bootstrap=bootstrap),
    }


def more(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None = None) -> Figures:
    """Figures with intervals over utterances.

    ``sem_er``, ``irer`` (utterances with any error), ``icer`` (wrong intents), ``exact_match`` and ``tree_match`` are
    over commands and negatives with known slots, and so are ``label_f1`` (names of slots, whatever their values) and
    ``span_f1`` (name, first and last word; of utterances with a text). ``macro_intent_accuracy`` is the mean over
    expected intents, negatives being one; ``macro_intent_f1`` that of F1 over those expected or answered (Shon et al.
    2022 judge sentiment so). ``concept_error_rate`` and ``concept_value_error_rate`` are over commands. ``brier``,
    ``nll``, ``overconfidence`` (mean confidence less share right) and ``aurc`` need calibrated confidence. ``cost`` is
    of what was decided, ``cost_accepting`` had each guess been accepted, in units of ``Costs``.
    ``false_accepts_per_hour`` counts negatives that were not refused in their hours of speech.
    """
    judged, costs = judged_of(pairs), Costs()
    known = [pair for pair in judged if pair[0].negative or pair[0].slots is not None]
    commands = [pair for pair in known if not pair[0].negative]
    meant = [semantics.semantic_errors(*pair) for pair in known]
    names = [semantics.concept_errors(*pair) for pair in commands]
    values = [semantics.concept_errors(*pair, values=True) for pair in commands]
    scores, right, _ = confidences(pairs)
    ones = np.ones(len(known))
    return {
        "sem_er": _errors(meant, bootstrap),
        "irer": ratio([item.errors > 0 for item in meant], ones, bootstrap),
        "icer": ratio([not metrics.intent_right(*pair) for pair in known], ones, bootstrap),
        "macro_intent_accuracy": _macro(judged, bootstrap),
        "macro_intent_f1": _macro_f1(judged, bootstrap),
        "label_f1": f1([semantics.name_counts(*pair) for pair in known], bootstrap),
        "span_f1": f1([semantics.span_counts(*pair) for pair in known if pair[0].text is not None], bootstrap),
        "concept_error_rate": _errors(names, bootstrap),
        "concept_value_error_rate": _errors(values, bootstrap),
        "exact_match": ratio([semantics.exact_match(*pair) for pair in known], ones, bootstrap),
        "tree_match": ratio([semantics.tree_match(*pair) for pair in known], ones, bootstrap),
        "brier": ratio((scores - right) ** 2, np.ones(scores.size), bootstrap),
        "nll": ratio(metrics.nlls(scores, right), np.ones(scores.size), bootstrap),
        "overconfidence": ratio(scores - right, np.ones(scores.size), bootstrap),
        "aurc": general(lambda index: metrics.aurc(scores[index], right[index]), scores.size, bootstrap),
        "cost": ratio(decided(pairs, costs), np.ones(len(judged)), bootstrap),
        "cost_accepting": ratio(accepted(pairs, costs), np.ones(len(judged)), bootstrap),
        "false_accepts_per_hour": _false_accepts(judged, bootstrap),
    }


def listened(
    pairs: Sequence[Pair],
    bootstrap: BootstrapConfig | None = None,
    *,
    streams: Mapping[str, Sequence[Result]] | None = None,
) -> Figures:
    """Word errors of a kind. ``u_wer`` and ``b_wer`` are over utterances that say which words matter (``biased``): of
    all other words, and of these. ``cp_wer``, ``orc_wer`` and ``tcp_wer`` are over recordings in which several talk
    (``talkers``), with intervals over these, ``tcp_wer`` over those with times; ``streams`` says by audio what was
    heard there, and without it what the first of its utterances is paired with is the one stream.
    """
    listed = [pair for pair in transcribed(pairs) if "biased" in pair[0].custom]
    split = [
        metrics.biased_word_errors(*compared(*pair), normalise(pair[0].custom["biased"]).split()) for pair in listed
    ]
    found: Figures = {
        name: _errors([counts[place] for counts in split], bootstrap) for place, name in enumerate(("u_wer", "b_wer"))
    }
    talks = [
        company_errors([pairs[row][0] for row in rows], (streams or {}).get(audio) or [pairs[rows[0]][1]])
        for audio, rows in in_company([example for example, _ in pairs]).items()
    ]
    for name in ("cp_wer", "orc_wer", "tcp_wer"):
        counts = [talk[name] for talk in talks if name in talk]
        found[name] = ratio([item.errors for item in counts], [item.length for item in counts], bootstrap)
    return found


def latencies(pairs: Sequence[Pair], traces: Sequence[Trace] = ()) -> dict[str, list[float]]:
    """What was timed, in seconds: ``first_partial_s`` after the sample it needed, ``final_s`` after the endpoint, and
    ``speech_end_to_final_s``, which the person waits: from the end of the last word, silence before the endpoint
    included (user-perceived latency, Shangguan et al. 2021, arXiv:2104.02207). ``work_s`` where only work was timed.
    With ``traces``, what they hold instead (``live.Trace``).
    """
    if traces:
        columns = zip(Trace._fields, zip(*traces, strict=True), strict=True)
        return {name: [value for value in column if value is not None] for name, column in columns}
    timings = [result.timing for _, result in pairs]
    ended = [
        max(0.0, result.timing.audio_s - result.words[-1].end) + result.timing.final_s
        for _, result in pairs
        if result.words and result.timing.final_s is not None
    ]
    work = [timing.rtf * timing.audio_s for timing in timings if timing.rtf is not None and timing.final_s is None]
    return {
        "first_partial_s": [timing.first_partial_s for timing in timings if timing.first_partial_s is not None],
        "final_s": [timing.final_s for timing in timings if timing.final_s is not None],
        "speech_end_to_final_s": ended,
        "work_s": work,
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """``n``, and the values at 50, 90, 95 and 99% (N > 0), rounded to 0.1 ms."""
    levels = (0.5, 0.9, 0.95, 0.99)
    found = zip(levels, np.quantile(values, levels), strict=True)
    return {"n": len(values)} | {f"p{level * 100:g}": round(float(value), 4) for level, value in found}


def _rows(curve: Sequence[tuple[float, ...]]) -> list[list[float]]:
    """At most ``_POINTS`` of a curve's rows, its ends among them."""
    shown = sorted({round(i) for i in np.linspace(0, len(curve) - 1, min(len(curve), _POINTS))})
    return [list(curve[index]) for index in shown]


def _errors(counts: Sequence[metrics.EditCounts], bootstrap: BootstrapConfig | None) -> Estimate | None:
    return ratio([item.errors for item in counts], [item.length for item in counts], bootstrap)


def _macro(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None) -> Estimate | None:
    names = [example.intent or "" for example, _ in pairs]
    _, place = np.unique(names, return_inverse=True) if names else ([], np.zeros(0, np.int64))
    right = np.array([metrics.intent_right(*pair) for pair in pairs], dtype=np.float64)

    def statistic(index: Ints) -> float:
        sizes, hits = np.bincount(place[index]), np.bincount(place[index], right[index])
        return float(np.mean(hits[sizes > 0] / sizes[sizes > 0]))

    return general(statistic, len(pairs), bootstrap)


def _macro_f1(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None) -> Estimate | None:
    """Refusing is an answer like the others, expected of negatives."""
    gold = [example.intent or "" for example, _ in pairs]
    got = [metrics.understood(result)[0] or "" for _, result in pairs]
    _, places = np.unique([*gold, *got], return_inverse=True) if pairs else ([], np.zeros(0, np.int64))
    expected, found = places[: len(pairs)], places[len(pairs) :]

    def statistic(index: Ints) -> float:
        mine, its = expected[index], found[index]
        count = np.bincount(mine, minlength=places.max() + 1) + np.bincount(its, minlength=places.max() + 1)
        hits = np.bincount(mine[mine == its], minlength=len(count))
        return float(np.mean(2 * hits[count > 0] / count[count > 0]))

    return general(statistic, len(pairs), bootstrap)


def _false_accepts(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None) -> Estimate | None:
    others = [(example, result) for example, result in pairs if example.negative]
    wrong = sum(not metrics.intent_right(*pair) for pair in others)
    seconds = sum(result.timing.audio_s or example.duration_s or 0.0 for example, result in others)
    return rate(wrong, seconds / 3600, (bootstrap or BootstrapConfig()).level)
