"""What is not there is refused in words that a user sees, never answered with something else."""

import e2b
import pytest
from conftest import do


async def test_secrets(sdk):
    sdk.needs("Secret", "create")
    for call in (
        lambda: sdk.Secret.create("name", "value"), lambda: sdk.Secret.update("name", "value"), lambda: sdk.Secret.get_info("name"),
        lambda: sdk.Secret.exists("name"), lambda: sdk.Secret.destroy("name"), lambda: sdk.Secret.list().next_items(),
    ):  # fmt: skip
        with pytest.raises(Exception, match="(?i)secrets") as refused:
            await do(call())
        assert type(refused.value).__module__.startswith("e2b")


async def test_what_the_network_cannot_enforce(sdk, sandbox):
    sdk.needs("Sandbox", "update_network")
    rules = {"example.org": [{"transform": {"headers": {"a": "b"}}}]}
    for update in (sandbox.update_network, lambda network: sdk.Sandbox.update_network(sandbox.sandbox_id, network)):
        for network in ({"rules": rules}, {"allow_out": ["example.org"]}, {"deny_out": ["example.org"]}):
            with pytest.raises(e2b.SandboxException, match="network"):
                await do(update(network))
