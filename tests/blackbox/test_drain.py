"""SIGTERM from the clients' point of view. A client that has sent a request gets its response, or an error that says
that retryd is ending. A client with an idle connection learns it in time. The end works whatever happens meanwhile.
"""

import concurrent.futures
import os
import random
import signal

import pytest
from client import Provider
from daemon import Retryd
from raw import CHAT, STREAM, Raw, time_of, wait_metric

SILENT = {"stall": {"before_head": True}}
THINKING = {"preset": "chat_stream", "events": 20, "stall": {"after_deltas": 1}}

# --- connections that are kept ---------------------------------------------------------------------------


def goes_on(c, answers):
    """One client of a closed loop: it asks again as soon as it has a response, until it is told to close."""
    while True:
        c.request(body=CHAT)
        answer = c.answer()
        answers.append(answer.status)
        if (answer.header("connection") or "").lower() == "close":
            assert c.rest() == b""
            return


def test_kept_connections_are_told_before_they_close(provider, retryd):
    """64 clients in a closed loop: not one of them asks in vain."""
    d = retryd()
    answers, clients = [], [Raw(d) for _ in range(64)]
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        loops = [pool.submit(goes_on, c, answers) for c in clients]
        wait_metric(d, 'retryd_requests_ended_total{end="answered"}', 200)
        d.signal(signal.SIGTERM)
        for loop in loops:
            loop.result()
    assert d.wait(timeout=20) == 0
    assert set(answers) == {200}
    ends = [r["end"] for r in d.requests()]
    assert ends == ["answered"] * len(answers), "every answer is in the log, and nothing else"
    for c in clients:
        c.close()


def is_told(client):
    """Whether the response says that the connection ends, and so it does."""
    answer = client.answer()
    assert answer.status == 200
    if (answer.header("connection") or "").lower() != "close":
        return False
    assert client.rest() == b""
    return True


def test_idle_connections_may_ask_once_more(provider, retryd):
    """By requests that come only when the drain has begun, whole or in two parts."""
    d = retryd()
    clients = [Raw(d) for _ in range(8)]
    for c in clients:
        c.request(body=CHAT)
        assert c.answer().status == 200
    *asking, halving, silent = clients
    d.signal(signal.SIGTERM)
    d.wait_line("shutting down: finishing")
    halving.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    waiting = asking
    while waiting:  # a worker that has not heard of the end yet answers as ever
        for c in waiting:
            c.request(body=CHAT)
        waiting = [c for c in waiting if not is_told(c)]
    halving.send(b"ngth: 2\r\n\r\n{}")
    assert is_told(halving)
    assert silent.rest() == b""
    assert d.wait(timeout=20) == 0
    for c in clients:
        c.close()


@pytest.mark.alone
def test_idle_connections_hold_up_the_end_for_a_second_at_most(provider, retryd):
    d = retryd()
    clients = [Raw(d) for _ in range(20)]
    for c in clients[::2]:
        c.request(body=CHAT)
        assert c.answer().status == 200
    d.signal(signal.SIGTERM)
    assert d.wait(timeout=20) == 0
    took = time_of(d.wait_log("retryd has stopped")) - time_of(d.wait_log("shutting down: finishing"))
    assert took < 1500
    for c in clients:
        assert c.rest() == b""
        c.close()


def test_who_has_connected_is_let_in(provider, retryd):
    """The daemon is held still: connections and the signal reach it together, and in either order."""
    d = retryd()
    d.signal(signal.SIGSTOP)
    clients = [Raw(d) for _ in range(300)]
    for c in clients:
        c.request(body=CHAT)
    d.signal(signal.SIGTERM)
    d.signal(signal.SIGCONT)
    for c in clients:
        answer = c.answer()
        assert answer.status == 200
        c.close()
    assert d.wait(timeout=20) == 0


EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"' + "y" * 2000 + '"}}]}\n\n'
STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
FLOOD = {"wire": [{"send": STREAM_HEAD}, {"repeat": {"count": 15_000, "ops": [{"send": EVENT}]}}, {"fin": True}]}


@pytest.mark.parametrize("answer, body", [(FLOOD, STREAM), ({"body_bytes": 60_000_000}, CHAT)],
                         ids=["stream", "bytes"])
def test_a_client_that_takes_nothing_does_not_hold_up_the_end(provider, retryd, answer, body):
    """Its response breaks off, and the log does not say that it left."""
    provider.answers(answer)
    d = retryd(server={"drain_timeout": "0"})
    with Raw(d, receive_buffer=8192) as c:
        c.request(body=body)
        assert c.sock.recv(1)
        d.signal(signal.SIGTERM)
        assert d.wait(timeout=20) == 0
    line = d.requests()[-1]
    assert (line["end"], line["reason"]) == ("broken", "shutting_down")


# --- the end and the leaving, together --------------------------------------------------------------------

ROUNDS = 200
SIDE_BY_SIDE = 4
CLIENTS = 12
BEAT = "[route beat]\nmodel = beat*\nstream.heartbeat = 20ms\n[route all]\n"


def come(d, kind):
    """A client that waits for a response, or has a part of it. Its provider says nothing more."""
    c = Raw(d)
    headers = [f"x-kind: {kind}"]
    if kind in ("splice", "hold"):
        headers.append(f"x-retryd-stream-mode: {kind}")
    body = {**(CHAT if kind == "waiting" else STREAM), "model": "beat" if kind == "hold" else "gpt-4o"}
    c.request(body=body, headers=headers)
    if kind != "waiting":
        c.until(b": retryd" if kind == "hold" else b'"w1 ')
    return c


def told(c, kind):
    """What a client that stays is told, in full."""
    if kind == "waiting":
        answer = c.answer()
        assert answer.status == 503 and answer.json()["error"]["code"] == "shutting_down"
        assert c.rest() == b""
    else:
        rest = c.rest()
        assert b'"code":"shutting_down"' in rest and rest.endswith(b"\n0\r\n\r\n"), rest


def one_round(n, provider):
    draw = random.Random(n)
    second_signal, share = n % 2 == 1, n // 2 % 5 / 4
    provider.clear()
    with Retryd(provider.base_url, config=BEAT, server={"drain_timeout": "60s" if second_signal else "0"},
                env={"ASAN_OPTIONS": "detect_leaks=0"}) as d:
        clients = [(come(d, kind), kind) for kind in ("waiting", "live", "splice", "hold") * (CLIENTS // 4)]
        provider.wait(requests=CLIENTS)
        if second_signal:
            d.signal(signal.SIGTERM)
            d.wait_line("shutting down: finishing")
        leavers = draw.sample(clients, int(share * CLIENTS))
        acts = [draw.choice([c.close, c.reset, c.half_close]) for c, _ in leavers]
        acts.insert(draw.randint(0, len(acts)), lambda: d.signal(signal.SIGTERM))
        for act in acts:
            act()
        for c, kind in clients:
            if all(c is not leaver for leaver, _ in leavers):
                told(c, kind)
        assert d.wait(timeout=20) == 0, d.log
        for c, _ in clients:
            c.close()
        ends = sorted(r["end"] for r in d.requests())
        assert len(ends) == CLIENTS and set(ends) <= {"failed", "broken", "client_gone"}, ends
        assert ends.count("client_gone") <= len(leavers), ends


def rounds(first):
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        provider.rules({"match": {"header": {"x-kind": "waiting"}}, "answers": [SILENT]},
                       {"answers": [THINKING]})
        for n in range(first, ROUNDS, SIDE_BY_SIDE):
            try:
                one_round(n, provider)
            except Exception as e:
                raise AssertionError(f"round {n}") from e


def test_clients_leave_as_retryd_ends():
    """Two hundred rounds: they wait or have begun to read, some leave and some stay, in the very moment in
    which drain_timeout has passed, or the second signal comes."""
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for done in [pool.submit(rounds, n) for n in range(SIDE_BY_SIDE)]:
            done.result()
