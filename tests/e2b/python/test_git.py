"""The client's git helpers, which are commands in the sandbox: a whole round with a repository next door."""

import pytest
from conftest import do


@pytest.fixture
def git(sandbox):
    if not hasattr(sandbox, "git"):
        pytest.skip("this version has no git")
    return sandbox.git


async def test_a_whole_round(git, sandbox):
    await do(git.configure_user("Me", "me@example.com"))
    await do(git.init("/tmp/far", bare=True, initial_branch="main"))
    await do(git.init("/tmp/near", initial_branch="main"))
    await do(git.set_config("core.editor", "true", scope="local", path="/tmp/near"))
    assert await do(git.get_config("core.editor", scope="local", path="/tmp/near")) == "true"
    await do(git.remote_add("/tmp/near", "origin", "/tmp/far"))
    assert await do(git.remote_get("/tmp/near", "origin")) == "/tmp/far"
    await do(sandbox.files.write("/tmp/near/a", "1"))
    assert (await do(git.status("/tmp/near"))).has_untracked
    await do(git.add("/tmp/near"))
    await do(git.commit("/tmp/near", "begin"))
    await do(git.push("/tmp/near", remote="origin", branch="main"))
    await do(git.create_branch("/tmp/near", "side"))
    assert (await do(git.branches("/tmp/near"))).current_branch == "side"
    await do(git.checkout_branch("/tmp/near", "main"))
    await do(git.delete_branch("/tmp/near", "side", force=True))
    await do(sandbox.files.write("/tmp/near/a", "2"))
    await do(git.restore("/tmp/near", ["a"]))
    assert await do(sandbox.files.read("/tmp/near/a")) == "1"
    await do(sandbox.files.write("/tmp/near/b", "2"))
    await do(git.add("/tmp/near", files=["b"]))
    await do(git.reset("/tmp/near"))
    assert (await do(git.status("/tmp/near"))).staged_count == 0
    await do(git.clone("/tmp/far", path="/tmp/copy"))
    assert await do(sandbox.files.read("/tmp/copy/a")) == "1"
    await do(git.pull("/tmp/copy", remote="origin", branch="main"))
    await do(git.dangerously_authenticate("me", "secret", host="example.com"))
