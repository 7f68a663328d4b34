"""The protocol by hand: requests as bytes, envelopes, and sandboxes to send them to."""

import base64
import hashlib
import http.client
import json
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

URL = os.environ["E2B_API_URL"]
KEY = os.environ["E2B_API_KEY"]
END = 0x02
SECONDS = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; what is neither bytes nor nothing is sent as JSON."""
    connection = http.client.HTTPConnection(urlsplit(URL).netloc, timeout=SECONDS)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content-type", "application/json")
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def api(method: str, path: str, body: Any = None, key: str | None = KEY) -> Answer:
    """Asks the control plane."""
    return request(method, path, body, {} if key is None else {"X-API-Key": key})


@dataclass(frozen=True)
class Sandbox:
    id: str
    token: str
    traffic: str

    def headers(self, port: int = 49983, token: str | None = None) -> dict[str, str]:
        return {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": str(port), "X-Access-Token": self.token if token is None else token}

    def request(self, method: str, path: str, body: Any = None, **more: str) -> Answer:
        """Asks `envd`; `more` are headers, with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return request(method, path, body, self.headers() | named)

    def stream(self, method: str, frames: bytes, **more: str) -> Answer:
        return self.request("POST", f"/process.Process/{method}", frames, content_type="application/connect+json", **more)

    def run(self, command: str) -> list[dict[str, Any]]:
        """The events of a command."""
        start = {"process": {"cmd": "/bin/bash", "args": ["-l", "-c", command]}, "stdin": False}
        answer = self.stream("Start", envelope(start))
        assert answer.status == 200
        return [message.get("event", message) for _flags, message in envelopes(answer.body)]

    def signature(self, path: str, operation: str = "read", user: str = "", expires: int | None = None) -> str:
        words = [path, operation, user, self.token] + ([] if expires is None else [str(expires)])
        digest = hashlib.sha256(":".join(words).encode()).digest()
        return "v1_" + base64.b64encode(digest).decode().rstrip("=")


def make(**options: Any) -> Sandbox:
    answer = api("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 120} | options)
    assert answer.status == 201, answer.body
    made = answer.json
    return Sandbox(made["sandboxID"], made["envdAccessToken"], made["trafficAccessToken"])


def envelope(message: Any, flags: int = 0) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(body)) + body


def envelopes(stream: bytes) -> list[tuple[int, Any]]:
    found = []
    while stream:
        flags, length = struct.unpack_from(">BI", stream)
        assert len(stream) >= 5 + length, f"cut off: {stream!r}"
        found.append((flags, json.loads(stream[5 : 5 + length])))
        stream = stream[5 + length :]
    return found


def error_of(answer: Answer) -> dict[str, Any]:
    """The error in the last envelope, which is where a stream has it."""
    assert answer.status == 200, (answer.status, answer.body)
    flags, last = envelopes(answer.body)[-1]
    assert flags == END
    return last["error"]


def connect() -> socket.socket:
    host, _, port = urlsplit(URL).netloc.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def head(sandbox: Sandbox, path: str, *lines: str) -> bytes:
    """The head of a POST, to send by hand."""
    named = [f"{name}: {value}" for name, value in sandbox.headers().items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {urlsplit(URL).netloc}", *named, *lines, "", ""]).encode()
