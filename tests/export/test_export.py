"""A bundle is its model: numbers, decisions, packets, neighbours."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle, write_bundle
from sayso.core.errors import BundleError, DataError
from sayso.decoding.arpa import save_ngram, write_arpa
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.decoders import CTC_DECODERS, TRANSDUCER_DECODERS
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.transducer_beam import TsdConfig
from sayso.export.bundle import amend_bundle, export_bundle, quantise_bundle
from sayso.export.onnx import Exported
from sayso.export.quantise import chunks, constant_products
from sayso.export.verify import TOLERANCE, Verification, verify_bundle, verify_graphs
from sayso.models.growth import quicken
from sayso.models.streaming import Context
from sayso.nlu.calibration import Calibration
from sayso.runtime.graphs import Graph, split, stack
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig, LanguageModelConfig

CHUNK, LEFT = 4, 8


@pytest.fixture(scope="session")
def graphs(fp32: Path) -> dict[Any, Exported]:
    bundle = read_bundle(fp32)
    return {role: Exported(data=bundle.file(spec.file), spec=spec) for role, spec in bundle.manifest.graphs.items()}


@pytest.fixture(scope="session")
def int8(fp32: Path, parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "small.zip"
    quantise_bundle(fp32, out, parts.clips)
    return out


def run_clip(graph: Graph, features: Any) -> Any:
    state, outs = graph.start(), []
    for x, length in chunks(features, 8 * CHUNK):
        out, state = graph.run({"x": x, "lengths": np.array([length])}, state)
        outs.append(out["out"][0, : out["out_lengths"][0]])
    return np.concatenate(outs)


class TestGraphs:
    def test_equal_torch_streaming(self, parts: Any, graphs: Any) -> None:
        features = [fbank(clip) for clip in parts.clips]
        assert any(len(clip) % 32 for clip in features), "no clip ends in a short chunk"
        assert verify_graphs(parts.model, graphs, features, CHUNK, LEFT) <= TOLERANCE / 10

    def test_equal_the_whole_recording(self, parts: Any, graphs: Any) -> None:
        graph = Graph(graphs["encoder"].data, graphs["encoder"].spec, where="t")
        for clip in parts.clips[:3]:
            features = fbank(clip)
            with torch.no_grad():
                whole, frames = parts.model.encoder(
                    torch.from_numpy(features)[None], torch.tensor([len(features)]), Context(CHUNK, LEFT)
                )
            np.testing.assert_allclose(run_clip(graph, features), whole[0, : frames[0]].numpy(), atol=1e-4)

    @pytest.mark.parametrize("role", ["encoder", "ctc", "predictor", "joiner", "intent", "slots"])
    def test_a_difference_is_found_in_every_graph(self, parts: Any, graphs: Any, role: str) -> None:
        other = copy.deepcopy(parts.model)
        part = {"encoder": other.encoder.layers[1].norm}.get(role) or getattr(other, role)
        with torch.no_grad():
            list(part.parameters())[-1].add_(
                1.0 if role == "encoder" else torch.randn(list(part.parameters())[-1].shape)
            )
        with pytest.raises(BundleError, match="differ from the model"):
            verify_graphs(other, graphs, [fbank(parts.clips[0])], CHUNK, LEFT)

    def test_streams_of_different_age_share_a_batch(self, parts: Any, graphs: Any) -> None:
        graph = Graph(graphs["encoder"].data, graphs["encoder"].spec, where="t")
        feeds = [list(chunks(fbank(clip), 32))[:n] for clip, n in zip(parts.clips, (1, 2, 4), strict=False)]
        states, expected = [], []
        for feed in feeds:
            state = graph.start()
            for x, length in feed[:-1]:
                state = graph.run({"x": x, "lengths": np.array([length])}, state)[1]
            states.append(state)
            expected.append(graph.run({"x": feed[-1][0], "lengths": np.array([feed[-1][1]])}, state))
        x = np.concatenate([feed[-1][0] for feed in feeds])
        out, following = graph.run({"x": x, "lengths": np.array([f[-1][1] for f in feeds])}, stack(states))
        for row, state in enumerate(split(following, 3)):
            np.testing.assert_allclose(out["out"][row], expected[row][0]["out"][0], atol=1e-5)
            for name, value in state.items():
                np.testing.assert_allclose(value, expected[row][1][name], atol=1e-5)

    def test_nothing_of_the_machine_is_inside(self, graphs: Any) -> None:
        for exported in graphs.values():
            for trace in (b".py", b"site-packages", str(Path.cwd()).encode(), b"stack_trace"):
                assert trace not in exported.data

    def test_the_intent_pool_does_not_begin_with_zeros(self, graphs: Any) -> None:
        initial = {pair.input: pair.initial for pair in graphs["intent"].spec.states}
        assert initial == {"total": 0.0, "mass": 0.0, "peak": -1e4}


class TestInt8:
    def test_only_products_with_weights_change(self, graphs: Any, int8: Path) -> None:
        before = onnx.load_from_string(graphs["encoder"].data)
        after = onnx.load_from_string(read_bundle(int8).file("encoder.onnx"))
        names = constant_products(before)
        assert len(names) == 2 * 10 + 1  # per layer 4 feed-forward, 4 attention, 2 convolution; and the stem
        added = Counter(node.op_type for node in after.graph.node) - Counter(node.op_type for node in before.graph.node)
        assert set(added) == {"QuantizeLinear", "DequantizeLinear"}
        made = {out: node for node in after.graph.node for out in node.output}
        weights = {item.name: numpy_helper.to_array(item) for item in after.graph.initializer}
        for node in after.graph.node:
            if node.op_type == "MatMul" and node.name in names:
                value, weight = (made[name] for name in node.input)
                assert value.op_type == weight.op_type == "DequantizeLinear"
                stored, scale = weights[weight.input[0]], weights[weight.input[1]]
                assert stored.dtype == np.int8 and np.abs(stored).max() <= 64, "seven bits"
                assert scale.shape == (stored.shape[1],), "one scale per output channel"
                assert weights[value.input[1]].shape == (), "a fixed scale for the activation"
            elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                assert not any(name in made and made[name].op_type == "DequantizeLinear" for name in node.input)
        for name, value in weights.items():
            assert value.dtype != np.int8 or "quantized" in name or "zero_point" in name

    def test_stays_close(self, parts: Any, graphs: Any, int8: Path) -> None:
        bundle = read_bundle(int8)
        spec = bundle.manifest.graphs["encoder"]
        exact = Graph(graphs["encoder"].data, spec, where="t")
        rounded = Graph(bundle.file(spec.file), spec, where="t")
        for clip in parts.clips:
            a, b = run_clip(exact, fbank(clip)), run_clip(rounded, fbank(clip))
            error = np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2))
            assert 1e-5 < error < 0.05

    def test_does_not_depend_on_batch_mates(self, parts: Any, int8: Path) -> None:
        bundle = read_bundle(int8)
        spec = bundle.manifest.graphs["encoder"]
        graph = Graph(bundle.file(spec.file), spec, where="t")
        alone, state = [], graph.start()
        beside, both = [], stack([graph.start(), graph.start()])
        loud = np.full((1, 32, 80), 1000.0, np.float32)
        for x, length in chunks(fbank(parts.clips[0]), 32):
            out, state = graph.run({"x": x, "lengths": np.array([length])}, state)
            alone.append(out["out"])
            out, both = graph.run({"x": np.concatenate([x, loud]), "lengths": np.array([length, 32])}, both)
            beside.append(out["out"][:1])
        np.testing.assert_allclose(np.concatenate(beside), np.concatenate(alone), atol=1e-4)

    @pytest.mark.slow
    def test_quantising_a_bundle_is_exporting_in_int8(self, parts: Any, int8: Path, tmp_path: Path) -> None:
        direct = export_bundle(
            parts.model,
            parts.tokenizer,
            parts.automaton,
            tmp_path / "d",
            parts.config(),
            clips=parts.clips,
            checks=parts.clips[:2],
        )
        assert direct.precision == "int8"
        assert direct.files["encoder.onnx"] == read_bundle(int8).manifest.files["encoder.onnx"]
        assert direct.figures["verification"]["int8_agreement"] is not None
        with pytest.raises(BundleError, match="int8 already"):
            quantise_bundle(int8, tmp_path / "e", parts.clips)

    def test_needs_clips(self, parts: Any, fp32: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="training clips"):
            quantise_bundle(fp32, tmp_path / "b", [])
        assert not (tmp_path / "b").exists()


class TestVerification:
    def test_was_written_down(self, fp32: Path) -> None:
        found = read_bundle(fp32).manifest.figures["verification"]
        assert found["passed"] and found["clips"] == 3 and found["torch_onnx_error"] <= TOLERANCE
        assert found["streamed_agreement"] == found["batched_agreement"] == 1.0 and found["int8_agreement"] is None

    def test_transcripts_agree_or_not(self, parts: Any, fp32: Path, tmp_path: Path) -> None:
        """Texts of an untrained model change with the slightest error: what is left equal here is equal."""
        exact, rough = tmp_path / "exact", tmp_path / "rough"
        bundle = read_bundle(fp32)
        files = {name: bundle.file(name) for name in bundle.manifest.files}
        write_bundle(bundle.manifest.model_copy(update={"automaton": ()}), files, exact)
        joiner = onnx.load_from_string(files["joiner.onnx"])
        for weight in joiner.graph.initializer:
            value = numpy_helper.to_array(weight)
            if value.dtype == np.float32 and value.ndim == 2:
                weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value[::-1]), weight.name))
        files["joiner.onnx"] = joiner.SerializeToString()
        write_bundle(bundle.manifest.model_copy(update={"automaton": ()}), files, rough)
        texts = [Model(read_bundle(exact)).understand(clip).text for clip in parts.clips]
        assert len(set(texts)) == len(texts) and all(texts)  # no two clips sound alike to it
        same = verify_bundle(exact, parts.clips, fp32=exact)
        assert (same.int8_agreement, same.streamed_agreement, same.batched_agreement) == (1.0, 1.0, 1.0) and same.passed
        wrong = verify_bundle(rough, parts.clips, fp32=exact)
        assert wrong.int8_agreement is not None and wrong.int8_agreement < 0.5 and not wrong.passed

    def test_each_part_can_fail(self) -> None:
        good = {
            "torch_onnx_error": 1e-5,
            "clips": 9,
            "int8_agreement": 0.99,
            "streamed_agreement": 1.0,
            "batched_agreement": 1.0,
        }
        assert Verification(**good).passed  # type: ignore[arg-type]
        for change in (
            {"torch_onnx_error": 1e-3},
            {"int8_agreement": 0.98},
            {"streamed_agreement": 0.9},
            {"batched_agreement": 0.9},
        ):
            assert not Verification(**(good | change)).passed  # type: ignore[arg-type]


def noises(count: int, seed: int) -> list[Any]:
    """Swelling tones in noise."""
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(8000, 24000, count)]
    tones = [np.sin(np.cumsum(rng.uniform(0.05, 1.5, size // 1600 + 1).repeat(1600)[:size])) for size in sizes]
    return [(0.3 * tone + 0.05 * rng.normal(size=len(tone))).astype(np.float32) for tone in tones]


class TestBundle:
    def test_says_what_it_is(self, fp32: Path, parts: Any) -> None:
        manifest = read_bundle(fp32).manifest
        assert (manifest.chunk_ms, manifest.left_context_ms, manifest.lookahead_ms) == (320, 640, 240)
        assert [spec.name for spec in manifest.intents] == ["lock", "turn_on"], "the order of the head's classes"
        assert [spec.risk for spec in manifest.intents] == ["confirm", "none"]
        assert manifest.tags == ("O", "B-area", "I-area") and manifest.calibrated_on is None
        assert [(p.name, p.when) for p in manifest.passes] == [
            ("first", "chunk"),
            ("whole", "endpoint"),
            ("choose", "endpoint"),
        ]
        card = read_bundle(fp32).file("README.md").decode()
        for part in ("# small", "`lock`", "Not calibrated", "torch_onnx_error", "Apache-2.0"):
            assert part in card

    def test_two_rows_a_frame_say_the_same_at_the_same_times(self, parts: Any, tmp_path: Path) -> None:
        found = []
        for rate in (1, 2):
            out = tmp_path / f"{rate}.bundle"
            config = parts.config(int8=False, free=FreeConfig())
            clips = parts.clips
            export_bundle(quicken(parts.model, rate), parts.tokenizer, None, out, config, clips=clips, checks=clips[:2])
            model = Model(read_bundle(out))
            assert model.engine.ctc_frame_s == pytest.approx(0.08 / rate)
            assert model.manifest.figures["verification"]["streamed_agreement"] == 1.0
            found.append([model.understand(clip) for clip in parts.clips])
        assert any(result.words for result in found[0])
        for once, twice in zip(*found, strict=True):
            assert once.text == twice.text
            assert [word.start for word in once.words] == [word.start for word in twice.words]
            assert all(w.end - v.end in (0, pytest.approx(0.04)) for w, v in zip(once.words, twice.words, strict=True))

    def test_runs(self, loaded: Model, parts: Any) -> None:
        result, outcome = loaded.explain(parts.clips[0])
        assert result.final and result.decision == "reject" and result.text
        assert outcome.evidence is None or outcome.evidence.head < 0

    def test_amending_keeps_the_rest(self, fp32: Path, tmp_path: Path) -> None:
        calibration = Calibration(weights={"margin": 1.0}, calibrated_on="held-out voices")
        out = tmp_path / "amended.zip"
        amend_bundle(fp32, calibration=calibration, policy={"accept": 0.8}, figures={"wer": 0.25}, out=out)
        before, after = read_bundle(fp32), read_bundle(out)
        assert after.manifest.calibrated_on == {"data": "held-out voices"} and after.manifest.policy == {"accept": 0.8}
        assert after.manifest.figures == {**before.manifest.figures, "wer": 0.25}
        assert Calibration.from_json(after.file("calibration.json").decode()) == calibration
        assert "held-out voices" in after.file("README.md").decode()
        assert after.file("encoder.onnx") == before.file("encoder.onnx")
        assert Model(after).engine.policy.accept == 0.8

    @pytest.mark.parametrize("kind", [*CTC_DECODERS, *TRANSDUCER_DECODERS])
    def test_every_search_streams_as_it_hears_the_whole(self, fp32: Path, tmp_path: Path, kind: str) -> None:
        amend_bundle(fp32, free={"search": {"kind": kind}}, out=tmp_path / "b")
        assert Model(read_bundle(tmp_path / "b")).engine.free_config.search.kind == kind
        found = verify_bundle(tmp_path / "b", noises(2, 3))
        assert found.streamed_agreement == found.batched_agreement == 1.0
        assert f"search / kind: {kind}" in read_bundle(tmp_path / "b").file("README.md").decode()

    def test_a_search_with_a_language_model(self, parts: Any, tmp_path: Path) -> None:
        model = estimate([sentence.split() for sentence in ("turn on the light", "lock the door")], 2)
        write_arpa(model, tmp_path / "a.arpa")
        said = tmp_path / "said.npz"
        save_ngram(model, said)
        for file in (tmp_path / "a.arpa", said):
            lm = LanguageModelConfig(file=str(file), weight=0.4)
            free = FreeConfig(search=TsdConfig(beam=2), lm=lm)
            changes = {"int8": False, "intents": (), "free": free}
            manifest = export_bundle(parts.model, parts.tokenizer, None, tmp_path / "b", parts.config(**changes))
            assert manifest.free["lm"]["file"] in manifest.files and str(tmp_path) not in str(manifest.free)
            assert [p.search for p in manifest.passes] == ["free", "free", None]
            floor = Model(read_bundle(tmp_path / "b"))
            assert floor.engine.free_config == free.model_copy(update={"lm": lm.model_copy(update={"file": "lm.npz"})})
            state = floor.engine.free.step(floor.engine.free.start(), np.zeros((0, 32)))
            (found,) = floor.engine.free.finish(state)
            assert found[0].scores["lm"] == pytest.approx(0.4 * model.score([]))
        lm = LanguageModelConfig(file=str(tmp_path / "nowhere.arpa"))
        with pytest.raises(DataError, match=r"nowhere\.arpa"):
            changes["free"] = FreeConfig(search=CtcBeamConfig(), lm=lm)
            export_bundle(parts.model, parts.tokenizer, None, tmp_path / "c", parts.config(**changes))
        assert not (tmp_path / "c").exists()

    def test_parts_that_do_not_fit(self, parts: Any, tmp_path: Path) -> None:
        class Other:
            size = 31

        with pytest.raises(BundleError, match="31 tokens"):
            export_bundle(parts.model, Other(), None, tmp_path / "b", parts.config())  # type: ignore[arg-type]
        foreign = copy.copy(parts.automaton)
        object.__setattr__(foreign, "tokenizer", "0" * 64)
        with pytest.raises(BundleError, match="another tokenizer"):
            export_bundle(parts.model, parts.tokenizer, foreign, tmp_path / "b", parts.config())
        assert not (tmp_path / "b").exists()
