"""A language of tones: a bundle whose "speech" is exact, so that what the runtime must answer is known beforehand.

Token ``k`` is a tone in mel bin ``LOWEST + STEP * k``; the encoder averages eight feature frames (and adds nothing of
its one-frame memory, which is there to be carried), the CTC graph reads the loudest bin. All graphs are written by
hand, without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sayso.core.bundle import read_bundle, write_bundle
from sayso.core.manifest import GraphSpec, IntentSpec, Manifest, PassSpec, StatePair
from sayso.nlu.automaton_io import save_automaton
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.runtime.model import Model
from sayso.text.tokenizer import Tokenizer, train_tokenizer

Floats = NDArray[np.float32]
LOWEST, STEP, TOKENS = 22, 2, 28
DOMAIN = """
language: en
intents:
  turn_on: {data: [{sentences: ["turn on [the] {area} light"]}]}
  turn_off: {data: [{sentences: ["turn off [the] {area} light"]}]}
  call: {data: [{sentences: ["call {contacts}"]}]}
lists:
  area: {values: [{in: kitchen, out: Kitchen}, hall]}
  contacts: {values: [anna, bob]}
sayso: {version: 1, intents: {call: {risk: confirm, clarify: "Call whom?"}}}
"""
SENTENCES = ["turn on the kitchen light", "turn off hall light", "call anna", "call bob", "coffee", "uncle geoffrey"]


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any) -> bytes:
    def infos(items: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        kinds = {float: TensorProto.FLOAT, int: TensorProto.INT64}
        return [
            helper.make_tensor_value_info(name, kinds[kind], ["b", *shape]) for name, (kind, *shape) in items.items()
        ]

    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    proto = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def encoder(deaf: bool = False) -> bytes:
    """(B,8n,80) to means of eight frames (B,n,80); the state holds the last frame and counts frames. With ``deaf`` it
    hears nothing in a chunk of four frames, and all in a longer one."""
    return graph(
        [
            node("Reshape", ["x", "shape"], "grouped"),
            node("ReduceMean", ["grouped", "axis"], "heard", keepdims=0),
            node("Shape", ["x"], "size", start=1, end=2),
            node("Greater", ["size", "least"], "enough"),
            node("Cast", ["enough"], "gain", to=TensorProto.FLOAT),
            node("Mul", ["heard", "gain"], "out"),
            node("Add", ["lengths", "seven"], "padded"),
            node("Div", ["padded", "eight"], "out_lengths"),
            node("Slice", ["out", "final", "end", "one"], "last_next"),
            node("Add", ["count", "out_lengths"], "count_next"),
            node("Identity", ["last"], "unused"),
        ],
        {"x": (float, "t", 80), "lengths": (int,), "last": (float, 1, 80), "count": (int,)},
        {
            "out": (float, "n", 80),
            "out_lengths": (int,),
            "last_next": (float, 1, 80),
            "count_next": (int,),
            "unused": (float, 1, 80),
        },
        least=np.array([32 if deaf else 0]),
        shape=np.array([0, -1, 8, 80]),
        axis=np.array([2]),
        seven=np.array(7),
        eight=np.array(8),
        final=np.array([-1]),
        end=np.array([1 << 31]),
        one=np.array([1]),
    )


def ear() -> tuple[Floats, Floats]:
    """Logits of frames (.., 80): the bin of each token, and blank where nothing is loud."""
    pick = np.zeros((80, TOKENS), np.float32)
    for token in range(1, TOKENS):
        pick[LOWEST + STEP * token, token] = 1.0
    quiet = np.zeros(TOKENS, np.float32)
    quiet[0] = 14.0
    return pick, quiet


def ctc() -> bytes:
    """Log posteriors of a frame's tokens."""
    pick, quiet = ear()
    return graph(
        [
            node("MatMul", ["x", "pick"], "a"),
            node("Add", ["a", "quiet"], "b"),
            node("LogSoftmax", ["b"], "log_probs", axis=-1),
        ],
        {"x": (float, "n", 80)},
        {"log_probs": (float, "n", TOKENS)},
        pick=pick,
        quiet=quiet,
    )


def predictor() -> bytes:
    """Says which label was the last."""
    return graph(
        [node("Gather", ["labels", "second"], "last", axis=1), node("Gather", ["labelled", "last"], "out", axis=0)],
        {"labels": (int, 2)},
        {"out": (float, TOKENS)},
        second=np.array(1),
        labelled=np.eye(TOKENS, dtype=np.float32),
    )


def joiner() -> bytes:
    """What the frame says; blank as long as the last label sounds, for a tone is longer than a frame."""
    pick, quiet = ear()
    still = np.zeros((1, TOKENS), np.float32)
    still[0, 0] = 10.0
    return graph(
        [
            node("MatMul", ["encoded", "pick"], "a"),
            node("Add", ["a", "quiet"], "b"),
            node("Mul", ["predicted", "a"], "c"),
            node("ReduceSum", ["c", "axes"], "d", keepdims=1),
            node("Sub", ["d", "loud"], "e"),
            node("Relu", ["e"], "f"),
            node("Mul", ["f", "still"], "g"),
            node("Add", ["b", "g"], "logits"),
        ],
        {"encoded": (float, 80), "predicted": (float, TOKENS)},
        {"logits": (float, TOKENS)},
        pick=pick,
        quiet=quiet,
        axes=np.array([1]),
        loud=np.array(23.0, np.float32),
        still=still,
    )


def intent(log_probs: list[float]) -> bytes:
    """Always the same opinion; the state counts chunks from 5."""
    return graph(
        [
            node("ReduceSum", ["x", "axes"], "sum", keepdims=0),
            node("Mul", ["sum", "zero"], "nothing"),
            node("Unsqueeze", ["nothing", "last"], "column"),
            node("Add", ["column", "opinion"], "log_probs"),
            node("Cast", ["lengths"], "asfloat", to=TensorProto.FLOAT),
            node("Unsqueeze", ["asfloat", "last"], "asfloats"),
            node("Add", ["seen", "asfloats"], "seen_next"),
        ],
        {"x": (float, "n", 80), "lengths": (int,), "seen": (float, 1)},
        {"log_probs": (float, len(log_probs)), "seen_next": (float, 1)},
        axes=np.array([1, 2]),
        last=np.array([1]),
        zero=np.array(0.0, np.float32),
        opinion=np.array(log_probs, np.float32),
    )


class Tones:
    """Makes bundles of the tone language and speaks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        train_tokenizer(SENTENCES * 20, folder / "tokenizer.model", vocab=TOKENS)
        self.tokenizer = Tokenizer.load(folder / "tokenizer.model")
        (folder / "domain.yaml").write_text(DOMAIN)
        self.automaton = compile_domain(load_domain(folder / "domain.yaml"), self.tokenizer)
        self._count = 0

    def bundle(
        self,
        *,
        opinion: dict[str, float] | None = None,
        domain: bool = True,
        transducer: bool = False,
        deaf: bool = False,
        **fields: Any,
    ) -> Path:
        files = {"encoder.onnx": encoder(deaf), "ctc.onnx": ctc(), "tokenizer.model": self.tokenizer.model}
        graphs: dict[Any, GraphSpec] = {
            "encoder": GraphSpec(
                file="encoder.onnx",
                inputs=("x", "lengths"),
                outputs=("out", "out_lengths"),
                states=(
                    StatePair(input="last", output="last_next", shape=(1, 80)),
                    StatePair(input="count", output="count_next", shape=(), dtype="int64"),
                ),
            ),
            "ctc": GraphSpec(file="ctc.onnx", inputs=("x",), outputs=("log_probs",)),
        }
        names = list(dict.fromkeys(meaning.intent for meaning in self.automaton.meanings))
        if opinion is not None:
            files["intent.onnx"] = intent([opinion.get(name, -5.0) for name in [*names, "other"]])
            state = StatePair(input="seen", output="seen_next", shape=(1,), initial=5.0)
            graphs["intent"] = GraphSpec(
                file="intent.onnx", inputs=("x", "lengths"), outputs=("log_probs",), states=(state,)
            )
        if transducer:
            files |= {"predictor.onnx": predictor(), "joiner.onnx": joiner()}
            graphs["predictor"] = GraphSpec(file="predictor.onnx", inputs=("labels",), outputs=("out",))
            graphs["joiner"] = GraphSpec(file="joiner.onnx", inputs=("encoded", "predicted"), outputs=("logits",))
        automaton: tuple[str, ...] = ()
        if domain:
            save_automaton(self.automaton, self.folder / "compiled")
            automaton = ("domain.npz", "domain.json")
            files |= {name: (self.folder / "compiled" / name).read_bytes() for name in automaton}
        files |= fields.pop("files", {})
        risky = {"call": IntentSpec(name="call", risk="confirm", clarify="Call whom?")}
        settings: dict[str, Any] = {
            "name": "tones",
            "chunk_ms": 320,
            "left_context_ms": 0,
            "lookahead_ms": 240,
            "graphs": graphs,
            "passes": (PassSpec(name="first", when="chunk"), PassSpec(name="choose", when="endpoint")),
            "automaton": automaton,
            "domain": "tones" if domain else None,
            "intents": tuple(risky.get(name, IntentSpec(name=name)) for name in names) if domain else (),
            "policy": {"margin": -1.0},
            "stream": {"vad": False},
        }
        self._count += 1
        out = self.folder / f"tones{self._count}.bundle"
        write_bundle(Manifest(**(settings | fields)), files, out)
        return out

    def model(self, **fields: Any) -> Model:
        return Model(read_bundle(self.bundle(**fields)))

    def say(self, text: str, *, lead_s: float = 0.16, tail_s: float = 0.32, rate: int = 16000) -> Floats:
        """240 ms of tone and 160 ms of silence for every token of ``text``."""
        parts = [np.zeros(round(lead_s * rate))]
        for token in self.tokenizer.encode(text):
            time_s = np.arange(round(0.24 * rate)) / rate
            parts += [0.3 * np.sin(2 * np.pi * self.hz(token) * time_s), np.zeros(round(0.16 * rate))]
        return np.concatenate([*parts, np.zeros(round(tail_s * rate))]).astype(np.float32)

    @staticmethod
    def hz(token: int) -> float:
        """Centre of the token's mel bin (HTK mel scale, 80 bins from 20 to 7600 Hz)."""
        low, high = (1127.0 * np.log(1.0 + f / 700.0) for f in (20.0, 7600.0))
        mel = low + (high - low) * (LOWEST + STEP * token + 1) / 81
        return float(700.0 * (np.exp(mel / 1127.0) - 1.0))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Tones:
    return Tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def model(tones: Tones) -> Model:
    return tones.model()


@pytest.fixture
def cut() -> Callable[[Floats, np.random.Generator], list[Floats]]:
    """Packets of random sizes, empty ones among them."""

    def pieces(samples: Floats, rng: np.random.Generator) -> list[Floats]:
        sizes = rng.choice([0, 1, 37, 160, 512, 1280, 5120, 9001], size=4000)
        places = np.cumsum(sizes)
        return [piece for piece in np.split(samples, places[places < len(samples)])]

    return pieces
