"""A server on this machine that speaks the protocol of OpenAI's chat completions, and fails in the ways servers do.

with serve() as server:
    server.then(status(500), hang, says("yes"))  # these replies first, then `server.answer` for every request
    ... Judge(server.url, "judge-model")
    assert server.requests[0].body["model"] == "judge-model"
"""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Request:
    """One that came in; header names in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def text(self) -> str:
        """What the user's message says."""
        return self.body["messages"][-1]["content"][0]["text"]

    @property
    def pictures(self) -> list[bytes]:
        urls = [part["image_url"]["url"] for part in self.body["messages"][-1]["content"][1:]]
        assert all(url.startswith("data:image/png;base64,") for url in urls)
        return [base64.b64decode(url.partition(",")[2], validate=True) for url in urls]


@dataclass(frozen=True)
class Reply:
    """What goes back; None closes the connection without a word."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Behaviour = Callable[[Request], Reply | None]


@dataclass
class Server:
    """`requests` holds what came in, in order."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answer: Behaviour = field(default_factory=lambda: says("yes"))
    over: threading.Event = field(default_factory=threading.Event)  # ends whoever hangs
    _first: list[Behaviour] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def then(self, *behaviours: Behaviour) -> None:
        """Gives the replies to the next requests."""
        self._first.extend(behaviours)

    def reply(self, request: Request) -> Reply | None:
        with self._lock:
            self.requests.append(request)
            behaviour = self._first.pop(0) if self._first else self.answer
        if behaviour is hang:
            self.over.wait(30)
        return behaviour(request)


def says(text: Any, usage: Any = (10, 3), finish: str = "stop", **message: Any) -> Behaviour:
    """An answer. usage: tokens in and out; None leaves them out. message: other fields of the message."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    data: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if usage is not None:
        data["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return raw(json.dumps(data).encode())


def raw(body: bytes, kind: str = "application/json") -> Behaviour:
    return lambda _: Reply(200, body, {"Content-Type": kind})


def status(number: int, message: str = "no", headers: Mapping[str, str] | None = None, **error: Any) -> Behaviour:
    """An error in the protocol's form."""
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return lambda _: Reply(number, body, {"Content-Type": "application/json", **(headers or {})})


def hang(_: Request) -> None:
    """Says nothing until the test is over."""


def close(_: Request) -> None:
    """Closes the connection without a word."""


def echo(request: Request) -> Reply | None:
    """Answers with the request's own headers."""
    return says(f"yes, you sent {dict(request.headers)}")(request)


@contextmanager
def serve() -> Iterator[Server]:
    """A server, for as long as the block runs."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet; in two, each reply would take 40 ms

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.reply(Request(self.command, self.path, headers, json.loads(data) if data else None))
            self.close_connection = reply is None
            if reply is not None:
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

        do_POST = do_GET = do_CONNECT = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass  # a client that has gone away

    with Threads(("127.0.0.1", 0), Handler) as threads:
        server.url = f"http://127.0.0.1:{threads.server_address[1]}/v1"
        thread = threading.Thread(target=threads.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            threads.shutdown()
            thread.join()
