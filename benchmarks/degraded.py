"""What spoils hearing, and how much a checkpoint minds: recordings of real people, spoilt one thing at a time.

    python benchmarks/degraded.py --model models/base [--beside OTHER] [--limit 100] [--valid]

Recordings of ``commonvoice-v1`` dev (``--valid``: of the validation parts, for choosing augmentation by) are heard as
they are, with coloured noise, the corpora's dishes (which train), other talkers, in simulated rooms, through narrow
bands, codecs and too loud a line, slower and faster, and with a vocal tract of another length; all by
``data/augment.py``, seeded, the same sound for all models. ``wer`` is greedy CTC's in the checkpoint's own stream; as a
ratio to the same recordings unspoilt (``clean``), and with ``--beside`` to another checkpoint, which had less or other
augmentation. Intervals are 95% bootstraps over recordings. Nothing is tuned on dev. One JSON line per figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, corpora, emit, progress
from _wer import SETS, Floats, ctc_errors, recordings, valid_recordings

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.data import augment
from sayso.evaluation.bootstrap import ratio
from sayso.models.assembly import load_checkpoint

BENCH = "degraded"
Spoil = Callable[[Floats, np.random.Generator], Floats]


def spoils(talkers: list[Floats]) -> dict[str, Spoil]:
    """What is done to a recording, by name; ``talkers`` are other people."""
    dishes = decode.read(corpora() / "noise" / "doing_the_dishes.flac")
    small, large = (augment.simulate_rooms(8, np.random.default_rng(5), (t, t + 0.1)) for t in (0.3, 0.6))

    def noisy(snr_db: float) -> Spoil:
        return lambda x, rng: augment.add_noise(x, augment.coloured(len(x), rng), snr_db, rng)

    def kitchen(snr_db: float) -> Spoil:
        return lambda x, rng: augment.add_noise(x, dishes, snr_db, rng)

    def crowd(snr_db: float) -> Spoil:
        def spoil(x: Floats, rng: np.random.Generator) -> Floats:
            some = [talkers[i] for i in rng.choice(len(talkers), augment.LEAST_TALKERS, replace=False)]
            return augment.add_noise(x, augment.babble(some, len(x), rng), snr_db, rng)

        return spoil

    def roomy(rooms: list[Floats]) -> Spoil:
        return lambda x, rng: augment.convolve(x, rooms[int(rng.integers(len(rooms)))])

    return {
        "clean": lambda x, rng: x,
        **{f"coloured noise {db} dB": noisy(db) for db in (15, 5)},
        **{f"dishes {db} dB": kitchen(db) for db in (15, 5)},
        **{f"babble {db} dB": crowd(db) for db in (15, 5)},
        "room, RT60 0.3 to 0.4 s": roomy(small),
        "room, RT60 0.6 to 0.7 s": roomy(large),
        "300 to 3400 Hz": lambda x, rng: augment.band(x, 300, 3400),
        "GSM": lambda x, rng: augment.codec(x, "gsm"),
        "Opus": lambda x, rng: augment.codec(x, "opus"),
        "20 dB too loud, clipped": lambda x, rng: augment.clip(augment.level(x, 20)),
        "20 dB softer": lambda x, rng: augment.level(x, -20),
        "0.8 of the speed": lambda x, rng: augment.speed(x, 0.8),
        "1.25 of the speed": lambda x, rng: augment.speed(x, 1.25),
        "vocal tract 0.85": lambda x, rng: augment.warp(x, 0.85),
        "vocal tract 1.15": lambda x, rng: augment.warp(x, 1.15),
    }


def main() -> None:
    """Spoil, hear and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--beside", type=Path, help="another, on the same sounds")
    parser.add_argument("--limit", type=int, default=100, help="recordings")
    parser.add_argument("--valid", action="store_true", help="of the validation parts, not of dev")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = valid_recordings(options.limit) if options.valid else recordings(SETS[0], options.limit, options.seed)
    if not found:
        return
    models = {"": load_checkpoint(options.model)}
    if options.beside is not None:
        models["beside"] = load_checkpoint(options.beside)
    unspoilt: dict[str, list[int]] = {}
    table = spoils([samples for _, samples in found])
    for number, (name, spoil) in enumerate(table.items()):
        sounds = [spoil(x, np.random.default_rng((options.seed, i))) for i, (_, x) in enumerate(found)]
        errors: dict[str, list[int]] = {}
        words: list[int] = []
        for which, (model, tokenizer) in models.items():
            features = [fbank(x, FeatureConfig(mels=model.config.encoder.mels)) for x in sounds]
            edits = ctc_errors(model, tokenizer, ([text for text, _ in found], features), model.encoder.default_context)
            errors[which], words = [e.errors for e in edits], [e.length for e in edits]
            unspoilt.setdefault(which, errors[which])
            case = "/".join((name, *([which] if which else [])))
            emit(BENCH, case, "wer", ratio(errors[which], words))
            emit(BENCH, case, "wer", ratio(errors[which], unspoilt[which]), "clean")
        if "beside" in errors:
            emit(BENCH, name, "wer", ratio(errors[""], errors["beside"]), "beside")
        progress(number + 1, len(table))


if __name__ == "__main__":
    main()
