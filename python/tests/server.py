"""A server on loopback whose files can stall, fail or be refused."""

from __future__ import annotations

import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from typing_extensions import Self


class Server:
    """Serves the files that it is given.

    `stall_at[path] = n`: the first n bytes come, and then nothing more until the server ends or
    the entry is removed. `refused[path] = status`: that is the answer.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.stall_at: dict[str, int] = {}
        self.refused: dict[str, HTTPStatus] = {}
        self.requests: list[str] = []
        self.stalled = threading.Event()
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.requests.append(path)
        if path in self.refused or path not in self.files:
            request.send_error(self.refused.get(path, HTTPStatus.NOT_FOUND))
            return
        body = self.files[path]
        start = 0
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if found:
            start = int(found[1])
            request.send_response(HTTPStatus.PARTIAL_CONTENT)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(HTTPStatus.OK)
        request.send_header("Content-Length", str(len(body) - start))
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("ETag", f'"{hash(body) & 0xFFFFFFFF:x}"')
        request.end_headers()
        try:
            stall = self.stall_at.get(path)
            if stall is not None and start < stall:
                request.wfile.write(body[start:stall])
                request.wfile.flush()
                self.stalled.set()
                self.released.wait()
            request.wfile.write(body[max(start, stall or 0) :])
        except ConnectionError:
            pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
