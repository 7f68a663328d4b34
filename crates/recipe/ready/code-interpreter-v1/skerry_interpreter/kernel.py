"""What every kernel can do."""

import asyncio
import os
import signal
from typing import Protocol

from .outputs import Emit


class KernelDied(Exception):
    """The process that ran the code is gone."""


class Kernel(Protocol):
    """A process that runs code of one language and remembers what it ran. It is asked for one thing at a time."""

    async def start(self) -> None:
        """Brings it up, from nothing; raises `KernelDied` if it does not come."""

    async def execute(self, code: str, env: dict[str, str], emit: Emit) -> None:
        """Runs code to its end, with these variables in the environment meanwhile; raises `KernelDied`."""

    def is_alive(self) -> bool:
        """Whether it can be asked."""

    def interrupt(self) -> None:
        """Makes it give up what it runs, as Ctrl-C does."""

    async def stop(self) -> None:
        """Ends it with all that it started."""


def interrupt(process: asyncio.subprocess.Process | None) -> None:
    """Ctrl-C for a process and what it runs."""
    if process is not None and process.returncode is None:
        os.killpg(process.pid, signal.SIGINT)


async def end(process: asyncio.subprocess.Process | None) -> None:
    """Ends a process that leads a group of its own, and that group."""
    if process is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    await process.wait()
