"""A small HTTP/1.1 server: one request for each connection, so that whoever hangs up is noticed at once."""

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
PATIENCE = 60.0
"""Seconds that a client has to send its request."""


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Response:
    """What it is told, at once or piece by piece."""

    status: int
    body: bytes | AsyncGenerator[bytes, None]
    content_type: str = "application/json"


class Refusal(Exception):
    """What is asked cannot be done; the client is told so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Answer = Callable[[Request], Awaitable[Response]]


def plain(value: object) -> Response:
    """A value as JSON."""
    return Response(200, json.dumps(value).encode())


async def serve(answer: Answer, host: str, port: int) -> asyncio.Server:
    """Listens, and answers everybody."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            await converse(answer, reader, writer)
        writer.close()

    return await asyncio.start_server(connected, host, port, limit=MAX_HEAD)


async def converse(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the request and sends what `answer` says; both end when the client hangs up."""
    try:
        request = await asyncio.wait_for(read(reader, writer), PATIENCE)
    except Refusal as refusal:
        await send(writer, refused(refusal))
        return
    work = asyncio.create_task(respond(answer, request, writer))
    hung_up = asyncio.create_task(end_of(reader))
    await asyncio.wait({work, hung_up}, return_when=asyncio.FIRST_COMPLETED)
    for task in (work, hung_up):
        task.cancel()
    await asyncio.gather(work, hung_up, return_exceptions=True)


async def end_of(reader: asyncio.StreamReader) -> None:
    """Returns when the client has hung up. What it says before that nobody asked for."""
    while await reader.read(MAX_HEAD):
        pass


async def respond(answer: Answer, request: Request, writer: asyncio.StreamWriter) -> None:
    """Answers one request."""
    try:
        response = await answer(request)
    except Refusal as refusal:
        response = refused(refusal)
    except Exception as failure:
        traceback.print_exc()
        response = refused(Refusal(500, f"{type(failure).__name__}: {failure}"))
    await send(writer, response)


def refused(refusal: Refusal) -> Response:
    """A refusal in words."""
    return Response(refusal.status, str(refusal).encode(), "text/plain; charset=utf-8")


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """Reads one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise Refusal(400, "this is no request")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await read_chunks(reader)
    else:
        body = await reader.readexactly(size(headers.get("content-length", "0"), 10))
    return Request(words[0], words[1].partition("?")[0], body)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Reads a body whose length only its end tells."""
    body = bytearray()
    while length := size((await reader.readline()).partition(b";")[0].decode("latin-1"), 16, len(body)):
        body += await reader.readexactly(length)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return bytes(body)


def size(text: str, base: int, already: int = 0) -> int:
    """The length that a client says, if it is one and not too much."""
    try:
        length = int(text.strip(), base)
    except ValueError:
        raise Refusal(400, "a length is not a number") from None
    if length < 0 or already + length > MAX_BODY:
        raise Refusal(413, f"a request has {MAX_BODY} bytes at most")
    return length


async def send(writer: asyncio.StreamWriter, response: Response) -> None:
    """Sends a response, each piece of it as soon as it is there."""
    length = f"Content-Length: {len(response.body)}" if isinstance(response.body, bytes) else "Transfer-Encoding: chunked"
    phrase = HTTPStatus(response.status).phrase
    head = f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\n{length}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("latin-1"))
    if isinstance(response.body, bytes):
        writer.write(response.body)
    else:
        async with contextlib.aclosing(response.body) as pieces:
            async for piece in pieces:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()
