"""A server that does not take clients is told from one that is not there."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from agentd.cli.failure import FAILED, UNREACHABLE
from agentd.cli.probe import figures
from tests.cli.conftest import Command


@contextmanager
def answering(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """An HTTP server that knows these paths; its address."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_TOKEN", "t")


def test_a_server_that_is_starting_says_so_and_exits_1(command: Command) -> None:
    answers = {
        "/healthz": (200, "{}"),
        "/readyz": (503, '{"ready": false, "reasons": ["the server is starting"]}'),
        "/metrics": (200, '# HELP x\nagentd_sockets 3.0\nagentd_refused_total{cap="mailbox"} 1.0\n'),
    }
    with answering(answers) as url:
        said = command("status", "--url", url)
        assert said.code == FAILED
        assert f"at {url}: not ready" in said.out
        assert "the server is starting" in said.out
        status = json.loads(command("status", "--json", "--url", url).out)
    assert (status["ready"], status["figures"]) == (False, {"sockets": 3.0})


def test_something_else_on_the_port_is_no_server(command: Command) -> None:
    with answering({}) as url:
        said = command("status", "--url", url)
    assert said.code == UNREACHABLE
    assert "/healthz answers 404" in said.err


def test_only_single_figures_are_read() -> None:
    text = '# TYPE agentd_x counter\nagentd_x_total 2.0\nagentd_y_bucket{le="1"} 3\npython_z 1\n'
    assert figures(text) == {"x_total": 2.0}


def test_a_certificate_that_is_not_trusted_is_a_reason_and_no_traceback(command: Command, tmp_path: Path) -> None:
    with answering({}) as url:
        said = command("status", "--url", url.replace("http:", "https:"))
    assert said.code == UNREACHABLE
    assert said.err.startswith("error: no server answers at https://127.0.0.1:")
