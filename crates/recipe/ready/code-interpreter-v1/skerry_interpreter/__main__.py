"""The server: `python3 -m skerry_interpreter`."""

import argparse
import asyncio
import signal

from . import http
from .contexts import Contexts
from .routes import Routes


async def serve(host: str, port: int, cwd: str) -> None:
    """Serves until it is told to end, and leaves no kernel behind."""
    contexts = Contexts(cwd)
    server = await http.serve(Routes(contexts).answer, host, port)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    over = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, over.set)
    warming = asyncio.create_task(contexts.warm_up())
    await over.wait()
    warming.cancel()
    server.close()
    await contexts.close()


def main() -> None:
    """Reads what the command line says."""
    parser = argparse.ArgumentParser(prog="skerry_interpreter")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=49999)
    parser.add_argument("--cwd", default="/home/user")
    said = parser.parse_args()
    asyncio.run(serve(said.host, said.port, said.cwd))


if __name__ == "__main__":
    main()
