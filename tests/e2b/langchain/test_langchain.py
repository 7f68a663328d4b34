"""LangChain's sandbox for Deep Agents, in both flavours."""

import asyncio

import e2b
from langchain_e2b import AsyncE2BSandbox, E2BSandbox


def test_the_backend():
    sandbox = e2b.Sandbox.create("base", timeout=120)
    try:
        backend = E2BSandbox(sandbox=sandbox)
        assert backend.id == sandbox.sandbox_id
        done = backend.execute("echo out; echo err >&2; exit 3")
        assert done.exit_code == 3 and "out" in done.output and "err" in done.output
        assert backend.execute("sleep 1000", timeout=1).exit_code == 124
        uploaded = backend.upload_files([("/home/user/a.txt", b"one\ntwo\n"), ("/home/user", b"x")])
        assert [one.error for one in uploaded] == [None, "is_directory"]
        loaded = backend.download_files(["/home/user/a.txt", "/no/such"])
        assert [(one.content, one.error) for one in loaded] == [(b"one\ntwo\n", None), (None, "file_not_found")]
        assert backend.write("/home/user/b.txt", "three\n").error is None
        assert backend.edit("/home/user/b.txt", "three", "four").error is None
        assert "four" in str(backend.read("/home/user/b.txt"))
        assert "/home/user/a.txt" in str(backend.grep("two", path="/home/user"))
        assert "b.txt" in str(backend.glob("*.txt", path="/home/user"))
        assert "a.txt" in str(backend.ls("/home/user"))
    finally:
        sandbox.kill()


def test_the_async_backend():
    asyncio.run(_backend())


async def _backend() -> None:
    sandbox = await e2b.AsyncSandbox.create("base", timeout=120)
    try:
        backend = AsyncE2BSandbox(sandbox=sandbox)
        assert (await backend.aexecute("echo $((6*7))")).output.strip() == "42"
        assert (await backend.awrite("/home/user/b.txt", "three\n")).error is None
        assert (await backend.aedit("/home/user/b.txt", "three", "four")).error is None
        assert "four" in str(await backend.aread("/home/user/b.txt"))
        assert "b.txt" in str(await backend.als("/home/user"))
        (loaded,) = await backend.adownload_files(["/home/user/b.txt"])
        assert loaded.content == b"four\n"
    finally:
        await sandbox.kill()
