"""A real headless browser, where there is one: it opens a page of ours, and what the page finds out is posted to us."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REPORT_S = 30.0
NONE = "NOT RUN: there is no Chromium here; .ci/run installs chromium-headless-shell, or set AGENTD_BROWSER"


def found() -> str | None:
    """The program, or None."""
    named = os.environ.get("AGENTD_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """Serves one page on a port of its own (another origin than the server under test) and waits for its report."""

    def __init__(self) -> None:
        self._html = b""
        self._report: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        """The page's origin."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def opened(self, origin: str, browser: str, script: str) -> Any:
        """Open it with this script; what that posts to /report."""
        self._html = f"<!doctype html><meta charset=utf-8><script type=module>{script}</script>".encode()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            process = subprocess.Popen(  # noqa: ASYNC220
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 f"--user-data-dir={home}", "--remote-debugging-port=0", origin + "/"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(REPORT_S):
                    return await self._report
            finally:
                process.kill()
                await asyncio.to_thread(process.wait)
                assert self._server is not None
                self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        body = await reader.readexactly(length)
        if head.startswith(b"POST /report") and not self._report.done():
            self._report.set_result(json.loads(body))
        answer = self._html if head.startswith(b"GET / ") else b""
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(answer)
        )
        writer.write(answer)
        await writer.drain()
        writer.close()
