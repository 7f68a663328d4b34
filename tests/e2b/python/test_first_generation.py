"""What version 1 of the client does by other names than later ones."""

import uuid

import e2b
import pytest
from conftest import do
from e2b.sandbox.sandbox_api import SandboxQuery

pytestmark = pytest.mark.skipif(hasattr(e2b, "Template"), reason="this is a later version")


async def test_is_listed_and_connected_to(sdk, make):
    mark = uuid.uuid4().hex
    sandbox = await make(metadata={"mark": mark})
    (listed,) = await do(sdk.Sandbox.list(query=SandboxQuery(metadata={"mark": mark})))
    assert listed.sandbox_id.partition("-")[0] == sandbox.sandbox_id.partition("-")[0]
    same = await do(sdk.Sandbox.connect(sandbox.sandbox_id))
    assert (await do(same.commands.run("echo here"))).stdout == "here\n"
    info = await do(sandbox.get_info())
    assert (info.metadata, info.end_at > info.started_at) == ({"mark": mark}, True)
    assert (await do(sdk.Sandbox.get_info(sandbox.sandbox_id))).metadata == info.metadata
    assert await do(sandbox.is_running())
    await do(sandbox.kill())
    assert not await do(sandbox.is_running())


async def test_a_wrong_key_is_refused(sdk):
    with pytest.raises(e2b.SandboxException, match="401"):
        await do(sdk.create(api_key="e2b_" + "0" * 40))


async def test_reads_stdin_and_connects_to_what_runs(sandbox):
    command = await do(sandbox.commands.run("read line; echo got $line", background=True))
    await do(command.disconnect())
    again = await do(sandbox.commands.connect(command.pid))
    await do(sandbox.commands.send_stdin(command.pid, "this\n"))
    assert (await do(again.wait())).stdout == "got this\n"


async def test_writes_many_files_as_a_user(sandbox):
    files = [{"path": f"/root/many/{n}", "data": str(n)} for n in range(5)]
    written = await do(sandbox.files.write(files, "root"))
    assert [one.path for one in written] == [one["path"] for one in files]
    assert await do(sandbox.files.read("/root/many/3", user="root")) == "3"


async def test_a_terminal(sdk, sandbox):
    if sdk.is_async:
        pytest.skip("its async terminal sends no token")
    seen = bytearray()
    terminal = sandbox.pty.create(e2b.PtySize(cols=90, rows=30), cwd="/tmp", envs={"MINE": "42"})
    sandbox.pty.resize(terminal.pid, e2b.PtySize(cols=120, rows=40))
    sandbox.pty.send_stdin(terminal.pid, b"echo $MINE-$PWD; stty size; exit 0\n")
    terminal.wait(on_pty=seen.extend)
    assert b"42-/tmp" in seen and b"40 120" in seen
    terminal = sandbox.pty.create(e2b.PtySize(cols=90, rows=30))
    assert sandbox.pty.kill(terminal.pid) is True
