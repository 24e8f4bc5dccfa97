"""A server of OpenAI's embeddings, in this process on a free port: faithful, and faulty on demand."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from goclaw.embedders import Hashing

KEY = "sk-this-is-a-secret"


class Server:
    """Answers `POST /v1/embeddings`. `faults` are taken one a request, in order, before all goes well."""

    def __init__(self, dim: int = 16) -> None:
        self.dim = dim
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Callable[[Handler, dict[str, Any]], bool]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        owner: Server = self.server.owner  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner.requests.append(body)
        owner.headers.append(dict(self.headers))
        if owner.faults and owner.faults.pop(0)(self, body):
            return
        if self.path != "/v1/embeddings":
            self.say(404, {"error": {"message": f"no {self.path} here"}})
        elif self.headers["Authorization"] != f"Bearer {KEY}":
            said = f"Incorrect API key provided: {self.headers['Authorization']}"
            self.say(401, {"error": {"message": said, "type": "invalid_request_error", "code": "invalid_api_key"}})
        else:
            self.say(200, self.embeddings(body))

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        owner: Server = self.server.owner  # type: ignore[attr-defined]
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = Hashing(body.get("dimensions", owner.dim))(texts)
        if body.get("encoding_format") == "base64":
            made: list[Any] = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
        else:
            made = vectors
        # Backwards: the order is that of the indexes.
        data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(made)][::-1]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}

    def say(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def fault(status: int, message: str = "no", **headers: str) -> Callable[[Handler, dict[str, Any]], bool]:
    """Answers one request with an error."""

    def answer(handler: Handler, body: dict[str, Any]) -> bool:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.say(status, {"error": {"message": message}}, names)
        return True

    return answer


def said(answer: Any) -> Callable[[Handler, dict[str, Any]], bool]:
    """Answers one request with 200 and this."""

    def answers(handler: Handler, body: dict[str, Any]) -> bool:
        handler.say(200, answer(handler.embeddings(body)) if callable(answer) else answer)
        return True

    return answers


def reset(handler: Handler, body: dict[str, Any]) -> bool:
    """Ends the connection without an answer."""
    handler.close_connection = True
    handler.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset, no goodbye
    handler.connection.close()
    return True
