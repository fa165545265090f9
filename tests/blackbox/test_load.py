"""Many requests at once: nothing is lost or doubled, and the provider's record and the log agree.

These tests also run with the ThreadSanitizer build.
"""

import json
import random
import selectors
import socket
import struct
from collections import Counter

import pytest
from raw import CHAT, STREAM, head_of, now_ms, wait_idle, wait_metric, wait_requests

pytestmark = pytest.mark.tsan

COUNT = 1000


def payload(n, body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    return head_of("POST", path, ["Connection: close", f"x-n: {n}", f"Idempotency-Key: key-{n}",
                                  "Content-Type: application/json", f"Content-Length: {len(data)}"]) + data


class Crowd:
    """All clients of a test on one thread. Each sends its request at once; `leaves` says after how
    many milliseconds a client goes away, and how."""

    def __init__(self, d, payloads, leaves=None):
        self.selector = selectors.DefaultSelector()
        self.answers = [b""] * len(payloads)
        self.ended = [False] * len(payloads)
        self.socks = {}
        for n, data in enumerate(payloads):
            s = socket.create_connection((d.host, d.port), timeout=30)
            s.sendall(data)
            s.setblocking(False)
            self.selector.register(s, selectors.EVENT_READ, n)
            self.socks[n] = s
        self.leaves = sorted((at + now_ms(), n, how) for n, (at, how) in (leaves or {}).items())

    def drop(self, n, how="fin"):
        s = self.socks.pop(n, None)
        if s is None:
            return
        self.selector.unregister(s)
        if how == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    def run(self, timeout=90):
        deadline = now_ms() + timeout * 1000
        while self.socks:
            wait = max(0, self.leaves[0][0] - now_ms()) / 1000 if self.leaves else 5
            for key, _ in self.selector.select(min(wait, 5)):
                try:
                    piece = key.fileobj.recv(65536)
                except ConnectionResetError:
                    piece = b""
                self.answers[key.data] += piece
                if not piece:
                    self.ended[key.data] = True
                    self.drop(key.data)
            while self.leaves and self.leaves[0][0] <= now_ms():
                _, n, how = self.leaves.pop(0)
                self.drop(n, how)
            assert now_ms() < deadline, f"{len(self.socks)} answers never came"
        return self.answers


def header_of(record, name):
    return next((v for n, v in record["headers"] if n.lower() == name), None)


def compare(provider, requests, attempts):
    """The record has for each client exactly the attempts that its log line tells of."""
    seen = Counter(int(header_of(r, "x-n")) for r in provider.record())
    assert seen == attempts
    logged = Counter(int(r["attempts"]) for r in requests)
    assert logged == Counter(attempts.values())


def in_flight(provider, d):
    """Waits until every client's first attempt is at the provider, which holds its responses, and lets them
    go; returns how many requests retryd had in progress then."""
    provider.wait(heads=COUNT, timeout=60)
    wait_metric(d, "retryd_requests_active", COUNT)
    active = d.metric("retryd_requests_active")
    assert provider.stats()["answered"] == 0
    provider.release()
    return active


def test_thousand_with_a_third_failing(provider, retryd):
    """C3: 1 000 at the same time, and each third client's first attempt fails, each in another way."""
    bad = [{"preset": "error", "status": 503}, {"preset": "error", "status": 429}, {"cut": {"before_head": True}},
           {"preset": "chat", "cut": {"after_bytes": 20}}, {"cut": {"before_head": True, "how": "fin"}},
           {"preset": "error", "status": 500, "close": True}]
    rules = [{"match": {"header": {"x-n": f"*{k}x"}}, "key": "x-n",
              "answers": [{**b, "held": True}, {"preset": "auto", "delay_ms": 30}]}
             for k, b in enumerate(bad)]
    provider.rules(*rules, default={"preset": "auto", "held": True})
    d = retryd(server={"workers": 2}, retry={"initial_delay": "50ms"})

    # Clients that are to fail at first carry the kind of the failure in their number.
    def name(n):
        return f"{n}{n // 3 % len(bad)}x" if n % 3 == 0 else str(n)

    def one(n):
        return payload(name(n), CHAT)

    crowd = Crowd(d, [one(n) for n in range(COUNT)])
    assert in_flight(provider, d) == COUNT
    answers = crowd.run()
    for n, answer in enumerate(answers):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (n, answer[:400])
        assert json.loads(body)["choices"][0]["message"]["content"], n
        assert (b"x-retryd-attempts: 2" in head) == (n % 3 == 0), (n, head)
    requests = wait_requests(d, COUNT)
    assert len(requests) == COUNT and all(r["end"] == "answered" for r in requests)
    attempts = {name(n): 2 if n % 3 == 0 else 1 for n in range(COUNT)}
    seen = Counter(header_of(r, "x-n") for r in provider.record())
    assert seen == attempts
    assert Counter(int(r["attempts"]) for r in requests) == Counter(attempts.values())
    metrics = wait_idle(d)
    assert metrics['retryd_attempts_total{upstream="test"}'] == sum(attempts.values())
    assert metrics["retryd_rescued_total"] == sum(v == 2 for v in attempts.values())


def test_thousand_streams_with_a_third_failing(provider, retryd):
    """C3."""
    failing = [{"preset": "chat_stream", "cut": {"after_head": True}}, {"preset": "error", "status": 503}]
    provider.rules({"match": {"header": {"x-n": "*[05]"}}, "key": "x-n",
                    "answers": [failing[0], {"preset": "chat_stream", "events": 20, "interval_ms": 3}]},
                   {"match": {"header": {"x-n": "*3"}}, "key": "x-n",
                    "answers": [failing[1], {"preset": "chat_stream", "events": 20}]},
                   default={"preset": "chat_stream", "events": 20, "interval_ms": 5})
    d = retryd(server={"workers": 2}, retry={"initial_delay": "50ms"})
    answers = Crowd(d, [payload(n, STREAM) for n in range(COUNT)]).run()
    for n, answer in enumerate(answers):
        assert answer.startswith(b"HTTP/1.1 200"), (n, answer[:400])
        assert answer.count(b"[DONE]") == 1, (n, answer[-400:])
        assert answer.endswith(b"0\r\n\r\n"), n
        assert answer.count(b'"content"') >= 20, n
    compare(provider, wait_requests(d, COUNT),
            Counter({n: 2 if n % 10 in (0, 5, 3) else 1 for n in range(COUNT)}))


def test_clients_that_leave_at_random(provider, retryd):
    """C17: Half of them, at any moment of their request's life. The others lose nothing by it."""
    rng = random.Random(20261123)
    provider.rules({"match": {"header": {"x-n": "*[147]"}}, "key": "x-n",
                    "answers": [{"preset": "error", "status": 503, "delay_ms": 40},
                                {"preset": "auto", "delay_ms": 80, "interval_ms": 10}]},
                   default={"preset": "auto", "delay_ms": 150, "interval_ms": 15})
    d = retryd(server={"workers": 2}, retry={"initial_delay": "60ms"})
    leaves = {n: (rng.uniform(0, 500), rng.choice(["fin", "reset"])) for n in range(0, COUNT, 2)}
    crowd = Crowd(d, [payload(n, STREAM if n % 4 < 2 else CHAT) for n in range(COUNT)], leaves)
    answers = crowd.run()
    for n in range(1, COUNT, 2):
        assert answers[n].startswith(b"HTTP/1.1 200"), (n, answers[n][:400])
        assert (b"[DONE]" in answers[n]) == (n % 4 < 2), n
    wait_idle(d)
    seen = Counter(int(header_of(r, "x-n")) for r in provider.record())
    for n in range(1, COUNT, 2):
        assert seen[n] == (2 if n % 10 in (1, 4, 7) else 1), n
    assert max(seen.values()) == 2
    # Those who left before their head was read have no line; every attempt belongs to one that has.
    taken = int(d.metric("retryd_requests_total"))
    requests = wait_requests(d, taken)
    assert len(requests) == taken
    logged = sum(int(r["attempts"]) for r in requests)
    # An attempt that was cancelled before it was connected is logged and reaches nobody.
    assert sum(seen.values()) <= logged == d.metric("retryd_attempts_total")
    ends = Counter(r["end"] for r in requests)
    assert set(ends) == {"answered", "client_gone"} and ends["answered"] >= COUNT // 2
    provider.wait(closed=1)


def test_load_on_few_kept_connections(provider, retryd):
    """Pipelined and sequential clients on kept connections, over both workers."""
    provider.answers({"preset": "auto"}, {"preset": "error", "status": 503}, {"preset": "auto"}, then="cycle")
    d = retryd(server={"workers": 2}, retry={"initial_delay": "2ms", "max_delay": "8ms", "max_attempts": 50})
    data = json.dumps(CHAT).encode()
    one = head_of("POST", "/v1/chat/completions", ["Content-Type: application/json",
                                                   f"Content-Length: {len(data)}"]) + data
    last = head_of("GET", "/v1/models", ["Connection: close"])
    answers = Crowd(d, [one * 20 + last for _ in range(40)]).run()
    for answer in answers:
        assert answer.count(b"HTTP/1.1 200") == 21
    requests = wait_requests(d, 40 * 21)
    assert sum(int(r["attempts"]) for r in requests) == len(provider.record())
