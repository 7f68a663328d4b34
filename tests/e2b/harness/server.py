"""A real server with a data folder of its own, the image `base` in it, and nothing left of it afterwards."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from .clients import CACHE

START_SECONDS = 90
GONE_SECONDS = 30


class Server:
    """Runs from `with` to its end. `url` and `key` are for /v1."""

    def __init__(self, program: Path):
        self._program = program.resolve(strict=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        # On the file system of the cached image, so that this is linked and not copied.
        self.folder = Path(tempfile.mkdtemp(prefix="server-", dir=CACHE))
        self.data = self.folder / "data"
        self.url = self.key = ""

    def __enter__(self) -> "Server":
        images = CACHE / "base" / "images"
        self.data.mkdir(mode=0o700)
        if images.exists():
            subprocess.run(["cp", "-al", str(images), str(self.data / "images")], check=True)
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [self._program, "up", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"],
            env=os.environ | {"SKERRY_DATA_DIR": str(self.data), "HOME": str(self.data), "SKERRY_LOG": "warn"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            self._wait_until_ready()
            if not images.exists():
                self._build_base(images)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _wait_until_ready(self) -> None:
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log()}")
            try:
                self.url = (self.data / "url").read_text().strip()
                self.key = (self.data / "key").read_text().strip()
                if self.url and self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the server does not listen:\n{self.log()}")

    def _build_base(self, images: Path) -> None:
        self.cli("image", "build", "base")
        fresh = Path(tempfile.mkdtemp(prefix=".base-", dir=CACHE))
        subprocess.run(["cp", "-a", str(self.data / "images"), str(fresh)], check=True)
        fresh.rename(images.parent)

    def cli(self, *words: str) -> str:
        """What the command line prints."""
        command = [self._program, "--data-dir", self.data, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Asks /v1."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def env(self, domain: bool) -> dict[str, str]:
        """What a user of the clients exports."""
        said = json.loads(self.cli("env", "e2b", "--json", *(["--domain"] if domain else [])))
        return {name: value for name, value in said.items() if value is not None}

    def leftovers(self) -> list[str]:
        """What there still is although every test removed its own: waits a little for what is just ending."""
        limit = time.monotonic() + GONE_SECONDS
        while (left := self._sandboxes()) and time.monotonic() < limit:
            time.sleep(0.2)
        return left

    def _sandboxes(self) -> list[str]:
        return [f"sandbox {one['sandbox_id']}" for one in json.loads(self.cli("ls", "--json"))]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-8000:]

    def __exit__(self, *error: object) -> None:
        # Sandboxes outlive their server; those of tests that broke off must not.
        subprocess.run([self._program, "--data-dir", self.data, "clean", "--force"], capture_output=True)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GONE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        left = self._traces()
        limit = time.monotonic() + GONE_SECONDS
        while left and time.monotonic() < limit:
            time.sleep(0.2)
            left = self._traces()
        if error[0] is not None or left:
            print(f"--- server ---\n{self.log()}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
        if left and error[0] is None:
            raise RuntimeError("left on this machine: " + ", ".join(left))

    def _traces(self) -> list[str]:
        """Processes, mounts and loop devices that name the data folder."""
        data = str(self.data)
        traces = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            for file in ("cmdline", "environ", "mountinfo"):
                try:
                    text = (process / file).read_bytes()
                except OSError:
                    continue
                if data.encode() in text:
                    traces.append(f"process {process.name} ({file})")
        loops = subprocess.run(["losetup", "--all", "--list", "--output", "BACK-FILE"], capture_output=True, text=True)
        return traces + [line for line in loops.stdout.splitlines() if data in line]
