"""What the service remembers of dialogues between their utterances: a few turns each, for a while, of so many at most.

A client names its dialogues itself, as it would a user or a conversation; the same name of another key, or of another
bundle, is another dialogue. The engines keep nothing of them: an utterance takes what was said before along and brings
back what to remember, so that it may go to any engine, and an engine that dies takes no dialogue with it. What the
service remembers ends with the service.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from sayso.runtime.session import SessionState
from sayso.serving.auth import Client
from sayso.serving.config import Limits
from sayso.serving.hub import Edition
from sayso.serving.refusal import Refusal

Owner = tuple[bool, str]  # whether a key, and its name or the address
Name = tuple[str, str]  # of the bundle, and the client's own


@dataclass(eq=False)
class Dialogue:
    """One dialogue; ``busy`` while an utterance of it is being heard."""

    owner: Owner
    name: Name
    edition: int
    state: SessionState = field(default_factory=SessionState)
    busy: bool = True
    expiry: asyncio.TimerHandle | None = None


class Dialogues:
    """Those of all clients, each client's in the order in which they were last used."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: dict[Owner, OrderedDict[Name, Dialogue]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def take(self, client: Client, edition: Edition, session: str | None) -> Dialogue | None:
        """The client's dialogue of this name, a new one where there is none; it is busy until ``leave``.

        None without a name. After a bundle was exchanged a dialogue begins anew: what was understood with the old one
        may mean nothing. ``Refusal``: an utterance of it runs (session_busy), or no room (overloaded).
        """
        if session is None:
            return None
        owner, name = (client.by_key, client.name), (edition.name, session)
        own = self._kept.get(owner, OrderedDict())
        if (found := own.get(name)) is not None:
            if found.busy:
                raise Refusal("session_busy", "an utterance of this session is being heard; wait for its result")
            if found.expiry is not None:
                found.expiry.cancel()
            if found.edition != edition.number:
                found.edition, found.state = edition.number, SessionState()
            found.busy = True
            return found
        idle = next((one for one in own.values() if not one.busy), None)
        if idle is not None and (len(own) >= self._limits.dialogues_per_key or len(self) >= self._limits.dialogues):
            self._forget(idle)
        if len(own) >= self._limits.dialogues_per_key or len(self) >= self._limits.dialogues:
            raise Refusal("overloaded", "all sessions are taken; try again in a moment, or without one")
        made = Dialogue(owner, name, edition.number)
        self._kept.setdefault(owner, OrderedDict())[name] = made
        return made

    def leave(self, dialogue: Dialogue | None) -> None:
        """The utterance that took it is over."""
        if dialogue is None:
            return
        dialogue.busy = False
        self._kept[dialogue.owner].move_to_end(dialogue.name)
        loop = asyncio.get_running_loop()
        dialogue.expiry = loop.call_later(self._limits.dialogue_s, self._forget, dialogue)

    def _forget(self, dialogue: Dialogue) -> None:
        if dialogue.expiry is not None:
            dialogue.expiry.cancel()
        own = self._kept[dialogue.owner]
        del own[dialogue.name]
        if not own:
            del self._kept[dialogue.owner]
