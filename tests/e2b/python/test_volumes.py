"""Volumes: made, filled from outside, had by two sandboxes at once, and removed when nobody has them."""

import io
import uuid

import e2b
import pytest
from conftest import LOOP, do


@pytest.fixture
def volume(sdk):
    sdk.needs("Volume", "create")
    made = LOOP.run_until_complete(do(sdk.Volume.create(f"test-{uuid.uuid4()}")))
    yield made
    LOOP.run_until_complete(do(sdk.Volume.destroy(made.volume_id)))


async def _text(stream):
    chunks = [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)
    return b"".join(chunks).decode()


async def test_a_volume_comes_and_goes(sdk):
    sdk.needs("Volume", "create")
    name = f"test-{uuid.uuid4()}"
    made = await do(sdk.Volume.create(name))
    try:
        assert (made.name, bool(made.token)) == (name, True)
        info = await do(sdk.Volume.get_info(made.volume_id))
        assert (info.volume_id, info.name, info.token) == (made.volume_id, name, made.token)
        assert made.volume_id in {one.volume_id for one in await do(sdk.Volume.list())}
        again = await do(sdk.Volume.connect(made.volume_id))
        assert (again.volume_id, again.name) == (made.volume_id, name)
        with pytest.raises(Exception, match="another volume"):
            await do(sdk.Volume.create(name))
    finally:
        assert await do(sdk.Volume.destroy(made.volume_id)) is True
    assert await do(sdk.Volume.destroy(made.volume_id)) is False
    with pytest.raises(e2b.NotFoundException):
        await do(sdk.Volume.get_info(made.volume_id))


async def test_files_without_a_sandbox(volume):
    folder = await do(volume.make_dir("/a", mode=0o750, uid=1000, gid=1000))
    assert (folder.name, folder.path, folder.type.value, folder.mode & 0o777) == ("a", "/a", "directory", 0o750)
    with pytest.raises(e2b.NotFoundException):
        await do(volume.make_dir("/x/y"))
    await do(volume.make_dir("/x/y", force=True))
    written = await do(volume.write_file("/a/text", "text"))
    assert (written.size, written.type.value) == (4, "file")
    assert written.mtime.tzinfo is not None
    await do(volume.write_file("/a/bytes", b"\x00\xff", mode=0o600))
    await do(volume.write_file("/a/stream", io.BytesIO(b"stream" * 100_000)))
    assert await do(volume.read_file("/a/text")) == "text"
    assert await do(volume.read_file("/a/bytes", format="bytes")) == b"\x00\xff"
    assert await _text(await do(volume.read_file("/a/stream", format="stream"))) == "stream" * 100_000
    assert [one.path for one in await do(volume.list("/"))] == ["/a", "/x"]
    deep = [one.path for one in await do(volume.list("/", depth=2))]
    assert deep == ["/a", "/a/bytes", "/a/stream", "/a/text", "/x", "/x/y"]
    changed = await do(volume.update_metadata("/a/text", mode=0o640, uid=0))
    assert (changed.mode & 0o777, changed.uid, changed.gid) == (0o640, 0, 1000)
    assert (await do(volume.get_info("/a/text"))).uid == 0
    assert await do(volume.exists("/a/text")) is True
    await do(volume.remove("/a"))
    assert await do(volume.exists("/a/text")) is False
    for call in (lambda: volume.read_file("/a/text"), lambda: volume.remove("/a"), lambda: volume.list("/a")):
        with pytest.raises(e2b.NotFoundException):
            await do(call())


async def test_two_sandboxes_have_one(sdk, make, volume):
    await do(volume.write_file("/from-outside", "outside"))
    one = await make(volume_mounts={"/mnt/data": volume})
    other = await make(volume_mounts={"/mnt/other": volume.name})
    info = await do(one.get_info())
    if hasattr(info, "volume_mounts"):
        assert [(mount["name"], mount["path"]) for mount in info.volume_mounts] == [(volume.name, "/mnt/data")]
    assert await do(one.files.read("/mnt/data/from-outside")) == "outside"
    await do(one.commands.run("echo inside > /mnt/data/from-inside"))
    assert await do(other.files.read("/mnt/other/from-inside")) == "inside\n"
    assert await do(volume.read_file("/from-inside")) == "inside\n"
    assert (await do(volume.get_info("/from-inside"))).uid == 1000
    with pytest.raises(Exception, match="in use"):
        await do(sdk.Volume.destroy(volume.volume_id))
    for sandbox in (one, other):
        await do(sandbox.kill())


async def test_what_is_not_there_is_not_mounted(sdk):
    sdk.needs("Volume", "create")
    with pytest.raises(e2b.SandboxException, match="not found"):
        await do(sdk.create(volume_mounts={"/mnt/data": "no-such-volume"}))
