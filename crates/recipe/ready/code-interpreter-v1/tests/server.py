"""The server as a client sees it: a process on a loopback port, spoken to over HTTP."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    # Where Debian has TypeScript; its own Node.js looks there by itself.
    "NODE_PATH": "/usr/share/nodejs",
}


class Server:
    """One of them, and a folder that its contexts start in."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        program = [sys.executable, "-m", "skerry_interpreter", "--host", "127.0.0.1", "--port", "0", "--cwd", self.folder.name]
        self.process = subprocess.Popen(program, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[-1])

    def close(self) -> None:
        """Ends it; whether it went as it should."""
        self.process.terminate()
        self.process.communicate(timeout=30)
        self.folder.cleanup()

    def begin(self, method: str, path: str, body: object = None) -> http.client.HTTPConnection:
        """Sends a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection

    def call(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """The status and the body of the answer."""
        connection = self.begin(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def run(self, code: str, **more: object) -> list[dict[str, Any]]:
        """All that comes of running code."""
        status, text = self.call("POST", "/execute", {"code": code, **more})
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]


def of(outputs: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of one type."""
    return [output for output in outputs if output["type"] == kind]


def printed(outputs: list[dict[str, Any]], name: str = "stdout") -> str:
    """All that was printed."""
    return "".join(output["text"] for output in of(outputs, name))


def value(outputs: list[dict[str, Any]]) -> str | None:
    """The text of the main result."""
    main = [output["text"] for output in of(outputs, "result") if output["is_main_result"]]
    return main[0] if main else None
