"""Speech that nobody wrote down, written down by a teacher who says how sure it is, and what that is worth.

    python benchmarks/pseudo.py [--weights tiny.en] [--whisper-python PY] [--clips 1500] [--steps 600]
        [--keep 1 0.75 0.5] [--out DIR]

Recordings of a corpus are taken as if they had no transcripts, and Whisper writes them down. How sure it is (the
geometric mean of its tokens' probabilities) becomes a probability that every word is right by a scale and an offset,
fitted on the corpus' validation part (`nlu/calibration.py`); of the labels the surest share is kept (Kahn et al. 2020).
`threshold` is the least probability of those; `precision` the share of them that are right to the word, `label_wer`
their word errors; `ece` is that of the probabilities over the recordings that train. Then students are trained by the
real loop with one seed and the same steps: their lower layers are those of `--init`, the upper `--fresh` and the heads
are new, noise in three of ten clips, so that a clean teacher has a noised student (Xie et al. 2020). `labelled` alone
hears the corpora of `--labelled`; the others hear these recordings besides, with the surest labels, with the `true`
ones, or, as a control, with those of `others` (each recording that of another one). `wer` is greedy CTC's on dev sets
of real people in the streaming context, and a ratio to `labelled`. The lower layers once learnt from the true labels,
so that only the order of rows says anything. Intervals are 95% bootstraps over recordings, of one training each. One
JSON line per figure. A folder given again goes on where it stopped, labels too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, corpora, emit, progress
from _others import Listener
from distil import NOISE
from encoders import Dev, Plan, dev_sets, going_on, renewed, rows, training_options
from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]
from lhotse.utils import fastcopy  # type: ignore[import-untyped]

from sayso.audio import decode
from sayso.core.errors import UsageError
from sayso.data import manifest
from sayso.data.corpora import read_corpus
from sayso.data.splits import cut_valid
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.metrics import ece, word_errors
from sayso.models.assembly import load_checkpoint
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
    """The labels of ``cuts``, a line each in ``out``, which is gone on with where it is there."""
    about = json.dumps({"weights": options.weights}) + "\n"
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    if not lines:
        out.write_text(about, encoding="utf-8")
    labels = [Label(**json.loads(line)) for line in lines[1:]]
    if [label.id for label in labels] != [cut.id for cut in cuts[: len(labels)]] or (
        lines and lines[0] + "\n" != about
    ):
        raise UsageError(f"{out}: labels of other recordings, or by another teacher; give another --out")
    if len(labels) == len(cuts):
        return labels  # nobody need be asked
    with (
        closing(Listener(options.whisper_python, options.weights)) as listener,
        out.open("a", encoding="utf-8") as file,
    ):
        for cut in cuts[len(labels) :]:
            text, confidence = listener(decode.read(manifest.audio_path(cut)))
            labels.append(Label(cut.id, normalise(text), confidence, normalise(cut.supervisions[0].text or "")))
            file.write(json.dumps(asdict(labels[-1])) + "\n")
            file.flush()
            progress(len(labels), len(cuts))
    return labels


def relabelled(cuts: Sequence[MonoCut], texts: dict[str, str], out: Path) -> str:
    """The manifest of those of ``cuts`` that have a text, with it for a transcript."""
    found = [
        fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text=texts[cut.id])])
        for cut in cuts
        if texts.get(cut.id)
    ]
    return str(manifest.write(CutSet.from_cuts(found), out))


def students(plan: Plan, dev: Dev, manifests: dict[str, str], options: argparse.Namespace) -> None:
    """Train and judge with every manifest, without any first."""
    layers = load_checkpoint(options.init)[0].config.encoder.layers - options.fresh
    lower = (
        "encoder.mean",
        "encoder.scale",
        "encoder.subsampling.",
        *(f"encoder.layers.{number}." for number in range(layers)),
    )
    start = renewed(options.init, options.out / "init", lower, options.seed)
    labelled = [{"corpus": name, "longest_s": options.longest_s} for name in options.labelled]

    def train(name: str) -> Path:
        more = [{"manifest": manifests[name]}] if name in manifests else []
        return replace(plan, data={"train": labelled + more}).train(name, {}, start)

    rows({name: partial(train, name) for name in (REFERENCE, *manifests)}, dev, BENCH)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write down, calibrate, train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base")
    parser.add_argument("--fresh", type=int, default=3, help="upper layers that begin anew")
    parser.add_argument("--labelled", nargs="+", default=["librispeech-tc5"])
    parser.add_argument("--weights", default="tiny.en", help="of the teacher: a folder in CTranslate2's form, or this")
    parser.add_argument("--whisper-python", default=sys.executable, help="a Python with faster_whisper")
    parser.add_argument("--keep", type=float, nargs="+", default=[1.0, 0.75, 0.5], help="shares of the labels")
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
    options.out.mkdir(parents=True, exist_ok=True)
    known = write_down(list(valid), options.out / "valid.jsonl", options)
    labels = write_down(unlabelled, options.out / "train.jsonl", options)
    scaling = fit_scaling([label.confidence for label in known], [label.right for label in known])
    sure = {label.id: scaling(label.confidence) for label in labels}
    emit(BENCH, "teacher", "ece", ece([sure[label.id] for label in labels], [label.right for label in labels]))
    manifests: dict[str, str] = {}
    surest = sorted(labels, key=lambda label: -sure[label.id])
    for share in options.keep:
        kept = surest[: max(1, round(share * len(surest)))]
        edits = [word_errors(label.truth, label.text) for label in kept]
        case = f"surest {share:g}"
        emit(BENCH, case, "threshold", sure[kept[-1].id])
        emit(BENCH, case, "precision", ratio([float(label.right) for label in kept], [1.0] * len(kept)))
        emit(BENCH, case, "label_wer", ratio([float(e.errors) for e in edits], [float(e.length) for e in edits]))
        texts = {label.id: label.text for label in kept}
        manifests[case] = relabelled(unlabelled, texts, options.out / f"{share:g}.jsonl.gz")
    order = np.random.default_rng(options.seed).permutation(len(labels))
    others = {label.id: labels[int(other)].text for label, other in zip(labels, order, strict=True)}
    manifests["others"] = relabelled(unlabelled, others, options.out / "others.jsonl.gz")
    manifests["true"] = relabelled(unlabelled, {x.id: x.truth for x in labels}, options.out / "true.jsonl.gz")
    students(plan, dev_sets(options), manifests, options)


if __name__ == "__main__":
    main()
