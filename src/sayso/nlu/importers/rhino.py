"""Picovoice Rhino contexts (YAML): ``context: {expressions, slots, macros}``.

Rhino's signs are not hassil's: ``[a, b]`` is a choice that must be made, ``(a)`` and ``(a, b)`` may be left out,
``$slot:name`` is a slot, ``@macro`` a macro, ``$pv.TwoDigitInteger:name`` a built-in slot. Slot values stay verbatim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sayso.core.errors import DomainError, nearest
from sayso.nlu.importers.build import Draft, Form, escape, identifier, mapping, read_table, sequence
from sayso.text.numbers import ordinal_words

WHAT = "a Rhino context (YAML with 'context: expressions:')"
_TOKEN = re.compile(r"\s*(?:([\[\](),])|\$(pv\.\w+|\w+)(?::(\w+))?|@(\w+)|([^\s\[\](),$@]+))")
_RANGES = {
    "SingleDigitInteger": (0, 9),
    "TwoDigitInteger": (0, 99),
    "Percent": (0, 100),
}
_BUILTINS: dict[str, list[Form]] = {
    "Alphabetic": [(letter, letter) for letter in "abcdefghijklmnopqrstuvwxyz"],
    "SingleDigitOrdinal": [(ordinal_words(n), str(n)) for n in range(1, 10)],
    "TwoDigitOrdinal": [(ordinal_words(n), str(n)) for n in range(1, 100)],
}


def import_rhino(path: Path) -> str:
    """Domain YAML of a Rhino context; ``DomainError`` names what is not understood."""
    content = read_table(path, WHAT)
    context = mapping(content.get("context", content), "'context'", path)
    expressions = mapping(context.get("expressions"), "'expressions'", path)
    draft = Draft()
    for name, values in mapping(context.get("slots") or {}, "'slots'", path).items():
        draft.values[name] = [escape(str(value)) for value in sequence(values, f"slot '{name}'", path)]
    macros = mapping(context.get("macros") or {}, "'macros'", path)
    reader = _Reader(path, draft, set(macros))
    for name, values in macros.items():
        options = [reader.convert(str(value)) for value in sequence(values, f"macro '{name}'", path)]
        draft.rules[name] = f"({'|'.join(options)})"
    for intent, texts in expressions.items():
        draft.sentences[intent] = [
            reader.convert(str(text)) for text in sequence(texts, f"expressions of '{intent}'", path)
        ]
    return draft.write(source=f"the Rhino context {path.name}")


@dataclass
class _Reader:
    """Converts Rhino expressions and notes the built-in slots that they use."""

    path: Path
    draft: Draft
    macros: set[str]

    def convert(self, text: str) -> str:
        """One expression in hassil's signs."""
        tokens, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(text, f"cannot read '{text[at:].strip()[:20]}'")
            tokens.append(match)
            at = match.end()
        rest, result = self._options(text, tokens, "")
        assert not rest
        return result[0]

    def _options(self, text: str, tokens: list[re.Match[str]], closing: str) -> tuple[list[re.Match[str]], list[str]]:
        """Read comma-separated options up to ``closing``; the tokens that are left, and the options."""
        options: list[list[str]] = [[]]
        while tokens:
            token, tokens = tokens[0], tokens[1:]
            sign, slot, name, macro, word = token.groups()
            if sign and sign in "[(":
                tokens, inner = self._options(text, tokens, "]" if sign == "[" else ")")
                joined = "|".join(inner)
                options[-1].append(f"({joined})" if sign == "[" else f"[{joined}]")
            elif sign == "," and closing:
                options.append([])
            elif sign:
                if sign != closing:
                    raise self._error(text, f"'{sign}' does not belong there")
                return tokens, [" ".join(option) for option in options]
            elif slot:
                options[-1].append(f"{{{self._list(text, slot)}:{name}}}" if name else f"{{{self._list(text, slot)}}}")
            elif macro:
                if macro not in self.macros:
                    raise self._error(text, f"no macro '@{macro}'; {nearest(macro, self.macros)}")
                options[-1].append(f"<{macro}>")
            else:
                options[-1].append(escape(word))
        if closing:
            raise self._error(text, f"'{closing}' is missing")
        return [], [" ".join(option) for option in options]

    def _list(self, text: str, slot: str) -> str:
        if not slot.startswith("pv."):
            if slot not in self.draft.values:
                raise self._error(text, f"no slot '${slot}'; {nearest(slot, self.draft.values)}")
            return slot
        kind, name = slot[3:], identifier(slot).replace(".", "_")
        if kind in _RANGES:
            self.draft.ranges[name] = _RANGES[kind]
        elif kind in _BUILTINS:
            self.draft.values[name] = _BUILTINS[kind]
        else:
            raise self._error(text, f"no built-in slot '${slot}'; {nearest(kind, [*_RANGES, *_BUILTINS])}")
        return name

    def _error(self, text: str, reason: str) -> DomainError:
        return DomainError(f"expression '{text[:80]}': {reason}", file=str(self.path))
