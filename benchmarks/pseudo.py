"""Speech that nobody wrote down, written down by a teacher who says how sure it is, and what that is worth.

    python benchmarks/pseudo.py [--weights tiny.en] [--whisper-python PY] [--clips 1500] [--steps 600]
        [--thresholds 0 0.5 0.8] [--out DIR]

Recordings of a corpus are taken as if they had no transcripts, and Whisper writes them down. How sure it is (the mean
probability of its tokens) becomes a probability that every word is right by a scale and an offset, fitted on the
corpus' validation part (`nlu/calibration.py`); a threshold decides which labels are kept (Kahn et al. 2020).
`precision` is the share of the kept that are right to the word, `label_wer` their word errors, `kept` their share;
`ece` of that probability over the recordings that train. Then students are trained by the real loop with one seed and
the same steps: their lower layers are those of `--init`, the upper `--fresh` and the heads are new, noise in three of
ten clips, so that a clean teacher has a noised student (Xie et al. 2020). `labelled` alone hears the corpora of
`--labelled`; the others hear these recordings besides, with the labels above a threshold, with the `true` ones, or,
as a control, with those of `others` (each recording that of another one). `wer` is greedy CTC's on dev sets of real
people in the streaming context, and a ratio to `labelled`. The lower layers once learnt from the true labels, so that
only the order of rows says anything. Intervals are 95% bootstraps over recordings, of one training each. One JSON
line per figure. A folder given again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lines import ROOT, corpora, emit, progress
from _others import Listener
from distil import NOISE
from encoders import Dev, Plan, compare, dev_sets, going_on, judge, taken, training_options
from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]
from lhotse.utils import fastcopy  # type: ignore[import-untyped]

from sayso.audio import decode
from sayso.core.files import write_text
from sayso.data import manifest
from sayso.data.corpora import read_corpus
from sayso.data.splits import cut_valid
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import ece, word_errors
from sayso.models.assembly import load_checkpoint, save_checkpoint
from sayso.nlu.calibration import fit_scaling
from sayso.text.normalise import normalise

BENCH, REFERENCE = "pseudo", "labelled"


@dataclass(frozen=True)
class Label:
    """What the teacher wrote, how sure it was, and what was said."""

    id: str
    text: str
    confidence: float
    truth: str

    @property
    def right(self) -> bool:
        """To the word."""
        return self.text == self.truth


def write_down(cuts: Sequence[MonoCut], out: Path, options: argparse.Namespace) -> list[Label]:
    """The labels of ``cuts``, a line each in ``out``, which is read where it is there."""
    if not out.exists():
        listener, lines = Listener(options.whisper_python, options.weights), []
        for number, cut in enumerate(cuts, 1):
            text, confidence = listener(decode.read(manifest.audio_path(cut)))
            label = Label(cut.id, normalise(text), confidence, normalise(cut.supervisions[0].text or ""))
            lines.append(json.dumps(asdict(label)) + "\n")
            progress(number, len(cuts))
        listener.close()
        write_text(out, lines)
    return [Label(**json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines()]


def relabelled(cuts: Sequence[MonoCut], texts: dict[str, str], out: Path) -> str:
    """The manifest of those of ``cuts`` that have a text, with it for a transcript."""
    found = [
        fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text=texts[cut.id])])
        for cut in cuts
        if texts.get(cut.id)
    ]
    return str(manifest.write(CutSet.from_cuts(found), out))


def begun(init: Path, fresh: int, folder: Path, seed: int) -> Path:
    """The checkpoint with the upper layers and all heads of tokens and phones new."""
    trained, tokenizer = load_checkpoint(init)
    torch.manual_seed(seed)
    model = trained.config.build()
    upper = tuple(
        f"encoder.layers.{n}." for n in range(len(trained.encoder.layers) - fresh, len(trained.encoder.layers))
    )
    kept = {k: v for k, v in trained.state_dict().items() if k.startswith("encoder.") and not k.startswith(upper)}
    model.load_state_dict(kept, strict=False)
    save_checkpoint(model, tokenizer, folder)
    return folder


def students(plan: Plan, dev: Dev, manifests: dict[str, str], options: argparse.Namespace) -> None:
    """Train and judge with every manifest, without any first."""
    start = begun(options.init, options.fresh, options.out / "init", options.seed)
    labelled = [{"corpus": name, "longest_s": options.longest_s} for name in options.labelled]
    its: Any = None
    for name, file in {REFERENCE: None, **manifests}.items():
        more = [{"manifest": file}] if file else []
        run = replace(plan, data={"train": labelled + more}).train(name, {}, start)
        emit(BENCH, name, "steps", float(taken(run)[0]))
        found = judge(run, dev)
        compare(name, REFERENCE, "wer", found, its, BENCH)
        its = its or found


def main(arguments: Sequence[str] | None = None) -> None:
    """Write down, calibrate, train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base")
    parser.add_argument("--fresh", type=int, default=3, help="upper layers that begin anew")
    parser.add_argument("--labelled", nargs="+", default=["librispeech-tc5"])
    parser.add_argument("--weights", default="tiny.en", help="of the teacher: a folder in CTranslate2's form, or this")
    parser.add_argument("--whisper-python", default=sys.executable, help="a Python with faster_whisper")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.0, 0.5, 0.8])
    training_options(parser, limit=100)
    parser.set_defaults(steps=600, corpus=["commonvoice-v1"], longest_s=8.0, clips=1500)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-pseudo"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    plan = going_on(options)
    plan.training["spec"] |= NOISE
    name = options.corpus[0]
    train, valid = cut_valid(cut for cut in read_corpus(name, root=corpora()) if cut.duration < options.longest_s)
    unlabelled = list(islice(train, options.clips))
    known = write_down(list(valid), options.out / "valid.jsonl", options)
    labels = write_down(unlabelled, options.out / "train.jsonl", options)
    scaling = fit_scaling([label.confidence for label in known], [label.right for label in known])
    sure = {label.id: scaling(label.confidence) for label in labels}
    emit(BENCH, "teacher", "ece", ece([sure[label.id] for label in labels], [label.right for label in labels]))
    manifests: dict[str, str] = {}
    for threshold in options.thresholds:
        kept = [label for label in labels if sure[label.id] >= threshold]
        edits = [word_errors(label.truth, label.text) for label in kept]
        case = f"threshold {threshold:g}"
        emit(BENCH, case, "kept", len(kept) / len(labels))
        emit(BENCH, case, "precision", ratio([float(label.right) for label in kept], [1.0] * len(kept)))
        emit(BENCH, case, "label_wer", ratio([float(e.errors) for e in edits], [float(e.length) for e in edits]))
        texts = {label.id: label.text for label in kept}
        manifests[case] = relabelled(unlabelled, texts, options.out / f"{threshold:g}.jsonl.gz")
    order = np.random.default_rng(options.seed).permutation(len(labels))
    others = {label.id: labels[int(other)].text for label, other in zip(labels, order, strict=True)}
    manifests["others"] = relabelled(unlabelled, others, options.out / "others.jsonl.gz")
    manifests["true"] = relabelled(unlabelled, {x.id: x.truth for x in labels}, options.out / "true.jsonl.gz")
    students(plan, dev_sets(options), manifests, options)


if __name__ == "__main__":
    main()
