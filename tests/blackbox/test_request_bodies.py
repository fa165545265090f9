"""C15: bodies up to max_body can be sent again, from memory or from a file, and memory does not grow with them."""

import contextlib
import hashlib
import json
import os
import resource
import socket
import threading

import pytest
from cases import error
from client import pattern
from raw import (CHAT, Raw, ask, head_of, held_up_ms, in_time, memory_kib, now_ms, wait_idle, wait_metric, wait_requests,
                 without_quarantine)

KIB, MIB = 1024, 1024 * 1024
PATH = "/v1/files"
TWICE = [error(503), {"cut": {"before_head": True}}, {"preset": "auto"}]


def sha(data):
    return hashlib.sha256(data).hexdigest()


def begin(c, length, chunked=False, headers=()):
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    c.send(head_of("POST", PATH, [framing, *headers]))


def upload(c, body, chunked=False, headers=(), piece=50_000):
    begin(c, len(body), chunked, headers)
    for at in range(0, len(body), piece):
        (c.chunk if chunked else c.send)(body[at:at + piece])
    if chunked:
        c.send(b"0\r\n\r\n")
    return c.answer()


def pieces_of(count, size=MIB):
    """So many pieces, all different, made as they are asked for."""
    whole = pattern(size + 256)
    for n in range(count):
        yield whole[n % 256:n % 256 + size]


def spool_bytes(d):
    return d.metric("retryd_spooled_bytes_total")


# --- replay ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_replayed_around_every_boundary(provider, retryd, chunked):
    """memory_body and the spool's blocks of 256 KiB, each a byte less and more."""
    d = retryd(server={"memory_body": "64K"})
    edges = (64 * KIB, 256 * KIB, 512 * KIB, 768 * KIB)
    with Raw(d) as c:
        for n in (edge + by for edge in edges for by in (-1, 0, 1)):
            provider.answers(*TWICE)
            provider.clear()
            before, body = spool_bytes(d), pattern(n)
            assert upload(c, body, chunked).status == 200
            record = provider.record()
            assert [r["body_sha256"] for r in record] == [sha(body)] * 3, n
            assert all(r["body_len"] == n for r in record)
            assert spool_bytes(d) - before == (n if n > 64 * KIB else 0)


@pytest.mark.parametrize("piece", [1000, 16 * KIB, 3 * MIB])
def test_from_memory_to_the_file(provider, retryd, piece):
    """A length that is not told: what was in memory, more than the spool takes at once, goes first."""
    provider.answers(*TWICE)
    d = retryd()
    body = pattern(3 * MIB + 17)
    with Raw(d) as c:
        assert upload(c, body, chunked=True, piece=piece).status == 200
        assert ask(d).status == 200
    assert [r["body_sha256"] for r in provider.record()][:3] == [sha(body)] * 3
    assert spool_bytes(d) == len(body)


def test_multipart_is_replayed(provider, retryd):
    """A form with a file, as the SDKs send it, after each kind of failure."""
    provider.answers(error(503), error(429, headers={"retry-after-ms": "10"}), {"cut": {"before_head": True}},
                     {"preset": "auto"})
    d = retryd()
    kind = "multipart/form-data; boundary=xyzzy"
    body = (b'--xyzzy\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
            b'--xyzzy\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
            + pattern(5 * MIB) + b"\r\n--xyzzy--\r\n")
    with Raw(d) as c:
        assert upload(c, body, headers=[f"Content-Type: {kind}"]).status == 200
    record = provider.record()
    assert [r["body_sha256"] for r in record] == [sha(body)] * 4
    for r in record:
        headers = {n.lower(): v for n, v in r["headers"]}
        assert headers["content-type"] == kind
        assert headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in headers and "expect" not in headers


def test_replayed_after_a_response_amid_the_upload(provider, retryd):
    """The upstream answers, or leaves, when it has the head; the next attempt has it all."""
    provider.answers({**error(503), "on": "head"}, {"on": "head", "cut": {"before_head": True}},
                     {"preset": "auto"})
    d = retryd()
    body = pattern(8 * MIB)
    with Raw(d) as c:
        assert upload(c, body).status == 200
    record = provider.record()
    assert len(record) == 3
    assert record[2]["body_sha256"] == sha(body)


def test_512_mib_fails_twice(provider, retryd):
    """Byte for byte the same three times, and memory does not grow with it."""
    provider.answers(*TWICE)
    d = retryd(env=without_quarantine())
    for _ in range(3):
        ask(d, method="GET", body=None, path="/elsewhere")
    before, count, digest = memory_kib(d.pid), 512, hashlib.sha256()
    with Raw(d, timeout=100) as c:
        begin(c, count * MIB)
        for piece in pieces_of(count):
            digest.update(piece)
            c.send(piece)
        assert c.answer().status == 200
    record = provider.record()
    assert [r["body_len"] for r in record] == [count * MIB] * 3
    assert [r["body_sha256"] for r in record] == [digest.hexdigest()] * 3
    assert memory_kib(d.pid, "VmHWM") - before < 4 * KIB
    assert d.metric("retryd_buffered_max_bytes") <= 3 * 256 * KIB + 64 * KIB
    with Raw(d) as c:  # a byte more
        begin(c, count * MIB + 1)
        assert c.answer().status == 413
    in_time(held_up_ms(d), 1000)


def test_kinds_of_bodies_share_a_connection(provider, retryd):
    """The handles of libcurl are used again: small after large, large after none."""
    d = retryd()
    large, small = pattern(2 * MIB), b'{"model":"gpt-4o"}'
    with Raw(d) as c:
        for body in (small, large, b"", large, large, small, b"", small, large):
            provider.clear()
            assert upload(c, body).status == 200
            seen, = provider.record()
            assert (seen["body_len"], seen["body_sha256"]) == (len(body), sha(body))


# --- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_spooled_body_is_routed_by_its_model(provider, retryd, chunked):
    """The model stands behind 2 MiB of input, and a stream is asked for without compression."""
    d = retryd(config=f"[route big]\nmodel = big-*\nretry.max_attempts = 1\nupstreams = test\n"
                      f"[route rest]\nupstreams = test\n")
    provider.answers(error(503))
    for model, attempts in (("big-1", 1), ("small-1", 5)):
        provider.clear()
        body = json.dumps({"input": "x" * 2 * MIB, "stream": True, "model": model}).encode()
        with Raw(d) as c:
            assert upload(c, body, chunked, ["Accept-Encoding: gzip"]).status == 503
        record = provider.record()
        assert len(record) == attempts
        assert {v for n, v in record[0]["headers"] if n.lower() == "accept-encoding"} == {"identity"}
    assert [r["model"] for r in wait_requests(d, 2)] == ["big-1", "small-1"]


# --- no room ---------------------------------------------------------------------------------------


def small_disk(size, folder):
    """Runs retryd where `folder` is a file system of its own with so little room."""
    script = f'mount -t tmpfs -o size={size} none {folder} && exec "$@"'
    return ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "-m", "sh", "-c", script, "sh"]


def expect_507(answer, folder, reason):
    assert answer.status == 507
    assert answer.error["code"] == "insufficient_storage"
    assert answer.error["type"] == "server_error"
    message = answer.error["message"]
    assert "spool_dir" in message and str(folder) in message and reason in message


@pytest.mark.parametrize("chunked", [False, True])
def test_a_full_disk_costs_that_request_alone(provider, retryd, tmp_path, chunked):
    d = retryd(server={"spool_dir": tmp_path}, wrap=small_disk("2m", tmp_path))
    with Raw(d) as c, Raw(d) as other:
        for n in range(3):
            expect_507(upload(c, pattern(5 * MIB), chunked), tmp_path, "No space left on device")
            other.request(body=CHAT)
            assert other.answer().status == 200
        assert len(provider.record()) == 3, "nothing of it was sent"
        # What fits is served, by the same connection.
        assert upload(c, pattern(2 * MIB - 64 * KIB), chunked).status == 200
    warnings = [line for line in d.log.splitlines() if "could not be kept in a file" in line]
    assert len(warnings) == 3 and all("level=warn" in line and str(tmp_path) in line for line in warnings)
    ends = [r["end"] for r in wait_requests(d, 7)]
    assert ends.count("refused") == 3 and ends.count("answered") == 4
    assert "end=client_gone" not in d.log


def test_the_last_block_does_not_fit(provider, retryd, tmp_path):
    """All bytes were taken before the disk said no: the response comes all the same, and nothing goes out."""
    d = retryd(server={"spool_dir": tmp_path, "memory_body": "64K"}, wrap=small_disk("256k", tmp_path))
    with Raw(d) as c:
        for n in (256 * KIB + 1, 300 * KIB):
            expect_507(upload(c, pattern(n)), tmp_path, "No space left on device")
    assert provider.record() == []


def test_a_long_upload_reads_why(provider, retryd, tmp_path):
    """A client that writes all of it before it reads anything is told, too."""
    d = retryd(server={"spool_dir": tmp_path}, wrap=small_disk("1m", tmp_path))
    with Raw(d) as c:
        begin(c, 150 * MIB)
        for piece in pieces_of(150):
            c.send(piece)
        expect_507(c.answer(), tmp_path, "No space left on device")
        assert ask(d).status == 200


def test_a_limit_on_file_sizes_is_no_signal(provider, retryd):
    """The kernel's way to say it, SIGXFSZ, would end the whole process."""
    d = retryd(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)))
    with Raw(d) as c:
        expect_507(upload(c, pattern(3 * MIB)), "/var/tmp", "File too large")
    assert ask(d).status == 200


def test_no_usable_folder(provider, retryd, tmp_path):
    """It is told at the start, and costs only the requests that need it."""
    missing = tmp_path / "missing"
    d = retryd(server={"spool_dir": missing})
    d.wait_line(f'spool_dir: cannot create a file in "{missing}"')
    with Raw(d) as c:
        expect_507(upload(c, pattern(3 * MIB)), missing, "No such file or directory")
        assert upload(c, pattern(MIB)).status == 200
        missing.mkdir()
        assert upload(c, pattern(3 * MIB)).status == 200
    assert list(missing.iterdir()) == [], "the files have no names"


# --- leaving ---------------------------------------------------------------------------------------


def leave_by(c, how):
    at = now_ms()
    getattr(c, how)()
    return at


@pytest.mark.tsan
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_cancelled_uploads_leave_nothing(provider, retryd, tmp_path, how):
    """Neither descriptors nor bytes on the disk nor memory: there would be too little of each for all."""
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    d = retryd(server={"spool_dir": tmp_path}, preexec=few_files, wrap=small_disk("20m", tmp_path))
    for n in range(1, 61):
        before = spool_bytes(d)
        with Raw(d) as c:
            begin(c, 50 * MIB)
            c.send(pattern(3 * MIB))
            # Of this one: a reset of what nobody has read yet leaves no request to tell of.
            wait_metric(d, "retryd_spooled_bytes_total", before + 2 * MIB)
            leave_by(c, how)
            d.wait_line("end=client_gone", count=n)
    with Raw(d) as c:
        assert upload(c, pattern(10 * MIB)).status == 200
    assert wait_idle(d)["retryd_buffered_bytes"] < 64 * KIB
    assert len(provider.record()) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_it_is_sent_from_the_file(provider, retryd, how):
    """C17: The upstream has stopped reading, or reads as fast as it can."""
    for stall in ({"stall": {"before_head": True}}, {"delay_ms": 60_000}):
        provider.answers({"status": 200, "on": "head", "drain": True, **stall})
        provider.clear()
        d = retryd()
        c = Raw(d)
        begin(c, 20 * MIB)
        c.send(pattern(20 * MIB))
        provider.wait(heads=1)
        at = leave_by(c, how)
        in_time(provider.wait(closed=1)[0]["t_closed"] - at)
        d.wait_line("end=client_gone")


# --- reload and shutdown ---------------------------------------------------------------------------


@pytest.mark.tsan
def test_a_reload_amid_an_upload(provider, retryd, tmp_path):
    """The request keeps the folder that it began with; the next one has the new one."""
    provider.answers(*TWICE)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    d = retryd(server={"spool_dir": old})
    body = pattern(6 * MIB)
    with Raw(d) as c, Raw(d) as late:
        begin(c, len(body))
        c.send(body[:3 * MIB])
        wait_metric(d, "retryd_spooled_bytes_total", 2 * MIB)
        d.write_config(open(d.config_path, encoding="utf-8").read().replace(str(old), str(new)))
        d.signal(1)
        d.wait_line("configuration reloaded")
        c.send(body[3 * MIB:])
        assert c.answer().status == 200
        expect_507(upload(late, body), new, "No such file or directory")
    assert [r["body_sha256"] for r in provider.record()] == [sha(body)] * 3


def test_a_drain_waits_for_the_upload(provider, retryd):
    d = retryd()
    body = pattern(6 * MIB)
    with Raw(d) as c:
        begin(c, len(body))
        c.send(body[:3 * MIB])
        wait_metric(d, "retryd_spooled_bytes_total", 2 * MIB)
        d.signal(15)
        d.wait_line("shutting down: finishing")
        c.send(body[3 * MIB:])
        assert c.answer().status == 200
    assert d.wait() == 0
    assert [r["body_sha256"] for r in provider.record()] == [sha(body)]


@pytest.mark.tsan
def test_an_end_amid_uploads_and_replays(provider, retryd):
    """Spools in every state, and no time to finish: nothing is left behind (the sanitizer looks)."""
    provider.answers({"status": 200, "on": "head", "drain": True, "stall": {"before_head": True}})
    d = retryd(server={"drain_timeout": "0"})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(d)) for _ in range(20)]
        for n, c in enumerate(clients):
            begin(c, 4 * MIB)
            c.send(pattern(4 * MIB if n % 2 else 3 * MIB))
        provider.wait(heads=10)
        d.signal(15)
        assert d.wait() == 0


class AnswersEarly(threading.Thread):
    """Answers each head at once and whole, and reads nothing of the body."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.peers = answer, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/v1"
        self.start()

    def run(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            self.peers.append(peer)
            head = b""
            while b"\r\n\r\n" not in head and (more := peer.recv(1)):
                head += more
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + self.answer)


GOOD = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "early"}, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize("framing", [
    b"Content-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD),
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
], ids=["length", "chunked"])
def test_an_early_good_response_is_taken(retryd, framing):
    """Whole before the request is: what the request still had to say, and nobody reads, is given up."""
    upstream = AnswersEarly(framing)
    d = retryd(upstream.url, retry={"max_attempts": 1}, timeout={"idle": "20s", "first_byte": "20s"})
    body = json.dumps({**CHAT, "user": "x" * 20_000_000}).encode()
    for _ in range(2):  # ... and never on a connection that still expects a body
        with Raw(d, timeout=60) as c:
            c.request("POST", "/v1/chat/completions", body)
            got = c.answer()
        assert got.status == 200 and got.body == GOOD
    assert d.metric("retryd_attempts_total") == 2
    assert [r["end"] for r in wait_requests(d, 2)] == ["answered"] * 2
    assert len(upstream.peers) == 2
    upstream.server.close()
