"""A server that says what a test wants, in chunks, and breaks off where it wants."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


@contextmanager
def answering(*bodies: Sequence[bytes | None], head: bytes = HEAD) -> Iterator[str]:
    """Each connection gets the next body, the last one for ever. `None` in it: the connection ends there."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, list(bodies), head), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(listener: socket.socket, bodies: list[Sequence[bytes | None]], head: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        body = bodies.pop(0) if len(bodies) > 1 else bodies[0]
        with connection:
            connection.recv(65_536)
            connection.sendall(head + b"".join(_chunk(piece) for piece in body if piece is not None))
            if None not in body:
                connection.sendall(b"0\r\n\r\n")


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
