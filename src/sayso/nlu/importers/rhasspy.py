"""Rhasspy ``sentences.ini``: sections are intents, lines are sentences in its dialect of JSGF.

``[x]`` may be left out, ``(a | b)`` is a choice, ``name = ...`` a rule that ``<name>`` or ``<Intent.name>`` uses,
``$name`` the values of the file ``slots/name``, ``1..10`` a range. ``{tag}`` behind a word or a group makes it a slot,
``{tag:value}`` gives the value, ``said:value`` substitutes; converters (``!int``) are left out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sayso.core.errors import DomainError, nearest
from sayso.nlu.importers.build import Draft, Form, escape, identifier, read_text

WHAT = "a Rhasspy sentences.ini"
MAX_VALUES = 5000
_TOKEN = re.compile(
    r"\s*(?:(?P<sign>[()\[\]|])|\{(?P<tag>[^{}]*)\}|<(?P<rule>[^<>]+)>|\$(?P<slot>[\w/.-]+)(?:,[\w/.,-]+)*|:(?P<sub>[^\s()\[\]|{}<>]*)"
    r"|(?P<low>-?\d+)\.\.(?P<high>-?\d+)|!(?P<conv>\w+)|(?P<word>(?:\\.|[^\s()\[\]|{}<>$:!])+))"
)


@dataclass
class _Part:
    """A piece of a sentence: ``kind`` is word, seq, alt, opt, rule, slot or range."""

    kind: str
    text: str = ""
    parts: list[_Part] = field(default_factory=list)
    limits: tuple[int, int] = (0, 0)
    tag: str | None = None
    sub: str | None = None


def import_rhasspy(path: Path) -> str:
    """Domain YAML of a ``sentences.ini``; ``DomainError`` with the line of what is not understood."""
    reader = _Reader(path)
    reader.read(read_text(path, WHAT))
    if not reader.sentences:
        raise DomainError(f"not {WHAT}: no [Intent] with sentences", file=str(path))
    for intent, texts in reader.sentences.items():
        for line, part in texts:
            reader.here, reader.line = intent, line
            reader.draft.sentences.setdefault(intent, []).append(reader.template(part).strip())
    return reader.draft.write(source=f"the Rhasspy file {path.name}")


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.line, self.here = path, 0, ""
        self.sentences: dict[str, list[tuple[int, _Part]]] = {}
        self.rules: dict[str, _Part] = {}
        self.draft = Draft()
        self._open: list[str] = []

    def read(self, text: str) -> None:
        """Sections, rules and sentences of the file."""
        for self.line, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith(("#", ";")):
                continue
            if section := re.fullmatch(r"\[([^\[\]|()]+)\]", line):
                self.here = section[1].strip()
                continue
            if not self.here:
                raise self._error(f"'{line[:40]}' stands before the first [Intent]")
            rule = re.match(r"(\w+)\s*=\s*(.+)", line)
            if rule:
                self.rules[f"{self.here}.{rule[1]}"] = self._parse(rule[2])
            else:
                self.sentences.setdefault(self.here, []).append((self.line, self._parse(line.removeprefix("\\"))))

    def template(self, part: _Part) -> str:
        """A piece in hassil's signs; pieces with a tag become lists."""
        if part.tag:
            return self._tagged(part)
        if part.kind == "word":
            return escape(part.text)
        if part.kind == "seq":
            return " ".join(filter(None, (self.template(child) for child in part.parts)))
        if part.kind in ("alt", "opt"):
            inner = "|".join(self.template(child) for child in part.parts)
            return f"({inner})" if part.kind == "alt" else f"[{inner}]"
        if part.kind == "rule":
            return self._rule(part.text)
        if part.kind == "slot":
            return self._inline(part)
        return f"{{{part.limits[0]}..{part.limits[1]}:number}}"

    def _inline(self, part: _Part) -> str:
        return f"({'|'.join(escape(said) for said, _ in self._values(part))})"

    def _rule(self, name: str) -> str:
        full = self._full(name)
        key = identifier(full).replace(".", "_")
        if key not in self.draft.rules:
            if full in self._open:
                raise self._error(f"endless rule <{name}>; a rule cannot contain itself")
            self._open.append(full)
            before, self.here = self.here, full.split(".")[0]
            self.draft.rules[key] = f"({self.template(self.rules[full])})"
            self.here = before
            self._open.pop()
        return f"<{key}>"

    def _tagged(self, part: _Part) -> str:
        tag, _, value = (part.tag or "").partition(":")
        slot = identifier(tag)
        inner = part.parts[0] if part.kind == "alt" and len(part.parts) == 1 else part
        while inner.kind == "seq" and len(inner.parts) == 1 and not inner.tag:
            inner = inner.parts[0]
        if inner.kind == "range" and not value:
            name = f"{slot}_{inner.limits[0]}_{inner.limits[1]}".replace("-", "minus_")
            self.draft.ranges[name] = inner.limits
            return f"{{{name}:{slot}}}"
        forms: list[Form] = [(escape(said), value or out) for said, out in self._values(part) if said]
        names = (slot if number == 0 else f"{slot}_{number + 1}" for number in itertools.count())
        name = next(n for n in names if self.draft.values.get(n, forms) == forms)
        self.draft.values[name] = forms
        return f"{{{name}:{slot}}}"

    def _values(self, part: _Part) -> list[tuple[str, str]]:
        values = list(itertools.islice(self._said(part), MAX_VALUES + 1))
        if len(values) > MAX_VALUES:
            raise self._error(f"a slot with more than {MAX_VALUES} values")
        return [(" ".join(said.split()), " ".join(out.split())) for said, out in dict.fromkeys(values)]

    def _said(self, part: _Part) -> Iterator[tuple[str, str]]:
        """(spoken, value) pairs of a piece."""
        pairs: Iterator[tuple[str, str]]
        if part.kind == "word":
            pairs = iter([(part.text, part.text)])
        elif part.kind == "seq":
            pairs = (
                (" ".join(s for s, _ in combo), " ".join(o for _, o in combo))
                for combo in itertools.product(*(list(self._said(child)) for child in part.parts))
            )
        elif part.kind in ("alt", "opt"):
            pairs = itertools.chain.from_iterable(self._said(child) for child in part.parts)
            pairs = itertools.chain(pairs, [("", "")]) if part.kind == "opt" else pairs
        elif part.kind == "rule":
            full = self._full(part.text)
            if full in self._open:
                raise self._error(f"endless rule <{part.text}>; a rule cannot contain itself")
            self._open.append(full)
            pairs = iter(list(self._said(self.rules[full])))
            self._open.pop()
        elif part.kind == "slot":
            pairs = iter(self._slot_file(part.text))
        else:
            pairs = ((str(n), str(n)) for n in range(part.limits[0], part.limits[1] + 1))
        for said, out in pairs:
            yield said, out if part.sub is None else part.sub

    def _slot_file(self, name: str) -> list[tuple[str, str]]:
        file = self.path.parent / "slots" / name
        if not file.is_file():
            raise self._error(f"slot ${name} needs the file {file}, which is not there")
        values: list[tuple[str, str]] = []
        for line in read_text(file, "a Rhasspy slot file").splitlines():
            if line.strip() and not line.strip().startswith("#"):
                values += self._said(self._parse(line.strip()))
        return values

    def _full(self, name: str) -> str:
        full = name if "." in name else f"{self.here}.{name}"
        if full not in self.rules:
            raise self._error(f"no rule <{name}>; {nearest(full, self.rules)}")
        return full

    def _parse(self, text: str) -> _Part:
        tokens, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(f"cannot read '{text[at:].strip()[:20]}'")
            tokens.append(match)
            at = match.end()
        part, rest = self._alternatives(tokens, "")
        assert not rest
        return part

    def _alternatives(self, tokens: list[re.Match[str]], closing: str) -> tuple[_Part, list[re.Match[str]]]:
        options = [_Part("seq")]
        while tokens:
            token, tokens = tokens[0], tokens[1:]
            found = {key: value for key, value in token.groupdict().items() if value is not None}
            last = options[-1].parts[-1] if options[-1].parts else None
            sign = found.get("sign", "")
            if sign and sign in "([":
                inner, tokens = self._alternatives(tokens, ")" if sign == "(" else "]")
                inner.kind = "alt" if sign == "(" else "opt"
                options[-1].parts.append(inner)
            elif sign == "|":
                options.append(_Part("seq"))
            elif sign:
                if sign != closing:
                    raise self._error(f"'{sign}' does not belong there")
                return _Part("alt", parts=options), tokens
            elif "tag" in found or "sub" in found:
                if last is None:
                    raise self._error(f"'{token[0].strip()}' needs a word or a group before it")
                last.tag, last.sub = found.get("tag", last.tag), found.get("sub", last.sub)
            elif "rule" in found:
                options[-1].parts.append(_Part("rule", found["rule"]))
            elif "slot" in found:
                options[-1].parts.append(_Part("slot", found["slot"]))
            elif "low" in found:
                options[-1].parts.append(_Part("range", limits=(int(found["low"]), int(found["high"]))))
            elif "word" in found:
                options[-1].parts.append(_Part("word", found["word"].replace("\\", "")))
        if closing:
            raise self._error(f"'{closing}' is missing")
        return (options[0] if len(options) == 1 else _Part("alt", parts=options)), []

    def _error(self, reason: str) -> DomainError:
        return DomainError(reason, file=str(self.path), line=self.line)
