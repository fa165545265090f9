"""Behaviour of libcurl and libmicrohttpd that would break the contract without a remedy in retryd.

Each test fails if its remedy is removed from src/edge.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys

import pytest
from client import Provider
from pki import pki  # noqa: F401
from raw import (CHAT, STREAM, Closed, Raw, ask, attempts_logged, cpu_ms, head_of, held_up_ms, in_time, now_ms,
                 pass_time, wait_metric, wait_requests)

LINKS = ["plain", "tls", "unix"]


class Link:
    """A provider and how a daemon reaches it."""

    def __init__(self, kind, pki, folder):
        self.kind = kind
        self.provider = Provider(os.environ["PROVIDER_BIN"], quiet=True,
                                 tls=pki.good if kind == "tls" else None,
                                 unix=folder / "provider.sock" if kind == "unix" else None)
        self.url = {"plain": self.provider.base_url,
                    "tls": kind == "tls" and self.provider.tls_base_url,
                    "unix": f"unix:{folder}/provider.sock:/v1"}[kind]
        self.settings = {"ca_file": pki.ca} if kind == "tls" else {}


@pytest.fixture(params=LINKS)
def link(request, pki, tmp_path):  # noqa: F811
    link = Link(request.param, pki, tmp_path)
    with link.provider:
        yield link


def start(retryd, link, **how):
    return retryd(link.url, upstream_settings=link.settings, **how)


# --- 1: libcurl sends a POST again when a kept connection dies without a response --------------------


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_silent_repost_single_attempt(link, retryd, how):
    """C8."""
    link.provider.answers({"preset": "auto"}, {"preset": "auto", "cut": {"before_head": True, "how": how}},
                          {"preset": "auto", "text": "a second charge"})
    d = start(retryd, link, retry={"max_attempts": 1})
    with Raw(d) as c:
        c.request(body=CHAT)
        assert c.answer().status == 200
        c.request(body=CHAT)
        answer = c.answer()
    assert answer.status == 502
    assert answer.error["code"] == "connection_lost"
    assert len(link.provider.record()) == 2, "libcurl sent the POST again on its own"
    assert link.provider.record()[1]["conn_n"] == 2, "the connection was not a kept one"
    assert d.metric("retryd_resends_vetoed_total") == 0, "something was about to send it again"
    assert [r["attempts"] for r in wait_requests(d, 2)] == ["1", "1"]


def test_lost_kept_connection_is_our_retry(link, retryd):
    """C3: The same loss with attempts left: repeated once, by the policy, logged and counted (C28)."""
    link.provider.answers({"preset": "auto"}, {"preset": "auto", "cut": {"before_head": True, "how": "fin"}},
                          {"preset": "auto", "text": "rescued"})
    d = start(retryd, link)
    with Raw(d) as c:
        c.request(body=CHAT)
        assert c.answer().status == 200
        c.request(body=CHAT)
        answer = c.answer()
    assert answer.json()["choices"][0]["message"]["content"] == "rescued"
    assert answer.header("x-retryd-attempts") == "2"
    wait_requests(d, 2)
    assert len(link.provider.record()) == 3 == attempts_logged(d)
    assert d.wait_log("attempt 1 of 5 failed")["possible_duplicate"] == "yes"
    assert wait_metric(d, "retryd_possible_duplicates_total", 1) == 1


# --- 2: bytes that nobody asked for on an idle connection become the next response --------------------

POISON = ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n"
          '"POISON"')


def test_unsolicited_bytes_are_never_a_response(link, retryd):
    """C1."""
    link.provider.answers({"preset": "auto", "text": "clean", "after": {"delay_ms": 0, "send": POISON}})
    d = start(retryd, link)
    with Raw(d) as c:
        for n in range(1, 6):
            c.request(body=CHAT)
            answer = c.answer()
            assert b"POISON" not in answer.body
            assert answer.json()["choices"][0]["message"]["content"] == "clean"
            assert answer.header("x-retryd-attempts") == "1", "the poison cost an attempt"
            link.provider.wait(open=0)  # the poisoned connection is thrown away while idle
            assert len(link.provider.record()) == n
    assert link.provider.stats()["connections"] == 5


@pytest.mark.parametrize("first", ["bytes", "request"])
def test_unsolicited_bytes_in_the_same_turn(link, retryd, first):
    """C1: The daemon is stopped while the bytes and the next request come: it finds both at once."""
    link.provider.answers({"preset": "auto", "text": "clean", "after": {"delay_ms": 100, "send": POISON}},
                          {"preset": "auto", "text": "next"})
    d = start(retryd, link)
    with Raw(d) as c, Raw(d) as other:
        c.request(body=CHAT)
        assert c.answer().status == 200
        d.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, d.pid, os.WSTOPPED)
        if first == "request":
            other.request(body=CHAT)
        assert not pass_time(0.25, c.sock, other.sock)
        if first == "bytes":
            other.request(body=CHAT)
        d.signal(signal.SIGCONT)
        answer = other.answer()
    assert answer.json()["choices"][0]["message"]["content"] == "next"
    assert answer.header("x-retryd-attempts") == "1"
    assert [r["conn_n"] for r in link.provider.record()] == [1, 1]


def test_bytes_behind_a_response_end_its_connection(link, retryd):
    """C1: The bytes come in one piece with the response before them."""
    answer = POISON.replace("POISON", "answer")
    link.provider.answers({"wire": [{"send": answer + POISON}]})
    d = start(retryd, link)
    with Raw(d) as c:
        for _ in range(10):
            c.request(body=CHAT)
            assert c.answer().json() == "answer"
    assert [r["conn_n"] for r in link.provider.record()] == [1] * 10
    wait_requests(d, 10)
    assert attempts_logged(d) == 10


# A network of its own with so few local ports that connections to two upstreams share them. Clients
# come through a Unix socket and take none.
SHARED_PORTS = r"""
import fcntl, os, socket, struct, sys
from client import Provider
from daemon import Retryd
from raw import CHAT, Raw

folder, poison = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: up, running
binary = os.environ["PROVIDER_BIN"]
with Provider(binary, quiet=True) as a, Provider(binary, quiet=True) as b:
    a.answers({"preset": "auto", "delay_ms": 200})
    b.answers({"preset": "auto", "text": "clean", "after": {"delay_ms": 50, "send": poison}})
    with Retryd(a.base_url, server={"listen": f"unix:{folder}/retryd.sock"}, admin={"listen": "off"},
                config=f"[upstream b]\nurl = {b.base_url}\n[route b]\nmodel = b*\nupstreams = b\n"
                       "[route all]\nupstreams = test\n") as d:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
            f.write("40000 40007")
        clients = [Raw(d) for _ in range(8)]
        for c in clients:
            c.request(body=CHAT)
        for c in clients:
            assert c.answer().status == 200
        assert a.stats()["connections"] == 8
        for n in range(1, 4):
            clients[0].request(body={**CHAT, "model": "b"})
            answer = clients[0].answer()
            assert b"POISON" not in answer.body, answer.body
            assert answer.json()["choices"][0]["message"]["content"] == "clean"
            b.wait(open=0)  # the poisoned connection is thrown away while idle
            assert b.stats()["connections"] == n
"""


def test_unsolicited_bytes_where_connections_share_a_local_port(tmp_path):
    """C1: One local port leads to both upstreams: the dirty connection is told from the clean one."""
    done = subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "-n",
                           sys.executable, "-c", SHARED_PORTS, str(tmp_path), POISON],
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_idle_close_costs_nothing(link, retryd):
    """C28."""
    link.provider.answers({"preset": "auto", "after": {"delay_ms": 0, "close": True}})
    d = start(retryd, link)
    with Raw(d) as c:
        for _ in range(20):
            c.request(body=CHAT)
            assert c.answer().status == 200
            link.provider.wait(open=0)
    assert len(link.provider.record()) == 20
    wait_requests(d, 20)
    assert attempts_logged(d) == 20
    assert d.metric("retryd_possible_duplicates_total") == 0
    assert "failed" not in d.log


def test_idle_close_with_many_kept_connections(link, retryd):
    """C28: All of a pool's connections are closed at once; the next burst meets none of them."""
    burst = 30
    link.provider.answers({"preset": "auto", "delay_ms": 150, "after": {"delay_ms": 300, "close": True}})
    d = start(retryd, link)
    for n in (1, 2, 3):
        clients = [Raw(d) for _ in range(burst)]
        for c in clients:
            c.request(body=CHAT)
        for c in clients:
            assert c.answer().header("x-retryd-attempts") == "1"
            c.close()
        link.provider.wait(open=0)
        assert len(link.provider.record()) == n * burst
    wait_requests(d, 3 * burst)
    assert attempts_logged(d) == 3 * burst


# --- 3: reading the CA file for each connection blocks the loop ------------------------------------


def cpu_per_connection(retryd, provider, ca_file, count=40):
    d = retryd(provider.tls_base_url, upstream_settings={"ca_file": ca_file})
    assert ask(d).status == 200
    before = cpu_ms(d.pid)
    with Raw(d) as c:
        for _ in range(count):
            c.request(body=CHAT)
            assert c.answer().status == 200
    return (cpu_ms(d.pid) - before) / count, d


def test_big_ca_bundle_is_read_once(pki, retryd):  # noqa: F811
    """Each connection is new, and a bundle of some hundred certificates costs no more than one of one."""
    with Provider(os.environ["PROVIDER_BIN"], quiet=True, tls=pki.good) as provider:
        provider.answers({"preset": "auto", "close": True})
        small, _ = cpu_per_connection(retryd, provider, pki.ca)
        big, d = cpu_per_connection(retryd, provider, pki.big_bundle)
        assert provider.stats()["tls_handshakes"] == 82
        assert big < small + 6, f"{big} ms of CPU a connection against {small} ms"
        assert d.metric("retryd_loop_lag_max_seconds") < 0.5


# --- 4: a hung resolver blocks the loop --------------------------------------------------------------

# A network of its own, where the name server takes questions and never answers. Unix sockets still
# reach the world outside.
HUNG_RESOLVER = r"""
import fcntl, os, socket, struct, subprocess, sys
folder = sys.argv[1]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: up, running
s.bind(("127.0.0.1", 53))
s.set_inheritable(True)
for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    subprocess.run(["mount", "--bind", path, "/etc/" + name], check=True)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_hung_resolver_holds_up_nobody(retryd, tmp_path):
    with Provider(os.environ["PROVIDER_BIN"], quiet=True, unix=tmp_path / "provider.sock") as provider:
        d = retryd(f"unix:{tmp_path}/provider.sock:/v1",
                   wrap=["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "-mn",
                         sys.executable, "-c", HUNG_RESOLVER, str(tmp_path)],
                   server={"listen": f"unix:{tmp_path}/retryd.sock"}, admin={"listen": "off"},
                   retry={"max_attempts": 1}, timeout={"connect": "3s"},
                   config="[upstream nowhere]\nurl = http://api.nowhere.example/v1\n"
                          "[route nowhere]\nmodel = nowhere*\nupstreams = nowhere\n"
                          "[route all]\nupstreams = test\n")
        # Warms the connection, so that what is measured is the loop.
        assert ask(d).status == 200
        start_ms = now_ms()
        stuck = [Raw(d) for _ in range(8)]
        for c in stuck:
            c.request(body={**CHAT, "model": "nowhere-1"})
        leaver = stuck.pop()
        served = 0
        slowest = 0
        with Raw(d) as c:
            while now_ms() < start_ms + 2000:
                before = now_ms()
                c.request(body=CHAT)
                assert c.answer().status == 200
                slowest = max(slowest, now_ms() - before)
                served += 1
                if now_ms() > start_ms + 400:
                    leaver.close()  # a cancel must not wait for the resolver either
                if not pass_time(0.002):
                    continue
        assert served > 20
        in_time(slowest, 1500)
        for c in stuck:
            answer = c.answer()
            assert answer.status == 504
            assert answer.error["code"] == "connect_timeout"
            c.close()
        lines = [r for r in wait_requests(d, served + 9) if r.get("model") == "nowhere-1"]
        ends = sorted((r["end"], int(r["duration_ms"])) for r in lines)
        assert ends[0][0] == "client_gone" and ends[0][1] >= 350, ends
        assert all(end == "failed" and ms >= 2950 for end, ms in ends[1:]), ends
        in_time(ends[0][1], 2500)
        in_time(max(ms for _, ms in ends), 4800)
        in_time(held_up_ms(d), 1500)  # the resolver waits for 5 s


# --- 5: resuming a suspended connection wakes nothing -------------------------------------------------


def run_many(d, count, payload, timeout=60):
    """So many requests at once from one thread; the responses' bytes, in order."""
    selector = selectors.DefaultSelector()
    answers = [b""] * count
    for n in range(count):
        s = socket.create_connection((d.host, d.port), timeout=20)
        s.sendall(payload(n))
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ, n)
    left, deadline = count, now_ms() + timeout * 1000
    while left:
        ready = selector.select(5)
        assert now_ms() < deadline, f"{left} of {count} answers never came"
        for key, _ in ready:
            piece = key.fileobj.recv(65536)
            answers[key.data] += piece
            if not piece:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                left -= 1
    return answers


def test_no_resume_is_lost(provider, retryd):
    """Thousands sleep at once and are woken together by answers, by times, and by streams."""
    count = 2400
    provider.rules({"match": {"path": "*/embeddings"}, "answers": [{"status": 503, "delay_ms": 1500},
                                                                   {"preset": "embeddings"}],
                    "key": "x-n"},
                   default={"preset": "auto", "delay_ms": 1500, "interval_ms": 20})
    d = retryd(retry={"initial_delay": "300ms", "jitter": "none"}, log={"access": "failed"},
               server={"workers": 2})
    bodies = [("/v1/chat/completions", CHAT), ("/v1/embeddings", {"model": "e", "input": "x"}),
              ("/v1/chat/completions", STREAM)]

    def payload(n):
        path, body = bodies[n % 3]
        data = json.dumps(body).encode()
        return head_of("POST", path, ["Connection: close", f"x-n: {n}", "Content-Type: application/json",
                                      f"Content-Length: {len(data)}"]) + data

    answers = run_many(d, count, payload)
    for n, answer in enumerate(answers):
        assert answer.startswith(b"HTTP/1.1 200"), (n, answer[:300])
        assert (b"[DONE]" in answer) == (n % 3 == 2), (n, answer[-300:])
    assert wait_metric(d, "retryd_attempts_total", count + count // 3) == len(provider.record())
    assert wait_metric(d, "retryd_rescued_total", count // 3) == count // 3


# --- 6: the parser lets through what smuggles requests -------------------------------------------------

SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(*headers, body=b"{}", version="1.1", host="localhost", path="/v1/chat/completions"):
    return head_of("POST", path, headers, version=version, host=host) + body


BAD_REQUESTS = {
    "length and chunked": post("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked and length": post("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths": post("Content-Length: 2", "Content-Length: 40"),
    "two equal lengths": post("Content-Length: 2", "Content-Length: 2"),
    "a list of lengths": post("Content-Length: 2, 2"),
    "negative length": post("Content-Length: -2"),
    "length with a plus": post("Content-Length: +2"),
    "length in hex": post("Content-Length: 0x2"),
    "length with junk": post("Content-Length: 2 2"),
    "length beyond 64 bits": post("Content-Length: 18446744073709551618"),
    "two encodings": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding twice in a line": post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked not last": post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "encoding before chunked": post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "unknown encoding": post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "identity": post("Transfer-Encoding: identity", body=b""),
    "vertical tab before chunked": post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunked in 1.0": post("Transfer-Encoding: chunked", body=b"0\r\n\r\n", version="1.0"),
    "two hosts": post("Host: localhost", "Content-Length: 2"),
    "no host": post("Content-Length: 2", host=None),
    "space in a name": post("X Y: 1", "Content-Length: 2"),
    "space before the colon": post("Content-Length : 2"),
    "bracket in a name": post("X(Y: 1", "Content-Length: 2"),
    "high byte in a name": post("X\xe9: 1", "Content-Length: 2"),
    "control in a value": post("X: a\x01b", "Content-Length: 2"),
    "delete in a value": post("X: a\x7fb", "Content-Length: 2"),
    "101 headers": post(*(f"X-{n}: 1" for n in range(100)), "Content-Length: 2"),
    "version 2.0": post("Content-Length: 2", version="2.0"),
    "version 0.9": post("Content-Length: 2", version="0.9"),
    "asterisk": head_of("OPTIONS", "*"),
    "target without a slash": post("Content-Length: 2", path="v1/chat/completions"),
    "control in the target": post("Content-Length: 2", path="/v1/chat\x01/completions"),
    "fragment in the target": post("Content-Length: 2", path="/v1/chat/completions#x"),
    "connect": head_of("CONNECT", "localhost:443"),
    "connect with a path": head_of("CONNECT", "/v1/models"),
    "trace": head_of("TRACE", "/v1/models"),
    "method not a token": head_of("GE(T", "/v1/models"),
    "chunk size not hex": post("Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
    "negative chunk": post("Transfer-Encoding: chunked", body=b"-2\r\n{}\r\n0\r\n\r\n"),
    "chunk beyond 64 bits": post("Transfer-Encoding: chunked", body=b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than told": post("Transfer-Encoding: chunked", body=b"2\r\n{}{}\r\n0\r\n\r\n"),
}


# These the parser refuses by itself, with a page of its own. (0.9.75 writes some of its heads twice.)
BY_THE_PARSER = {"a list of lengths", "negative length", "length with a plus", "length in hex",
                 "length with junk", "length beyond 64 bits", "no host", "version 2.0", "version 0.9",
                 "chunk size not hex", "negative chunk", "chunk beyond 64 bits", "chunk longer than told"}
# ... and these 1.0 does.
BY_A_NEWER_PARSER = {"length and chunked", "chunked and length", "encoding twice in a line", "chunked not last",
                     "encoding before chunked", "unknown encoding", "identity", "vertical tab before chunked",
                     "space in a name", "space before the colon"}


def test_smuggled_requests_are_refused(provider, retryd):
    d = retryd()
    for name, data in BAD_REQUESTS.items():
        with Raw(d) as c:
            c.send(data + SMUGGLED)
            answer = c.answer()
            rest = c.rest()  # ... until it is closed
        assert 400 <= answer.status < 500 or answer.status == 505, (name, answer.status)
        assert answer.header("connection").lower() == "close", name
        if name not in BY_THE_PARSER:
            assert rest == b"", (name, rest)
            if name not in BY_A_NEWER_PARSER or answer.header("content-type"):
                assert answer.error["message"], name
        assert b" 200 " not in rest, (name, rest)
    assert provider.record() == []
    assert d.metric("retryd_attempts_total") == 0
    # The same head without any of these faults is served, and so is what follows it.
    with Raw(d) as c:
        c.send(post("Content-Length: 2") + SMUGGLED)
        assert c.answer().status == 200
        c.answer()
    assert [r["target"] for r in provider.record()] == ["/v1/chat/completions", "/v1/smuggled"]


# --- 7: inactivity timers do not stop a slow drip ------------------------------------------------------


def test_slow_drips_are_cut_by_deadlines(provider, retryd):
    """15 s for a head, 10 s for each kilobyte of a body; whoever keeps that pace is served."""
    d = retryd()
    drips = {
        "head": (head_of("POST", "/v1/chat/completions", ["X: " + "y" * 200]), 1),
        "body": (post("Content-Length: 100000", body=b"") + b"x" * 200, 1),
        "chunks": (post("Transfer-Encoding: chunked", body=b"") + b"1\r\nx\r\n" * 200, 1),
        "silence": (b"", 0),
        "half a line": (b"POST /v1", 0),
        "steady": (post("Content-Length: 12000", body=b"") + b"x" * 12000, 600),
    }
    whole_head = {"body", "chunks", "steady"}
    clients, sent, closed = {}, {}, {}
    for name, (data, _) in drips.items():
        clients[name] = Raw(d)
        first = data.index(b"\r\n\r\n") + 4 if name in whole_head else min(len(data), 8)
        clients[name].send(data[:first])
        sent[name] = first
    began = now_ms()
    answered = None
    while clients and now_ms() < began + 25000:
        pass_time(0.5, *(c.sock for c in clients.values()))
        # A waiting daemon still serves.
        assert ask(d).status == 200
        for name, c in list(clients.items()):
            data, pace = drips[name]
            ready = pass_time(0, c.sock)
            try:
                if ready and name == "steady":
                    answered = c.answer()
                    closed[name] = now_ms() - began
                    del clients[name]
                    continue
                if ready:
                    c.more()
                piece = data[sent[name]:sent[name] + pace]
                c.send(piece)
                sent[name] += len(piece)
            except (Closed, OSError):
                closed[name] = now_ms() - began
                del clients[name]
    assert not clients, f"still open: {list(clients)}"
    assert answered is not None and answered.status == 200
    for name in ("head", "silence", "half a line"):
        assert 14000 < closed[name] < 20_000, closed
    for name in ("body", "chunks"):
        assert 9000 < closed[name] < 15_000, closed
    assert sum(r["closed_early"] for r in provider.record()) == 0
    assert {r["body_len"] for r in provider.record()} == {len(json.dumps(CHAT)), 12000}


# --- 8: a response queued early closes the connection ---------------------------------------------------


def test_errors_do_not_close_the_connection(provider, retryd):
    provider.rules(
        {"match": {"path": "/v1/busy"}, "answers": [{"preset": "error", "status": 503}]},
        {"match": {"path": "/v1/bad"}, "answers": [{"preset": "error", "status": 400}]},
        {"match": {"path": "/v1/cut"}, "answers": [{"preset": "ok", "cut": {"before_head": True}}]},
        {"match": {"path": "/v1/gone"}, "answers": [{"status": 204}]})
    d = retryd(retry={"max_attempts": 2, "initial_delay": "1ms"})
    with Raw(d) as c:
        for _ in range(8):
            for method, path, headers, status in (
                    ("POST", "/v1/chat/completions", [], 200), ("GET", "/v1/models", [], 200),
                    ("POST", "/v1/busy", [], 503), ("POST", "/v1/bad", [], 400),
                    ("POST", "/v1/cut", [], 502), ("DELETE", "/v1/gone", [], 204),
                    ("GET", "/elsewhere", [], 404), ("HEAD", "/v1/models", [], 200),
                    ("POST", "/v1/models", ["x-retryd-max-attempts: many"], 400)):
                c.request(method, path, CHAT if method == "POST" else None, headers)
                answer = c.answer(method)
                assert answer.status == status, (path, answer.body)
                assert (answer.header("connection") or "").lower() != "close", path
        assert c.is_open()
        assert d.metric("retryd_client_connections") == 1
    assert wait_metric(d, "retryd_requests_total", 72) == 72
