"""Which meanings a semantic parser may write: intents, their slots, and the intents that a slot may hold.

What ``nlu`` reads and writes as trees, ``models`` needs as a number of labels and a recipe as a table; so the schema is
here. A meaning is written as words, brackets and labels, ``[IN:turn_on turn on the [SL:area kitchen ] light ]`` (Gupta
et al. 2018, TOP).

Token numbers: the tokenizer's first, then the end, then ``]``, intents and slots.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sayso.core.config import Config
from sayso.core.errors import nearest

CLOSE, INTENT, SLOT = "]", "[IN:", "[SL:"


class TreeSchema(Config):
    """``intents`` with the slots of each, ``nested`` slots with the intents that may stand inside them.

    ``coupled`` trees hold every spoken word, so that a recogniser can vouch for them; ``decoupled`` ones only those of
    slots (Aghajanyan et al. 2020). Without intents only words are left: a transcript.
    """

    intents: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    nested: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    form: Literal["coupled", "decoupled"] = "coupled"

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in (*self.intents, *self.slots):
            if not name or any(mark in name for mark in "[]") or name.split() != [name]:
                raise ValueError(f"'{name}' cannot be a label; legal is a name without spaces and brackets")
        for slot, inside in self.nested.items():
            if slot not in self.slots:
                raise ValueError(f"nested: '{slot}' is no slot of any intent; {nearest(slot, self.slots)}")
            for name in inside:
                if name not in self.intents:
                    raise ValueError(f"nested: slot '{slot}' holds no known intent; {nearest(name, self.intents)}")
        return self

    @property
    def slots(self) -> tuple[str, ...]:
        """All slots, in the order in which intents name them."""
        return tuple(dict.fromkeys(slot for slots in self.intents.values() for slot in slots))

    @property
    def labels(self) -> tuple[str, ...]:
        """``]``, then every opening label; nothing without intents."""
        if not self.intents:
            return ()
        return (CLOSE, *(INTENT + name for name in self.intents), *(SLOT + name for name in self.slots))

    def size(self, vocab: int) -> int:
        """How many tokens there are beside a tokenizer of ``vocab``: its own, the end, the labels."""
        return vocab + 1 + len(self.labels)
