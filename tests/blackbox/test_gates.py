"""C19: a 429 closes its target's gate. Which requests wait, when each may go, and which are refused at once."""

import concurrent.futures
import json

import pytest
from cases import AUTO, calm, error
from raw import in_time, wait_requests
from targets import (FAST, Asked, ask, chat, flood, house, in_order, key_of, limited, payload, refusal, reload, total,
                     wait_gone, wait_queued)

HINT_MS = 1500
FOR_LONG_MS = 60_000  # nobody waits for that
COUNT = 200  # at once
IN_VAIN = 0.2 * COUNT  # attempts at most, once the limit is known
# What may pass between the end of a 429 at the provider and the daemon's acting on it: attempts that
# have been started by then come in as well. Where hundreds of connections come at once that is long.
ON_THE_WAY_MS = 100


def inside_a_closed_gate(record, hint_ms):
    """Requests that came while a 429 that was known by then forbade it: the hint counts from when it came,
    which is at the earliest when it was sent."""
    limits = [(r["t_answer_start"], r["t_answer_end"]) for r in record if r["status"] == 429]
    return [r["n"] for r in record
            if any(end + ON_THE_WAY_MS < r["t_first"] < start + hint_ms for start, end in limits)]


def waves(record):
    """How many 429s came together, wave by wave: one that came before the wave's first was known belongs to it.
    How many these are in the first wave is a matter of how fast the machine is."""
    sizes, known = [], 0
    for r in record:
        if r["status"] == 429:
            if r["t_first"] > known:
                sizes.append(0)
                known = r["t_answer_end"] + ON_THE_WAY_MS
            sizes[-1] += 1
    return sizes


def crowd(window):
    """A crowd where 20 a second are served: (shots, record, samples, the line of its gate). It comes again where
    something was late, on which the first wave falls apart."""
    return calm(lambda: crowd_once(window), lambda seen: [
        (sum(waves(seen[1])[1:]), 0, IN_VAIN), (len(inside_a_closed_gate(seen[1], HINT_MS)), 0, 0)])


def crowd_once(window):
    with house(breaker={"failures": 0, "failure_rate": 0}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 2}],
                        "rate": {"per_second": 20, "window": window, "else": limited(HINT_MS, delay_ms=2)}})
        shots = flood(daemon, COUNT, timeout=110)
        assert total(daemon, "retryd_gate_closed_total", upstream="one", model="big") >= 1
        assert total(daemon, "retryd_queue_waits_total", why="gate") >= COUNT / 2
        return shots, in_order(provider.record()), daemon.metrics(), daemon.wait_log('msg="gate closed"')


WINDOWS = ["fixed", "bucket"]


@pytest.fixture(scope="module")
def crowds():
    """Both at once: nearly all of their time they wait."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(WINDOWS, pool.map(crowd, WINDOWS)))


@pytest.mark.alone
@pytest.mark.parametrize("window", WINDOWS)
def test_a_crowd_at_a_limited_target(crowds, window):
    """All are served, and once the limit is known hardly anything is sent in vain: the steps in which the gate
    opens find it again, one attempt each time, and ten others are served before that."""
    shots, record, samples, closed = crowds[window]
    assert {s.answer.status for s in shots} == {200}
    later = waves(record)[1:]
    assert len(later) <= 0.15 * COUNT and sum(later) <= IN_VAIN
    assert inside_a_closed_gate(record, HINT_MS) == []
    assert samples["retryd_queue_waiting"] == 0
    assert closed["target"] == "one" and closed["model"] == "big" and closed["reason"] == "rate_limited"
    assert HINT_MS <= int(closed["for_ms"]) <= HINT_MS * 1.2
    assert max(int(s.answer.header("x-retryd-attempts")) for s in shots) <= 5


@pytest.mark.tsan
def test_workers_share_their_gates():
    """Requests on four threads: a 429 on one of them holds those of all."""
    with house(server={"workers": 4}, retry={**FAST, "max_attempts": 20}) as (provider, daemon):
        provider.rules({"answers": [AUTO], "rate": {"per_second": 40, "window": "fixed", "else": limited(150)}})
        shots = flood(daemon, 120)
        assert total(daemon, "retryd_gate_closed_total") >= 1
        assert daemon.metric("retryd_queue_waiting") == 0
        assert total(daemon, "retryd_target_in_flight") == 0
    assert {s.answer.status for s in shots} == {200}


def test_a_healthy_target_makes_nobody_wait():
    with house() as (provider, daemon):
        shots = flood(daemon, COUNT)
        assert len(provider.record()) == COUNT
        assert total(daemon, "retryd_gate_closed_total") == 0
    assert {(s.answer.status, s.answer.header("x-retryd-attempts")) for s in shots} == {(200, "1")}


def test_streams_wait_too():
    with house() as (provider, daemon):
        provider.rules({"answers": [limited(700), AUTO]})
        first = Asked(daemon, chat(stream=True))
        daemon.wait_line("gate closed")
        others = [Asked(daemon, chat(stream=True)) for _ in range(5)]
        answers = [a.answer() for a in [first, *others]]
        record = in_order(provider.record())
    assert {a.status for a in answers} == {200} and len(record) == 7
    assert inside_a_closed_gate(record, 700) == []


def close_the_gate(provider, daemon, hint_ms, *later, **how):
    """One request meets a 429 with this hint; it is under way when this returns."""
    provider.rules({"answers": [limited(hint_ms), *(later or [AUTO])]})
    first = Asked(daemon, **how)
    daemon.wait_line("gate closed")
    return first


def test_where_all_goes_well_it_is_open_again():
    """Not at once: in steps, each a little longer than the one before, up to those of a target that is new."""
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 300)
        shots = flood(daemon, 120)
        assert first.answer().status == 200
        line = daemon.wait_log('msg="gate open"')
        record = in_order(provider.record())
    assert (line["target"], line["model"]) == ("one", "big")
    assert {s.answer.status for s in shots} == {200} and len(record) == 122
    assert inside_a_closed_gate(record, 300) == []


def test_first_come_first_served():
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 2000)
        waiting = []
        for n in range(6):
            waiting.append(Asked(daemon, chat(n=n)))
            wait_queued(daemon, n + 1)
        assert {a.answer().status for a in [first, *waiting]} == {200}
        bodies = [json.loads(r["body"]) for r in in_order(provider.record())]
    # The first one waits for its own repeat, beside the queue. Those who are let through in one step are on
    # their way together, on connections of their own, and may pass each other there.
    order = [b["n"] for b in bodies if "n" in b]
    assert sorted(order) == list(range(6)) and all(abs(at - n) <= 2 for at, n in enumerate(order)), \
        f"they went in another order than they came in: {order}"


# --- what is apart ---------------------------------------------------------------------------------


def test_a_gate_is_one_models():
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, FOR_LONG_MS)
        assert ask(daemon, chat("other")).status == 200
        first.leave()


def test_a_gate_is_one_keys():
    """Clients with keys of their own have limits of their own."""
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, FOR_LONG_MS, headers=["Authorization: Bearer sk-a"])
        same = Asked(daemon, headers=["Authorization: Bearer sk-a"])
        wait_queued(daemon, 1)
        assert ask(daemon, headers=["Authorization: Bearer sk-b"]).status == 200
        assert [key_of(r) for r in in_order(provider.record())] == ["sk-a", "sk-b"]
        first.leave()
        same.leave()
        assert "sk-a" not in daemon.log and "sk-a" not in daemon.admin("/metrics")[1]


def test_another_upstream_is_not_waited_for():
    with house({"one": {}, "two": {}}) as (provider, daemon):
        provider.rules({"match": {"path": "/one/*"}, "answers": [limited(60000)]})
        answers = [ask(daemon) for _ in range(10)]
        assert sum(r["target"].startswith("/one/") for r in provider.record()) == 1
    assert {(a.status, a.header("x-retryd-target")) for a in answers} == {(200, "two")}


# --- bounds ----------------------------------------------------------------------------------------


def test_queue_size():
    """Who finds the queue full is told so at once, and to come again."""
    with house(queue={"size": 5}) as (provider, daemon):
        first = close_the_gate(provider, daemon, FOR_LONG_MS)
        waiting = [Asked(daemon) for _ in range(5)]
        wait_queued(daemon, 5)
        answers = [ask(daemon) for _ in range(3)]
        assert len(provider.record()) == 1
        assert total(daemon, "retryd_requests_untried_total", reason="queue_full") == 3
        waiting.pop().leave()
        wait_gone(daemon, 1)
        again = Asked(daemon)
        wait_queued(daemon, 6)
        for a in (first, again, *waiting):
            a.leave()
    for answer in answers:
        assert (answer.status, refusal(answer)["code"]) == (503, "queue_full")
        assert "[queue]" in refusal(answer)["message"], "what can be done about it"
        assert answer.header("x-should-retry") == "true" and int(answer.header("retry-after")) >= 1


def test_queue_size_of_a_route():
    """A route may wait less than others."""
    routes = {"short": {"model": "short", "upstreams": "one", "queue.size": 1}, "rest": {"upstreams": "one"}}
    with house(routes=routes) as (provider, daemon):
        first = close_the_gate(provider, daemon, FOR_LONG_MS, body=chat("short"))
        waiting = Asked(daemon, chat("short"))
        wait_queued(daemon, 1)
        assert refusal(ask(daemon, chat("short")))["code"] == "queue_full"
        assert ask(daemon, chat("other")).status == 200
        first.leave()
        waiting.leave()


def test_a_wait_that_is_longer_than_the_queues_timeout_is_in_vain():
    with house(queue={"timeout": "500ms"}) as (provider, daemon):
        first = close_the_gate(provider, daemon, 2500)
        answer = ask(daemon)
        assert len(provider.record()) == 1, "it waited for the gate"
        own = first.answer()
        assert len(provider.record()) == 2
    assert (answer.status, refusal(answer)["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.header("retry-after")) <= 3
    # Whose attempt it was waits for its repeat, not in the queue.
    assert (own.status, own.header("x-retryd-attempts")) == (200, "2")


def test_queue_timeout():
    """A wait whose end nobody knows is ended by the queue's timeout."""
    with house({"one": {"max_concurrency": 1}}, queue={"timeout": "600ms"}) as (provider, daemon):
        provider.rules({"answers": [{"stall": {"before_head": True}}, AUTO]})
        first = Asked(daemon)
        provider.wait(requests=1)
        other = Asked(daemon)
        answer = other.answer()
        assert len(provider.record()) == 1
        first.leave()
        provider.wait(closed=1)
    assert (answer.status, refusal(answer)["code"]) == (503, "queue_timeout")
    assert other.answered_ms - other.sent_ms >= 600
    in_time(other.answered_ms - other.sent_ms, 1600)


def test_a_waiters_deadline():
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 4000, headers=["x-retryd-deadline: 30s"])
        other = Asked(daemon, headers=["x-retryd-deadline: 1s"])
        answer = other.answer()
        in_time(other.answered_ms - other.sent_ms, 1000)
        assert len(provider.record()) == 1
        first.leave()
        daemon.wait_line("end=client_gone")
    assert (answer.status, refusal(answer)["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.header("retry-after")) <= 5


def test_a_hint_beyond_max_hint_turns_others_away():
    """Nobody waits for that long, and nobody asks meanwhile."""
    with house(retry={"initial_delay": "20ms", "max_hint": "2s"}) as (provider, daemon):
        provider.rules({"answers": [{**error(429), "headers": {"retry-after": "30"}}, AUTO]})
        first = ask(daemon)
        answers = [ask(daemon) for _ in range(5)]
        assert len(provider.record()) == 1
    assert first.status == 429 and first.json()["error"]["message"] == "x"  # the upstream's own words
    assert first.all("retry-after") == ["30"] and first.header("x-should-retry") == "false"
    for answer in answers:
        assert (answer.status, refusal(answer)["code"]) == (429, "rate_limited")
        assert 25 <= int(answer.header("retry-after")) <= 34
        assert answer.header("x-retryd-attempts") == "0"


def test_a_hint_beyond_max_hint_leads_elsewhere():
    with house(route={"fallback_models": "small"},
               retry={"initial_delay": "20ms", "max_hint": "2s"}) as (provider, daemon):
        provider.rules({"match": {"model": "big"}, "answers": [{**error(429), "headers": {"retry-after": "30"}}]})
        answers = [ask(daemon) for _ in range(5)]
        models = [r["body"].count('"big"') for r in in_order(provider.record())]
    assert {(a.status, a.header("x-retryd-model")) for a in answers} == {(200, "small")}
    assert models == [1, 0, 0, 0, 0, 0]


# --- while it is closed ----------------------------------------------------------------------------


def test_a_reload_keeps_a_gate_closed():
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 2500)
        reload(daemon)
        other = Asked(daemon)
        wait_queued(daemon, 1)
        assert len(provider.record()) == 1
        assert first.answer().status == other.answer().status == 200
        record = in_order(provider.record())
    assert len(record) == 3 and inside_a_closed_gate(record, 2500) == []


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_client_that_leaves_while_it_waits(how):
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 2000)
        other = Asked(daemon, chat("big", user="leaves"))
        wait_queued(daemon, 1)
        if how == "fin":
            other.c.close()
        else:
            other.c.reset()
        wait_gone(daemon, 1)
        assert daemon.metric("retryd_queue_waiting") == 0
        assert first.answer().status == 200
        assert ask(daemon).status == 200
        assert len(provider.record()) == 3
        assert not any("leaves" in r["body"] for r in provider.record())


def test_who_waits_first_may_leave_without_harm():
    """The one whose turn it would be is gone; the next one takes it."""
    with house() as (provider, daemon):
        first = close_the_gate(provider, daemon, 2000)
        others = [Asked(daemon) for _ in range(3)]
        wait_queued(daemon, 3)
        first.leave()
        others[0].leave()
        wait_gone(daemon, 2)
        assert daemon.metric("retryd_queue_waiting") == 2
        assert {o.answer().status for o in others[1:]} == {200}
        assert len(provider.record()) == 3


def test_an_end_that_waits_for_nobody():
    """SIGTERM while requests wait: when the drain's time is over they are told so, and may come again."""
    with house(server={"drain_timeout": "300ms"}) as (provider, daemon):
        first = close_the_gate(provider, daemon, 20000)
        other = Asked(daemon)
        wait_queued(daemon, 1)
        daemon.signal(15)
        told = [first.answer(), other.answer()]
        assert daemon.wait() == 0
        assert len(provider.record()) == 1
    assert [(t.status, refusal(t)["code"], t.header("x-should-retry")) for t in told] == \
        [(503, "shutting_down", "true")] * 2
    assert [t.header("x-retryd-attempts") for t in told] == ["1", "0"]


# --- adaptive pacing -------------------------------------------------------------------------------


def test_pacing_without_hints():
    """A target that says 429 and no more is asked less often, until it bears it."""
    bare = error(429, code="rate_limit_exceeded")
    with house({"one": {"adaptive_pacing": "yes"}}, retry={"initial_delay": "50ms", "max_attempts": 20, "budget": "1000%"},
               breaker={"failures": 0, "failure_rate": 0}) as (provider, daemon):
        provider.rules({"answers": [AUTO], "rate": {"per_second": 10, "window": "bucket", "else": bare}})
        shots = flood(daemon, 60, request=lambda n: payload(), timeout=100)
        record = in_order(provider.record())
        changed = daemon.wait_log('msg="pace changed"')
    assert {s.answer.status for s in shots} == {200}
    assert changed["target"] == "one" and changed["model"] == "big"
    late = [r for r in record if r["t_first"] > record[0]["t_first"] + 2000]
    assert sum(r["status"] == 429 for r in late) <= max(10, len(late) / 2), "it is as fast as ever"


def test_no_pacing_unless_configured():
    with house() as (provider, daemon):
        provider.rules({"answers": [error(429), error(429), AUTO]})
        assert ask(daemon).status == 200
        wait_requests(daemon, 1)
        assert "pace changed" not in daemon.log
        assert total(daemon, "retryd_queue_waits_total", why="pace") == 0
