"""The E2B client of the OpenAI Agents SDK, as an agent's tools use it; no model is asked."""

import asyncio
import io
from pathlib import Path

from agents.extensions.sandbox.e2b import E2BSandboxClient, E2BSandboxClientOptions, E2BSandboxType
from agents.sandbox import Manifest
from agents.sandbox.entries import File


def test_a_session_from_begin_to_end():
    asyncio.run(_session())


async def _session() -> None:
    client = E2BSandboxClient()
    options = E2BSandboxClientOptions(sandbox_type=E2BSandboxType.E2B, template="base", timeout=120, on_timeout="kill", auto_resume=False)
    manifest = Manifest(entries={"notes.txt": File(content=b"from the manifest\n")})
    session = await client.create(manifest=manifest, options=options)
    async with session:
        root = Path(session.state.manifest.root)
        done = await session.exec("cat notes.txt; echo err >&2; exit 3")
        assert (done.stdout, done.stderr, done.exit_code) == (b"from the manifest\n", b"err\n", 3)
        await session.write(root / "made" / "deep.txt", io.BytesIO(b"written"))
        assert (await session.read(root / "made" / "deep.txt")).read() == b"written"
        await session.mkdir(root / "folder", parents=True)
        assert {"made", "folder", "notes.txt"} <= {Path(entry.path).name for entry in await session.ls(root)}
        await session.rm(root / "made", recursive=True)
        assert (await session.exec("ls made")).exit_code != 0
        terminal = await session.pty_exec_start("read line; echo got $line", tty=True)
        said = terminal.output
        answer = await session.pty_write_stdin(session_id=terminal.process_id, chars="this\n")
        assert b"got this" in said + answer.output
        assert await session.running()
        packed = await session.persist_workspace()
        assert b"from the manifest" in packed.read()
    assert not await session.running()
