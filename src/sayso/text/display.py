"""The recogniser's spelling to something pleasant to read: numbers, times and the like as they are written, a capital
at the start, "I" where it stands for the speaker, and the days of the week."""

from __future__ import annotations

from sayso.text.written import RULES, Writer

_CAPITALS = {"i": "I", "i'm": "I'm", "i'll": "I'll", "i've": "I've", "i'd": "I'd"} | {
    day: day.capitalize()
    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
}  # fmt: skip


def display(text: str, writer: Writer = RULES) -> str:
    """``text`` (normalised) for reading; empty for empty text.

    Words that ``writer`` leaves alone only get their capitals: there, ``normalise`` gives the input back.
    """
    written = writer.write(text)
    words: list[str] = []
    at = 0
    for span in written.spans:
        words += [_CAPITALS.get(word, word) for word in written.words[at : span.start]]
        words.append(span.text)
        at = span.end
    words += [_CAPITALS.get(word, word) for word in written.words[at:]]
    shown = " ".join(words)
    return shown[:1].upper() + shown[1:]
