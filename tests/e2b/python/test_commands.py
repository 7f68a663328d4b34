"""Commands: output, ends, users, stdin, what goes on in the background."""

import e2b
import pytest
from conftest import do, second_generation


async def test_output_and_exit_code(sandbox):
    done = await do(sandbox.commands.run("echo out; echo err >&2"))
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 0)
    with pytest.raises(e2b.CommandExitException) as failed:
        await do(sandbox.commands.run("echo no; exit 3"))
    assert (failed.value.exit_code, failed.value.stdout) == (3, "no\n")


async def test_callbacks_hear_output(sandbox):
    out, err = [], []
    await do(sandbox.commands.run("echo 1; echo 2 >&2; echo 3", on_stdout=out.append, on_stderr=err.append))
    assert ("".join(out), "".join(err)) == ("1\n3\n", "2\n")


async def test_much_output_of_any_characters(sandbox):
    done = await do(sandbox.commands.run("yes 'häßlich 🦭' | head -c 3000000"))
    assert done.stdout.count("🦭") > 100_000


async def test_envs_folder_and_user(sandbox):
    run = sandbox.commands.run
    assert (await do(run("pwd; whoami; echo $HOME $USER"))).stdout == "/home/user\nuser\n/home/user user\n"
    assert (await do(run("pwd; echo $A", cwd="/tmp", envs={"A": "b c"}))).stdout == "/tmp\nb c\n"
    assert (await do(run("id -un; echo $HOME", user="root"))).stdout == "root\n/root\n"
    assert (await do(run("sudo id -un"))).stdout == "root\n"
    with pytest.raises(e2b.InvalidArgumentException, match="nowhere"):
        await do(run("true", cwd="/nowhere"))
    with pytest.raises(e2b.AuthenticationException, match="nobody-such"):
        await do(run("true", user="nobody-such"))


async def test_in_the_background(sandbox):
    command = await do(sandbox.commands.run("echo begun; sleep 0.2; echo over; exit 5", background=True))
    assert command.pid > 0
    with pytest.raises(e2b.CommandExitException) as ended:
        await do(command.wait())
    assert (ended.value.exit_code, ended.value.stdout) == (5, "begun\nover\n")


async def test_is_listed_and_killed(sandbox):
    one = await do(sandbox.commands.run("exec sleep 1000", background=True))
    two = await do(sandbox.commands.run("exec sleep 2000", background=True))
    listed = {process.pid: process for process in await do(sandbox.commands.list())}
    assert {one.pid, two.pid} <= listed.keys()
    assert listed[one.pid].args[-1] == "exec sleep 1000"
    assert await do(sandbox.commands.kill(one.pid)) is True
    assert await do(two.kill()) is True
    for command in (one, two):
        with pytest.raises(e2b.CommandExitException):
            await do(command.wait())
    assert await do(sandbox.commands.kill(one.pid)) is False
    assert not {one.pid, two.pid} & {process.pid for process in await do(sandbox.commands.list())}


@second_generation
async def test_reads_stdin(sdk, sandbox):
    command = await do(sandbox.commands.run("read a; read b; echo $b $a", background=True, stdin=True))
    await do(sandbox.commands.send_stdin(command.pid, "one\n"))
    await do(sandbox.commands.send_stdin(command.pid, "two\n"))
    assert (await do(command.wait())).stdout == "two one\n"


async def test_stdin_comes_to_its_end(sdk, sandbox):
    if not hasattr(sandbox.commands, "close_stdin"):
        pytest.skip("this version has no commands.close_stdin")
    command = await do(sandbox.commands.run("cat", background=True, stdin=True))
    await do(command.send_stdin("through the handle\n"))
    await do(command.close_stdin())
    assert (await do(command.wait())).stdout == "through the handle\n"
    command = await do(sandbox.commands.run("wc -c", background=True, stdin=True))
    await do(sandbox.commands.send_stdin(command.pid, "12345"))
    await do(sandbox.commands.close_stdin(command.pid))
    assert (await do(command.wait())).stdout.strip() == "5"


async def test_stdin_is_streamed(sdk, sandbox):
    if not hasattr(sandbox.commands, "stream_input"):
        pytest.skip("this version has no commands.stream_input")
    command = await do(sandbox.commands.run("head -n 3", background=True, stdin=True))
    parts = ["a\n", "b\n", b"c\n"]

    if sdk.is_async:
        stream = sandbox.commands.stream_input(command.pid)
        for part in parts:
            await stream.send(part)
        await stream.close()
    else:
        sandbox.commands.stream_input(command.pid, iter(parts))
    assert (await do(command.wait())).stdout == "a\nb\nc\n"


@second_generation
async def test_connects_to_what_runs(sandbox):
    command = await do(sandbox.commands.run("read line; echo got $line", background=True, stdin=True))
    await do(command.disconnect())
    again = await do(sandbox.commands.connect(command.pid))
    assert again.pid == command.pid
    await do(sandbox.commands.send_stdin(command.pid, "this\n"))
    assert (await do(again.wait())).stdout == "got this\n"


async def test_a_timeout_ends_the_process(sandbox):
    with pytest.raises(e2b.TimeoutException):
        await do(sandbox.commands.run("exec sleep 4321", timeout=1))
    await do(sandbox.commands.run("while pgrep -fx 'sleep 4321'; do sleep 0.05; done", timeout=20))


async def test_a_process_outlives_its_connection(sandbox):
    command = await do(sandbox.commands.run("sleep 0.3; touch /tmp/done; exec sleep 1000", background=True, timeout=0))
    await do(command.disconnect())
    await do(sandbox.commands.run("until [ -e /tmp/done ]; do sleep 0.05; done", timeout=20))
    assert command.pid in {process.pid for process in await do(sandbox.commands.list())}


async def test_twenty_at_once(sandbox):
    commands = [await do(sandbox.commands.run(f"sleep 0.1; echo {n}", background=True)) for n in range(20)]
    assert [(await do(command.wait())).stdout for command in commands] == [f"{n}\n" for n in range(20)]


@second_generation
async def test_a_terminal(sdk, sandbox):
    seen = bytearray()
    heard = {"on_data": seen.extend} if sdk.is_async else {}
    terminal = await do(sandbox.pty.create(e2b.PtySize(cols=90, rows=30), cwd="/tmp", envs={"MINE": "42"}, **heard))
    await do(sandbox.pty.send_stdin(terminal.pid, b"stty size; echo $MINE-$PWD-$TERM\n"))
    await do(sandbox.pty.resize(terminal.pid, e2b.PtySize(cols=120, rows=40)))
    await do(sandbox.pty.send_stdin(terminal.pid, b"stty size; exit 0\n"))
    await do(terminal.wait() if sdk.is_async else terminal.wait(on_pty=seen.extend))
    said = seen.decode()
    assert "30 90" in said or "40 120" in said
    assert "40 120" in said
    assert "42-/tmp-xterm-256color" in said


@second_generation
async def test_a_terminal_is_connected_to_and_killed(sdk, sandbox):
    terminal = await do(
        sandbox.pty.create(e2b.PtySize(cols=80, rows=24), user="root", **({"on_data": print} if sdk.is_async else {}))
    )
    if hasattr(sandbox.pty, "connect"):
        await do(terminal.disconnect())
        terminal = await do(sandbox.pty.connect(terminal.pid, **({"on_data": print} if sdk.is_async else {})))
    if hasattr(sandbox.pty, "stream_input"):
        typed = b"echo streamed >/root/streamed\n"
        if sdk.is_async:
            stream = sandbox.pty.stream_input(terminal.pid)
            await stream.send(typed)
            await stream.close()
        else:
            sandbox.pty.stream_input(terminal.pid, [typed])
        wait = "until [ -s /root/streamed ]; do sleep 0.05; done; cat /root/streamed"
        assert (await do(sandbox.commands.run(wait, user="root", timeout=20))).stdout == "streamed\n"
    assert await do(sandbox.pty.kill(terminal.pid)) is True
    with pytest.raises(e2b.CommandExitException):
        await do(terminal.wait())
    assert await do(sandbox.pty.kill(terminal.pid)) is False
