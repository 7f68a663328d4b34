"""One contestant in Python: reads how to do a round from stdin, does it, writes what it took in milliseconds.

usage: worker.py sdk|wire|v1|podman
"""

import http.client
import json
import os
import shlex
import struct
import subprocess
import sys
import time
from urllib.parse import urlsplit

ECHOS = 25


class Plain:
    """Requests on one connection that is kept."""

    def __init__(self, url: str, headers: dict[str, str]):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = headers

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json", headers: dict[str, str] = {}) -> bytes:
        self._connection.request(method, path, body, self._headers | {"content-type": kind} | headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said
        return said


class Sdk:
    def create(self) -> None:
        from e2b import Sandbox

        self._sandbox = Sandbox.create("base")

    def echo(self) -> None:
        assert self._sandbox.commands.run("echo hi").stdout == "hi\n"

    def kill(self) -> None:
        self._sandbox.kill()


class Wire:
    """What the SDK sends, without the SDK."""

    def __init__(self) -> None:
        self._plain = Plain(os.environ["E2B_API_URL"], {"X-API-Key": os.environ["E2B_API_KEY"]})
        start = json.dumps({"process": {"cmd": "/bin/bash", "args": ["-l", "-c", "echo hi"]}, "stdin": False}).encode()
        self._start = struct.pack(">BI", 0, len(start)) + start

    def create(self) -> None:
        made = json.loads(self._plain.ask("POST", "/v2/sandboxes", b'{"templateID":"base"}'))
        self._id = made["sandboxID"]
        self._headers = {"X-Access-Token": made["envdAccessToken"], "E2b-Sandbox-Id": self._id, "E2b-Sandbox-Port": "49983"}

    def echo(self) -> None:
        said = self._plain.ask("POST", "/process.Process/Start", self._start, "application/connect+json", self._headers)
        assert b"aGkK" in said

    def kill(self) -> None:
        self._plain.ask("DELETE", f"/sandboxes/{self._id}")


class V1:
    def __init__(self) -> None:
        self._plain = Plain(os.environ["SKERRY_URL"], {"Authorization": f"Bearer {os.environ['SKERRY_API_KEY']}"})

    def create(self) -> None:
        self._path = "/v1/sandboxes/" + json.loads(self._plain.ask("POST", "/v1/sandboxes", b'{"image":"base"}'))["sandbox_id"]

    def echo(self) -> None:
        done = self._plain.ask("POST", f"{self._path}/exec", b'{"cmd":["/bin/bash","-l","-c","echo hi"]}')
        assert b"hi" in done

    def kill(self) -> None:
        self._plain.ask("DELETE", self._path)


class Podman:
    """A container over the very files of `base`; $PODMAN is the command, $ROOTFS the folder, $GROUP above its control groups."""

    def _podman(self, *words: str) -> str:
        command = [*shlex.split(os.environ["PODMAN"]), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def create(self) -> None:
        # Machines without the capability to raise limits need to be told to lower them.
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--cgroup-parent", os.environ["GROUP"]]
        words = ["--detach", "--network", "none", "--user", "user", *limits, "--rootfs", os.environ["ROOTFS"] + ":O"]
        self._id = self._podman("run", *words, "sleep", "1000").strip()

    def echo(self) -> None:
        assert self._podman("exec", self._id, "/bin/bash", "-l", "-c", "echo hi") == "hi\n"

    def kill(self) -> None:
        self._podman("rm", "--force", "--time", "0", self._id)


def main() -> None:
    way = {"sdk": Sdk, "wire": Wire, "v1": V1, "podman": Podman}[sys.argv[1]]()
    for _round in sys.stdin:
        begun = time.perf_counter()
        way.create()
        way.echo()
        first = time.perf_counter()
        for _ in range(ECHOS):
            way.echo()
        echoed = time.perf_counter()
        way.kill()
        ended = time.perf_counter()
        life = (first - begun + ended - echoed) * 1e3
        print(json.dumps({"life": life, "echos": (echoed - first) * 1e3}), flush=True)


if __name__ == "__main__":
    main()
