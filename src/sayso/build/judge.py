"""Held-out speech heard by a bundle: evidence that calibrates it, and results that the report is made of.

Held-out voices say known sentences, unknown wording and unknown slot values; the known ones again in noise and in
rooms; what is outside the domain comes from the same voices and from real people, and other real people are heard as
users (``guests.py``), clean and in noise. Every second sentence of each kind calibrates, the others are judged, so that
no figure is read off the clips that chose the thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.build import speech
from sayso.build.config import BuildConfig
from sayso.build.guests import lent, real_speech, sentence, spread, with_guests
from sayso.core.bundle import read_bundle
from sayso.core.errors import DataError
from sayso.core.result import Example, Result, Slot
from sayso.data import manifest
from sayso.data.augment import add_noise, coloured, convolve, load_noises, load_rooms, room_bank
from sayso.data.synthesis.engine import active
from sayso.evaluation.evaluate import evaluate
from sayso.evaluation.metrics import word_hits
from sayso.evaluation.report import Section
from sayso.export.bundle import amend_bundle
from sayso.nlu.calibration import Calibration, Scaling, fit, fit_scaling, fit_slot_temperature
from sayso.nlu.policy import PolicyConfig
from sayso.nlu.schema import Domain
from sayso.runtime.blocks import through
from sayso.runtime.choose import Outcome
from sayso.runtime.model import Model
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer
from sayso.training.progress import Meter, Say

Floats = NDArray[np.float32]
NOISE, ROOMS, REAL, REAL_NOISE = "noise", "rooms", "real", "real-noise"
_LENT = GUESTS, GUESTS_NOISE = "guests", "guests-noise"
_LEAST_CLIPS = 8  # fewer do not tell how late the network writes
TITLES = {
    speech.SEEN: ("Held-out voices", "Voices that training never hears, saying sentences of known wording."),
    speech.UNSEEN_TEMPLATES: ("Held-out templates", "Wording that training never hears."),
    speech.UNSEEN_VALUES: ("Held-out slot values", "Every slot value that can be is one that training never hears."),
    NOISE: ("In noise", "Held-out voices with recorded or coloured noise."),
    ROOMS: ("In rooms", "Held-out voices in simulated or measured rooms."),
    speech.NEGATIVE: ("Outside the domain, synthetic", "Must be rejected."),
    REAL: ("Outside the domain, real people", "Real speech of validation speakers; must be rejected."),
    REAL_NOISE: ("Outside the domain, real people in noise", "The same with recorded or coloured noise."),
    GUESTS: (
        "Real people, sentences lent to the grammar",
        "Validation speakers say what they say, and the grammar has it for once: how real users are heard, but for "
        "what training taught of the domain's words.",
    ),
    GUESTS_NOISE: ("Real people in noise, sentences lent", "The same with recorded or coloured noise."),
}
_SYNTHETIC = (speech.SEEN, speech.UNSEEN_TEMPLATES, speech.UNSEEN_VALUES, NOISE, ROOMS)


@dataclass(frozen=True)
class Clip:
    """Samples (n,) at 16 kHz and what they mean; ``judged`` is reported, the rest calibrates."""

    kind: str
    example: Example
    samples: Floats
    judged: bool


@dataclass(frozen=True)
class Heard:
    """A clip, and what a bundle made of it."""

    clip: Clip
    result: Result
    outcome: Outcome


def held_out(
    manifests: Mapping[str, Path],
    config: BuildConfig,
    seed: int,
    root: Path | None,
    inside: Callable[[str], bool],
    tokenizer: Tokenizer,
) -> list[Clip]:
    """All held-out clips. ``inside`` says whether the domain's grammar accepts a text: then it is no negative.
    ``tokenizer`` must be able to spell what guests lend."""
    clips: list[Clip] = []
    for kind in (speech.SEEN, speech.UNSEEN_TEMPLATES, speech.UNSEEN_VALUES, speech.NEGATIVE):
        if kind in manifests:
            for number, cut in enumerate(manifest.read(manifests[kind])):
                example = manifest.to_example(cut)
                clips.append(Clip(kind, example, decode.read(example.audio), number % 2 == 1))
    seen = [clip for clip in clips if clip.kind == speech.SEEN]
    clips += _noisy(seen[: config.noisy], NOISE, config, seed, root)
    clips += _in_rooms(seen[-config.rooms :], config, seed, root)
    return clips + _people(config, seed, inside, root, tokenizer)


def hear(model: Model, clips: Sequence[Clip], say: Say, what: str, domain: Domain) -> list[Heard]:
    """Let ``model`` of ``domain`` understand every clip, those of guests with their sentences in its grammar."""
    meter, heard = Meter(say, what), []
    borrowed = [clip.example.text or "" for clip in clips if clip.kind in _LENT]
    host = with_guests(model, domain, borrowed) if borrowed else model
    for number, clip in enumerate(clips):
        listener = host if clip.kind in _LENT else model
        result, outcome = listener.explain(clip.samples, 16000)
        heard.append(Heard(clip, result, outcome))
        meter(number + 1, len(clips))
    return heard


def weigh(
    bundle: Path, clips: Sequence[Clip], weights: Sequence[float], say: Say, domain: Domain
) -> tuple[list[Heard], dict[str, float]]:
    """Set the intent head's weight in ``bundle`` to what understands most commands of ``clips`` exactly.

    Returns what that weight made of all clips, and the share of commands that each weight got right. Guests, of whose
    sentences the head knows nothing, are heard afterwards and do not choose.
    """
    model, meter = Model(read_bundle(bundle)), Meter(say, "4/5 calibrating")
    heard: dict[float, list[Heard]] = {weight: [] for weight in weights}
    guests = [clip for clip in clips if clip.kind in _LENT]
    clips = [clip for clip in clips if clip.kind not in _LENT]
    for number, clip in enumerate(clips):
        stream = model.stream()
        through(stream, [clip.samples])
        for weight, found in heard.items():
            found.append(Heard(clip, *stream.weighed(weight)))
        meter(number + 1, len(clips))
    shares: dict[float, float] = {}
    for weight, found in heard.items():
        commands = [_right(item.clip.example, item.outcome) for item in found if not item.clip.example.negative]
        shares[weight] = sum(commands) / max(1, len(commands))
    best = max(weights, key=lambda weight: (shares[weight], -weight))
    amend_bundle(bundle, combine={"intent_weight": best})
    asked = hear(Model(read_bundle(bundle)), guests, say, "4/5 hearing real people", domain)
    return heard[best] + asked, {f"{weight:g}": round(share, 4) for weight, share in shares.items()}


def calibrate(
    heard: Sequence[Heard], base: Calibration, config: BuildConfig, say: Say
) -> tuple[Calibration, PolicyConfig]:
    """Confidence from the calibrating half and thresholds from the costs; the base's own where nothing can be fitted.

    Nothing can be fitted where all is right or all is wrong: then confidences stay null, which is said.
    """
    known = [item for item in heard if item.outcome.evidence is not None]
    # The heads learnt from synthesis what these clips hold too, and know no sentence of the real people here: trusted
    # most, they would tell people from synthesisers (benchmarks/LOG.md). What the search says is what counts.
    evidence = [replace(item.outcome.evidence, head=0.0, head_gap=0.0) for item in known if item.outcome.evidence]
    correct = [_right(item.clip.example, item.outcome) for item in known]
    kinds = Counter(TITLES[item.clip.kind][0].lower() for item in heard)
    what = "synthetic speech and negatives: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    policy = PolicyConfig(margin=base.offset)
    base = base.model_copy(update={"delay_s": base.delay_s + _delay(heard)})
    try:
        fitted = fit(evidence, correct, calibrated_on=what, start=base)
    except DataError as error:
        say(f"not calibrated, confidences stay null: {error}")
        return base, policy
    chosen = config.costs.thresholds()
    policy = policy.model_copy(update={"accept": round(chosen.accept, 4), "reject": round(chosen.reject, 4)})
    shown = [item for item in known if _sure(item, fitted) >= policy.reject]
    slots = [(log_probs, _slot_right(item.clip.example, slot)) for item in shown for log_probs, slot in _slots(item)]
    hits = [right for _, right in slots]
    if 0 < sum(hits) < len(hits):
        temperature = fit_slot_temperature([log_probs for log_probs, _ in slots], hits)
        fitted = fitted.model_copy(update={"slot_temperature": temperature})
        sure = [fitted.slot_confidence(log_probs) or 0.0 for log_probs, _ in slots]
        fitted = fitted.model_copy(update={"slots": fit_scaling(sure, hits)})
    return fitted.model_copy(update=_words(heard, fitted, policy)), policy


def _words(heard: Sequence[Heard], fitted: Calibration, policy: PolicyConfig) -> dict[str, Scaling]:
    """Scalings of words as results will show them: the guess's, and where it will be refused those without a graph."""
    rows: dict[str, list[tuple[float, bool]]] = {"words": [], "free_words": []}
    for item in heard:
        answered = _sure(item, fitted) >= policy.reject
        name, shown = ("words", item.outcome.words) if answered else ("free_words", item.outcome.free_words)
        if item.clip.example.text is not None:
            hits = word_hits(normalise(item.clip.example.text), [word.text for word in shown])
            rows[name] += [(word.confidence or 0.0, hit) for word, hit in zip(shown, hits, strict=True)]
    return {name: fit_scaling([share for share, _ in row], [hit for _, hit in row]) for name, row in rows.items()}


def _sure(item: Heard, fitted: Calibration) -> float:
    """The confidence that decides whether the guess is shown."""
    evidence = item.outcome.evidence
    return 0.0 if evidence is None else fitted.confidence(evidence) or 0.0


def _delay(heard: Sequence[Heard]) -> float:
    """The median time (s) from where clean synthetic speech begins to where its first word is said to begin; 0 where
    too few clips were read rightly to tell."""
    clean = [item for item in heard if item.clip.kind in (speech.SEEN, speech.UNSEEN_TEMPLATES, speech.UNSEEN_VALUES)]
    read = [item for item in clean if item.result.words and item.result.text == item.clip.example.text]
    found = [item.result.words[0].start - float(np.argmax(active(item.clip.samples))) / 100 for item in read]
    return round(float(np.median(found)), 3) if len(found) >= _LEAST_CLIPS else 0.0


def sections(heard: Sequence[Heard]) -> list[Section]:
    """For the report: everything synthetic first, then each kind, then commands against real people's talk."""
    pairs = {kind: [(item.clip.example, item.result) for item in heard if item.clip.kind == kind] for kind in TITLES}
    commands = [pair for kind in _SYNTHETIC for pair in pairs[kind]]
    note = "All synthetic conditions together: commands and sentences outside the domain."
    result = [Section("All synthetic", [*commands, *pairs[speech.NEGATIVE]], note=note)]
    for kind, (title, note) in TITLES.items():
        if pairs[kind]:
            sounds = {id(item.clip.example): item.clip.samples for item in heard if item.clip.kind == kind}
            result.append(Section(title, pairs[kind], note=note, listen=partial(_sound, sounds)))
    if pairs[REAL]:
        note = "Synthetic commands against real speech outside the domain: for rejection and calibration."
        result.append(Section("Commands and real speech", [*commands, *pairs[REAL]], note=note))
    return result


def _sound(sounds: Mapping[int, Floats], example: Example) -> tuple[Floats, int]:
    """An example may be spoken clean, in noise and in a room: ``sounds`` are those of one kind, by ``id``."""
    return sounds[id(example)], 16000


def figures(found: Sequence[Section]) -> dict[str, dict[str, float | int]]:
    """The values of each section without intervals, for the manifest."""
    table: dict[str, dict[str, float | int]] = {}
    for section in found:
        row = evaluate(section.pairs)
        values = {name: round(value["value"], 4) if isinstance(value, dict) else value for name, value in row.items()}
        table[section.name] = {name: value for name, value in values.items() if value is not None}
    return table


def _noisy(clips: Sequence[Clip], kind: str, config: BuildConfig, seed: int, root: Path | None) -> list[Clip]:
    noises = load_noises(root)
    result = []
    for number, clip in enumerate(clips):
        rng = np.random.default_rng((seed, 5, number))
        recorded = noises and rng.random() < 0.7
        noise = noises[int(rng.integers(len(noises)))] if recorded else coloured(len(clip.samples), rng)
        samples = add_noise(clip.samples, noise, float(rng.uniform(*config.snr_db)), rng)
        result.append(Clip(kind, clip.example, np.clip(samples, -1, 1), clip.judged))
    return result


def _in_rooms(clips: Sequence[Clip], config: BuildConfig, seed: int, root: Path | None) -> list[Clip]:
    if not config.rooms:
        return []
    rooms = [*load_rooms(root), *room_bank(8, seed + 1)]
    rng = np.random.default_rng((seed, 6))
    return [
        Clip(
            ROOMS,
            clip.example,
            np.clip(convolve(clip.samples, rooms[int(rng.integers(len(rooms)))]), -1, 1),
            clip.judged,
        )
        for clip in clips
    ]


def _people(
    config: BuildConfig, seed: int, inside: Callable[[str], bool], root: Path | None, tokenizer: Tokenizer
) -> list[Clip]:
    """Real speech of the validation parts: every second clip is of a stranger, the others are of guests."""
    rows = real_speech(config, inside, root)
    kinds: dict[str, list[Clip]] = {REAL: [], GUESTS: []}
    for example, samples in spread([row[::2] for row in rows], config.real_negatives):
        meant = example.model_copy(update={"negative": True, "intent": None, "slots": None})
        kinds[REAL].append(Clip(REAL, meant, samples, len(kinds[REAL]) % 2 == 1))
    able = [[e for e in row[1::2] if sentence(e, tokenizer) is not None] for row in rows]
    for example, samples in spread(able, config.real_commands):
        text = sentence(example, tokenizer) or ""
        meant = example.model_copy(update={"negative": False, "text": text, "intent": lent(text), "slots": ()})
        kinds[GUESTS].append(Clip(GUESTS, meant, samples, len(kinds[GUESTS]) % 2 == 1))
    noisy = _noisy(kinds[REAL], REAL_NOISE, config, seed + 1, root) + _noisy(
        kinds[GUESTS], GUESTS_NOISE, config, seed + 2, root
    )
    return [*kinds[REAL], *kinds[GUESTS], *noisy]


def _right(example: Example, outcome: Outcome) -> bool:
    wanted = Counter((slot.name, slot.value) for slot in example.slots or ())
    found = Counter((slot.name, slot.value) for slot in outcome.slots)
    return not example.negative and outcome.intent == example.intent and wanted == found


def _slots(item: Heard) -> list[tuple[tuple[float, ...], Slot]]:
    """Spoken slots come first in an outcome, each with its tokens' log-probabilities."""
    return [*zip(item.outcome.slot_log_probs, item.outcome.slots, strict=False)]


def _slot_right(example: Example, slot: Slot) -> bool:
    return any(slot.name == wanted.name and slot.value == wanted.value for wanted in example.slots or ())
