"""Kernels that speak Jupyter's protocol, over sockets that only their user can reach."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import write_connection_file

from . import kernel
from .kernel import KernelDied
from .outputs import Emit, counted, error, printed, result

START_LIMIT = 60.0
"""Seconds that one may take to come up."""
ANSWER_LIMIT = 0.1
"""Seconds after which it is asked again: what it says before somebody listens is lost."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Language:
    """What differs from one language to another."""

    program: list[str]
    """How its kernel is started; the file that says where it listens comes behind."""
    enter: Callable[[dict[str, str]], str]
    """Code that sets variables of the environment …"""
    leave: str
    """… and sets them back."""


def in_python(env: dict[str, str]) -> str:
    """See `Language.enter`."""
    return f"__import__('skerry_interpreter.inside').inside.enter({env!r})"


def in_r(env: dict[str, str]) -> str:
    """See `Language.enter`."""
    names = ", ".join(json.dumps(name) for name in env)
    values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env.items())
    return f"options(skerry.env = Sys.getenv(c({names}), NA, names = TRUE)); Sys.setenv({values})"


PYTHON = [
    sys.executable,
    "-Xfrozen_modules=off",
    "-m",
    "ipykernel_launcher",
    "--ext=skerry_interpreter.inside",
    "--InteractiveShell.colors=NoColor",
    "--log-level=ERROR",
    "-f",
]
R = ["R", "--slave", "-e", "IRkernel::main()", "--args"]
R_LEAVE = (
    'local({ old <- getOption("skerry.env"); '
    "for (name in names(old)) if (is.na(old[[name]])) Sys.unsetenv(name) else do.call(Sys.setenv, as.list(old[name])) })"
)
JUPYTER = {
    "python": Language(PYTHON, in_python, "__import__('skerry_interpreter.inside').inside.leave()"),
    "r": Language(R, in_r, R_LEAVE),
}


class JupyterKernel:
    """One process of such a kernel."""

    def __init__(self, language: str, cwd: str) -> None:
        self._language = JUPYTER[language]
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._is_up = False
        self._folder = Path()
        self._client: Any = None
        self._listening: asyncio.Task[None] | None = None
        self._heard: dict[str, Callable[[Message | None], None]] = {}

    async def start(self) -> None:
        """See `Kernel`."""
        await self.stop()
        self._folder = Path(tempfile.mkdtemp(prefix="kernel-"))
        file, facts = write_connection_file(str(self._folder / "it.json"), transport="ipc", ip=str(self._folder / "s"))
        context = zmq.asyncio.Context()
        # A cell that prints faster than anybody reads must not lose its end.
        context.rcvhwm = 0
        self._client = AsyncKernelClient(context=context)
        self._client.load_connection_info(facts)
        self._process = await asyncio.create_subprocess_exec(
            *self._language.program,
            file,
            cwd=self._cwd,
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        self._client.start_channels(stdin=False, hb=False)
        self._listening = asyncio.create_task(self._listen(self._process))
        try:
            await asyncio.wait_for(self._until_up(), START_LIMIT)
        except TimeoutError:
            raise KernelDied(f"it did not come up within {START_LIMIT:.0f} s") from None
        self._is_up = True

    async def _until_up(self) -> None:
        """Asks until it is heard to answer."""
        while True:
            try:
                return await asyncio.wait_for(self._ask(""), ANSWER_LIMIT)
            except TimeoutError:
                continue

    async def execute(self, code: str, env: dict[str, str], emit: Emit) -> None:
        """See `Kernel`."""
        if env:
            await self._ask(self._language.enter(env))
        await self._ask(code, lambda message: tell(message, emit))
        if env:
            await self._ask(self._language.leave)

    async def _ask(self, code: str, tell_of: Callable[[Message], None] | None = None) -> None:
        """Runs code until its end; nobody to tell of it: it leaves no trace."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(message: Message | None) -> None:
            if over.done():
                return
            if message is None:
                over.set_exception(KernelDied("the process that ran the code has ended"))
            elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                over.set_result(None)
            elif tell_of is not None:
                tell_of(message)

        if self._process is None or self._process.returncode is not None:
            raise KernelDied("the process that runs the code has ended")
        silent = tell_of is None
        number = self._client.execute(code, silent=silent, store_history=not silent, allow_stdin=False, stop_on_error=False)
        self._heard[number] = hear
        try:
            await over
        finally:
            self._heard.pop(number, None)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Hands each message to whoever asked for what it is about, and tells everybody when it has ended."""
        ended = asyncio.create_task(process.wait())
        while not ended.done():
            got = asyncio.ensure_future(self._client.get_iopub_msg())
            await asyncio.wait({got, ended}, return_when=asyncio.FIRST_COMPLETED)
            if got.done():
                message = got.result()
                hear = self._heard.get(message["parent_header"].get("msg_id"))
                if hear is not None:
                    hear(message)
            else:
                got.cancel()
        self._tell_end()

    def _tell_end(self) -> None:
        for hear in list(self._heard.values()):
            hear(None)

    def is_alive(self) -> bool:
        """See `Kernel`."""
        return self._is_up and self._process is not None and self._process.returncode is None

    def interrupt(self) -> None:
        """See `Kernel`."""
        kernel.interrupt(self._process)

    async def stop(self) -> None:
        """See `Kernel`."""
        self._is_up = False
        process, client, listening = self._process, self._client, self._listening
        self._process, self._client, self._listening = None, None, None
        await kernel.end(process)
        self._tell_end()
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if client is not None:
            client.stop_channels()
            client.context.destroy(linger=0)
            shutil.rmtree(self._folder, ignore_errors=True)


def tell(message: Message, emit: Emit) -> None:
    """Passes on what concerns a client."""
    content = message["content"]
    match message["msg_type"]:
        case "stream":
            emit(printed(content["name"], content["text"]))
        case "execute_input":
            emit(counted(content["execution_count"]))
        case "execute_result":
            emit(result(content["data"], is_main=True))
        case "display_data" | "update_display_data":
            emit(result(content["data"], is_main=False))
        case "error":
            emit(error(content["ename"], content["evalue"], "\n".join(content["traceback"])))
