"""Sandboxes for the tests of the wire."""

from typing import Iterator

import pytest
import wire


@pytest.fixture
def sandbox() -> Iterator[wire.Sandbox]:
    made = wire.make()
    yield made
    wire.api("DELETE", f"/sandboxes/{made.id}")


@pytest.fixture
def other() -> Iterator[wire.Sandbox]:
    made = wire.make()
    yield made
    wire.api("DELETE", f"/sandboxes/{made.id}")
