"""Pause, snapshots, forks and the network: what needs more of a driver than running programs."""

import uuid

import e2b
import pytest
from conftest import do, second_generation


@second_generation
async def test_pauses_and_goes_on(sdk, sandbox):
    pause = "pause" if hasattr(sandbox, "pause") else "beta_pause"
    sdk.needs("Sandbox", pause)
    counter = "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.05; done"
    counting = await do(sandbox.commands.run(counter, background=True, timeout=0))
    await do(sandbox.commands.run("until [ -s /tmp/n ]; do sleep 0.05; done", timeout=20))
    await do(getattr(sandbox, pause)())
    info = await do(sandbox.get_info())
    assert info.state.value == "paused"
    paused = sdk.Sandbox.list(query=e2b.SandboxQuery(state=[e2b.SandboxState.PAUSED]))
    assert sandbox.sandbox_id in {one.sandbox_id for one in await do(paused.next_items())}
    if pause == "pause":
        # Where it says nothing of how it was before, it gives the id.
        assert await do(sdk.Sandbox.pause(sandbox.sandbox_id)) in (False, sandbox.sandbox_id)
    again = await do(sdk.Sandbox.connect(sandbox.sandbox_id, timeout=120))
    assert (await do(again.get_info())).state.value == "running"
    assert counting.pid in {process.pid for process in await do(again.commands.list())}
    moves = "a=$(cat /tmp/n); until [ \"$(cat /tmp/n)\" -gt \"$a\" ]; do sleep 0.05; done"
    await do(again.commands.run(moves, timeout=20))
    await do(getattr(again, "beta_pause")())
    assert (await do(again.get_info())).state.value == "paused"
    assert await do(again.kill()) is True


@second_generation
async def test_a_paused_one_does_not_run(sdk, sandbox):
    pause = "pause" if hasattr(sandbox, "pause") else "beta_pause"
    await do(getattr(sdk.Sandbox, pause)(sandbox.sandbox_id))
    assert await do(sandbox.is_running()) is False
    assert (await do(sandbox.connect())).sandbox_id == sandbox.sandbox_id
    assert await do(sandbox.is_running()) is True
    await do(sdk.Sandbox.beta_pause(sandbox.sandbox_id))
    assert await do(sandbox.is_running()) is False


async def test_pauses_by_itself(sdk, make):
    if hasattr(sdk.Sandbox, "beta_create"):
        sandbox = await do(sdk.Sandbox.beta_create(timeout=1, auto_pause=True))
    elif "lifecycle" in _parameters(sdk.create):
        sandbox = await make(timeout=1, lifecycle={"on_timeout": "pause"})
    else:
        pytest.skip("this version has no way to ask for it")
    try:
        await do(sandbox.is_running())
        while (await do(sandbox.get_info())).state.value != "paused":
            pass
        assert (await do(sandbox.connect(timeout=60))).sandbox_id == sandbox.sandbox_id
        assert (await do(sandbox.commands.run("echo back"))).stdout == "back\n"
    finally:
        await do(sandbox.kill())


async def test_forks(sdk, sandbox):
    sdk.needs("Sandbox", "fork")
    await do(sandbox.files.write("/home/user/from", "parent"))
    forks = await do(sandbox.fork(count=2, timeout=60))
    forks += await do(sdk.Sandbox.fork(sandbox.sandbox_id))
    try:
        assert len({fork.sandbox_id for fork in forks} | {sandbox.sandbox_id}) == 4
        for fork in forks:
            assert await do(fork.files.read("/home/user/from")) == "parent"
            await do(fork.files.write("/home/user/from", fork.sandbox_id))
        assert await do(sandbox.files.read("/home/user/from")) == "parent"
    finally:
        for fork in forks:
            if not isinstance(fork, Exception):
                await do(fork.kill())


async def test_snapshots(sdk, make):
    sdk.needs("Sandbox", "create_snapshot")
    sandbox = await make()
    await do(sandbox.files.write("/home/user/state", "1"))
    one = await do(sandbox.create_snapshot())
    await do(sandbox.files.write("/home/user/state", "2"))
    named = {"name": f"kept-{uuid.uuid4().hex[:8]}"} if "name" in _parameters(sandbox.create_snapshot) else {}
    two = await do(sdk.Sandbox.create_snapshot(sandbox.sandbox_id, **named))
    try:
        listed = sandbox.list_snapshots()
        assert listed.has_next
        of_it = {snapshot.snapshot_id for snapshot in await do(listed.next_items())}
        assert {one.snapshot_id, two.snapshot_id} <= of_it
        by_id = await do(sdk.Sandbox.list_snapshots(sandbox_id=sandbox.sandbox_id).next_items())
        assert {snapshot.snapshot_id for snapshot in by_id} == of_it
        for snapshot, state in ((one, "1"), (two, "2")):
            child = await make(snapshot.snapshot_id)
            assert await do(child.files.read("/home/user/state")) == state
        assert await do(sandbox.is_running()), "a snapshot does not end what it is taken of"
    finally:
        assert await do(sdk.Sandbox.delete_snapshot(one.snapshot_id)) is True
        assert await do(sdk.Sandbox.delete_snapshot(two.snapshot_id)) is True
    assert await do(sdk.Sandbox.delete_snapshot(one.snapshot_id)) is False
    with pytest.raises(e2b.SandboxException):
        await do(sdk.create(one.snapshot_id))


async def test_without_a_network(sdk, make):
    if "allow_internet_access" not in _parameters(sdk.create):
        pytest.skip("this version has no way to ask for it")
    sandbox = await make(allow_internet_access=False)
    with pytest.raises(e2b.CommandExitException):
        await do(sandbox.commands.run("curl -sS --max-time 5 http://1.1.1.1/", timeout=20))


async def test_rules_of_the_network(sdk, make):
    sdk.needs("Sandbox", "update_network")
    rules = {"allow_out": ["example.org", "192.0.2.7"], "deny_out": ["0.0.0.0/0"]}
    sandbox = await make(network=rules)
    assert (await _rules(sandbox)) == (rules["allow_out"], rules["deny_out"])
    look_up = "python3 -c \"import socket; socket.getaddrinfo('{}', 80)\""
    connect = "curl -sS --max-time 5 http://1.1.1.1/"
    for command in (look_up.format("example.com"), connect):
        with pytest.raises(e2b.CommandExitException):
            await do(sandbox.commands.run(command, timeout=20))
    await do(sandbox.update_network({"deny_out": ["192.0.2.0/24"]}))
    assert (await _rules(sandbox)) == ([], ["192.0.2.0/24"]), "what is left out is lifted"
    await do(sdk.Sandbox.update_network(sandbox.sandbox_id, {"allow_internet_access": False}))
    assert (await _rules(sandbox)) == ([], ["0.0.0.0/0"])
    with pytest.raises(e2b.CommandExitException):
        await do(sandbox.commands.run(connect, timeout=20))


async def _rules(sandbox):
    network = (await do(sandbox.get_info())).network
    return network["allow_out"], network["deny_out"]


def _parameters(function):
    import inspect

    return inspect.signature(function).parameters
