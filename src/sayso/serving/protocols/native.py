"""Our own protocol, ``/v1/stream``: JSON messages around binary samples (``schema.py``; docs/asyncapi.yaml).

``start``, samples, ``end`` from the client; ``partial``, ``result``, ``error`` from the server. After a result, or an
error that is about one stream, another ``start`` may follow on the same connection. What is wrong with the conversation
itself ends it, with an ``error`` message and a close code.
"""

from __future__ import annotations

from typing import Any

from sayso.serving.adapter import Adapter, Site
from sayso.serving.refusal import Refusal
from sayso.serving.schema import Cancel, End, Start, message_of, read_client, refused
from sayso.serving.session import Utterance
from sayso.serving.websocket import Socket, websocket_route


async def talk(socket: Socket) -> None:
    """One conversation."""
    utterance: Utterance | None = None
    sending = None
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            if utterance is None:
                raise Refusal("bad_message", "found samples before any start; send start first")
            await utterance.audio(message)
            continue
        asked = read_client(message)
        if isinstance(asked, Start):
            if utterance is not None and not utterance.ended and not utterance.over:
                raise Refusal("bad_message", "found start while a stream is open; send end first")
            if sending is not None:
                await sending
            utterance = socket.visit.open(asked.ask())
            sending = socket.help(_tell(socket, utterance))
        elif utterance is None:
            raise Refusal("bad_message", f"found {asked.type} before any start; send start first")
        elif isinstance(asked, End):
            utterance.end()
        elif isinstance(asked, Cancel):
            utterance.cancel()


async def _tell(socket: Socket, utterance: Utterance) -> None:
    async for event in utterance.events():
        await socket.send(message_of(event))


def _routes(site: Site) -> list[Any]:
    return [websocket_route("/v1/stream", site, "native", talk, refused, subprotocol="sayso.v1")]


ADAPTER = Adapter(name="native", endpoints=("ws /v1/stream",), routes=_routes)
