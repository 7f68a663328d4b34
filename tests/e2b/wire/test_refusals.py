"""Wrong keys, ids and tokens, what is dead, what is closed: the very answers that clients look for."""

import time
from urllib.parse import urlencode

import pytest
import wire

NOWHERE = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("key", [None, "", "e2b_", "e2b_" + "0" * 40, "sk_wrong", "e2b_" + "0" * 5000])
def test_a_wrong_key_is_401(key):
    answer = wire.api("GET", "/v2/sandboxes", key=key)
    assert (answer.status, answer.json["code"]) == (401, 401)
    assert answer.json["message"]


@pytest.mark.parametrize("id", [NOWHERE, "x", "not-an-id", "..%2f..%2fetc", "A" * 300])
@pytest.mark.parametrize("method, path", [
    ("GET", ""), ("DELETE", ""), ("POST", "/timeout"), ("POST", "/pause"), ("POST", "/connect"), ("POST", "/fork"),
    ("POST", "/snapshots"), ("GET", "/metrics"), ("PUT", "/network"),
])  # fmt: skip
def test_an_id_that_is_nobodys_is_404(method, path, id):
    body = {"timeout": 10} if method == "POST" else {} if method == "PUT" else None
    answer = wire.api(method, f"/sandboxes/{id}{path}", body)
    assert (answer.status, answer.json["code"]) == (404, 404), answer.body


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"templateID": 7}', b'{"templateID":"base","timeout":"soon"}', b'{"templateID":"base","timeout":-1}'])
def test_a_body_that_is_none_is_400(body):
    answer = wire.request("POST", "/v2/sandboxes", body, {"X-API-Key": wire.KEY, "content-type": "application/json"})
    assert (answer.status, answer.json["code"]) == (400, 400), answer.body


def test_what_is_not_built_says_so():
    for method, path in (("GET", "/secrets"), ("POST", "/secrets")):
        answer = wire.api(method, path, {"name": "x"} if method == "POST" else None)
        assert (answer.status, answer.json["code"]) == (501, 501)


@pytest.mark.parametrize("path", ["/files?path=/etc/hostname", "/envs", "/metrics", "/process.Process/List"])
def test_another_sandboxs_token_opens_nothing(sandbox, other, path):
    method = "POST" if "Process" in path else "GET"
    for token in (other.token, "", "x" * 5000):
        answer = wire.request(method, path, {} if method == "POST" else None, sandbox.headers(token=token))
        assert answer.status == 401, answer.body
    assert sandbox.request(method, path, {} if method == "POST" else None).status == 200


def test_a_dead_sandbox_is_502():
    dead = wire.make()
    assert wire.api("DELETE", f"/sandboxes/{dead.id}").status == 204
    assert wire.api("DELETE", f"/sandboxes/{dead.id}").status == 404
    for id in (dead.id, NOWHERE):
        gone = {"sandboxId": id, "message": "The sandbox was not found", "code": 502}
        for method, path in (("GET", "/health"), ("GET", "/files?path=/x"), ("POST", "/process.Process/List"), ("POST", "/process.Process/Start")):
            answer = wire.request(method, path, b"{}" if method == "POST" else None, wire.Sandbox(id, dead.token, "").headers())
            assert (answer.status, answer.json) == (502, gone)


def test_a_closed_port_is_502(sandbox):
    answer = wire.request("GET", "/", headers=sandbox.headers(port=8123))
    closed = {"sandboxId": sandbox.id, "message": "The sandbox is running but port is not open", "port": 8123, "code": 502}
    assert (answer.status, answer.json) == (502, closed)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", ""])
def test_a_port_that_is_none(sandbox, port):
    answer = wire.request("GET", "/", headers=sandbox.headers() | {"E2b-Sandbox-Port": port})
    assert answer.status in (400, 404, 502), answer.body


def test_health_needs_no_token(sandbox):
    assert wire.request("GET", "/health", headers={"E2b-Sandbox-Id": sandbox.id}).status == 204


@pytest.mark.parametrize("path", ["init", "freeze", "unfreeze", "fsfreeze", "fsthaw", "collapse", "upgrade"])
def test_what_is_internal_is_not_there(sandbox, path):
    assert sandbox.request("POST", f"/{path}", {}).status == 404


def test_signatures(sandbox):
    assert sandbox.request("POST", "/files?path=/tmp/signed", b"yes", content_type="application/octet-stream").status == 200
    soon, past = int(time.time()) + 60, int(time.time()) - 60

    def read(signature, path="/tmp/signed", **query):
        given = {"path": path, "signature": signature} | query
        return wire.request("GET", "/files?" + urlencode(given), headers={"E2b-Sandbox-Id": sandbox.id}).status

    sign = sandbox.signature
    assert read(sign("/tmp/signed")) == 200
    assert read(sign("/tmp/signed", user="root"), username="root") == 200
    assert read(sign("/tmp/signed", expires=soon), signature_expiration=soon) == 200
    assert read(sign("/tmp/signed", expires=past), signature_expiration=past) == 401
    assert read(sign("/tmp/signed", expires=past), signature_expiration=soon) == 401
    assert read(sign("/tmp/signed", expires=soon)) == 401
    assert read(sign("/tmp/signed", operation="write")) == 401
    assert read(sign("/tmp/signed"), path="/etc/passwd") == 401
    assert read(sign("/tmp/signed"), username="root") == 401
    assert read(sign("/tmp/signed") + "=") == 401
    for nonsense in ("", "v1_", "v2_" + sign("/tmp/signed")[3:], "ä", "v1_" + "A" * 10_000):
        assert read(nonsense) == 401, nonsense
    assert wire.request("GET", "/files?path=/tmp/signed", headers={"E2b-Sandbox-Id": sandbox.id}).status == 401


def test_files_that_cannot_be(sandbox):
    assert sandbox.request("GET", "/files?path=/no/such").status == 404
    assert sandbox.request("GET", "/files?path=/tmp").status == 400
    assert sandbox.request("GET", "/files?path=%00").status == 400
    assert sandbox.request("POST", "/files", b"x", content_type="application/octet-stream").status == 400
    assert sandbox.request("POST", "/files?path=/tmp/x", b"no parts", content_type="multipart/form-data").status == 400
    assert sandbox.request("POST", "/files?path=/tmp", b"x", content_type="application/octet-stream").status == 400
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="/tmp/x"\r\n\r\nno end'
    assert sandbox.request("POST", "/files", cut, content_type="multipart/form-data; boundary=b").status == 400
