"""C22: the limits of an upstream, and queues that are fair to all waiting clients."""

import pytest
from cases import AUTO, error
from daemon import parse_logfmt
from raw import in_time, time_of
from targets import (Asked, ask, chat, flood, house, in_order, model_of, on, payload, reload, total, wait_gone,
                     wait_queued)


def of_client(name):
    return [f"Authorization: Bearer sk-{name}"]


# --- max_concurrency -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_max_concurrency_is_never_passed(workers):
    with house({"one": {"max_concurrency": 4}}, server={"workers": workers}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 40}]})
        shots = flood(daemon, 60)
        assert provider.stats()["max_in_flight"] == 4
        assert total(daemon, "retryd_queue_waits_total", why="limit") >= 50
        assert daemon.metric("retryd_queue_waiting") == 0
    assert {(s.answer.status, s.answer.header("x-retryd-attempts")) for s in shots} == {(200, "1")}


def test_it_is_one_limit_for_all_models_and_keys():
    with house({"one": {"max_concurrency": 3}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 40}]})
        shots = flood(daemon, 30, request=lambda n: payload(chat(f"m{n % 3}"), of_client(n % 5)))
        assert provider.stats()["max_in_flight"] == 3
    assert {s.answer.status for s in shots} == {200}


def test_a_stream_counts_until_its_end():
    with house({"one": {"max_concurrency": 1}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "events": 5, "interval_ms": 100}]})
        first = Asked(daemon, chat(stream=True))
        provider.wait(requests=1)
        second = Asked(daemon, chat(stream=True))
        assert first.answer().status == second.answer().status == 200
        one, two = in_order(provider.record())
    assert two["t_first"] >= one["t_answer_end"]


def test_a_backoff_leaves_its_place_to_others():
    with house({"one": {"max_concurrency": 1}}, retry={"initial_delay": "1500ms", "jitter": "none"}) \
            as (provider, daemon):
        provider.rules(on("one", error(503), AUTO, model="big"))
        first = Asked(daemon)
        provider.wait(answered=1)
        other = Asked(daemon, chat("other"))
        assert other.answer().status == first.answer().status == 200
        assert [model_of(r) for r in in_order(provider.record())] == ["big", "other", "big"]
        assert provider.stats()["max_in_flight"] == 1


@pytest.mark.parametrize("how", ["leaves", "breaks", "times out"])
def test_every_end_makes_room(how):
    """Four at a time, each of which ends in an unusual way; then four more are served."""
    failure = {"leaves": {"stall": {"before_head": True}}, "breaks": {"cut": {"before_head": True}},
               "times out": {"preset": "auto", "stall": {"after_head": True}}}[how]
    with house({"one": {"max_concurrency": 4}}, timeout={"idle": "300ms"},
               breaker={"failures": 0, "failure_rate": 0}) as (provider, daemon):
        provider.rules(on("one", failure, model="bad"))
        asked = [Asked(daemon, chat("bad"), ["x-retryd-max-attempts: 1"]) for _ in range(4)]
        provider.wait(heads=4)
        if how == "leaves":
            for a in asked:
                a.leave()
        else:
            assert all(a.answer().status >= 500 for a in asked)
        provider.wait(**({"answered": 4} if how == "breaks" else {"closed": 4}))
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 300}]})
        provider.clear()
        good = [Asked(daemon) for _ in range(8)]
        provider.wait(in_flight=4)
        assert {a.answer().status for a in good} == {200}
        assert provider.stats()["max_in_flight"] == 4


def test_who_waits_and_leaves_takes_no_place():
    with house({"one": {"max_concurrency": 1}}) as (provider, daemon):
        provider.rules({"answers": [{"stall": {"before_head": True}}, AUTO]})
        first = Asked(daemon)
        provider.wait(requests=1)
        gone, stays = Asked(daemon, chat("gone")), Asked(daemon)
        wait_queued(daemon, 2)
        gone.leave()
        wait_gone(daemon, 1)
        first.leave()
        assert stays.answer().status == 200
        assert len(provider.record()) == 2


def test_a_full_upstream_leaves_the_others_their_share():
    """Where another upstream serves the same model, nobody waits for the one that is full."""
    with house({"one": {"max_concurrency": 2}, "two": {}}) as (provider, daemon):
        provider.rules(on("*", {"preset": "auto", "delay_ms": 300}))
        shots = flood(daemon, 10)
        record = provider.record()
        assert total(daemon, "retryd_queue_waits_total") == 0
    assert {s.answer.status for s in shots} == {200}
    assert sum(r["target"].startswith("/one/") for r in record) >= 2


# --- requests_per_minute ---------------------------------------------------------------------------


def begun(daemon, count):
    """When each of so many attempts began, by the daemon's own log."""
    daemon.wait_line("attempt begins", count=count)
    return [time_of(parse_logfmt(line)) for line in daemon.log.splitlines() if "attempt begins" in line]


def passed(times, per_second, burst):
    """Spans [i, j] in which more went than may: the burst, and so many a second after it."""
    slack_ms = 400  # what a busy machine holds up between the decision and the line
    return [(i, j) for i in range(len(times)) for j in range(i + burst, len(times))
            if j - i + 1 > burst + (times[j] - times[i] + slack_ms) / 1000 * per_second]


def test_requests_per_minute_is_never_passed():
    """600 a minute: as many at once as go in a second, then one each tenth of a second."""
    with house({"one": {"requests_per_minute": 600}}) as (provider, daemon):
        shots = flood(daemon, 40)
        times = begun(daemon, 40)
        assert total(daemon, "retryd_queue_waits_total", why="limit") >= 25
    assert {s.answer.status for s in shots} == {200} and len(times) == 40
    assert passed(times, 10, 10) == []
    assert times[-1] - times[0] >= 2800
    in_time(times[-1] - times[0], 4500)


def test_repeats_count_too():
    with house({"one": {"requests_per_minute": 300}}, breaker={"failures": 0, "failure_rate": 0},
               retry={"initial_delay": "1ms", "max_delay": "1ms"}) as (provider, daemon):
        provider.rules({"answers": [error(503)]})
        flood(daemon, 4)
        times = begun(daemon, 20)
    assert len(times) == 20 and passed(times, 5, 5) == []


def test_a_rate_beyond_the_deadline_is_in_vain():
    """One a minute, and a client that gives it two seconds."""
    with house({"one": {"requests_per_minute": 1}}) as (provider, daemon):
        assert ask(daemon).status == 200
        other = Asked(daemon, headers=["x-retryd-deadline: 2s"])
        answer = other.answer()
        assert len(provider.record()) == 1
    assert answer.status in (429, 503) and answer.json()["error"]["code"]
    in_time(other.answered_ms - other.sent_ms, 2000)


def test_a_reload_forgets_no_rate():
    with house({"one": {"requests_per_minute": 600}}) as (provider, daemon):
        flood(daemon, 15, meanwhile=lambda: reload(daemon))
        flood(daemon, 15)
        times = begun(daemon, 30)
    assert len(times) == 30 and passed(times, 10, 10) == []


# --- fairness --------------------------------------------------------------------------------------

CROWD = 100


def crowd_and_one(provider, daemon, crowds, one):
    """A hundred requests wait; then comes one more of another client. How many went from then on, it included."""
    first = Asked(daemon, headers=crowds[0])
    provider.wait(requests=1)

    def come():
        wait_queued(daemon, CROWD * 6 // 10)
        assert Asked(daemon, chat("late"), one).answer().status == 200
    shots = flood(daemon, CROWD, request=lambda n: payload(headers=crowds[n % len(crowds)]), meanwhile=come)
    assert first.answer().status == 200
    assert {s.answer.status for s in shots} == {200}
    late = daemon.wait_log('msg="request" .*model=late ')["id"]
    lines = [line for line in daemon.log.splitlines() if "step: queued" in line or "attempt begins" in line]
    waits, goes = [n for n, line in enumerate(lines) if f"id={late} " in line]
    return sum("attempt begins" in line for line in lines[waits:goes + 1])


def test_one_client_does_not_wait_for_all_of_another():
    with house({"one": {"max_concurrency": 1}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 30}]})
        assert crowd_and_one(provider, daemon, [of_client("a")], of_client("b")) <= 4


def test_nor_where_many_clients_wait():
    """It waits for one of each other client, not for all of each."""
    with house({"one": {"max_concurrency": 1}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 30}]})
        crowds = [of_client(f"a{n}") for n in range(10)]
        assert crowd_and_one(provider, daemon, crowds, of_client("b")) <= 10 + 4


def test_fair_where_the_rate_is_the_limit():
    with house({"one": {"requests_per_minute": 900}}) as (provider, daemon):
        assert crowd_and_one(provider, daemon, [of_client("a")], of_client("b")) <= 5


def test_two_clients_share_alike():
    """Both have forty in the queue; of any twenty that go, each has about half."""
    with house({"one": {"max_concurrency": 2}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "held": True, "delay_ms": 20}]})

        def go():
            wait_queued(daemon, 78)
            provider.release()
        shots = flood(daemon, 80, request=lambda n: payload(headers=of_client("a" if n < 40 else "b")), meanwhile=go)
        record = in_order(provider.record())
    assert {s.answer.status for s in shots} == {200}
    of_b = [i for i, r in enumerate(record) if ["Authorization", "Bearer sk-b"] in r["headers"]]
    assert len(of_b) == 40
    assert of_b[19] <= 2 + 2 * 20 + 4, "b has had to wait for more than its turn"


def test_first_in_first_out_within_a_client():
    with house({"one": {"max_concurrency": 1}}) as (provider, daemon):
        provider.rules({"answers": [{"preset": "auto", "delay_ms": 400}, AUTO]})
        first = Asked(daemon)
        provider.wait(requests=1)
        waiting = []
        for n in range(6):
            waiting.append(Asked(daemon, chat(n=n)))
            wait_queued(daemon, n + 1)
        assert {a.answer().status for a in [first, *waiting]} == {200}
        bodies = [r["body"] for r in in_order(provider.record())[1:]]
    assert bodies == sorted(bodies)
