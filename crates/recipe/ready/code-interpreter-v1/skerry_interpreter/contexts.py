"""Contexts: each has its language, its folder and its variables, and runs one piece of code after another."""

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from .http import Refusal
from .jupyter import JUPYTER, JupyterKernel
from .kernel import Kernel, KernelDied
from .outputs import END, KEEPALIVE, Output, error
from .process import DRIVERS, ProcessKernel

DEFAULT_LANGUAGE = "python"
SILENCE = 5.0
"""Seconds without a word after which a client is told that it goes on."""
INTERRUPTS = 10
PATIENCE = 0.5
"""Code is interrupted so often, with as many seconds between: it may catch one, or not have begun yet."""
MAX_CONTEXTS = 64
NAMES = {"js": "javascript", "ts": "typescript", "sh": "bash"}
LANGUAGES = [*JUPYTER, *DRIVERS]


@dataclass
class Context:
    """One of them."""

    language: str
    cwd: str
    kernel: Kernel
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_removed: bool = False

    async def warm_up(self) -> None:
        """Brings its kernel up, unless that is done."""
        if not self.kernel.is_alive():
            async with self.turn:
                await self._start()

    async def _start(self) -> None:
        if self.is_removed:
            raise KernelDied("the context was removed")
        if self.kernel.is_alive():
            return
        try:
            await self.kernel.start()
        except BaseException:
            await self.kernel.stop()
            raise

    async def restart(self) -> None:
        """Forgets all that it knows, and gives up what it runs."""
        await self.kernel.stop()
        await self.warm_up()

    async def execute(self, code: str, env: dict[str, str]) -> AsyncGenerator[Output, None]:
        """Runs code and gives what comes of it. Whoever goes away before the end interrupts it."""
        said: asyncio.Queue[Output] = asyncio.Queue()
        work = asyncio.create_task(self._work(code, env, said))
        try:
            while True:
                try:
                    output = await asyncio.wait_for(said.get(), SILENCE)
                except TimeoutError:
                    output = KEEPALIVE
                yield output
                if output is END:
                    return
        finally:
            if not work.done():
                work.cancel()

    async def _work(self, code: str, env: dict[str, str], said: asyncio.Queue[Output]) -> None:
        async with self.turn:
            try:
                await self._start()
                running = asyncio.create_task(self.kernel.execute(code, env, said.put_nowait))
                try:
                    await asyncio.shield(running)
                except asyncio.CancelledError:
                    await self._give_up(running)
                    raise
            except (KernelDied, OSError) as died:
                said.put_nowait(error("KernelDied", str(died), ""))
            finally:
                said.put_nowait(END)

    async def _give_up(self, running: asyncio.Task[None]) -> None:
        """Interrupts what runs; a kernel that does not listen is ended, and the next code gets another."""
        for _ in range(INTERRUPTS):
            self.kernel.interrupt()
            await asyncio.wait({running}, timeout=PATIENCE)
            if running.done():
                break
        else:
            await self.kernel.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Contexts:
    """All of them."""

    def __init__(self, cwd: str) -> None:
        self._cwd = cwd
        self._all: dict[str, Context] = {}
        self._defaults: dict[str, Context] = {}

    async def warm_up(self) -> None:
        """Brings up what most clients ask for first."""
        await self.default(DEFAULT_LANGUAGE).warm_up()

    def all(self) -> list[Context]:
        """In the order in which they were made."""
        return list(self._all.values())

    def default(self, language: str | None) -> Context:
        """The context of who names none; made at its first use."""
        language = known(language)
        if language not in self._defaults:
            self._defaults[language] = self._add(language, self._cwd)
        return self._defaults[language]

    async def create(self, language: str | None, cwd: str | None) -> Context:
        """A new one, whose kernel is up."""
        cwd = os.path.expanduser(cwd or self._cwd)
        if not os.path.isdir(cwd):
            raise Refusal(400, f"folder `{cwd}` does not exist")
        context = self._add(known(language), cwd)
        await context.warm_up()
        return context

    def find(self, number: str) -> Context:
        """The one with this id."""
        if number not in self._all:
            raise Refusal(404, f"context {number} does not exist")
        return self._all[number]

    async def remove(self, number: str) -> None:
        """Ends one. A default comes back, new, when it is asked for."""
        context = self.find(number)
        del self._all[number]
        context.is_removed = True
        self._defaults = {name: one for name, one in self._defaults.items() if one is not context}
        await context.kernel.stop()

    async def close(self) -> None:
        """Ends all of them."""
        for context in self.all():
            await self.remove(context.id)

    def _add(self, language: str, cwd: str) -> Context:
        if len(self._all) >= MAX_CONTEXTS:
            raise Refusal(400, f"there are {MAX_CONTEXTS} contexts already; remove one")
        if language in JUPYTER:
            kernel: Kernel = JupyterKernel(language, cwd)
        else:
            kernel = ProcessKernel(language, cwd)
        context = Context(language, cwd, kernel)
        self._all[context.id] = context
        return context


def known(language: str | None) -> str:
    """The language's own name; who names none means Python."""
    name = (language or DEFAULT_LANGUAGE).lower()
    name = NAMES.get(name, name)
    if name not in LANGUAGES:
        raise Refusal(400, f"language `{name[:50]}` is not here; there is: {', '.join(LANGUAGES)}")
    return name
