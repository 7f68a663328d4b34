"""Files: contents, entries, owners, signed addresses, watching."""

import io
import os
import time
from urllib.parse import urlsplit

import e2b
import httpx
import pytest
from conftest import do, second_generation

WATCH_SECONDS = 20


async def test_text_bytes_and_streams(sdk, sandbox):
    files = sandbox.files
    text = "ä line\n" * 1000
    written = await do(files.write("notes/today.txt", text))
    assert (written.path, written.name) == ("/home/user/notes/today.txt", "today.txt")
    assert await do(files.read("/home/user/notes/today.txt")) == text
    assert bytes(await do(files.read("~/notes/today.txt", format="bytes"))) == text.encode()
    stream = await do(files.read("notes/today.txt", format="stream"))
    parts = [part async for part in stream] if sdk.is_async else list(stream)
    assert b"".join(parts) == text.encode()
    every_byte = bytes(range(256)) * 4096
    await do(files.write("/tmp/bytes", every_byte))
    assert bytes(await do(files.read("/tmp/bytes", format="bytes"))) == every_byte
    await do(files.write("/tmp/bytes", io.BytesIO(b"short")))
    assert await do(files.read("/tmp/bytes")) == "short", "writing again leaves nothing of what was there"


async def test_an_empty_file(sandbox):
    await do(sandbox.files.write("empty", ""))
    assert await do(sandbox.files.read("empty")) == ""
    assert bytes(await do(sandbox.files.read("empty", format="bytes"))) == b""


@second_generation
async def test_many_at_once(sandbox):
    files = [{"path": f"/tmp/many/{n}/file", "data": f"{n}"} for n in range(20)]
    written = await do(sandbox.files.write_files(files))
    assert [one.path for one in written] == [one["path"] for one in files]
    assert await do(sandbox.files.read("/tmp/many/7/file")) == "7"


async def test_large_and_packed(sandbox):
    data = os.urandom(1 << 20) * 16
    if "gzip" in (sandbox.files.write.__kwdefaults__ or {}) or "gzip" in sandbox.files.write.__code__.co_varnames:
        await do(sandbox.files.write("/tmp/packed", data, gzip=True))
        assert bytes(await do(sandbox.files.read("/tmp/packed", format="bytes", gzip=True))) == data
    else:
        await do(sandbox.files.write("/tmp/packed", data))
        assert bytes(await do(sandbox.files.read("/tmp/packed", format="bytes"))) == data
    assert (await do(sandbox.commands.run("stat -c %s /tmp/packed"))).stdout == f"{len(data)}\n"


async def test_what_is_missing_is_not_found(sandbox):
    for call in (sandbox.files.read, sandbox.files.get_info, sandbox.files.list):
        with pytest.raises(e2b.NotFoundException):
            await do(call("/no/such/file"))
    with pytest.raises(e2b.NotFoundException):
        await do(sandbox.files.rename("/no/such/file", "/tmp/x"))
    with pytest.raises(e2b.InvalidArgumentException):
        await do(sandbox.files.read("/tmp"))
    assert await do(sandbox.files.exists("/no/such/file")) is False


async def test_folders(sandbox):
    files = sandbox.files
    assert await do(files.make_dir("a/b/c")) is True
    assert await do(files.make_dir("a/b/c")) is False
    await do(files.write("a/b/one", "1"))
    await do(files.write("a/two", "22"))
    names = lambda entries: sorted(entry.path for entry in entries)
    assert names(await do(files.list("a"))) == ["/home/user/a/b", "/home/user/a/two"]
    deep = await do(files.list("a", depth=3))
    assert names(deep) == [f"/home/user/a/{name}" for name in ("b", "b/c", "b/one", "two")]
    assert {entry.name: entry.type for entry in deep} == {
        "b": e2b.FileType.DIR, "c": e2b.FileType.DIR, "one": e2b.FileType.FILE, "two": e2b.FileType.FILE,
    }  # fmt: skip
    moved = await do(files.rename("a/two", "new/place/three"))
    assert moved.path == "/home/user/new/place/three"
    assert await do(files.read("new/place/three")) == "22"
    await do(files.remove("a"))
    assert await do(files.exists("a")) is False
    with pytest.raises(e2b.InvalidArgumentException):
        await do(files.make_dir("new/place/three"))


async def test_entries_tell_all(sandbox):
    await do(sandbox.files.write("/tmp/file", "12345"))
    await do(sandbox.commands.run("chmod 640 /tmp/file; ln -s /tmp/file /tmp/link; ln -s /tmp /home/user/folder"))
    info = await do(sandbox.files.get_info("/tmp/file"))
    assert (info.size, info.mode, info.permissions) == (5, 0o640, "-rw-r-----")
    assert (info.owner, info.group) == ("user", "user")
    assert abs(info.modified_time.timestamp() - time.time()) < 60
    link = await do(sandbox.files.get_info("/tmp/link"))
    assert link.symlink_target == "/tmp/file"
    through = await do(sandbox.files.list("/home/user/folder"))
    assert "/home/user/folder/file" in {entry.path for entry in through}


@second_generation
async def test_belong_to_who_writes_them(sandbox):
    await do(sandbox.files.write("/home/user/mine", "x"))
    await do(sandbox.files.write("/root/deep/his", "x", user="root"))
    await do(sandbox.files.make_dir("/opt/new", user="root"))
    owners = await do(sandbox.commands.run("stat -c %U /home/user/mine /root/deep /root/deep/his /opt/new", user="root"))
    assert owners.stdout.split() == ["user", "root", "root", "root"]
    assert await do(sandbox.files.read("deep/his", user="root")) == "x", "a path is looked for in the user's own home"
    with pytest.raises(e2b.AuthenticationException):
        await do(sandbox.files.write("/tmp/x", "x", user="nobody-such"))


async def test_metadata_of_files(sandbox):
    if "metadata" not in sandbox.files.write.__code__.co_varnames:
        pytest.skip("this version knows no metadata of files")
    written = await do(sandbox.files.write("/home/user/tagged", "x", metadata={"colour": "blue"}))
    assert written.metadata == {"colour": "blue"}
    assert (await do(sandbox.files.get_info("tagged"))).metadata == {"colour": "blue"}
    await do(sandbox.files.write("/home/user/tagged", "y", metadata={"size": "s"}))
    assert (await do(sandbox.files.get_info("tagged"))).metadata == {"size": "s"}


async def test_signed_addresses(sandbox):
    """As a browser uses them: the address alone, no header."""
    up = sandbox.upload_url("/home/user/page.txt")
    with httpx.Client() as browser:
        assert browser.post(up, files={"file": ("page.txt", b"from outside")}).status_code == 200
        assert await do(sandbox.files.read("page.txt")) == "from outside"
        down = sandbox.download_url("page.txt", user="user", use_signature_expiration=60)
        assert browser.get(down).text == "from outside"
        part = browser.get(down, headers={"range": "bytes=5-6"})
        assert (part.status_code, part.content) == (206, b"ou")
        wrong = down.replace("signature=v1_", "signature=v1_A")
        assert browser.get(wrong).status_code in (401, 502), "nobody's signature"
        late = sandbox.download_url("page.txt", user="user", use_signature_expiration=-10)
        assert browser.get(late).status_code == 401
        another = urlsplit(down)._replace(path="/files").geturl().replace("page.txt", "other.txt")
        assert browser.get(another).status_code in (401, 502)


async def test_signs_what_the_server_checks(sandbox):
    if not hasattr(e2b, "get_signature"):
        pytest.skip("this version has no get_signature")
    token = sandbox._envd_access_token if hasattr(sandbox, "_envd_access_token") else None
    if token is None:
        token = sandbox.connection_config.sandbox_headers["X-Access-Token"]
    await do(sandbox.files.write("/tmp/signed", "yes"))
    signed = e2b.get_signature("/tmp/signed", "read", "", token)
    url = f"{sandbox.envd_api_url}/files"
    answer = httpx.get(url, params={"path": "/tmp/signed", "signature": signed["signature"]})
    assert (answer.status_code, answer.text) == (200, "yes")


async def test_watches_a_folder(sdk, sandbox):
    await do(sandbox.files.make_dir("/tmp/watched"))
    watch = await _watch(sdk, sandbox, "/tmp/watched")
    await do(sandbox.files.write("/tmp/watched/new", "x"))
    await watch.until(("new", "create"), ("new", "write"))
    await do(sandbox.commands.run("cd /tmp/watched && chmod 600 new && mv new old && rm old"))
    await watch.until(("new", "chmod"), ("new", "rename"), ("old", "remove"))
    await do(watch.handle.stop())


async def test_watches_below(sdk, sandbox):
    await do(sandbox.files.make_dir("/tmp/watched/in"))
    watch = await _watch(sdk, sandbox, "/tmp/watched", recursive=True)
    await do(sandbox.files.write("/tmp/watched/in/deep", "x"))
    await watch.until(("in/deep", "create"))
    await do(sandbox.files.make_dir("/tmp/watched/later"))
    await watch.until(("later", "create"))
    await do(watch.handle.stop())


async def test_watching_what_is_missing(sdk, sandbox):
    with pytest.raises(e2b.NotFoundException):
        await _watch(sdk, sandbox, "/no/such/folder")


class _Watch:
    """Events of a watch in either flavour: fetched, or told."""

    def __init__(self, told):
        self.handle = None
        self._told = told
        self._seen = set()

    async def until(self, *wanted):
        limit = time.monotonic() + WATCH_SECONDS
        while not set(wanted) <= self._seen:
            assert time.monotonic() < limit, f"{wanted} not among {self._seen}"
            events = self._told if self._told is not None else self.handle.get_new_events()
            self._seen |= {(event.name, event.type.value) for event in events}
            if self._told is not None:
                import asyncio

                await asyncio.sleep(0.02)


async def _watch(sdk, sandbox, path, **options):
    told = [] if sdk.is_async else None
    watch = _Watch(told)
    more = {"on_event": told.append} if sdk.is_async else {}
    watch.handle = await do(sandbox.files.watch_dir(path, **more, **options))
    return watch
