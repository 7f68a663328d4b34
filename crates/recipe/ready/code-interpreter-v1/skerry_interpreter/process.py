"""Kernels with a driver of our own: it reads code from a socket, and says there what came of it.

What the code prints goes to plain pipes. A driver that says it is done has nothing left to write, so what is in the pipes then is all.
"""

import asyncio
import codecs
import contextlib
import json
import os
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import kernel
from .kernel import KernelDied
from .outputs import Emit, counted, error, printed, result

HERE = Path(__file__).parent
PIECE = 64 * 1024
LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of the longest thing that a driver says."""


def javascript(code: str, env: dict[str, str], language: str) -> bytes:
    """Code as the driver of Node.js reads it."""
    return json.dumps({"code": code, "env": env, "language": language}).encode() + b"\0"


def bash(code: str, env: dict[str, str], _language: str) -> bytes:
    """Code as the driver of bash reads it: the environment in words of its own, then the script."""
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
    return b"%s\0%s\0" % (words.encode(), code.replace("\0", "").encode())


@dataclass(frozen=True)
class Driver:
    """How a language is spoken to."""

    program: list[str]
    """The number of the socket comes behind."""
    encode: Callable[[str, dict[str, str], str], bytes]
    """Code, its environment and its language, as the driver reads them."""
    give_up: bytes
    """Asks it to give up what it waits for, before it gets a signal; empty: a signal is all that it knows."""


NODE = Driver(["node", "--no-warnings", str(HERE / "javascript.js")], javascript, b'{"give_up":true}\0')
BASH = Driver(["bash", "--noprofile", "--norc", str(HERE / "bash.sh")], bash, b"")
DRIVERS = {"javascript": NODE, "typescript": NODE, "bash": BASH}


class Pipe:
    """One of the two that code prints to, passed on as it comes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.emit: Emit | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_open = True
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> bool:
        """Reads once; whether there was something."""
        if not self._is_open:
            return False
        try:
            data = os.read(self._ours, PIECE)
        except BlockingIOError:
            return False
        text = self._decoder.decode(data)
        if text and self.emit is not None:
            self.emit(printed(self.name, text))
        if not data:
            self.close()
        return bool(data)

    def drain(self) -> None:
        """Reads all that was written until now, and no more than a pipe holds in case somebody goes on writing."""
        for _ in range(2 * 1024 * 1024 // PIECE):
            if not self._read():
                return

    def close(self) -> None:
        """Reads no more."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)


class ProcessKernel:
    """One process of a driver."""

    def __init__(self, language: str, cwd: str) -> None:
        self._driver = DRIVERS[language]
        self._language = language
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._pipes: list[Pipe] = []
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._count = 0
        self._was_asked = False

    async def start(self) -> None:
        """See `Kernel`."""
        await self.stop()
        self._count = 0
        ours, theirs = socket.socketpair()
        self._pipes = [Pipe("stdout"), Pipe("stderr")]
        out, err = (pipe.theirs for pipe in self._pipes)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._driver.program,
                str(theirs.fileno()),
                cwd=self._cwd,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=[theirs.fileno()],
            )
        finally:
            theirs.close()
            os.close(out)
            os.close(err)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT)

    async def execute(self, code: str, env: dict[str, str], emit: Emit) -> None:
        """See `Kernel`."""
        if self._writer is None:
            raise KernelDied("it was not started")
        for pipe in self._pipes:
            pipe.drain()
            pipe.emit = emit
        self._was_asked = False
        self._count += 1
        emit(counted(self._count))
        try:
            with contextlib.suppress(OSError):
                self._writer.write(self._driver.encode(code, env, self._language))
                await self._writer.drain()
                if await self._is_done(emit):
                    return
            await kernel.end(self._process)
            raise KernelDied("the process that ran the code has ended")
        finally:
            for pipe in self._pipes:
                pipe.drain()
                pipe.emit = None

    async def _is_done(self, emit: Emit) -> bool:
        """Passes on what the driver says, until it is done; or it is gone."""
        while self._reader is not None and (line := await self._reader.readline()):
            said = json.loads(line)
            for pipe in self._pipes:
                pipe.drain()
            match said["type"]:
                case "result":
                    emit(result(said["content"], is_main=said["is_main"]))
                case "error":
                    emit(error(said["name"], said["value"], said["traceback"]))
                case "done":
                    return True
        return False

    def is_alive(self) -> bool:
        """See `Kernel`."""
        return self._process is not None and self._process.returncode is None

    def interrupt(self) -> None:
        """See `Kernel`."""
        if self._driver.give_up and not self._was_asked and self._writer is not None:
            self._was_asked = True
            self._writer.write(self._driver.give_up)
        else:
            kernel.interrupt(self._process)

    async def stop(self) -> None:
        """See `Kernel`."""
        await kernel.end(self._process)
        if self._writer is not None:
            self._writer.close()
        for pipe in self._pipes:
            pipe.close()
        self._process, self._writer, self._pipes = None, None, []
