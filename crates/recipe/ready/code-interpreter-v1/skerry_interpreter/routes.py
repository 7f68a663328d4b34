"""What clients can ask for."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from .contexts import Context, Contexts
from .http import Refusal, Request, Response, plain
from .outputs import Output


class Routes:
    """The operations, over the contexts that there are."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    async def answer(self, request: Request) -> Response:
        """Does what is asked."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["health"]:
                # Whoever is told that it is well need not wait for a kernel any more.
                await self._contexts.warm_up()
                return plain("OK")
            case "POST", ["execute"]:
                return self._execute(fields(request))
            case "GET", ["contexts"]:
                return plain([described(context) for context in self._contexts.all()])
            case "POST", ["contexts"]:
                asked = fields(request)
                made = await self._contexts.create(text(asked, "language"), text(asked, "cwd"))
                return plain(described(made))
            case "POST", ["contexts", number, "restart"]:
                await self._contexts.find(number).restart()
                return plain(None)
            case "DELETE", ["contexts", number]:
                await self._contexts.remove(number)
                return plain(None)
        raise Refusal(404, "there is nothing here")

    def _execute(self, asked: Mapping[str, Any]) -> Response:
        code, number, language = (text(asked, name) for name in ("code", "context_id", "language"))
        if code is None:
            raise Refusal(400, "`code` is missing")
        if number and language:
            raise Refusal(400, "give `context_id` or `language`, not both")
        context = self._contexts.find(number) if number else self._contexts.default(language)
        outputs = context.execute(code, variables(asked.get("env_vars")))
        return Response(200, lines(outputs), "application/x-ndjson")


async def lines(outputs: AsyncGenerator[Output, None]) -> AsyncGenerator[bytes, None]:
    """One JSON object a line."""
    async with aclosing(outputs):
        async for output in outputs:
            yield json.dumps(output, default=str).encode() + b"\n"


def described(context: Context) -> dict[str, str]:
    """A context as clients know it."""
    return {"id": context.id, "language": context.language, "cwd": context.cwd}


def fields(request: Request) -> Mapping[str, Any]:
    """The request's JSON object; an empty body is an empty one."""
    try:
        asked = json.loads(request.body or b"{}")
    except ValueError:
        raise Refusal(400, "the body is not JSON") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "the body is not a JSON object")
    return asked


def text(asked: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text, or not there."""
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"`{name}` is not a text")
    return value


def variables(asked: object) -> dict[str, str]:
    """Variables of the environment."""
    if asked is None:
        return {}
    if not isinstance(asked, dict):
        raise Refusal(400, "`env_vars` is not an object")
    for name, value in asked.items():
        if not name.isidentifier() or not isinstance(value, str) or "\0" in value:
            raise Refusal(400, f"`env_vars`: `{name[:50]}` cannot be a variable with a text for its value")
    return asked
