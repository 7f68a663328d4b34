"""Templates: described in the client, built by the server, started, tagged."""

import uuid

import e2b
import pytest
from conftest import do

pytestmark = pytest.mark.skipif(not hasattr(e2b, "Template"), reason="this version has no Template")


@pytest.fixture
def name():
    return f"made-{uuid.uuid4().hex[:8]}"


async def build(sdk, template, name, **options):
    return await do(sdk.Template.build(template, alias=name, cpu_count=1, memory_mb=512, **options))


async def remove(sdk, built):
    """The newer clients delete templates as they do snapshots; for the older ones anybody's HTTP does it."""
    import os

    import httpx

    url = f"{os.environ['SKERRY_URL']}/templates/{built.template_id}"
    assert httpx.delete(url, headers={"X-API-Key": os.environ["E2B_API_KEY"]}).status_code == 204


async def test_is_built_and_started(sdk, make, name, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "one.txt").write_text("1")
    (tmp_path / "two.txt").write_text("2")
    logs = []
    template = (
        sdk.Template(file_context_path=str(tmp_path))
        .from_template("base")
        .set_envs({"MADE": "yes"})
        .set_workdir("/srv/app")
        .copy("app", "/srv/app", user="user")
        .copy_items([{"src": "two.txt", "dest": "/srv/app/two.txt", "user": "user"}])
        .make_dir("/srv/app/new", user="root")
        .run_cmd(["echo ran >/srv/app/ran", "cp /srv/app/ran /srv/app/old"], user="root")
        .rename("/srv/app/old", "/srv/app/renamed", user="root")
        .make_symlink("/srv/app/ran", "/srv/app/link", user="root")
        .run_cmd("touch /srv/app/doomed", user="root")
        .remove("/srv/app/doomed", user="root")
        .set_user("user")
    )
    built = await build(sdk, template, name, on_build_logs=logs.append)
    try:
        sandbox = await make(name)
        seen = await do(sandbox.commands.run("cd /srv/app; echo $MADE; cat one.txt two.txt; cat link; ls", envs={}))
        assert seen.stdout == "yes\n12ran\nlink\nnew\none.txt\nran\nrenamed\ntwo.txt\n"
        assert (await do(sandbox.get_info())).template_id
        assert any("ran" in str(entry) for entry in logs)
    finally:
        await remove(sdk, built)


async def test_runs_its_start_command(sdk, make, name):
    ready = e2b.wait_for_file("/tmp/up")
    template = sdk.Template().from_template("base").set_start_cmd("touch /tmp/up; exec sleep 100000", ready)
    built = await build(sdk, template, name)
    try:
        sandbox = await make(name)
        await do(sandbox.commands.run("until pgrep -fx 'sleep 100000'; do sleep 0.05; done", user="root", timeout=20))
    finally:
        await remove(sdk, built)


async def test_says_which_step_fails(sdk, name):
    template = sdk.Template().from_template("base").run_cmd("echo so far").run_cmd("echo oh no >&2; exit 7")
    with pytest.raises(e2b.BuildException) as failed:
        await build(sdk, template, name)
    assert "7" in str(failed.value)


async def test_builds_in_the_background(sdk, name):
    template = sdk.Template().from_template("base").run_cmd("true").set_ready_cmd(e2b.wait_for_timeout(10))
    info = await do(sdk.Template.build_in_background(template, alias=name, cpu_count=1, memory_mb=512, skip_cache=True))
    offset = 0
    while True:
        status = await do(sdk.Template.get_build_status(info, logs_offset=offset))
        offset += len(status.log_entries)
        if getattr(status.status, "value", status.status) in ("ready", "error"):
            break
    assert getattr(status.status, "value", status.status) == "ready"
    await remove(sdk, info)


async def test_has_names_and_tags(sdk, make, name):
    sdk.needs("Template", "alias_exists")
    assert await do(sdk.Template.alias_exists(name)) is False
    assert await do(sdk.Template.alias_exists("base")) is True
    built = await build(sdk, sdk.Template().from_template("base").run_cmd("true"), name)
    try:
        assert await do(sdk.Template.alias_exists(name)) is True
        if hasattr(sdk.Template, "exists"):
            assert await do(sdk.Template.exists(name)) is True
        if hasattr(sdk.Template, "assign_tags"):
            await do(sdk.Template.assign_tags(f"{name}:default", ["stable", "v1"]))
            assert {"stable", "v1"} <= {tag.tag for tag in await do(sdk.Template.get_tags(built.template_id))}
            assert (await make(f"{name}:stable")).sandbox_id
            await do(sdk.Template.remove_tags(name, "v1"))
            assert "v1" not in {tag.tag for tag in await do(sdk.Template.get_tags(built.template_id))}
    finally:
        await remove(sdk, built)


async def test_is_described_without_a_server(sdk):
    """What these compute in the client: the server only ever sees the image or the command they stand for."""
    new = sdk.Template
    for described, image in (
        (new().from_image("debian:12"), "debian:12"), (new().from_debian_image("bookworm"), "debian:bookworm"),
        (new().from_ubuntu_image("24.04"), "ubuntu:24.04"), (new().from_python_image("3.12"), "python:3.12"),
        (new().from_node_image("22"), "node:22"), (new().from_bun_image("1"), "oven/bun:1"),
    ):  # fmt: skip
        assert image in new.to_json(described)
        assert new.to_dockerfile(described).startswith(f"FROM {image}")
    for name, image in (("alpine", "alpine"), ("fedora", "fedora"), ("arch", "archlinux")):
        if found := getattr(new(), f"from_{name}_image", None):
            assert image in new.to_json(found())
    assert "e2bdev/base" in new.to_json(new().from_base_image())
    aws = new().from_aws_registry("1.dkr.ecr.eu-west-1.amazonaws.com/app:1", "id", "secret", "eu-west-1")
    gcp = new().from_gcp_registry("gcr.io/app:1", {"project_id": "x"})
    assert '"aws"' in new.to_json(aws) and '"gcp"' in new.to_json(gcp)
    assert "RUN" in new.to_json(new().from_dockerfile("FROM debian:12\nRUN true\n"))
    many = (
        new().skip_cache().from_image("debian:12").skip_cache().pip_install("six").npm_install("left-pad").bun_install("left-pad")
        .apt_install(["curl"]).git_clone("https://example.com/x.git", "/x")
    )  # fmt: skip
    said = new.to_json(many)
    assert all(word in said for word in ("pip install", "npm install", "bun install", "apt-get install", "git clone"))
    dev = new().from_template("devcontainer")
    assert "devcontainer" in new.to_json(dev.beta_dev_container_prebuild("/x"))
    assert "devcontainer" in new.to_json(new().from_template("devcontainer").beta_set_dev_container_start("/x"))
    assert "mcp" in new.to_json(new().from_template("mcp-gateway").add_mcp_server("time"))
    for ready in (e2b.wait_for_port(80), e2b.wait_for_url("http://localhost"), e2b.wait_for_process("sh")):
        assert ready.get_cmd()


async def test_prints_logs_of_a_build():
    show = e2b.default_build_logger()
    assert callable(show)
