"""A web server of one page for one machine: loopback only, one request at a time, on its own thread."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

from minihv.errors import HostError, MinihvError
from minihv.report.prometheus import CONTENT_TYPE

LOOPBACK = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")
"""Names that a request may ask for: a web page that made its own name lead here is not answered."""
PATIENCE = 5.0
"""Seconds for a client to send its request or take the answer."""


class MetricsServer:
    """Bound when it is made, serves from `start` to `close`. Raises HostError where the port is taken."""

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        try:
            self._server = _Server(port, text)
        except OSError as error:
            raise HostError(
                f"port {port} of {LOOPBACK} cannot be used for metrics: {error.strerror}; choose another"
            ) from error
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread, also in the middle of a request, and free the port."""
        if self._thread is not None:
            self._server.hurry()
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(HTTPServer):
    allow_reuse_address = True

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        self.text = text
        self._current: socket.socket | None = None
        self._ending = False
        self._lock = threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """As the base class does, but without asking a name server for this host's name."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def process_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client: object) -> None:
        assert isinstance(request, socket.socket)
        with self._lock:
            self._current = request
            if self._ending:
                request.shutdown(socket.SHUT_RDWR)
        try:
            self.finish_request(request, client)
        finally:
            with self._lock:
                self._current = None
            self.shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or stalled is its own business."""

    def hurry(self) -> None:
        """From another thread: whoever is being served right now is cut off."""
        with self._lock:
            self._ending = True
            if self._current is not None:
                self._current.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE

    def do_GET(self) -> None:
        if self.headers.get("Host", LOOPBACK).partition(":")[0] not in HOSTS:
            self._answer(403, "only for requests to 127.0.0.1 or localhost\n")
        elif self.path not in ("/", "/metrics"):
            self._answer(404, "the metrics are at /metrics\n")
        else:
            try:
                text = self.server.text()
            except (MinihvError, OSError, ValueError) as error:  # the engine is being exchanged
                self._answer(503, f"not just now: {error}\n")
            else:
                self._answer(200, text, CONTENT_TYPE)

    def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error belongs to the guest's session."""
