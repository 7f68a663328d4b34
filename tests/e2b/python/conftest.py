"""What every test has: the client in its flavour, sandboxes that go away again, and a note of what was called."""

import asyncio
import inspect
import json
import os
import signal
from types import SimpleNamespace
from typing import Any, Awaitable, Callable, Iterator

import pytest
from methods import Calls, client

FLAVOUR = os.environ.get("SKERRY_E2B_FLAVOUR") or "sync"
TEST_SECONDS = 90

# Version 1 does these by other names, which have tests of their own.
second_generation = pytest.mark.skipif(not hasattr(client, "Template"), reason="in version 1 it is done otherwise")

LOOP = asyncio.new_event_loop()
CALLS = Calls(FLAVOUR)
# For each method: the tests that passed and called it, and those that failed.
PASSED: dict[str, list[str]] = {}
FAILED: dict[str, list[str]] = {}


async def do(result: Any) -> Any:
    """What a call gives in either flavour: a value, or something to wait for."""
    return await result if inspect.isawaitable(result) else result


class Sdk(SimpleNamespace):
    """The classes of this flavour, by the names that both have."""

    def __getattr__(self, name: str) -> Any:
        return getattr(client, f"Async{name}" if FLAVOUR == "async" else name)

    @property
    def create(self) -> Callable[..., Any]:
        """What makes a sandbox; in version 1 that is the class itself."""
        return getattr(self.Sandbox, "create", self.Sandbox)

    def needs(self, owner: str, method: str) -> None:
        """Leaves the test out where this version has no such method."""
        found = getattr(self, owner, None) if hasattr(client, owner) else None
        if found is None or not hasattr(found, method):
            pytest.skip(f"this version has no {owner}.{method}")


@pytest.fixture
def sdk() -> Sdk:
    return Sdk(flavour=FLAVOUR, is_async=FLAVOUR == "async")


@pytest.fixture
def make(sdk: Sdk) -> Iterator[Callable[..., Awaitable[Any]]]:
    """Makes sandboxes, and kills them when the test is over."""
    made = []

    async def make(*args: Any, **options: Any) -> Any:
        sandbox = await do(sdk.create(*args, **{"timeout": 120} | options))
        made.append(sandbox.sandbox_id)
        return sandbox

    yield make
    for sandbox_id in made:
        LOOP.run_until_complete(do(sdk.Sandbox.kill(sandbox_id)))


@pytest.fixture
def sandbox(make: Callable[..., Awaitable[Any]]) -> Any:
    return LOOP.run_until_complete(make())


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine, also with the client that is none, and hears what it calls."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    into = FAILED
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TEST_SECONDS)
    try:
        with CALLS as heard:
            LOOP.run_until_complete(pyfuncitem.obj(**arguments))
        into = PASSED
    finally:
        signal.alarm(0)
        for name in heard:
            into.setdefault(name, []).append(pyfuncitem.name)
    return True


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the test takes longer than {TEST_SECONDS} s")


def pytest_sessionfinish() -> None:
    """Writes what came of each method, for the table."""
    if path := os.environ.get("SKERRY_E2B_REPORT"):
        said = {name: _came_of(name) for name in CALLS.names.values()}
        with open(path, "w") as file:
            json.dump(said, file)


def _came_of(name: str) -> str:
    if name in PASSED:
        return "passed"
    return "failed" if name in FAILED else "never called"
