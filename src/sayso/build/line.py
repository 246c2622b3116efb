"""The whole line on one page: a domain file in, a streaming bundle and an honest report out, no recordings needed.

Check and compile the domain; sample sentences and speak them; adapt the base checkpoint with fresh understanding heads,
real speech replayed beside the synthetic; calibrate on voices that training never hears; export, prove, report. All
work happens in a folder under ``runs/build``, named by everything that shapes the result: a killed build goes on where
it stopped, and the bundle appears at the very end, whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.build import judge, speech
from sayso.build.config import BuildConfig, Replay
from sayso.build.negatives import EVERYDAY
from sayso.build.phrases import open_phrases
from sayso.core.automaton import Automaton
from sayso.core.bundle import check_target, copy_bundle, read_bundle
from sayso.core.errors import BundleError, ConfigError, DataError, SynthesisError
from sayso.core.files import write_text
from sayso.core.manifest import IntentSpec, Manifest
from sayso.data import manifest
from sayso.data.augment import load_noises, load_rooms
from sayso.data.corpora import corpora_root, read_corpus
from sayso.data.splits import cut_valid
from sayso.decoding.arpa import save_ngram
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.open_slots import OpenSlotConfig
from sayso.decoding.open_words import OpenWordsConfig
from sayso.evaluation.report import Report, Section, write_report
from sayso.export.bundle import OPEN, WORDS, ExportConfig, amend_bundle, export_bundle, quantise_bundle
from sayso.export.verify import verify_bundle
from sayso.models.assembly import ModelConfig, load_checkpoint
from sayso.nlu.automaton_io import match
from sayso.nlu.calibration import Calibration
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import Domain, load_domain
from sayso.nlu.sample import open_templates
from sayso.runtime.model import Model
from sayso.text.lexicon import PAUSES, Lexicon
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer
from sayso.training.labels import head_config
from sayso.training.progress import Meter, Say, to_stderr
from sayso.training.recipe import DataConfig, Recipe, Source
from sayso.training.run import METRICS, read_sources, run

Floats = NDArray[np.float32]
# a sound says less than a piece: what is behind now may be ahead in a few frames
# in noise many positions are as good as the right one (benchmarks/LOG.md)
_SOUNDS: dict[str, Any] = {
    "kind": "graph",
    "beam": 20.0,
    "max_active": 1600,
    "blank_penalty": 2.0,
    "commit_beam": 14.0,
    "pauses": PAUSES,
}
BASE, CALIBRATION = Path("models/base"), "calibration.json"


@dataclass(frozen=True)
class Job:
    """What a build works on: settled before anything slow begins."""

    domain: Domain
    automaton: Automaton
    tokenizer: Tokenizer
    phones: bool  # whether the base has a head for them
    base: Path
    minutes: float
    seed: int
    config: BuildConfig
    work: Path
    root: Path | None
    say: Say


def build(
    domain: Path,
    out: Path,
    *,
    minutes: float = 20,
    base: Path | None = None,
    seed: int = 0,
    say: Say | None = None,
    config: BuildConfig | None = None,
) -> Path:
    """Build the bundle ``out`` for ``domain`` and return the path of its report, ``out`` + ``.html``.

    ``minutes`` bound the training; 0 uses the base as it is, the grammar alone understands. Ctrl-C during training
    keeps the weights so far. Raises ``DomainError``, ``ConfigError`` without a base checkpoint, ``SynthesisError`` when
    there is training to do and no voice to train with.
    """
    _check_place(Path(out))
    job = _prepare(Path(domain), minutes, base, seed, config or BuildConfig(), say or to_stderr)
    manifests = _speak(job)
    checkpoint = _train(job, manifests) if minutes > 0 else job.base
    clips = judge.held_out(manifests, job.config, seed, job.root, _inside(job), job.tokenizer) if manifests else []
    finished, heard = _export(job, manifests, checkpoint, clips)
    return _publish(job, finished, judge.sections(heard), checkpoint, Path(out))


def _check_place(out: Path) -> None:
    """Said now rather than after an hour: the bundle must be writable where it is wanted."""
    check_target(out)
    report = _report(out)
    if report.is_dir():
        raise BundleError(f"{report}: a folder stands where the report goes; choose another name for the bundle")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise BundleError(f"{out}: cannot be written ({reason}); choose another place for the bundle") from None
    if not os.access(out.parent, os.W_OK):
        raise BundleError(f"{out}: {out.parent} is not writable; choose another place for the bundle")


def _prepare(path: Path, minutes: float, base: Path | None, seed: int, config: BuildConfig, say: Say) -> Job:
    domain = load_domain(path)
    folder = base or next(
        (place for place in (BASE, Path(__file__).parents[3] / BASE) if (place / "model.json").is_file()), None
    )
    if folder is None:
        raise ConfigError(
            f"no base checkpoint at {BASE}; run in a checkout that has one, give --base PATH, or train one with "
            "the recipes under recipes/base"
        )
    model, tokenizer = load_checkpoint(folder)
    pronounced = model.phones is not None and config.pronounce
    if pronounced and not domain.language.lower().startswith("en"):
        raise ConfigError(
            f"{path}: language '{domain.language}': the lexicon is English. Another language needs a base of its own "
            "(--base) and pronounce=false"
        )
    automaton = compile_domain(domain, tokenizer, Lexicon.load() if pronounced else None)
    for source in config.recordings:
        _check_recordings(domain, source)
    _base_calibration(folder)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    settings = config.model_dump(mode="json", exclude={"processes": True, "work": True, "training": {"threads"}})
    key = [domain.fingerprint, weights, minutes, seed, settings]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
    work = Path(config.work) / f"{domain.name}-{name}"
    work.mkdir(parents=True, exist_ok=True)
    try:
        root: Path | None = corpora_root()
    except DataError:
        root = None
        say("no corpora (SAYSO_CORPORA): training without real speech, rejection is judged on synthetic speech alone")
    say(
        f"domain {domain.name}: {len(domain.intents)} intents, {len(domain.slots)} slots, {len(domain.templates)} "
        f"templates; working in {work}"
    )
    return Job(domain, automaton, tokenizer, model.phones is not None, folder, minutes, seed, config, work, root, say)


def _check_recordings(domain: Domain, source: Source) -> None:
    """Said before anything is spoken: a label that the domain lacks would be trained as no label at all."""
    for cut in manifest.read(source.manifest) if source.manifest is not None else ():
        example = manifest.to_example(cut)
        named = [(example.intent, list(domain.intents)), *((s.name, list(domain.slots)) for s in example.slots or ())]
        for name, legal in named:
            if name is not None and name not in legal:
                raise DataError(
                    f"{source.manifest}: cut {cut.id}: the domain {domain.name} has no '{name}'; it has "
                    f"{', '.join(legal)}: correct the recording's labels or the domain"
                )


def _speak(job: Job) -> dict[str, Path]:
    """Manifests of synthetic speech by kind; none where there is no voice and none is needed."""
    strange = speech.outside(job.domain, job.automaton, job.tokenizer)
    talk = _talk(job) if job.minutes > 0 else []
    script = speech.write_script(job.domain, strange, talk, job.minutes, job.config, job.seed)
    job.say("1/5 speaking " + ", ".join(f"{len(found)} {kind}" for kind, found in script.spoken.items()))
    try:
        return speech.speak(script, job.work / "speech", job.domain, job.config, job.seed, job.say)
    except SynthesisError as error:
        if job.minutes > 0:
            raise
        job.say(f"neither quantised nor calibrated, because nothing can be spoken: {error}")
        return {}


def _replayed(job: Job) -> list[Replay]:
    """The corpora that are here."""
    return [replay for replay in job.config.replay if job.root is not None and (job.root / replay.corpus).is_dir()]


def _talk(job: Job) -> list[str]:
    """Transcripts of training speakers, for synthetic voices to say what is outside the domain."""
    parts = [cut_valid(read_corpus(replay.corpus, root=job.root))[0] for replay in _replayed(job)]
    return speech.everyday_talk(parts, job.config.train_talk, job.seed, _inside(job))


def _train(job: Job, manifests: dict[str, Path]) -> Path:
    """The checkpoint of the adapted model."""
    c = job.config
    sources = [
        Source(manifest=str(manifests[kind].resolve()), copies=c.copies, augment=c.augment)
        for kind in (speech.TRAIN, speech.TRAIN_NEGATIVE)
        if kind in manifests
    ]
    sources.append(Source(manifest=str(manifests[speech.SEEN].resolve()), split="valid"))
    sources += [Source(**replay.model_dump(), augment=c.augment) for replay in _replayed(job)]
    sources += c.recordings
    training = c.training.model_copy(update={"minutes": job.minutes, "seed": job.seed})
    if not job.phones:
        training = training.model_copy(update={"weights": training.weights.model_copy(update={"phone_ctc": 0.0})})
    recipe = Recipe(
        name=job.domain.name,
        init=str(job.base.resolve()),
        model=ModelConfig(heads=head_config(list(job.domain.intents), list(job.domain.slots))),
        data=DataConfig(train=tuple(sources), cache=str(Path(c.work) / "features"), processes=c.processes),
        training=training,
    )
    job.say(f"2/5 training, at most {job.minutes:g} minutes; Ctrl-C stops here and keeps what was learnt")
    return run(recipe, job.work / "run", job.say) / "model"


def _open_slots(job: Job) -> OpenSlotConfig | OpenWordsConfig | None:
    """A model of the phrases that open slots hold in training; held-out words are not in it. A pronounced grammar takes
    how often they hold which word, and the lexicon brings all others."""
    if not open_templates(job.domain):
        return None
    if not job.config.phrases:
        return OpenSlotConfig() if job.automaton.lexicon else None
    found = open_phrases(job.config.phrases, job.seed, (*EVERYDAY, *(_talk(job) if job.minutes > 0 else ())))
    if job.automaton.lexicon:
        counts = Counter(word for text in found for word in normalise(text).split())
        priors = {word: math.log(count / counts.total()) for word, count in sorted(counts.items())}
        write_text(job.work / WORDS, [json.dumps(priors)])
        return OpenWordsConfig(file=str(job.work / WORDS))
    pieces = job.tokenizer.pieces
    model = estimate(([pieces[token] for token in job.tokenizer.encode(text)] for text in found), 4, pieces[1:])
    save_ngram(model, job.work / OPEN)
    return OpenSlotConfig(file=str(job.work / OPEN))


def _export(
    job: Job, manifests: dict[str, Path], checkpoint: Path, clips: list[judge.Clip]
) -> tuple[Path, list[judge.Heard]]:
    """The finished bundle in the work folder, and what it made of the judged half of ``clips``."""
    model, tokenizer = load_checkpoint(checkpoint)
    scales = _scales(job, manifests)
    start = _base_calibration(job.base)
    encoder = model.config.encoder
    config = ExportConfig(
        name=job.domain.name,
        description=f"Understands the domain '{job.domain.name}': {', '.join(job.domain.intents)}.",
        chunk_frames=encoder.chunk_frames,
        left_frames=encoder.left_frames,
        int8=False,
        intents=tuple(
            IntentSpec(name=name, risk=spec.risk, clarify=spec.clarify) for name, spec in job.domain.intents.items()
        ),
        source=None if job.domain.path is None else str(job.domain.path),
        calibration=start,
        open_slots=_open_slots(job),
        policy={"kind": "thresholds", "margin": start.offset},
        search=_SOUNDS if job.automaton.lexicon else {},
        trained=_facts(job, manifests, checkpoint),
    )
    exact, finished = job.work / "fp32.bundle", job.work / "finished.bundle"
    job.say("3/5 exporting")
    draft = export_bundle(model, tokenizer, job.automaton, exact, config, clips=scales[:4])
    if scales:
        quantise_bundle(exact, finished, scales)
    else:
        copy_bundle(read_bundle(exact), finished)
    if clips:
        half = [clip for clip in clips if not clip.judged]
        weights = job.config.intent_weights if model.intent is not None else (0.0,)
        heard, shares = judge.weigh(finished, half, sorted(weights), job.say, job.domain)
        calibration, policy = judge.calibrate(heard, start, job.config, job.say)
        job.say(f"calibrated on {len(heard)} clips: accept from {policy.accept:.2f}, reject below {policy.reject:.2f}")
        combine = read_bundle(finished).manifest.combine
        for path in (exact, finished):
            amend_bundle(path, calibration=calibration, policy=policy.model_dump(mode="json"), combine=combine)
        amend_bundle(finished, figures={"right_by_intent_weight": shares})
    judged = [clip for clip in clips if clip.judged]
    checks = [clip.samples for clip in judged[:: max(1, len(judged) // max(1, job.config.checks))]]
    error = draft.figures["verification"]["torch_onnx_error"]
    checks, twin = checks[: job.config.checks], exact if scales else None
    proof = verify_bundle(finished, checks, fp32=twin, error=error, progress=Meter(job.say, "4/5 verifying"))
    if not proof.passed:
        job.say(f"warning: not everywhere do int8, streams and batches agree: {proof.figures()}")
    amend_bundle(finished, figures={"verification": proof.figures()})
    return finished, judge.hear(Model(read_bundle(finished)), judged, job.say, "5/5 judging", job.domain)


def _publish(job: Job, finished: Path, sections: list[Section], checkpoint: Path, out: Path) -> Path:
    """The report first, the bundle last: where the bundle is, all of it is."""
    found = judge.figures([section for section in sections if section.pairs])
    written = amend_bundle(finished, figures={"held_out": found})
    report = _report(out)
    content = Report(
        title=f"{job.domain.name}: what this bundle understands",
        sections=[section for section in sections if section.pairs],
        bundle=_about(written, finished),
        training={key.replace("_", " "): str(value) for key, value in written.trained.items()},
    )
    write_report(report, content)
    amend_bundle(finished, out=out)
    for name in ("All synthetic", *(["Commands and real speech"] if "Commands and real speech" in found else [])):
        if name in found:
            job.say(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in found[name].items()))
    job.say(f"done; {job.work} holds speech and training state and may be deleted")
    return report


def _report(out: Path) -> Path:
    return out.with_name(out.name + ".html")


def _about(written: Manifest, folder: Path) -> dict[str, str]:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    proof = written.figures.get("verification", {})
    return {
        "size": f"{size / 2**20:.1f} MB",
        "arithmetic": written.precision,
        "chunk": f"{written.chunk_ms} ms, {written.left_context_ms} ms of history",
        "intents": ", ".join(spec.name for spec in written.intents),
        "always asked back": ", ".join(spec.name for spec in written.intents if spec.risk == "confirm") or "none",
        "thresholds": ", ".join(f"{key} {value}" for key, value in written.policy.items() if key != "kind"),
        "commands right by weight of the intent head (calibrating half)": ", ".join(
            f"{weight}: {share:.3f}" for weight, share in written.figures.get("right_by_intent_weight", {}).items()
        )
        or "not measured",
        "calibrated on": str((written.calibrated_on or {}).get("data", "nothing: confidences are null")),
        "proof": ", ".join(f"{key} {value}" for key, value in proof.items()) or "none",
    }


def _facts(job: Job, manifests: dict[str, Path], checkpoint: Path) -> dict[str, object]:
    """What went into the bundle, for its manifest."""
    facts: dict[str, object] = {
        "base": hashlib.sha256((job.base / "model.safetensors").read_bytes()).hexdigest()[:16],
        "minutes": job.minutes,
        "seed": job.seed,
        "domain": job.domain.fingerprint[:16],
    }
    if job.minutes <= 0:
        return facts | {"method": "no training: the base as it is, and the grammar graph"}
    rows = [json.loads(line) for line in (checkpoint.parent / METRICS).read_text().splitlines()]
    state = json.loads((checkpoint.parent / "state" / "state.json").read_text())
    facts |= {"steps": state["step"], "seconds": round(state["seconds"])}
    facts |= read_sources(checkpoint.parent)
    facts |= {f"last_{key}": row[key] for row in rows for key in ("total", "valid_wer") if key in row}
    facts["synthetic_clips"] = len(manifest.read(manifests[speech.TRAIN]))
    return facts | {"real_speech": ", ".join(replay.corpus for replay in _replayed(job)) or "none"}


def _scales(job: Job, manifests: dict[str, Path]) -> list[Floats]:
    """Training clips that fix the int8 scales, every second one augmented: levels, noises and rooms set the range."""
    if speech.TRAIN not in manifests:
        return []
    cuts = list(manifest.read(manifests[speech.TRAIN]))
    chosen = cuts[:: max(1, len(cuts) // job.config.quantise)][: job.config.quantise]
    # ranges are set by levels, noises and rooms; babble needs named speakers, which replayed speech may lack
    augment = job.config.augment.model_copy(update={"babble": 0.0})
    augmenter = augment.build(load_noises(job.root), load_rooms(job.root))
    clips = []
    for number, cut in enumerate(chosen):
        samples = decode.read(manifest.audio_path(cut))
        clips.append(augmenter.apply(samples, np.random.default_rng((job.seed, 7, number))) if number % 2 else samples)
    return clips


def _base_calibration(base: Path) -> Calibration:
    """The base's temperature and offset, fitted on real speech; none where the checkpoint brings none."""
    file = base / CALIBRATION
    if not file.is_file():
        return Calibration()
    try:
        return Calibration.from_json(file.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{file}: not a calibration of this version ({error}); delete it or train the base again"
        ) from None


def _inside(job: Job) -> Callable[[str], bool]:
    """Whether the domain's grammar accepts a text."""
    return lambda text: bool(match(job.automaton, job.tokenizer, text))
