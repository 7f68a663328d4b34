"""What a client is told of an execution: one JSON object for each thing."""

import time
from collections.abc import Callable, Mapping
from typing import Any

Output = dict[str, Any]
Emit = Callable[[Output], None]

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
"""Where a result has the content of each type; what is not here is `extra`."""

END: Output = {"type": "end_of_execution"}
KEEPALIVE: Output = {"type": "keepalive"}


def printed(name: str, text: str) -> Output:
    """Something on `stdout` or `stderr`."""
    return {"type": name, "text": text, "timestamp": time.time_ns()}


def counted(count: int) -> Output:
    """The number of the execution in its context."""
    return {"type": "number_of_executions", "execution_count": count}


def result(content: Mapping[str, Any], is_main: bool) -> Output:
    """A value in all its forms. The main result is the value of the last line."""
    known = {FIELDS[kind]: value for kind, value in content.items() if kind in FIELDS and value}
    if "text" in known:
        known["text"] = unquoted(known["text"])
    extra = {kind: value for kind, value in content.items() if kind not in FIELDS}
    return {"type": "result", "is_main_result": is_main, **known, "extra": extra}


def error(name: str, value: str, traceback: str) -> Output:
    """Why the code did not come to its end."""
    return {"type": "error", "name": name, "value": value, "traceback": traceback}


def unquoted(text: str) -> str:
    """A string is shown as it is, not as it would stand in code."""
    for quote in ("'", '"'):
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text
