"""C17: a client that disconnects, in any state and in any way, ends its upstream attempt at once."""

import socket

import pytest
from client import ProviderTimeout
from raw import CHAT, STREAM, Raw, ask, head_of, in_time, now_ms, wait_idle, wait_metric, wait_requests


@pytest.fixture(params=["fin", "reset"])
def leave(request):
    """Ends a client's connection; when that was."""
    def go(c):
        at = now_ms()
        if request.param == "fin":
            c.close()
        else:
            c.reset()
        return at
    return go


def gone_line(d, at):
    """The request's line, which must come at once."""
    d.wait_line('msg="?request"? ')
    in_time(now_ms() - at)
    line = d.requests()[-1]
    assert line["end"] == "client_gone"
    return line


def test_while_receiving(provider, retryd, leave):
    """Nothing has gone upstream yet, and nothing does."""
    d = retryd()
    c = Raw(d)
    c.send(head_of("POST", "/v1/chat/completions", ["Content-Length: 1000"]) + b"x" * 500)
    wait_metric(d, "retryd_requests_total", 1)
    leave(c)
    provider.wait(open=0)
    wait_metric(d, "retryd_requests_ended_total{end=\"client_gone\"}", 1, timeout=5)
    wait_idle(d)
    assert provider.record() == []


@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_while_waiting_for_the_head(provider, retryd, leave, body):
    provider.answers({"preset": "auto", "stall": {"before_head": True}})
    d = retryd()
    c = Raw(d)
    c.request(body=body)
    provider.wait(requests=1)
    at = leave(c)
    record = provider.wait(closed=1)
    in_time(record[0]["t_closed"] - at)
    assert record[0]["closed_early"]
    assert gone_line(d, at)["attempts"] == "1"


def test_while_holding(provider, retryd, leave):
    """The head is here and a part of the body, none of which has gone to the client."""
    provider.answers({"preset": "auto", "stall": {"after_bytes": 50}})
    d = retryd()
    c = Raw(d)
    c.request(body=CHAT)
    provider.wait(requests=1)
    assert c.is_open()
    at = leave(c)
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)
    gone_line(d, at)


def test_while_backing_off(provider, retryd, leave):
    provider.answers({"preset": "error", "status": 503})
    d = retryd(retry={"initial_delay": "1s", "jitter": "none"})
    c = Raw(d)
    c.request(body=CHAT)
    d.wait_line("attempt 1 of 5 failed")
    at = leave(c)
    assert gone_line(d, at)["attempts"] == "1"
    # Longer than the delay: the attempt that was planned never comes.
    with pytest.raises(ProviderTimeout):
        provider.wait(requests=2, timeout=1.3)


def test_in_a_later_attempt(provider, retryd, leave):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto", "stall": {"before_head": True}})
    d = retryd()
    c = Raw(d)
    c.request(body=CHAT)
    provider.wait(requests=2)
    at = leave(c)
    in_time(provider.wait(closed=1)[1]["t_closed"] - at)
    assert gone_line(d, at)["attempts"] == "2"


@pytest.mark.parametrize("stall", [True, False])
def test_while_streaming(provider, retryd, leave, stall):
    """Between two events, and amid a stream that never pauses."""
    more = {"stall": {"after_deltas": 2}} if stall else {"interval_ms": 5}
    provider.answers({"preset": "chat_stream", "events": 4000, **more})
    d = retryd()
    c = Raw(d)
    c.request(body=STREAM)
    c.answer_head()
    c.next_chunk()
    at = leave(c)
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)
    gone_line(d, at)


def test_while_a_large_response_waits_for_it(provider, retryd, leave):
    """The upstream is paused because the client does not read."""
    provider.answers({"body_bytes": 60_000_000})
    d = retryd()
    c = Raw(d, receive_buffer=65536)
    c.request(body=CHAT)
    c.answer_head()
    provider.wait(heads=1)
    at = leave(c)
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)
    gone_line(d, at)


def test_while_the_request_is_sent(provider, retryd, leave):
    """The provider has stopped reading amid the request's body."""
    provider.answers({"status": 200, "on": "head", "stall": {"before_head": True}, "drain": True})
    d = retryd()
    c = Raw(d)
    c.request(body=b"x" * 20_000_000)
    provider.wait(heads=1)
    at = leave(c)
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)
    gone_line(d, at)


def test_while_connecting(retryd, leave):
    """A listener whose queue is full answers no SYN: the connection never stands."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
            fillers.append(s)
        d = retryd(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout={"connect": "20s"})
        c = Raw(d)
        c.request(body=CHAT)
        wait_metric(d, "retryd_upstream_connections_total", 1)
        assert c.is_open()
        at = leave(c)
        assert gone_line(d, at)["attempts"] == "1"
        for s in fillers:
            s.close()


def test_pipelined_requests_behind_it_are_dropped(provider, retryd, leave):
    provider.answers({"preset": "auto", "stall": {"before_head": True}})
    d = retryd()
    c = Raw(d)
    for _ in range(3):
        c.request(body=CHAT)
    provider.wait(requests=1)
    at = leave(c)
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)
    assert ask(d, method="GET", body=None, path="/elsewhere").status == 404
    assert len(provider.record()) == 1


def test_others_on_the_worker_stay(provider, retryd, leave):
    """Half of the clients leave in all states at once; the other half gets its responses. They take so long
    that all are under way together, though a target that is new is not sent them all at once."""
    provider.answers({"preset": "auto", "delay_ms": 2000})
    d = retryd()
    clients = [Raw(d) for _ in range(200)]
    for n, c in enumerate(clients):
        c.request(body=STREAM if n % 4 < 2 else CHAT)
    provider.wait(requests=200)
    for c in clients[::2]:
        leave(c)
    record = provider.wait(closed=100)
    for c in clients[1::2]:
        assert c.answer().status == 200
        c.close()
    assert sum(r["closed_early"] for r in record) == 100
    ends = [r["end"] for r in wait_requests(d, 200)]
    assert ends.count("client_gone") == ends.count("answered") == 100
    wait_idle(d)
