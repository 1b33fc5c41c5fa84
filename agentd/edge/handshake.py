"""From the bytes of an upgrade request to an `Upgrade`, and to the 101 that would accept it.

No middleware of the HTTP application runs for an upgrade, so everything a door may want to know of the request is
read here. The library checks the handshake; what it finds wrong is told as an error object, like every refusal.
"""

from urllib.parse import parse_qsl, unquote

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from agentd.edge.door import Upgrade
from agentd.protocol.errors import InvalidPayload

SWITCHING = 101
QUERY_FIELDS_MAX = 32


def read_request(protocol: ServerProtocol, data: bytes) -> tuple[Request, Response]:
    """Parse the one request in `data`; the response is its 101, not sent yet.

    Raises:
        InvalidPayload: no acceptable WebSocket handshake; `details.path` is "handshake".
    """
    protocol.receive_data(data)
    events = protocol.events_received()
    if not events or not isinstance(events[0], Request):
        raise _bad("the upgrade request cannot be read, is too large, or has a body")
    response = protocol.accept(events[0])
    if response.status_code != SWITCHING:
        raise _bad(str(protocol.handshake_exc))
    return events[0], response


def read_upgrade_request(request: Request, *, address: str, secure: bool) -> Upgrade:
    """What the door gets to see.

    Raises:
        InvalidPayload: the address has more than `QUERY_FIELDS_MAX` query fields.
    """
    path, _, text = request.path.partition("?")
    try:
        query = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise _bad("the address of the upgrade request has too many fields") from None
    return Upgrade(
        path=unquote(path),
        query=tuple(query),
        headers=tuple((name.lower(), value) for name, value in request.headers.raw_items()),
        address=address,
        secure=secure,
    )


def _bad(message: str) -> InvalidPayload:
    return InvalidPayload(message, path="handshake", hint="Connect with a WebSocket client, version 13.")
