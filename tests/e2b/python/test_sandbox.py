"""The life of a sandbox: made, found, timed, ended."""

import datetime
import os
import urllib.request
import uuid

import e2b
import pytest
from conftest import do, second_generation


@second_generation
async def test_is_made_found_and_killed(sdk, make):
    sandbox = await make(metadata={"who": "me", "odd key": "ä &=%"}, envs={"COLOUR": "green"})
    info = await do(sandbox.get_info())
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.metadata == {"who": "me", "odd key": "ä &=%"}
    assert info.state.value == "running"
    assert info.end_at > info.started_at
    assert (await do(sdk.Sandbox.get_info(sandbox.sandbox_id))).sandbox_id == sandbox.sandbox_id
    assert (await do(sandbox.commands.run("echo $COLOUR"))).stdout == "green\n"
    assert await do(sandbox.is_running()) is True
    assert await do(sandbox.kill()) is True
    assert await do(sandbox.is_running()) is False
    assert await do(sandbox.kill()) is False
    assert await do(sdk.Sandbox.kill(sandbox.sandbox_id)) is False
    with pytest.raises(e2b.NotFoundException):
        await do(sdk.Sandbox.connect(sandbox.sandbox_id))


async def test_a_dead_one_says_so(sdk, make):
    sandbox = await make()
    assert await do(sdk.Sandbox.kill(sandbox.sandbox_id)) is True
    with pytest.raises(e2b.TimeoutException):
        await do(sandbox.commands.run("true"))
    with pytest.raises(e2b.SandboxException):
        await do(sandbox.files.read("/etc/hostname"))


async def test_an_unknown_template_is_not_found(sdk):
    with pytest.raises(e2b.SandboxException) as error:
        await do(sdk.create("no-such-template"))
    assert "no-such-template" in str(error.value)


@second_generation
async def test_a_wrong_key_is_refused(sdk):
    with pytest.raises(e2b.AuthenticationException):
        await do(sdk.create(api_key="e2b_" + "0" * 40))


async def test_the_timeout_moves_both_ways(sdk, make):
    sandbox = await make(timeout=60)
    before = await do(sandbox.get_info())
    assert datetime.timedelta(seconds=50) < before.end_at - before.started_at < datetime.timedelta(seconds=70)
    await do(sandbox.set_timeout(600))
    longer = await do(sandbox.get_info())
    assert longer.end_at > before.end_at + datetime.timedelta(seconds=500)
    await do(sdk.Sandbox.set_timeout(sandbox.sandbox_id, 30))
    assert (await do(sandbox.get_info())).end_at < before.end_at


@second_generation
async def test_ends_by_itself(sdk, make):
    sandbox = await make(timeout=1)
    until = datetime.datetime.now() + datetime.timedelta(seconds=20)
    while await do(sandbox.is_running()):
        assert datetime.datetime.now() < until, "it outlives its timeout"
    assert await do(sandbox.kill()) is False


@second_generation
async def test_connects_again(sdk, make):
    sandbox = await make()
    await do(sandbox.files.write("/home/user/kept", "here"))
    same = await do(sdk.Sandbox.connect(sandbox.sandbox_id))
    assert same.sandbox_id == sandbox.sandbox_id
    assert await do(same.files.read("kept")) == "here"
    again = await do(sandbox.connect(timeout=300))
    assert await do(again.is_running())


@second_generation
async def test_lists_by_metadata_in_pages(sdk, make):
    mark = uuid.uuid4().hex
    made = {(await make(metadata={"mark": mark, "n": str(n)})).sandbox_id for n in range(3)}
    query = e2b.SandboxQuery(metadata={"mark": mark})
    paginator = sdk.Sandbox.list(query=query, limit=2)
    pages = []
    while paginator.has_next:
        pages.append([one.sandbox_id for one in await do(paginator.next_items())])
    assert [len(page) for page in pages] == [2, 1]
    assert {one for page in pages for one in page} == made
    only = sdk.Sandbox.list(query=e2b.SandboxQuery(metadata={"mark": mark, "n": "1"}, state=[e2b.SandboxState.RUNNING]))
    found = await do(only.next_items())
    assert [one.metadata["n"] for one in found] == ["1"]
    assert not only.has_next and only.next_token is None


async def test_measures(sdk, make):
    sandbox = await make()
    until = datetime.datetime.now() + datetime.timedelta(seconds=20)
    while not (measured := await do(sandbox.get_metrics())):
        assert datetime.datetime.now() < until, "no metrics come"
    assert measured[-1].cpu_count >= 1
    assert measured[-1].mem_total > measured[-1].mem_used >= 0
    assert measured[-1].disk_total > 0
    by_id = await do(sdk.Sandbox.get_metrics(sandbox.sandbox_id))
    assert by_id[0].timestamp <= datetime.datetime.now(datetime.timezone.utc)


async def test_what_listens_is_reached_by_its_host(sdk, sandbox):
    host = sandbox.get_host(3000)
    assert host.startswith(f"3000-{sandbox.sandbox_id}.")
    assert sandbox.sandbox_id.isalnum() and sandbox.sandbox_id.islower()
    serve = "cd /tmp; echo hello > page; python3 -m http.server 3000 >/dev/null 2>&1 &"
    listens = "curl --silent --retry 20 --retry-connrefused localhost:3000/page"
    assert (await do(sandbox.commands.run(f"{serve}\n{listens}"))).stdout == "hello\n"
    scheme = "http" if "E2B_API_URL" in os.environ else "https"
    with urllib.request.urlopen(f"{scheme}://{host}/page", timeout=30) as answer:
        assert answer.read() == b"hello\n"


async def test_a_client_of_its_own(sdk, make):
    if not hasattr(e2b, "E2B"):
        pytest.skip("this version has no E2B")
    client = e2b.E2B(api_key=os.environ["E2B_API_KEY"])
    Sandbox = client.AsyncSandbox if sdk.is_async else client.Sandbox
    sandbox = await do(Sandbox.create())
    assert await do(Sandbox.kill(sandbox.sandbox_id))


@second_generation
async def test_mcp_is_refused(sdk, sandbox):
    """It needs an image of its own; what the client computes by itself works."""
    with pytest.raises(e2b.SandboxException):
        await do(sdk.create(mcp={"duckduckgo": {}}))
    assert sandbox.get_mcp_url().endswith("/mcp")
