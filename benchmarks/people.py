"""A domain of what real people say, to be built from its file alone: `valid` speech as the users nobody recorded.

    python benchmarks/people.py --out runs/people [--clips 150] [--sentences 300]
    sayso build runs/people/domain.yaml --minutes 5 --out runs/people.bundle
    sayso evaluate --bundle runs/people.bundle --data runs/people/labels.jsonl

What a build does with real people can only be tuned where their speech is not `dev`. Here every second short sentence
of the `valid` parts of the training corpora is in the domain, dealt to eight intents among other transcripts of the
training parts, and the other sentences must be rejected. Those that a build calibrates with are among the latter, so
that false accepts are flattered; the acceptance of commands is not. Writes ``domain.yaml`` and ``labels.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pronounced import material

from sayso.core.files import write_text
from sayso.text.tokenizer import Tokenizer

INTENTS, LONGEST = 8, 8


def main() -> None:
    """Write the domain and the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/people"))
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="whose tokenizer must spell all")
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--sentences", type=int, default=300)
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.base / "tokenizer.model")
    clips, texts, _ = material(tokenizer, 10 * options.clips, 100 * options.sentences)
    clips = [(path, text) for path, text in clips if len(text.split()) <= LONGEST and text in texts][: options.clips]
    spoken = sorted({text for _, text in clips})
    inside, outside = spoken[::2], set(spoken[1::2])
    others = [text for text in texts if len(text.split()) <= LONGEST and text not in spoken]
    known = inside + others[: options.sentences - len(inside)]
    intent = {text: f"group_{number % INTENTS}" for number, text in enumerate(known)}
    lines = ["language: en", "intents:"]
    for name in sorted(set(intent.values())):
        lines += [f"  {name}:", "    data:", "      - sentences:"]
        lines += [f"          - {json.dumps(text)}" for text, where in intent.items() if where == name]
    lines += ["sayso:", "  out_of_domain:", *(f"    - {json.dumps(text)}" for text in others[-40:])]
    rows = [{"audio": str(path), "text": text, "intent": intent.get(text), "slots": []} for path, text in clips]
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "domain.yaml", ["\n".join(lines) + "\n"])
    write_text(options.out / "labels.jsonl", [json.dumps(row) + "\n" for row in rows])
    count = sum(row["text"] in outside for row in rows)
    print(f"{options.out}: {len(known)} sentences; {len(rows)} recordings, {count} of them outside the domain")


if __name__ == "__main__":
    main()
