"""Envelopes that are too long, cut off, empty or none, and streams that are left half open."""

import json
import struct
import time

import pytest
import wire
from wire import END, envelope, envelopes, error_of

START = {"process": {"cmd": "/bin/sh", "args": ["-c", "echo hi"]}}


def test_start_comes_first_and_the_end_last(sandbox):
    answer = sandbox.stream("Start", envelope(START))
    assert answer.headers["content-type"] == "application/connect+json"
    found = envelopes(answer.body)
    assert [next(iter(message["event"])) for _flags, message in found[:-1]] == ["start", "data", "end"]
    assert found[1][1] == {"event": {"data": {"stdout": "aGkK"}}}
    assert found[2][1] == {"event": {"end": {"exitCode": 0, "exited": True, "status": "exit status 0"}}}
    assert found[-1] == (END, {})
    assert {flags for flags, _message in found[:-1]} == {0}


@pytest.mark.parametrize("frames", [
    b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\x10{", envelope(b"{"), envelope(b"[]"), envelope(b""), envelope(b'{"process":7}'),
    envelope({}), envelope(START, flags=1), envelope(START, flags=END), envelope(START) + envelope(START),
    envelope(START)[:-3], b"\xff" * 64,
])  # fmt: skip
def test_a_frame_that_is_none_is_an_invalid_argument(sandbox, frames):
    error = error_of(sandbox.stream("Start", frames))
    assert error["code"] in ("invalid_argument", "unimplemented"), error
    assert error["message"]


def test_an_envelope_that_says_it_is_huge_is_refused_before_it_comes(sandbox):
    with wire.connect() as stream:
        lines = ("Content-Type: application/connect+json", "Transfer-Encoding: chunked")
        stream.sendall(wire.head(sandbox, "/process.Process/Start", *lines))
        stream.sendall(b"5\r\n" + struct.pack(">BI", 0, 0xFFFFFFFF) + b"\r\n")
        said = b""
        while b"resource_exhausted" not in said:
            part = stream.recv(65536)
            assert part, f"only {said!r}"
            said += part
    assert b"HTTP/1.1 200" in said


def test_unary_calls_fail_by_status(sandbox):
    def call(path, body, content_type="application/json"):
        return sandbox.request("POST", path, body, content_type=content_type)

    bad = call("/process.Process/SendInput", b"{")
    assert (bad.status, bad.json["code"]) == (400, "invalid_argument")
    missing = call("/filesystem.Filesystem/Stat", json.dumps({"path": "/no/such"}).encode())
    assert (missing.status, missing.json["code"]) == (404, "not_found")
    nobody = call("/process.Process/SendSignal", json.dumps({"process": {"pid": 4_000_000}, "signal": "SIGNAL_SIGKILL"}).encode())
    assert (nobody.status, nobody.json["code"]) == (404, "not_found")
    assert call("/process.Process/NoSuch", b"{}").status in (404, 501)
    assert call("/no.Such/Thing", b"{}").status == 404
    assert call("/process.Process/List", b"{}", content_type="application/proto").status == 415
    try:
        assert call("/process.Process/List", b" " * (32 << 20)).status in (400, 413, 429)
    except (BrokenPipeError, ConnectionResetError):
        pass  # It hangs up in the middle of it.


def test_a_request_that_stops_halfway_holds_nobody_up(sandbox):
    streams = [wire.connect() for _ in range(20)]
    for stream in streams:
        lines = ("Content-Type: application/connect+json", "Transfer-Encoding: chunked")
        stream.sendall(wire.head(sandbox, "/process.Process/Start", *lines) + b"5\r\n\0\0\0\0\x40\r\n")
    assert sandbox.run("echo on")[1] == {"data": {"stdout": "b24K"}}
    for stream in streams:
        stream.close()
    assert sandbox.request("POST", "/process.Process/List", {}).json.get("processes", []) == []


def test_who_goes_away_leaves_the_process_running(sandbox):
    with wire.connect() as stream:
        lines = ("Content-Type: application/connect+json", "Transfer-Encoding: chunked")
        start = envelope({"process": {"cmd": "/bin/sleep", "args": ["1000"]}, "tag": "mine"})
        stream.sendall(wire.head(sandbox, "/process.Process/Start", *lines) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(start), start))
        said = b""
        while b'"start"' not in said:
            said += stream.recv(65536)
    (one,) = sandbox.request("POST", "/process.Process/List", {}).json["processes"]
    assert one["tag"] == "mine"
    killed = sandbox.request("POST", "/process.Process/SendSignal", {"process": {"tag": "mine"}, "signal": "SIGNAL_SIGKILL"})
    assert (killed.status, killed.json) == (200, {})
    late = envelopes(sandbox.stream("Connect", envelope({"process": {"pid": one["pid"]}})).body)
    assert late[-1][0] == END and "end" in late[-2][1]["event"]


def test_the_deadline_kills_the_process(sandbox):
    sleep = envelope({"process": {"cmd": "/bin/sleep", "args": ["1000"]}})
    assert error_of(sandbox.stream("Start", sleep, Connect_Timeout_Ms="300"))["code"] == "deadline_exceeded"
    limit = time.monotonic() + wire.SECONDS
    while sandbox.request("POST", "/process.Process/List", {}).json.get("processes", []):
        assert time.monotonic() < limit, "it runs on"


def test_silence_is_kept_alive(sandbox):
    sleep = envelope({"process": {"cmd": "/bin/sleep", "args": ["2"]}})
    found = envelopes(sandbox.stream("Start", sleep, Keepalive_Ping_Interval="1").body)
    assert {"event": {"keepalive": {}}} in [message for _flags, message in found]


def test_stdin_as_a_stream(sandbox):
    with wire.connect() as stream:
        lines = ("Content-Type: application/connect+json", "Transfer-Encoding: chunked")
        start = envelope({"process": {"cmd": "/usr/bin/head", "args": ["-n", "2"]}, "stdin": True, "tag": "cat"})
        stream.sendall(wire.head(sandbox, "/process.Process/Start", *lines) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(start), start))
        said = b""
        while b'"start"' not in said:
            said += stream.recv(65536)
        fed = envelope({"start": {"process": {"tag": "cat"}}})
        fed += b"".join(envelope({"data": {"input": {"stdin": text}}}) for text in ("YQo=", "Ygo="))
        answer = sandbox.stream("StreamInput", fed)
        assert envelopes(answer.body)[-1] == (END, {})
        while b'"end"' not in said:
            said += stream.recv(65536)
        assert b"YQpiCg==" in said
