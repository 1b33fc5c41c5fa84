"""What we use of uvicorn and websockets beyond their documents: an update that moves any of it fails here first."""

import asyncio
import inspect
import pickle

import httptools
import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server, ServerState
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from tests.edge.rig import CLOSE, PING, TEXT, close_frame, frame, plain_app, upgrade_request


def opened(**options: int) -> ServerProtocol:
    protocol = ServerProtocol(**options)  # type: ignore[arg-type]
    protocol.receive_data(upgrade_request())
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    assert b"".join(protocol.data_to_send()).startswith(b"HTTP/1.1 101 ")
    return protocol


# websockets


def test_the_library_hands_out_frames_with_opcode_fin_and_data() -> None:
    protocol = opened()
    protocol.receive_data(frame(TEXT, b"x", fin=False))
    (found,) = protocol.events_received()
    assert isinstance(found, Frame)
    assert (found.opcode is Opcode.TEXT, found.fin, bytes(found.data)) == (True, False, b"x")


def test_text_frames_sent_around_the_library_leave_its_state_as_sending_them_through_it_does() -> None:
    through, around = opened(), opened()
    through.send_text(b"x")
    through.send_ping(b"")
    through.data_to_send()
    assert _state(through) == _state(around)


def _state(protocol: ServerProtocol) -> bytes:
    volatile = {"id", "reader", "parser", "logger"}
    return pickle.dumps({name: value for name, value in vars(protocol).items() if name not in volatile})


@pytest.mark.parametrize("limit", [10, 100])
def test_the_limit_on_messages_is_read_anew_for_each_frame(limit: int) -> None:
    protocol = opened(max_size=50)
    protocol.receive_data(frame(TEXT, b"x"))
    protocol.max_message_size = limit
    protocol.receive_data(frame(TEXT, b"x" * 60))
    assert isinstance(protocol.parser_exc, PayloadTooBig) == (limit == 10)


def test_a_failure_is_the_last_frame_written_then_the_end_and_its_cause_is_kept() -> None:
    protocol = opened()
    protocol.receive_data(frame(PING, b"p") + frame(3))
    *pongs, close, end = protocol.data_to_send()
    assert (len(pongs), close[0] & 0x0F, end) == (1, CLOSE, SEND_EOF)
    assert isinstance(protocol.parser_exc, ProtocolError)
    assert protocol.close_sent is not None
    assert protocol.eof_sent


def test_a_failure_of_ours_writes_a_close_frame_and_the_end_and_a_second_one_nothing() -> None:
    protocol = opened()
    protocol.fail(1007, "x")
    close, end = protocol.data_to_send()
    assert (close[0] & 0x0F, end) == (CLOSE, SEND_EOF)
    protocol.fail(1009, "y")
    assert protocol.data_to_send() == []


def test_a_close_frame_is_answered_and_then_the_end() -> None:
    protocol = opened()
    protocol.receive_data(close_frame(1000))
    assert protocol.state is State.CLOSING
    close, end = protocol.data_to_send()
    assert (close[0] & 0x0F, end) == (CLOSE, SEND_EOF)
    assert protocol.parser_exc is None
    protocol.receive_data(b"what comes after the end is taken and dropped")


def test_the_end_of_the_stream_writes_nothing_but_the_end() -> None:
    protocol = opened()
    protocol.receive_eof()
    assert protocol.data_to_send() == [SEND_EOF]
    assert isinstance(protocol.parser_exc, EOFError)


def test_a_request_that_cannot_be_accepted_keeps_its_reason() -> None:
    protocol = ServerProtocol()
    protocol.receive_data(upgrade_request(Sec_WebSocket_Version="12"))
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    assert protocol.accept(request).status_code != 101
    assert "Sec-WebSocket-Version" in str(protocol.handshake_exc)


def test_the_parser_is_a_generator_that_can_be_closed_and_taken_away() -> None:
    protocol = opened()
    protocol.parser.close()
    del protocol.parser
    assert inspect.getgeneratorstate(opened().parser) == inspect.GEN_SUSPENDED


# uvicorn and httptools


def test_the_parser_says_where_the_upgrade_request_ended() -> None:
    class Nothing:
        pass

    parser = httptools.HttpRequestParser(Nothing())
    request = upgrade_request()
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(request + b"rest")
    assert upgrade.value.args[0] == len(request)


async def test_the_http_protocol_has_what_we_override_and_use() -> None:
    config = Config(plain_app, ws="none", http=HttpToolsProtocol, log_config=None)
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {})
    for method in (
        "connection_made", "connection_lost", "data_received", "on_message_begin", "on_headers_complete", "shutdown",
        "timeout_keep_alive_handler", "handle_websocket_upgrade", "_should_upgrade", "_unset_keepalive_if_required",
    ):  # fmt: skip
        assert callable(getattr(protocol, method))
    for attribute in ("parser", "cycle", "scope", "transport", "connections", "timeout_keep_alive_task"):
        assert hasattr(protocol, attribute)
    protocol.on_message_begin()
    assert protocol.scope["http_version"] == "1.1"


def test_config_takes_any_callable_for_both_protocols() -> None:
    def make_http(**arguments: object) -> asyncio.Protocol:
        return asyncio.Protocol()

    config = Config(plain_app, http=make_http, ws=make_http, lifespan="off", interface="asgi3", log_config=None)  # type: ignore[arg-type]
    config.load()
    assert config.http_protocol_class is make_http
    assert config.ws_protocol_class is make_http


async def test_the_parts_of_the_server_work_without_serve() -> None:
    server = Server(Config(plain_app, lifespan="off", log_config=None, ws="none"))
    server.config.load()
    assert server.config.ssl is None
    assert await server.on_tick(0) is False
    assert server.server_state.default_headers
    assert (server.server_state.connections, server.server_state.tasks) == (set(), set())
    made = server.config.http_protocol_class(config=server.config, server_state=server.server_state, app_state={})  # type: ignore[call-arg]
    assert isinstance(made, asyncio.Protocol)


def test_an_upgrade_calls_the_class_in_the_order_we_rely_on() -> None:
    source = inspect.getsource(HttpToolsProtocol.handle_websocket_upgrade)
    steps = ["connections.discard", "config=", "server_state=", "app_state=", "connection_made", "data_received"]
    places = [source.index(step) for step in [*steps, "set_protocol"]]
    assert places == sorted(places)
