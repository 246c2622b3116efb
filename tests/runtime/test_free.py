"""The search of the free text is the bundle's choice: every one streams, and what it calls stable stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayso.audio.features import fbank
from sayso.core.errors import BundleError
from sayso.core.result import Result
from sayso.decoding.arpa import save_ngram
from sayso.decoding.decoders import CTC_DECODERS, TRANSDUCER_DECODERS
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.ngram import NGram
from sayso.runtime.engine import Chunk
from sayso.runtime.model import Model

KINDS = [*CTC_DECODERS, *TRANSDUCER_DECODERS]
BEAMS = [kind for kind in KINDS if "greedy" not in kind]


def searching(
    tones: Any, kind: str, *, domain: bool = False, lm: dict[str, Any] | None = None, **settings: Any
) -> Model:
    """A transcribing bundle with all graphs and this search."""
    free: dict[str, Any] = {"search": {"kind": kind, **settings}}
    files = {}
    if lm is not None:
        files["lm.npz"] = lm.pop("data")
        free["lm"] = {"file": "lm.npz", **lm}
    return tones.model(domain=domain, transducer=True, free=free, files=files)


def heard(tones: Any, seed: int) -> Any:
    """Clear words (seed 0), else chords: each could be one of three tokens, so that every search is in doubt."""
    if seed == 0:
        return tones.say("turn on the kitchen light")
    rng, time_s = np.random.default_rng(seed), np.arange(2400) / 16000
    parts = []
    for number in range(60):
        tokens = np.arange(2, 28) if number % 4 else np.array([4, 5, 11])  # of which these open a word
        chord = [tones.hz(token) for token in rng.choice(tokens, 3, replace=False)]
        levels = rng.uniform(0.06, 0.08, 3) * (rng.random() < 0.8)
        parts.append(sum(level * np.sin(2 * np.pi * hz * time_s) for hz, level in zip(chord, levels, strict=True)))
    return np.concatenate(parts).astype(np.float32)


def timeless(result: Result) -> dict[str, Any]:
    return result.model_dump(exclude={"timing"})


@pytest.mark.parametrize("domain", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packets_change_nothing_and_stable_text_stays(tones: Any, cut: Any, kind: str, domain: bool) -> None:
    model = searching(tones, kind, domain=domain)
    for seed in range(3):
        samples = heard(tones, seed)
        whole = model.understand(samples)
        assert len(whole.text.split()) > 4
        stream, stable = model.stream(), ""
        for packet in cut(samples, np.random.default_rng(seed)):
            partial = stream.accept(packet)
            assert partial.stable.startswith(stable), "stable text changed"
            assert partial.text.startswith(partial.stable)
            stable = partial.stable
        final = stream.finish()
        assert stable
        assert timeless(final) == timeless(whole)
        if not domain or final.decision != "reject":
            assert final.text.startswith(stable)
        if seed == 0:
            assert final.text == "turn on the kitchen light" and stable.startswith("turn")
            assert stable == "turn on the kitchen" or kind in BEAMS, "only a rival can keep a word from being stable"


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_hears_what_the_search_hears_of_the_whole(tones: Any, kind: str) -> None:
    model = searching(tones, kind)
    engine = model.engine
    for seed in range(3):
        samples = heard(tones, seed)
        features, state, frames = fbank(samples, engine.features), engine.start(), []
        for start in range(0, len(features), engine.chunk):
            (found,) = engine.step([state], [Chunk(features=features[start : start + engine.chunk])])
            frames.append(found.log_probs if kind in CTC_DECODERS else found.encoded)
        search = engine.free
        (nbest,) = search.finish(search.step(search.start(), np.concatenate(frames)))
        result = model.understand(samples)
        assert result.text == engine.tokenizer.decode(nbest[0].tokens)
        assert len(result.words) == len(result.text.split())


@pytest.mark.parametrize("kind", BEAMS)
def test_a_beam_of_one_reads_clear_speech(tones: Any, kind: str) -> None:
    result = searching(tones, kind, beam=1).understand(tones.say("turn on the kitchen light"))
    assert (result.decision, result.text) == ("accept", "turn on the kitchen light")


def test_modified_with_a_beam_of_one_is_greedy_with_one_symbol(tones: Any) -> None:
    first, second = searching(tones, "modified", beam=1), searching(tones, "greedy", max_symbols=1)
    for seed in range(6):
        samples = heard(tones, seed)
        assert timeless(first.understand(samples)) == timeless(second.understand(samples))


def language(tones: Any, unit: str, folder: Path) -> tuple[NGram, bytes]:
    """Knows "turn on", not "turn in"."""
    texts = ["turn on the light", "turn on", "turn off the light"]
    sentences = [text.split() for text in texts]
    if unit == "pieces":
        pieces = tones.tokenizer.pieces
        sentences = [[pieces[token] for token in tones.tokenizer.encode(text)] for text in texts]
    model = estimate(sentences, 3)
    save_ngram(model, folder / "lm.npz")
    return model, (folder / "lm.npz").read_bytes()


@pytest.mark.parametrize("unit", ["words", "pieces"])
@pytest.mark.parametrize("kind", BEAMS)
def test_a_language_model_votes(tones: Any, tmp_path: Path, kind: str, unit: str) -> None:
    ngram, data = language(tones, unit, tmp_path)
    model = searching(tones, kind, lm={"data": data, "unit": unit, "weight": 0.5})
    stream = model.stream()
    stream.accept(tones.say("turn on"))
    assert stream.finish().text == "turn on"
    (nbest,) = model.engine.free.finish(stream._free)
    said = ["turn", "on"] if unit == "words" else [tones.tokenizer.pieces[token] for token in nbest[0].tokens]
    assert nbest[0].scores["lm"] == pytest.approx(0.5 * ngram.score(said))


@pytest.mark.parametrize("unit", ["words", "pieces"])
def test_a_language_model_decides_what_the_sound_leaves_open(tones: Any, tmp_path: Path, unit: str) -> None:
    clear, other = tones.say("turn in"), tones.say("turn on")
    samples = 0.55 * clear + 0.45 * other
    assert searching(tones, "ctc_beam").understand(samples).text == "turn in"
    _, data = language(tones, unit, tmp_path)
    lm = {"data": data, "unit": unit, "weight": 2.0, "unknown": -5.0}
    model = searching(tones, "ctc_beam", lm=lm, beam=8)
    assert model.understand(samples).text == "turn on"
    assert model.understand(tones.say("turn off the light")).text == "turn off the light"


def test_bundles_older_than_the_choice_are_greedy(tones: Any) -> None:
    assert tones.model().engine.free_config.search.kind == "ctc_greedy"
    assert tones.model(transducer=True).engine.free_config.search.kind == "greedy"


@pytest.mark.parametrize(
    ("free", "what"),
    [
        (
            {"search": {"kind": "beam"}},
            "free: 'search': .*'ctc_greedy', 'ctc_beam', 'greedy', 'tsd', 'alsd', 'modified'",
        ),
        *(
            ({"search": {"kind": kind, "beam": 0}}, f"'search.{kind}.beam': .* greater than or equal to 1 .found 0")
            for kind in BEAMS
        ),
        ({"search": {"kind": "tsd", "beem": 2}}, "did you mean 'beam'"),
        (
            {"search": {"kind": "alsd"}},
            "'alsd' needs the graphs 'predictor' and 'joiner'.*choose ctc_greedy or ctc_beam",
        ),
        ({"lm": {"file": "lm.npz"}}, "'lm' cannot change .* 'ctc_greedy' says; choose ctc_beam, tsd, alsd, modified"),
        ({"search": {"kind": "ctc_beam"}, "lm": {"file": "a.npz"}}, "'a.npz' is not in this bundle"),
        ({"search": {"kind": "ctc_beam"}, "lm": {"file": "ctc.onnx"}}, "ctc.onnx: not a packed language model"),
        ({"search": {"kind": "ctc_beam"}, "lm": {"file": "a", "unit": "word"}}, "lm.unit.*'words' or 'pieces'"),
    ],
)
def test_a_choice_that_is_none_is_named(tones: Any, free: dict[str, Any], what: str) -> None:
    with pytest.raises(BundleError, match=what):
        tones.model(free=free)


def test_the_nbest_of_the_free_text_is_there_for_a_cascade(tones: Any) -> None:
    beam = {"search": {"kind": "ctc_beam", "beam": 8, "nbest": 4}}
    model = tones.model(free=beam)
    for text in ("call anna", "coffee"):
        result, outcome = model.explain(tones.say(text))
        texts, scores = zip(*outcome.texts, strict=True)
        assert texts[0] == text and len(set(texts)) == len(texts) > 1
        assert list(scores) == sorted(scores, reverse=True)
        assert result.text == text
    greedy = tones.model().explain(tones.say("call bob"))[1]
    assert [text for text, _ in greedy.texts] == ["call bob"]


def test_a_network_without_its_graph_is_named(tones: Any) -> None:
    free = {"search": {"kind": "ctc_beam"}, "network": {"file": "language.onnx"}}
    with pytest.raises(BundleError, match="needs the graph 'language'"):
        tones.model(free=free)
