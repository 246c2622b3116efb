"""One self-contained page that says how good a model is and where it fails.

Everything (style, pictures, figures, sounds) is inside the file: it opens from a mail or an archive, without a
network, on a phone, on a light or a dark screen. The first section is the headline and is looked into (confusion,
slots, confidence, latency, groups); every section is a line of the table of conditions and keeps its own list of
failures, the worst to listen to, because those are what one acts on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from sayso.core.files import write_text
from sayso.core.result import Example, Result
from sayso.evaluation import charts, metrics, mistakes
from sayso.evaluation.bootstrap import Estimate
from sayso.evaluation.costs import accepted, cost_coverage, decided
from sayso.evaluation.details import latencies, listened, more, quantiles
from sayso.evaluation.evaluate import Figures, Pair, confidences, evaluate, judged_of
from sayso.evaluation.live import Trace
from sayso.evaluation.predict import Failure
from sayso.evaluation.slices import MINIMUM, slices
from sayso.nlu.calibration import Costs

_SHOWN = 100
_CLIPS, _CLIPS_OF_SECTION = 24, 12  # to listen to: the page stays below a megabyte
_NAMES = {
    "command_acceptance": "Command acceptance",
    "intent_accuracy": "Intent accuracy",
    "slot_f1": "Slot F1",
    "slu_f1": "SLU-F1",
    "wer": "Word error rate",
    "cer": "Character error rate",
    "rejection_auroc": "Rejection AUROC",
    "ece": "Calibration error",
    "rtf": "Real-time factor",
}
_MORE = {
    "sem_er": "Errors in intents and slots, per one expected (SemER)",
    "irer": "Utterances with any error (IRER)",
    "icer": "Wrong intents (ICER)",
    "macro_intent_accuracy": "Intent accuracy, the mean over intents",
    "macro_intent_f1": "F1 of intents, the mean over intents",
    "label_f1": "F1 of slot names, whatever the values",
    "span_f1": "F1 of slots by their words' places",
    "concept_error_rate": "Concept error rate",
    "concept_value_error_rate": "Concept and value error rate",
    "exact_match": "Whole meanings exactly right",
    "tree_match": "Whole meanings right but for values",
    "brier": "Brier score of the confidence",
    "nll": "Negative log-likelihood of the confidence",
    "overconfidence": "Mean confidence less the share right",
    "aurc": "Area under the risk-coverage curve",
    "cost": "Cost of an utterance, as decided",
    "cost_accepting": "Cost of an utterance, had every guess been accepted",
    "false_accepts_per_hour": "False accepts per hour of other speech",
    "u_wer": "Errors in words that are not listed as mattering",
    "b_wer": "Errors in words that are",
    "cp_wer": "Word errors of several talkers, each with the stream that fits best (cpWER)",
    "orc_wer": "The same, each utterance with the stream that fits best (ORC-WER)",
    "tcp_wer": "The same, each talker's words at their times (tcpWER)",
}
_TIMES = {
    "first_partial_s": "first words on the screen",
    "final_s": "result after the endpoint",
    "speech_end_to_final_s": "result after the last word",
    "work_s": "work per clip",
    "first_words_s": "first words after speech begins",
    "intent_s": "the intent after speech ends",
    "result_s": "the result after speech ends",
}
_GROUPED = ("command_acceptance", "intent_accuracy", "slot_f1", "wer", "overconfidence")
_HEADLINE = ("command_acceptance", "intent_accuracy", "slot_f1", "wer", "rejection_auroc", "ece")


@dataclass(frozen=True)
class Section:
    """One condition: clean, a noise, held-out templates, real people; ``note`` says in a line what it is. ``listen``
    gives what was heard of an example, so that the page can play the worst mistakes; ``traces`` are those of ``Live``.
    """

    name: str
    pairs: Sequence[Pair]
    failures: Sequence[Failure] = ()
    note: str = ""
    listen: mistakes.Listen | None = None
    traces: Sequence[Trace] = ()


@dataclass(frozen=True)
class Report:
    """What goes on the page. ``bundle`` and ``training`` are facts in the order to show them (size, steps, seeds,
    ...).
    """

    title: str
    sections: Sequence[Section]
    bundle: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, str] = field(default_factory=dict)


def write_report(path: str | Path, report: Report) -> Path:
    """The page, whole or not at all."""
    return write_text(path, [render(report)])


def render(report: Report) -> str:
    """The page as text. A report without sections, or with empty ones, says that nothing was judged."""
    judged = [(section, evaluate(section.pairs)) for section in report.sections]
    parts = [f"<h1>{escape(report.title)}</h1>"]
    if judged:
        first, figures = judged[0]
        parts += [_lead(first), _tiles(figures), _conditions(judged), _look_into(first)]
        audible = sum(section.listen is not None for section in report.sections)
        clips = min(_CLIPS_OF_SECTION, _CLIPS // max(1, audible))
        for section in report.sections:
            parts += [_failures(section), mistakes.players(section.pairs, section.listen, clips)]
    else:
        parts.append("<p>Nothing was judged.</p>")
    parts += [_facts("Bundle", report.bundle), _facts("Training", report.training)]
    body = "\n".join(part for part in parts if part)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(report.title)}</title><style>{_STYLE}</style>'
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _lead(section: Section) -> str:
    return (
        f'<p class="lead">Headline condition: {escape(section.name)}, {len(section.pairs)} clips; '
        "brackets are 95% bootstrap intervals over clips.</p>"
    )


def _tiles(figures: Figures) -> str:
    tiles = []
    for key in _HEADLINE:
        estimate = _estimate(figures, key)
        if estimate is not None:
            interval = f"{estimate['low']:.3f} to {estimate['high']:.3f}"
            tiles.append(f"<div><b>{estimate['value']:.3f}</b><span>{_NAMES[key]}</span><i>[{interval}]</i></div>")
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "<p>No figure applies to this data.</p>"


def _conditions(judged: Sequence[tuple[Section, Figures]]) -> str:
    keys = [key for key in _NAMES if any(_estimate(figures, key) is not None for _, figures in judged)]
    rows = []
    for section, figures in judged:
        cells = [_number(_estimate(figures, key)) for key in keys]
        rows.append([section.name, str(len(section.pairs)), *cells])
    head = ["Condition", "Clips", *(_NAMES[key] for key in keys)]
    notes = {section.name: section.note for section, _ in judged if section.note}
    return "<h2>Conditions</h2>" + charts.table(head, rows, numeric=range(1, 2 + len(keys))) + _facts("", notes)


def _look_into(section: Section) -> str:
    parts, pairs = [], section.pairs
    judged = [pair for pair in pairs if pair[0].negative or pair[0].intent is not None]
    if judged:
        counts = Counter((_expected_intent(example), _understood_intent(result)) for example, result in judged)
        parts.append("<h2>Intents: expected and understood</h2>" + charts.confusion(counts))
    parts += [_worst_slots(pairs), '<div class="two">' + _confidence(pairs) + _latency(section) + "</div>"]
    parts += [_groups(pairs), _more(pairs)]
    return "\n".join(part for part in parts if part)


def _worst_slots(pairs: Sequence[Pair]) -> str:
    total: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = {}
    for example, result in pairs:
        got = metrics.understood(result)[1]
        for slot in example.slots or ():
            total[slot.name] += 1
            if (slot.name, slot.value) not in {(item.name, item.value) for item in got}:
                others = sorted(item.value for item in got if item.name == slot.name)
                heard = ", ".join(others) or ("rejected" if result.decision == "reject" else "nothing")
                wrong.setdefault(slot.name, Counter())[f"{slot.value} → {heard}"] += 1
    if not total:
        return ""
    rows = []
    for name in sorted(total, key=lambda key: (-wrong.get(key, Counter()).total() / total[key], key)):
        errors = wrong.get(name, Counter())
        commonest = "; ".join(f"{what} ({count})" for what, count in errors.most_common(5))
        right = total[name] - errors.total()
        rows.append([name, f"{right / total[name]:.3f}", f"{right} of {total[name]}", commonest])
    head = ["Slot", "Share right", "Right", "Commonest errors (said → understood)"]
    return "<h2>Slots, worst first</h2>" + charts.table(head, rows, numeric=(1, 2))


def _confidence(pairs: Sequence[Pair]) -> str:
    scores, right, _ = confidences(pairs)
    if not scores.size:
        return "<section><h2>Confidence</h2><p>Not calibrated, or nothing to compare with.</p></section>"
    bins = metrics.reliability(scores, right)
    honest = f"<section><h2>Is the confidence honest?</h2>{charts.reliability(bins)}</section>"
    judged = [pair for pair in pairs if pair[0].negative or pair[0].intent is not None]
    answers = [not mistakes.failed(*pair) for pair in judged if pair[1].decision != "reject"]
    now = (len(answers) / len(judged), answers.count(False) / len(answers)) if answers else None
    curve = charts.risk_coverage(metrics.risk_coverage(scores, right), now)
    said = f"<p>Now {now[0]:.0%} are answered and {now[1]:.1%} of the answers are wrong (the dot).</p>" if now else ""
    return f"{honest}<section><h2>How wrong are more answers?</h2>{curve}{said}</section>{_costs(pairs)}"


def _costs(pairs: Sequence[Pair]) -> str:
    costs = Costs()
    judged, made = judged_of(pairs), decided(pairs, costs)
    now = sum(result.decision != "reject" for _, result in judged) / len(judged), float(made.mean())
    said = (
        f"Now {now[1]:.3f} an utterance (the dot, questions included); had every guess been accepted "
        f"{float(accepted(pairs, costs).mean()):.3f}. The line answers what is surest and refuses the rest. "
        f"A wrong answer costs {costs.false_accept:g}, a right one refused {costs.false_reject:g}, a question "
        f"{costs.clarify:g}."
    )
    curve = charts.cost_coverage(cost_coverage(pairs, costs), now)
    return f"<section><h2>What does the threshold cost?</h2>{curve}<p>{said}</p></section>"


def _latency(section: Section) -> str:
    parts = []
    for name, values in latencies(section.pairs, section.traces).items():
        if values:
            spread = quantiles(values)
            summary = f"<p>Median {spread['p50'] * 1000:.0f} ms, 95% within {spread['p95'] * 1000:.0f} ms.</p>"
            chart = charts.histogram([value * 1000 for value in values], unit="ms", label=_TIMES[name])
            parts.append(f"<section><h2>Latency: {_TIMES[name]}</h2>{chart}{summary}</section>")
    return "".join(parts)


def _groups(pairs: Sequence[Pair]) -> str:
    parts = []
    for field_name, groups in slices(pairs).items():
        keys = [key for key in _GROUPED if any(_estimate(figures, key) is not None for figures in groups.values())]
        rows = [
            [name, str(figures["n"]), *(_number(_estimate(figures, key)) for key in keys)]
            for name, figures in groups.items()
        ]
        head = [field_name.capitalize(), "Clips", *((_NAMES | _MORE)[key] for key in keys)]
        parts.append(charts.table(head, rows, numeric=range(1, 2 + len(keys))))
    if not parts:
        return ""
    note = f"<p>Groups of fewer than {MINIMUM} clips are counted together, without figures.</p>"
    return "<h2>Is everyone understood?</h2>" + note + "".join(parts)


def _more(pairs: Sequence[Pair]) -> str:
    figures = more(pairs) | listened(pairs)
    rows = [[_MORE[key], _number(_estimate(figures, key))] for key in _MORE if _estimate(figures, key) is not None]
    if not rows:
        return ""
    return f"<details><summary>More figures</summary>{charts.table(['Figure', 'Value'], rows, numeric=(1,))}</details>"


def _failures(section: Section) -> str:
    rows = [mistakes.row(*pair) for pair in section.pairs if mistakes.failed(*pair)]
    parts = []
    if rows:
        more = f" (the first {_SHOWN})" if len(rows) > _SHOWN else ""
        parts.append(f"<summary>{len(rows)} of {len(section.pairs)} not as expected{more}</summary>")
        parts.append(charts.table(mistakes.HEAD, rows[:_SHOWN], numeric=(4,)))
    else:
        parts.append(f"<summary>All {len(section.pairs)} as expected</summary>")
    if section.failures:
        unread = [[Path(item.audio).name, item.message] for item in section.failures[:_SHOWN]]
        parts.append(f"<p>{len(section.failures)} could not be judged and are in no figure:</p>")
        parts.append(charts.table(["Recording", "Why"], unread))
    return f"<h2>Failures: {escape(section.name)}</h2><details>{''.join(parts)}</details>"


def _expected_intent(example: Example) -> str:
    return "(reject)" if example.negative else example.intent or "(unknown)"


def _understood_intent(result: Result) -> str:
    return metrics.understood(result)[0] or "(reject)"


def _estimate(figures: Figures, key: str) -> Estimate | None:
    value = figures.get(key)
    return None if isinstance(value, int) else value


def _number(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate['value']:.3f}\n[{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _facts(title: str, facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return (f"<h2>{title}</h2>" if title else "") + f"<dl>{rows}</dl>"


_STYLE = """
:root{--bg:#fff;--fg:#1d2125;--dim:#5b636b;--line:#d9dde1;--card:#f5f6f8;--hue:#2563a8;--bad:#b4472b}
@media(prefers-color-scheme:dark){:root{--bg:#15181b;--fg:#e6e8ea;--dim:#9aa3ab;--line:#343a40;--card:#1e2226;
--hue:#6aa9e9;--bad:#e58a6c}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1rem}h1{font-size:1.6rem;margin:.5rem 0}
h2{font-size:1.1rem;margin:2rem 0 .5rem}.lead,summary{color:var(--dim)}summary{cursor:pointer}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem}
.tiles div{background:var(--card);border-radius:.5rem;padding:.7rem .8rem;display:flex;flex-direction:column}
.tiles b{font-size:1.6rem;font-weight:600;line-height:1.2}.tiles i{font-style:normal;font-size:.8rem;color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{color:var(--dim);font-weight:500;vertical-align:bottom}.n{text-align:right;white-space:pre}
thead .n{white-space:normal}
td:first-child{min-width:7rem}table:not(.matrix) td:last-child:not(.n){min-width:14rem}
td,.tiles b{font-variant-numeric:tabular-nums}
.matrix td{text-align:center;min-width:2.2rem;border:1px solid var(--line)}.matrix th{white-space:nowrap}
.matrix .up{padding:.3rem;text-align:center}.up span{writing-mode:vertical-rl;transform:rotate(180deg)}
.right{background:color-mix(in srgb,var(--hue) var(--s),var(--bg))}
.wrong{background:color-mix(in srgb,var(--bad) var(--s),var(--bg))}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}svg{width:100%;height:auto}
svg text{fill:var(--dim);font-size:11px}.grid{stroke:var(--line)}.guide{stroke:var(--dim);stroke-dasharray:4 4}
.line{fill:none;stroke:var(--hue);stroke-width:2}.bar{fill:var(--hue)}.dot{fill:var(--hue);fill-opacity:.75;stroke:var(--bg)}
.clips{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:.8rem;padding:0;list-style:none}
.clips li{background:var(--card);border-radius:.5rem;padding:.7rem .8rem;font-size:.85rem;overflow-wrap:anywhere}
.clips p{margin:0 0 .3rem}.clips b{font-weight:500;color:var(--dim)}audio{width:100%;height:2.2rem}
mark{background:none;color:var(--bad);text-decoration:underline}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.9rem}dt{color:var(--dim)}
dd{margin:0;overflow-wrap:anywhere}
"""
