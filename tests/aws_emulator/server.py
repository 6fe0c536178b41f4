"""The HTTP server: one address for all services, keep-alive, a thread a connection. Knows nothing of AWS but where a
request ends; says what the world says, late, cut or not at all where a fault wants that."""

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

from aws_emulator.control import Control
from aws_emulator.settings import Settings
from aws_emulator.world import Answer, Request, World


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # a daemon may open many connections at once
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], world: World) -> None:
        super().__init__(address, _Handler)
        self.world = world
        self.control = Control(world)
        self.ending = threading.Event()  # ends what stalls

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Head and body in one segment each: Nagle would wait 40 ms for the client's acknowledgement of the first.
    disable_nagle_algorithm = True
    wbufsize = -1

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/_control"):
            status, said = self.server.control.serve(self.command, self.path, body)
            return self._send(Answer(status, "application/json", json.dumps(said, default=str).encode() + b"\n"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.world.serve(Request(self.command, self.path, headers, body))
        if answer.stall_s > 0:
            self.server.ending.wait(answer.stall_s)
        if answer.reset:
            return self._reset()
        return self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:answer.keep])
        self.wfile.flush()
        if answer.keep is not None:
            self.close_connection = True

    def _reset(self) -> None:
        """RST instead of FIN: what a program sees whose peer, or something between, gave the connection up."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """/_control/history has it."""

    def date_time_string(self, timestamp: Optional[float] = None) -> str:
        """The services' own time: a client with a wrong clock learns the right one here."""
        return super().date_time_string(self.server.world.identity.now().timestamp())

    def version_string(self) -> str:
        return "sbxfs-aws-emulator"


class Emulator:
    """The whole, for tests in Python: `with Emulator(scale=50) as aws: boto3.client(..., endpoint_url=aws.url)`."""

    def __init__(self, settings: Optional[Settings] = None, scale: float = 1.0, region: str = "us-east-1",
                 host: str = "127.0.0.1", port: int = 0, block: Optional[int] = None) -> None:
        if not host.startswith("127."):
            raise ValueError("the emulator serves this machine only: a host of 127.0.0.0/8")
        self.world = World(settings or Settings(), scale, region, block)
        self._server = _Server((host, port), self.world)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05},
                                        name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.world.close()

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
