"""C16 for uploads: neither side makes memory grow beyond its cap, whichever side is slow."""

import contextlib
import hashlib
import select
import socket

import pytest
from client import pattern
from raw import CHAT, Raw, ask, head_of, memory_kib, wait_idle, wait_metric, without_quarantine

KIB, MIB = 1024, 1024 * 1024
PATH = "/v1/files"


def begin(c, length):
    c.send(head_of("POST", PATH, [f"Content-Length: {length}"]))


def test_a_slow_upstream_does_not_fill_memory(retryd):
    """It reads nothing for as long as the test likes; the body waits in the file, and goes on from there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        d = retryd(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", env=without_quarantine())
        ask(d, method="GET", body=None, path="/elsewhere")
        body, before = pattern(60 * MIB), memory_kib(d.pid)
        with Raw(d) as c:
            begin(c, len(body))
            c.send(body)
            upstream, _ = listener.accept()
            with upstream:
                upstream.settimeout(20)
                got = bytearray(upstream.recv(1000))
                wait_metric(d, "retryd_spooled_bytes_total", len(body))
                assert d.metric("retryd_buffered_bytes") <= 256 * KIB + 64 * KIB
                assert memory_kib(d.pid) - before < 4 * KIB
                while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + len(body):
                    got += upstream.recv(MIB)
                assert got[-len(body):] == body
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                assert c.answer().body == b"ok"


@pytest.mark.parametrize("memory_body", ["1M", "32M"])
def test_a_response_amid_an_upload_that_waits(retryd, memory_body):
    """Both ways at once: the upload waits for the upstream, the response for the client, each in pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        d = retryd(f"http://127.0.0.1:{listener.getsockname()[1]}/v1",
                   server={"hold_limit": "64K", "memory_body": memory_body}, env=without_quarantine())
        ask(d, method="GET", body=None, path="/elsewhere")
        body, answer = pattern(20 * MIB), pattern(30 * MIB)
        with Raw(d, receive_buffer=65536) as c:
            begin(c, len(body))
            c.send(body)
            upstream, _ = listener.accept()
            # All of it has come: what grows from here on is the response's.
            wait_metric(d, {"1M": "retryd_spooled_bytes_total", "32M": "retryd_buffered_bytes"}[memory_body], len(body))
            before = memory_kib(d.pid, "VmHWM")
            with upstream:
                upstream.settimeout(20)
                head = upstream.recv(1000)
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer[:MIB])
                assert c.answer_head().status == 200
                upstream.setblocking(False)
                sent, taken, received = MIB, len(head), bytearray()
                while len(received) < len(answer):
                    # The last byte waits for the upload, which nobody needs any more behind it.
                    may_send = len(answer) - (taken < len(body))
                    readable, writable, _ = select.select([upstream, c.sock],
                                                          [upstream] if sent < may_send else [], [], 20)
                    assert readable or writable, "both ways have stopped"
                    if upstream in readable:
                        taken += len(upstream.recv(MIB))
                    if writable:
                        sent += upstream.send(answer[sent:min(sent + 64 * KIB, may_send)])
                    if c.sock in readable:
                        c.more()
                    received += c.data
                    c.data = b""
                assert received == answer
        assert memory_kib(d.pid, "VmHWM") - before < 4 * KIB


@pytest.mark.tsan
def test_200_uploads_of_5_mib_at_once(provider, retryd):
    """All under way at the same time, all but the last byte sent: they stay under the cap."""
    body, count, cap = pattern(5 * MIB), 200, 192 * MIB
    d = retryd(server={"max_buffered": "192M", "workers": 2})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(d, timeout=60)) for _ in range(count)]
        for c in clients:
            begin(c, len(body))
        # In turns, so that something comes from each in the ten seconds that a body may rest.
        for at in range(0, len(body), 512 * KIB):
            for c in clients:
                c.send(body[at:min(at + 512 * KIB, len(body) - 1)])
        wait_metric(d, "retryd_spooled_bytes_total", count * (len(body) - 256 * KIB), timeout=60)
        assert 0 < d.metric("retryd_buffered_bytes") < cap
        for c in clients:
            c.send(body[-1:])
        for c in clients:
            assert c.answer().status == 200
    record = provider.record()
    assert len(record) == count
    assert {r["body_sha256"] for r in record} == {hashlib.sha256(body).hexdigest()}
    samples = wait_idle(d)
    assert samples["retryd_buffered_max_bytes"] < cap
    assert samples["retryd_requests_shed_total"] == 0
    assert samples["retryd_spooled_bytes_total"] == count * len(body)


def test_new_requests_are_refused_before_memory_is_gone(provider, retryd):
    """Bodies that never end fill the cap; a new request is told to come again, and those under way go on."""
    d = retryd(server={"max_buffered": "4M"})
    body = pattern(250 * KIB)
    with contextlib.ExitStack() as stack:
        holders, answer = [], None
        while answer is None:
            assert len(holders) < 40
            c = stack.enter_context(Raw(d))
            begin(c, len(body))
            c.send(body[:-1])
            holders.append(c)
            wait_metric(d, "retryd_buffered_bytes", len(holders) * (len(body) - 1))
            if d.metric("retryd_buffered_bytes") >= 4 * MIB * 95 // 100:
                answer = ask(d)
        assert answer.status == 503
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("1", "true")
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("overloaded", "server_error")
        assert "max_buffered" in error["message"]
        assert provider.record() == []
        samples = d.metrics()
        assert samples["retryd_requests_shed_total"] == samples["retryd_refused_total"] == 1
        for c in holders:
            c.send(body[-1:])
        assert all(c.answer().status == 200 for c in holders)
        assert ask(d).status == 200
    assert len(provider.record()) == len(holders) + 1
    assert d.metric("retryd_buffered_max_bytes") < 4 * MIB + 512 * KIB


def test_bodies_under_way_cannot_pass_the_cap(provider, retryd):
    """Their heads all came while there was room. What does not fit is told to come again; the rest is served."""
    d = retryd(server={"max_buffered": "4M"})
    body, count = pattern(250 * KIB), 40
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(d)) for _ in range(count)]
        for c in clients:
            begin(c, len(body))
        wait_metric(d, "retryd_requests_total", count)
        for c in clients:
            c.send(body[:-1])
        for c in clients:
            c.send(body[-1:])
        answers = [c.answer() for c in clients]
        shed = [a for a in answers if a.status == 503]
        assert all(a.status == 200 for a in answers if a not in shed)
        assert all((a.header("retry-after"), a.json()["error"]["code"]) == ("1", "overloaded") for a in shed)
        assert all(ask(d).status == 200 for _ in range(3))
    assert len(provider.record()) == count - len(shed) + 3
    samples = wait_idle(d)
    assert samples["retryd_requests_shed_total"] == len(shed)
    assert samples["retryd_buffered_max_bytes"] < 4 * MIB + 512 * KIB
    assert samples["retryd_buffered_bytes"] == 0


def test_above_half_of_the_cap_bodies_go_to_files(provider, retryd):
    """Each alone stays in memory."""
    provider.answers({"preset": "auto", "stall": {"before_head": True}}, {"preset": "auto"})
    d = retryd(server={"max_buffered": "6300K", "memory_body": "3M"})
    body = pattern(3 * MIB)
    with Raw(d) as first, Raw(d) as second:
        for n, c in enumerate((first, second), 1):
            begin(c, len(body))
            c.send(body)
            provider.wait(requests=n)
            assert d.metric("retryd_spooled_bytes_total") == (len(body) if c is second else 0)
        assert second.answer().status == 200
    assert [r["body_sha256"] for r in provider.record()] == [hashlib.sha256(body).hexdigest()] * 2
    assert d.metric("retryd_buffered_max_bytes") < 6 * MIB


@pytest.mark.parametrize("body", [CHAT, pattern(3 * MIB)], ids=["small", "large"])
def test_what_was_counted_is_given_back(provider, retryd, body):
    d = retryd()
    for n in range(20):
        assert ask(d, body).status == 200
    assert d.metric("retryd_buffered_max_bytes") > 0
    assert wait_idle(d)["retryd_buffered_bytes"] == 0
