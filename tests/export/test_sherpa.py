"""What sherpa-onnx is given is our model: interface, numbers, memory, front; and in sherpa-onnx itself where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf  # type: ignore[import-untyped]
import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import pytest
import torch
from numpy.typing import NDArray

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import BundleError, ConfigError
from sayso.decoding.greedy import TransducerGreedyConfig
from sayso.export.sherpa import FILES, LOUDER, MIRRORED, QUIET, PackedEncoder, export_sherpa
from sayso.models.encoders.lstm import LstmConfig as LstmEncoder
from sayso.models.encoders.transformer import TransformerConfig
from sayso.models.predictors import LstmConfig
from sayso.models.streaming import Context
from sayso.runtime.engine import Chunk
from sayso.runtime.model import Model

CHUNK, LEFT, T = 4, 8, 32
WORKER = Path(__file__).parents[2] / "benchmarks" / "_turns.py"
Floats = NDArray[np.float32]
States = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("sherpa") / "out"
    export_sherpa(parts.model, parts.tokenizer, out, chunk_frames=CHUNK, left_frames=LEFT)
    return out


@pytest.fixture(scope="module")
def sessions(folder: Path) -> dict[str, Any]:
    return {name: ort.InferenceSession(str(folder / f"{name}.onnx")) for name in ("encoder", "decoder", "joiner")}


def whole_chunks(clip: Floats) -> Floats:
    """Samples that sherpa-onnx decodes to the last: silence up to a whole chunk and what it waits for."""
    frames = T * (-(-(len(clip) + 280) // (160 * T)))
    return np.pad(clip, (0, 160 * frames + 120 - len(clip)))


def as_sherpa_hears(samples: Floats) -> Floats:
    """Its features (frames, 80) of samples in [-1, 1], the frame that it never decodes left out."""
    options = knf.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges = 0.0, False
    options.mel_opts.num_bins, options.mel_opts.high_freq = 80, -400.0
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(16000, samples.tolist())
    extractor.input_finished()
    found = np.stack([np.array(extractor.get_frame(i)) for i in range(extractor.num_frames_ready)])
    assert len(found) % T == 1
    return found[:-1]


def as_we_hear(samples: Floats) -> Floats:
    """The same with our extractor: the mirrored beginning, and nothing below what Kaldi's floor leaves of [-1, 1]."""
    heard = np.concatenate([samples[:MIRRORED][::-1], samples])
    return fbank(heard, FeatureConfig(floor=QUIET))


def begin(session: Any, streams: int = 1) -> States:
    shapes = [[size if isinstance(size, int) else streams for size in session.get_inputs()[i].shape] for i in (1, 2)]
    return np.zeros(shapes[0], np.float32), np.zeros(shapes[1], np.float32)


def step(session: Any, x: Floats, states: States, done: int) -> tuple[Floats, States]:
    feed = {"x": x, "states0": states[0], "states1": states[1], "processed_frames": np.full(len(x), done)}
    out, first, second = session.run(None, feed)
    return out, (first, second)


def test_the_interface_is_theirs(folder: Path) -> None:
    graphs = {name: onnx.load(folder / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")}
    shapes = {
        name: [
            (item.name, [size.dim_value or "N" for size in item.type.tensor_type.shape.dim])
            for item in (*proto.graph.input, *proto.graph.output)
        ]
        for name, proto in graphs.items()
    }
    # 2 layers of 32 hold the 80 + 24 + 32 cached values and the count in 3 rows behind the 4 of the kernel
    assert shapes["encoder"] == [
        ("x", ["N", 32, 80]),
        ("states0", [2, 16, "N", 32]),
        ("states1", [2, 7, "N", 32]),
        ("processed_frames", ["N"]),
        ("encoder_out", ["N", 4, 16]),
        ("next_states0", [2, 16, "N", 32]),
        ("next_states1", [2, 7, "N", 32]),
    ]
    assert shapes["decoder"] == [("y", ["N", 2]), ("decoder_out", ["N", 16])]
    assert shapes["joiner"] == [("encoder_out", ["N", 16]), ("decoder_out", ["N", 16]), ("logit", ["N", 30])]
    metadata = {name: {item.key: item.value for item in proto.metadata_props} for name, proto in graphs.items()}
    assert metadata == {
        "encoder": {
            "model_type": "conformer",
            "num_encoder_layers": "2",
            "T": "32",
            "decode_chunk_len": "32",
            "left_context": "16",
            "encoder_dim": "32",
            "pad_length": "0",
            "cnn_module_kernel": "8",
        },
        "decoder": {"context_size": "2", "vocab_size": "30"},
        "joiner": {},
    }


def test_tokens_are_ours(folder: Path, parts: Any) -> None:
    rows = [line.rsplit(" ", 1) for line in (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()]
    assert [(piece, int(i)) for piece, i in rows] == [(piece, i) for i, piece in enumerate(parts.tokenizer.pieces)]
    assert rows[0][0] == "<blk>"


def test_the_front_differs_by_a_constant(parts: Any) -> None:
    for clip in (*parts.clips, np.zeros(9000, np.float32)):
        samples = whole_chunks(clip)
        ours, theirs = as_we_hear(samples), as_sherpa_hears(samples)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(theirs + LOUDER, ours, atol=1e-4)


@torch.no_grad()
def test_every_chunk_is_our_encoder(parts: Any, sessions: Any) -> None:
    model = parts.model
    for clip in parts.clips:
        samples = whole_chunks(clip)
        ours, theirs = as_we_hear(samples), as_sherpa_hears(samples)
        state, states = model.encoder.init_state(1, Context(CHUNK, LEFT)), begin(sessions["encoder"])
        for start in range(0, len(ours), T):
            x = torch.from_numpy(ours[None, start : start + T])
            frames, _, state = model.encoder.step(x, torch.tensor([T]), state)
            found, states = step(sessions["encoder"], theirs[None, start : start + T], states, start)
            np.testing.assert_allclose(found, model.joiner.project_encoder(frames).numpy(), atol=1e-4)
        whole, _ = model.encoder(torch.from_numpy(ours)[None], torch.tensor([len(ours)]), Context(CHUNK, LEFT))
        np.testing.assert_allclose(found[0], model.joiner.project_encoder(whole)[0, -CHUNK:].numpy(), atol=1e-4)


def test_streams_stack_and_an_endpoint_does_not_make_them_forget(parts: Any, sessions: Any) -> None:
    encoder, features = sessions["encoder"], [as_sherpa_hears(whole_chunks(clip)) for clip in parts.clips[:2]]
    alone: list[tuple[Floats, States]] = []
    for row, chunks in enumerate((3, 1)):  # of different age
        states = begin(encoder)
        for start in range(0, T * chunks, T):
            _, states = step(encoder, features[row][None, start : start + T], states, start)
        alone.append((features[row][T * chunks : T * chunks + T], states))
    together = tuple(np.concatenate([states[i] for _, states in alone], axis=2) for i in (0, 1))
    out, after = step(encoder, np.stack([x for x, _ in alone]), together, 0)  # the count begins again, nothing else
    for row, (x, states) in enumerate(alone):
        expected, following = step(encoder, x[None], states, T)
        np.testing.assert_allclose(out[row], expected[0], atol=1e-5)
        for got, wanted in zip(after, following, strict=True):
            np.testing.assert_allclose(got[:, :, row : row + 1], wanted, atol=1e-5)


@torch.no_grad()
def test_decoder_and_joiner_are_ours(parts: Any, sessions: Any) -> None:
    model, rng = parts.model, np.random.default_rng(0)
    frames = torch.from_numpy(rng.normal(size=(3, model.encoder.width)).astype(np.float32))
    labels = np.array([[-1, 0], [0, 7], [5, 29]])  # sherpa-onnx begins with -1, we with 0
    (decoded,) = sessions["decoder"].run(None, {"y": labels})
    feed = {"encoder_out": model.joiner.project_encoder(frames).numpy(), "decoder_out": decoded}
    (logit,) = sessions["joiner"].run(None, feed)
    wanted = model.joiner.step(frames, model.predictor.step(torch.from_numpy(labels.clip(0))))
    np.testing.assert_allclose(logit, wanted.numpy(), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 5])
def test_an_encoder_without_convolution_fits_too(parts: Any, layers: int) -> None:
    encoder = TransformerConfig(channels=24, width=32, layers=layers, heads=2, feedforward=48)
    model = parts.model.config.model_copy(update={"encoder": encoder}).build().eval()
    packed, context = PackedEncoder(model, Context(CHUNK, LEFT)), Context(CHUNK, LEFT)
    states, state = packed.init_states(2), model.encoder.init_state(2, context)
    assert int(packed.metadata()["cnn_module_kernel"]) - 1 == states[1].shape[1] == {1: 5, 5: 1}[layers]
    for seed in range(4):
        x = torch.from_numpy(np.random.default_rng(seed).normal(10, 4, (2, T, 80)).astype(np.float32))
        wanted, _, state = model.encoder.step(x.clamp(min=2.0), torch.tensor([T, T]), state)
        out, *following = packed(x - LOUDER, *states, torch.tensor([0, 0]))
        states = (following[0], following[1])
        torch.testing.assert_close(out, model.joiner.project_encoder(wanted), atol=1e-4, rtol=0)


def test_what_does_not_fit_is_said(parts: Any, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"encoder": LstmEncoder(channels=24, width=32, layers=2)}, "lstm encoder does not fit"),
        ({"predictor": LstmConfig(width=16)}, "lstm predictor does not fit"),
        ({"vocab": 31}, "30 tokens, the model 31"),
    ]
    for change, message in cases:
        model = parts.model.config.model_copy(update=change).build()
        with pytest.raises(ConfigError, match=message):
            export_sherpa(model, parts.tokenizer, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("kept")
    with pytest.raises(BundleError, match="no earlier export"):
        export_sherpa(parts.model, parts.tokenizer, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_an_earlier_export_is_replaced(parts: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("old")
    export_sherpa(parts.model, parts.tokenizer, tmp_path, chunk_frames=2, left_frames=4)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert (tmp_path / "tokens.txt").read_text().startswith("<blk> 0")


def test_sherpa_onnx_hears_what_we_hear(parts: Any, folder: Path, loaded: Model, tmp_path: Path) -> None:
    python = os.environ.get("SAYSO_SHERPA_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import sherpa_onnx"], capture_output=True).returncode:
        pytest.skip(f"sherpa_onnx is not installed for {python}; SAYSO_SHERPA_PYTHON names a Python that has it")
    engine, asked, expected = loaded.engine, [], []
    for number, clip in enumerate(parts.clips):
        samples, place = whole_chunks(clip), tmp_path / f"{number}.f32"
        samples.tofile(place)
        asked.append(json.dumps({"samples": str(place)}))
        decoder = TransducerGreedyConfig(max_symbols=1).build(engine.predictor, engine.join)
        features, network, found = as_we_hear(samples), engine.start(), decoder.start()
        for start in range(0, len(features), T):
            (heard,) = engine.step([network], [Chunk(features=features[start : start + T])])
            decoder.step(found, heard.encoded)
        assert 1 not in found.tokens, "sherpa-onnx takes it as blank"
        expected.append([engine.tokenizer.pieces[i].replace("▁", " ", 1) for i in found.tokens])
    done = subprocess.run(
        [python, str(WORKER), "sherpa", str(folder)], input="\n".join(asked), capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert [answer["tokens"] for answer in answers] == expected and all(expected)
