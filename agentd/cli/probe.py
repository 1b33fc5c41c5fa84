"""The HTTP side of a server as a command sees it: alive, ready, figures. Blocking, with a deadline."""

import http.client
import ssl
from urllib.parse import urlsplit

import msgspec

from agentd.cli.address import Server

TIMEOUT_S = 5.0
BODY_BYTES_MAX = 4 << 20


class Answer(msgspec.Struct, frozen=True):
    """`status` 0: nobody answered, `text` says why."""

    status: int
    text: str


def get(server: Server, path: str) -> Answer:
    """Ask for `path`; every failure is an answer."""
    return _asked(server, "GET", path, TIMEOUT_S)


def post(server: Server, path: str, timeout_s: float) -> Answer:
    """Have `path` done, which may take `timeout_s`; every failure is an answer."""
    return _asked(server, "POST", path, timeout_s)


def _asked(server: Server, method: str, path: str, timeout_s: float) -> Answer:
    parts = urlsplit(server.url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    )
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {server.token}"})
        response = connection.getresponse()
        return Answer(response.status, response.read(BODY_BYTES_MAX).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, getattr(error, "strerror", None) or str(error) or type(error).__name__)
    finally:
        connection.close()


def not_ready(server: Server) -> list[str]:
    """Why a server that answers takes no clients now; nothing when it does."""
    found = get(server, "/readyz")
    if found.status == 200:
        return []
    try:
        reasons = msgspec.json.decode(found.text).get("reasons")
    except (msgspec.DecodeError, AttributeError):
        reasons = None
    return [str(one) for one in reasons] if reasons else [f"/readyz answers {found.status or found.text}"]


def figures(text: str) -> dict[str, float]:
    """Single figures of the Prometheus text by name, without labels, buckets and comments."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("agentd_") and "{" not in name:
            found[name.removeprefix("agentd_")] = float(value)
    return found
