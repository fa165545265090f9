"""C16 at one byte a second: a client that reads so slowly uses almost no memory in the daemon, and data that an
upstream sends so slowly passes with the last byte of each event.
"""

import select
import socket

import pytest
from client import pattern
from raw import CHAT, STREAM, Raw, ask, in_time, memory_kib, now_ms, pass_time, wait_idle, without_quarantine

KIB, MIB = 1024, 1024 * 1024
SPEECH = "/v1/audio/speech"  # of whose streams only the framing is known
SIZE = 100 * MIB
SECONDS = 4

EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"' + "y" * 2000 + '"}}]}\n\n'
STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENTS = {"repeat": {"count": SIZE // len(EVENT), "ops": [{"send": EVENT}]}}

# name: what is asked for, the provider's response, and the bytes that it begins with
ANSWERS = {
    "length": (CHAT, {"body_bytes": SIZE}, pattern(MIB)),
    "chunked": (CHAT, {"body_bytes": SIZE, "chunked": True}, pattern(MIB)),
    "stream": (STREAM, {"wire": [{"send": STREAM_HEAD}, EVENTS, {"fin": True}]},
               (EVENT * (MIB // len(EVENT))).encode()),
}


def warmed_up(provider, retryd, answer):
    """A daemon that has its threads and the first pages of all that it uses."""
    d = retryd(env=without_quarantine())
    small = {"sse": [EVENT, "data: [DONE]\n\n"]}
    provider.answers(small, {"preset": "auto"}, answer)
    assert ask(d, STREAM).status == 200
    assert ask(d, pattern(2 * MIB), "/v1/files").status == 200  # by way of the spool
    wait_idle(d)
    return d


def sent(provider):
    return provider.record()[-1]["sent"]


def wait_until_full(provider, sock):
    """The provider can send no more: how much it has sent."""
    last, before = sent(provider), -1
    deadline = now_ms() + 20_000
    while last != before:
        assert now_ms() < deadline, f"the provider sends on: {last}"
        pass_time(0.4)
        last, before = sent(provider), last
    assert select.select([sock], [], [], 0)[0], "nothing has come"
    return last


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_client_that_reads_a_byte_a_second(provider, retryd, kind):
    """Of 100 MiB what is not in the kernel's buffers is still at the provider, or in a file."""
    body, answer, expected = ANSWERS[kind]
    d = warmed_up(provider, retryd, answer)
    before = memory_kib(d.pid)
    with Raw(d, receive_buffer=65536) as c:
        c.request(body=body)
        taken = c.sock.recv(1)
        full = wait_until_full(provider, c.sock)
        assert full < 30 * MIB
        for _ in range(SECONDS):
            taken += c.sock.recv(1)
            pass_time(1.0)
            grown, counted = memory_kib(d.pid) - before, d.metric("retryd_buffered_bytes")
            assert grown < 1.25 * KIB, f"memory grew by {grown} KiB"
            assert 0 < counted < MIB, f"retryd_buffered_bytes is {counted}"
        assert sent(provider) - full < 256 * KIB, "the provider went on sending"
        c.data = taken
        chunked = c.answer_head().header("transfer-encoding") == "chunked"
        got = b""
        while len(got) < len(expected):
            got += c.next_chunk() if chunked else c.exactly(64 * KIB)
        assert got[:len(expected)] == expected


def test_an_upstream_that_sends_a_byte_a_second(retryd):
    """Each event is at the client when its last byte has been sent, and nothing of it before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        d = retryd(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with Raw(d) as c:
            c.request(body=STREAM, path=SPEECH)
            upstream, _ = listener.accept()
            with upstream:
                asked = upstream.recv(10_000)
                assert asked.startswith(b"POST /v1/audio/speech ")
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                for event in (b"data: 1\n\n", b"data: 2\n\n"):
                    for at in range(len(event) - 1):
                        upstream.sendall(event[at:at + 1])
                        assert not pass_time(1.0, c.sock), f"something came with byte {at + 1} of {event}"
                    upstream.sendall(event[-1:])
                    began = now_ms()
                    if event == b"data: 1\n\n":
                        assert c.answer_head().status == 200
                    assert c.next_chunk() == event
                    in_time(now_ms() - began, 1000)
                    assert c.is_open()
            assert c.next_chunk() == b""
