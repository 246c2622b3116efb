"""What a grammar hears by its sounds and by its spellings: real people's sentences among many, one network, two heads.

    python benchmarks/pronounced.py --model models/base [--clips 90] [--sentences 1000] [--snr-db 0]

A grammar holds ``--sentences`` transcripts of the training corpora, those of the ``valid`` clips among them. Each
clip is searched in it, compiled in word pieces (``spelled``) and with the lexicon (``pronounced``): ``right`` is the
share of clips whose sentence comes out, ``known`` and ``strange`` the same of sentences without and with a word that
the training transcripts hold less than three times. ``control`` has the lexicon's pronunciations dealt out to other
words of the same number of phones; ``--snr-db`` is how loud a coloured noise is mixed in, drawn for each clip;
``ms_per_s`` is the processor time of the search for a second of speech. The same clips for all, so that
``pronounced`` is a ratio to ``spelled``; intervals are 95% bootstraps over clips. Nothing of ``dev`` is read.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from _lines import emit, progress

from sayso.audio.decode import read
from sayso.audio.features import fbank
from sayso.core.automaton import Automaton
from sayso.data.augment import add_noise, coloured
from sayso.data.corpora import TRAINING, read_corpus
from sayso.data.manifest import audio_path
from sayso.data.splits import cut_valid
from sayso.decoding.graph import GraphSearch
from sayso.evaluation.bootstrap import ratio
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.models.streaming import Context
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import parse_domain
from sayso.text.lexicon import Lexicon
from sayso.text.normalise import normalise
from sayso.text.tokenizer import UNKNOWN, Tokenizer

BENCH, RARE, LONGEST_S = "pronounced", 3, 8.0


def grammar(sentences: list[str], tokenizer: Tokenizer, lexicon: Lexicon | None) -> Automaton:
    """One intent whose only slot is a whole sentence."""
    listed = "".join(f'\n    - "{text}"' for text in sentences)
    text = f'intents:\n  say: {{data: [{{sentences: ["{{sentence}}"]}}]}}\nlists:\n  sentence:\n    values:{listed}\n'
    return compile_domain(parse_domain(text), tokenizer, lexicon)


class Dealt(Lexicon):
    """The negative control: every word is pronounced as another of as many phones."""

    def __init__(self, lexicon: Lexicon, words: list[str]) -> None:
        self._known, self.sha256 = {}, "dealt"
        rng = np.random.default_rng(0)
        by_length: dict[int, list[str]] = {}
        for word in words:
            by_length.setdefault(len(lexicon.pronounce(word)[0]), []).append(word)
        for group in by_length.values():
            for word, place in zip(group, rng.permutation(len(group)), strict=True):
                self._known[word] = lexicon.pronounce(group[int(place)])

    def pronounce(self, word: str, most: int = 4) -> tuple[tuple[int, ...], ...]:
        """As ``Lexicon.pronounce``."""
        return self._known[word][:most]


def material(tokenizer: Tokenizer, clips: int, count: int) -> tuple[list[tuple[Path, str]], list[str], Counter[str]]:
    """Recordings with their sentences, the grammar's sentences, and how often training transcripts say each word."""
    spoken: list[list[tuple[Path, str]]] = []
    others: list[str] = []
    said: Counter[str] = Counter()
    for name in TRAINING:
        train, valid = cut_valid(read_corpus(name))
        texts = [normalise(cut.supervisions[0].text or "") for cut in train]
        said.update(word for text in texts for word in text.split())
        others += [text for text in texts if 3 <= len(text.split()) <= 20]
        found = [
            (audio_path(cut), normalise(cut.supervisions[0].text or "")) for cut in valid if cut.duration < LONGEST_S
        ]
        spoken.append([(path, text) for path, text in found if len(text.split()) >= 3])
    chosen = [pair for pairs in spoken for pair in pairs[:: max(1, len(pairs) // (clips // len(spoken)))]][:clips]
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys([text for _, text in chosen] + [others[i] for i in rng.permutation(len(others))]))
    return chosen, [text for text in texts if UNKNOWN not in tokenizer.encode(text)][:count], said


@torch.no_grad()
def judge(
    model: SpeechModel, snr_db: float, clips: list[tuple[Path, str]], searches: dict[str, GraphSearch]
) -> dict[str, list[tuple[bool, float, float]]]:
    """Per variant and clip: whether the sentence is right, seconds of search, seconds of speech."""
    assert model.phones is not None
    context = Context(model.config.encoder.chunk_frames, model.config.encoder.left_frames)
    rows: dict[str, list[tuple[bool, float, float]]] = {name: [] for name in searches}
    for number, (path, text) in enumerate(clips, 1):
        rng, samples = np.random.default_rng(number), read(path)
        features = torch.from_numpy(fbank(add_noise(samples, coloured(len(samples), rng), snr_db, rng)))
        encoded, _ = model.encoder(features[None], torch.tensor([len(features)]), context)
        heard = {"spelled": model.ctc(encoded)[0].numpy()}
        for name, search in searches.items():
            began = time.process_time()
            state = search.step(search.start(), heard.get(name, model.phones(encoded)[0].numpy()))
            best = search.nbest(state, 1)
            spent = time.process_time() - began
            rows[name].append((bool(best) and best[0].slots[0].value == text, spent, len(features) / 100))
        progress(number, len(clips))
    return rows


def main() -> None:
    """Parse, search, print a line for every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--clips", type=int, default=90)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--snr-db", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_checkpoint(options.model)
    if model.phones is None:
        parser.error(f"{options.model} has no head for phones; train one with model.phones = true")
    clips, sentences, said = material(tokenizer, options.clips, options.sentences)
    lexicon = Lexicon.load()
    dealt = Dealt(lexicon, sorted({word for text in sentences for word in text.split()}))
    variants = {"spelled": None, "pronounced": lexicon, "control": dealt}
    searches = {name: GraphSearch(grammar(sentences, tokenizer, how)) for name, how in variants.items()}
    rows = judge(model, options.snr_db, clips, searches)
    rare = [any(said[word] < RARE for word in text.split()) for _, text in clips]
    for name, found in rows.items():
        right = np.array([row[0] for row in found], float)
        emit(BENCH, name, "right", ratio(right, np.ones(len(right))))
        for kind, wanted in (("known", False), ("strange", True)):
            part = right[np.array(rare) == wanted]
            emit(BENCH, name, kind, ratio(part, np.ones(len(part))))
        emit(BENCH, name, "ms_per_s", 1000 * sum(row[1] for row in found) / sum(row[2] for row in found))
    pronounced, spelled = ([float(row[0]) for row in rows[name]] for name in ("pronounced", "spelled"))
    emit(BENCH, "pronounced", "right", ratio(pronounced, spelled), "spelled")


if __name__ == "__main__":
    main()
