"""From search evidence to a probability that the command is right.

The grammar search and the network heads each give numbers that order hypotheses well and mean nothing as
probabilities. A logistic regression over a handful of them (Platt 1999) turns them into P(right and in the domain); it
is fitted by Newton steps with a Gaussian prior around the base model's weights, so that a domain with few or only
synthetic clips stays near what real speech taught the base. Token posteriors get one temperature (Guo et al. 2017,
arXiv:1706.04599), which changes confidence and never the order. Words of a sentence of the domain, and slots, are
right more often than their posteriors say: both get a scale and an offset. Thresholds follow from costs. What was never
fitted says so: it gives None.

Shape letters: ``N`` utterances or frames, ``V`` classes, ``K`` evidence features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.core.errors import DataError

Doubles = NDArray[np.float64]
FeatureName = Literal["margin", "gap", "head", "head_gap", "free", "length"]
FEATURES: tuple[FeatureName, ...] = get_args(FeatureName)

GAP_CAP = 2.0  # beyond this a rival is out of reach, and a single-sentence domain has no rival at all
_LOG_FLOOR = -20.0
_LEAST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the search and the heads say about one best hypothesis; log domain, natural log.

    ``margin``: best in-grammar minus best filler, per non-blank frame. ``gap``: best minus second distinct meaning,
    per non-blank frame (use ``GAP_CAP`` when there is no second). ``head``: log-probability that the network's intent
    head gives to the chosen intent, 0 without a head; ``head_gap``: that minus the head's best other intent. ``free``:
    edit similarity in [0, 1] between the text recognised without grammar and the graph's text. ``length``: log of the
    non-blank frames.
    """

    margin: float
    gap: float = GAP_CAP
    head: float = 0.0
    head_gap: float = 0.0
    free: float = 1.0
    length: float = 0.0

    def vector(self, offset: float = 0.0) -> Doubles:
        """(K,) in the order of ``FEATURES``; ``margin`` is taken from ``offset``, infinities are clipped, NaN is
        refused.
        """
        values = np.array(
            [
                np.clip(self.margin - offset, -10.0, 10.0),
                np.clip(self.gap, 0.0, GAP_CAP),
                np.clip(self.head, _LOG_FLOOR, 0.0),
                np.clip(self.head_gap, _LOG_FLOOR, -_LOG_FLOOR),
                np.clip(self.free, 0.0, 1.0),
                np.clip(self.length, 0.0, 20.0),
            ],
            dtype=np.float64,
        )
        if np.isnan(values).any():
            raise DataError(
                f"evidence holds NaN: {self}; the search that produced it is broken, it cannot be calibrated"
            )
        return values


class Scaling(Config):
    """A rising map of a confidence: sigmoid(``scale`` * logit(p) + ``offset``) (Platt 1999, on log odds). The default
    changes nothing."""

    scale: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)

    def __call__(self, confidence: float) -> float:
        """Never quite 0 or 1 where anything was fitted."""
        if self.scale == 1.0 and self.offset == 0.0:
            return confidence
        certainty = _sigmoid(self.scale * float(_log_odds(confidence)) + self.offset)
        return min(max(certainty, _LEAST), 1.0 - _LEAST)


class Calibration(Config):
    """Everything fitted after training. ``calibrated_on`` None means that confidences are not probabilities: they are
    None.

    ``temperature`` divides token log-probabilities before they are normalised again, ``phone_temperature`` those of
    phones. ``offset`` is the margin at which real speech outside any domain stops being likely (fitted on the base);
    ``margin`` is counted from it. ``weights`` and ``bias`` are the logistic regression in raw units;
    ``slot_temperature`` sharpens (< 1) or softens (> 1) slot confidences, and ``slots`` maps what comes of it.
    ``words`` is the map of words of the graph's sentence, ``free_words`` that of words heard without it. ``delay_s`` is
    how long after a word begins the network writes its first token: times are moved back by it.
    """

    kind: Literal["logistic"] = "logistic"
    temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    phone_temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    weights: dict[FeatureName, float] = Field(default_factory=dict)
    bias: float = Field(default=0.0, allow_inf_nan=False)
    slot_temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    slots: Scaling = Scaling()
    words: Scaling = Scaling()
    free_words: Scaling = Scaling()
    delay_s: float = Field(default=0.0, allow_inf_nan=False)
    calibrated_on: str | None = None

    def tempered(self, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Token log-probabilities (..., V) at the fitted temperature."""
        return tempered(log_probs, self.temperature)

    def confidence(self, evidence: Evidence, lift: float = 0.0) -> float | None:
        """P(right and in the domain), never quite 0 or 1 so that its logarithm exists; None when uncalibrated.

        ``lift`` (natural log of odds) is by how much more likely what was heard is at this moment than in the data of
        the calibration (Saerens et al. 2002).
        """
        if self.calibrated_on is None or not self.weights:
            return None
        weights = np.array([self.weights.get(name, 0.0) for name in FEATURES])
        certainty = _sigmoid(float(weights @ evidence.vector(self.offset)) + self.bias + lift)
        return min(max(certainty, _LEAST), 1.0 - _LEAST)

    def slot_confidence(self, token_log_probs: ArrayLike) -> float | None:
        """P(slot value right) from the log-probabilities of its tokens; None when uncalibrated or without tokens.

        The mean over tokens, not the sum, so that long values are not doubted for their length.
        """
        values = np.asarray(token_log_probs, dtype=np.float64)
        if self.calibrated_on is None or values.size == 0:
            return None
        return self.slots(float(np.exp(_mean_log(values) / self.slot_temperature)))

    def to_json(self) -> str:
        """For ``calibration.json`` of a bundle; ``from_json`` is its inverse."""
        return self.model_dump_json(indent=1)

    @staticmethod
    def from_json(text: str) -> Calibration:
        """Raises pydantic's ``ValidationError`` on unknown keys and illegal values."""
        return Calibration.model_validate_json(text)


def tempered(log_probs: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Log-probabilities (..., V) at a temperature, normalised again (Guo et al. 2017)."""
    if temperature == 1.0:
        return log_probs
    scaled = log_probs / np.float32(temperature)
    peak = scaled.max(-1, keepdims=True)
    normalised: NDArray[np.float32] = scaled - peak - np.log(np.exp(scaled - peak).sum(-1, keepdims=True))
    return normalised


def fit(
    evidence: Sequence[Evidence],
    correct: Sequence[bool],
    *,
    negatives: Sequence[Evidence] = (),
    calibrated_on: str,
    start: Calibration | None = None,
    l2: float = 1.0,
) -> Calibration:
    """Logistic regression of ``correct`` on ``evidence`` (and of False on ``negatives``: speech outside the domain).

    ``l2`` is the precision of the Gaussian prior on standardised weights, centred on ``start`` (the base's
    calibration) or on zero; the bias is free. Temperatures and offset are taken over from ``start``. Needs both
    outcomes; else ``DataError``.
    """
    if len(evidence) != len(correct):
        raise ValueError(f"{len(evidence)} pieces of evidence but {len(correct)} outcomes")
    base = start or Calibration()
    outcome = np.array([bool(value) for value in correct] + [False] * len(negatives), dtype=np.float64)
    if outcome.size == 0 or outcome.min() == outcome.max():
        raise DataError(
            f"calibration needs commands that were understood and some that were not; of {outcome.size} clips "
            f"{int(outcome.sum())} were right. Add harder clips (noise, other voices) or "
            "negatives (speech outside the domain)"
        )
    raw = np.stack([item.vector(base.offset) for item in (*evidence, *negatives)])
    mean, scale = raw.mean(0), raw.std(0)
    moving = scale > 1e-9  # a feature that never varies tells nothing and keeps the weight it came with
    scale = np.where(moving, scale, 1.0)
    prior = np.array([base.weights.get(name, 0.0) for name in FEATURES]) * scale
    solution, bias = _newton((raw - mean) / scale * moving, outcome, prior, l2)
    weights = solution / scale
    # A constant feature must not shift the answer at its fitted place, so the bias absorbs it together with the means.
    return base.model_copy(
        update={
            "weights": {name: float(weight) for name, weight in zip(FEATURES, weights, strict=True)},
            "bias": float(bias - weights @ mean),
            "calibrated_on": calibrated_on,
        }
    )


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature that minimises NLL of ``labels`` (N,) under softmax(``logits`` (N, V) / T); Guo et al. 2017,
    sec. 4.2.

    Log-probabilities do as well as logits. The loss is convex in 1/T; the answer is kept within [0.05, 20].
    """
    scores, targets = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or targets.shape != scores.shape[:1] or targets.size == 0:
        raise ValueError(f"expected logits (N, V) and labels (N,) with N > 0, got {scores.shape} and {targets.shape}")
    scores = np.maximum(scores - scores.max(1, keepdims=True), -1e4)  # -inf entries stay impossible, and differentiable
    chosen = scores[np.arange(targets.size), targets]

    def loss(log_t: float) -> float:
        scaled = scores * math.exp(-log_t)
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - chosen * math.exp(-log_t)))

    return math.exp(_golden(loss, math.log(0.05), math.log(20.0)))


def fit_slot_temperature(token_log_probs: Sequence[ArrayLike], correct: Sequence[bool]) -> float:
    """The ``slot_temperature`` that minimises NLL of ``correct``, one entry per slot; 1 without slots."""
    means = np.array([_mean_log(np.asarray(item, dtype=np.float64)) for item in token_log_probs])
    outcome = np.array(correct, dtype=np.float64)
    if means.shape != outcome.shape:
        raise ValueError(f"{means.size} slots but {outcome.size} outcomes")
    if means.size == 0:
        return 1.0

    def loss(log_t: float) -> float:
        probability = np.clip(np.exp(means * math.exp(-log_t)), 1e-12, 1.0 - 1e-12)
        return float(-np.mean(outcome * np.log(probability) + (1.0 - outcome) * np.log1p(-probability)))

    return math.exp(_golden(loss, math.log(0.05), math.log(20.0)))


def fit_scaling(confidence: ArrayLike, correct: ArrayLike, *, l2: float = 1.0) -> Scaling:
    """The ``Scaling`` that minimises NLL of ``correct`` (N,) given ``confidence`` (N,); the default where N is 0.

    ``l2`` is the precision of a Gaussian prior around a scale of one. Outcomes are smoothed as Platt's, so all right is
    no certainty. Where the surer ones are less often right, the scale is 0 and every confidence the share of right.
    """
    scores, hits = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if scores.ndim != 1 or scores.shape != hits.shape:
        raise ValueError(f"expected confidences and outcomes (N,), got {scores.shape} and {hits.shape}")
    if scores.size == 0:
        return Scaling()
    right, wrong = int(hits.sum()), int((~hits).sum())
    outcome = np.where(hits, (right + 1) / (right + 2), 1 / (wrong + 2))
    (scale,), offset = _newton(_log_odds(scores)[:, None], outcome, np.ones(1), l2)
    if scale < 0:
        return Scaling(scale=0.0, offset=float(_log_odds(outcome.mean())))
    return Scaling(scale=float(scale), offset=offset)


def fit_offset(negative_margins: Sequence[float], *, false_accept: float = 0.05) -> float:
    """The margin that only a share ``false_accept`` of real out-of-domain speech exceeds (the base knows no
    positives).
    """
    values = np.asarray(negative_margins, dtype=np.float64)
    if values.size == 0:
        raise DataError("the rejection offset needs real speech outside the domain; none was given")
    return float(np.quantile(values, 1.0 - false_accept))


class Costs(Config):
    """What mistakes cost, in any one unit: doing the wrong thing, refusing a right command, asking back."""

    kind: Literal["costs"] = "costs"
    false_accept: float = Field(default=5.0, ge=0.0)
    false_reject: float = Field(default=2.0, ge=0.0)
    clarify: float = Field(default=1.0, ge=0.0)

    def thresholds(self) -> Thresholds:
        """What a confidence that is a probability is best compared with (Chow 1970; Elkan 2001).

        Searching the held-out clips for the cheapest pair instead follows their accidents and costs more on others
        (benchmarks/LOG.md).
        """
        either = self.false_accept + self.false_reject
        equal = self.false_accept / either if either else 0.0  # where accepting costs as much as rejecting
        if self.clarify >= self.false_reject * equal:
            return Thresholds(accept=equal, reject=equal)  # asking is nowhere the cheapest
        return Thresholds(accept=1.0 - self.clarify / self.false_accept, reject=self.clarify / self.false_reject)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Accept at or above ``accept``, reject below ``reject``, ask in between."""

    accept: float
    reject: float


def _newton(x: Doubles, y: Doubles, prior: Doubles, l2: float) -> tuple[Doubles, float]:
    """Maximum a posteriori of logistic regression on (N, K); damped Newton steps on K + 1 parameters, bias last."""
    design = np.concatenate([x, np.ones((x.shape[0], 1))], 1)
    centre = np.append(prior, 0.0)
    penalty = np.append(np.full(prior.size, max(l2, 1e-9)), 1e-9)

    def objective(candidate: Doubles) -> float:
        z = design @ candidate
        loss = np.sum(np.logaddexp(0.0, z) - y * z)
        return float(loss + 0.5 * np.sum(penalty * (candidate - centre) ** 2))

    theta, value = centre.copy(), objective(centre)
    for _ in range(100):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -500.0, 500.0)))
        gradient = design.T @ (probability - y) + penalty * (theta - centre)
        curvature = (design.T * (probability * (1.0 - probability))) @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (following := objective(theta - size * step)) > value and size > 1e-10:
            size *= 0.5
        if following > value:
            break
        theta, gain, value = theta - size * step, value - following, following
        if gain < 1e-12 * max(1.0, abs(value)):
            break
    return theta[:-1], float(theta[-1])


def _golden(loss: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search of a unimodal function to 1e-6 of its argument."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    first, second = high - ratio * (high - low), low + ratio * (high - low)
    at_first, at_second = loss(first), loss(second)
    while high - low > 1e-6:
        if at_first <= at_second:
            high, second, at_second = second, first, at_first
            first = high - ratio * (high - low)
            at_first = loss(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + ratio * (high - low)
            at_second = loss(second)
    return (low + high) / 2.0


def _mean_log(values: Doubles) -> float:
    return float(np.clip(values, _LOG_FLOOR, 0.0).mean()) if values.size else _LOG_FLOOR


def _log_odds(confidence: ArrayLike) -> Doubles:
    """Natural log; 0 and 1 are moved inside by 1e-6."""
    inside = np.clip(np.asarray(confidence, dtype=np.float64), _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else math.exp(value) / (1.0 + math.exp(value))
