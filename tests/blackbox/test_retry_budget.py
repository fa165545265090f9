"""C9: the retry budget. The retries that ride out small outages do not make a total outage worse."""

import pytest
from cases import AUTO, error
from targets import Asked, ask, chat, flood, house, in_order, on, payload, total, verdict, where

NO_BREAKER = {"failures": 0, "failure_rate": 0}
WAITS_MS = [0, 50, 150, 350, 750]  # after so many repeats, all waits together: 50 ms, doubled each time
POLICY = {"initial_delay": "50ms", "jitter": "none", "budget_min": 10}
PER_SECOND, SECONDS = 200, 6
WINDOW_S = 10  # what the budget looks back on: its 10 a second may be spent at any time in it
BUSY_MS = 4000  # what a busy machine adds to them


@pytest.fixture(scope="module")
def total_outage():
    with house(breaker=NO_BREAKER, retry=POLICY) as (provider, daemon):
        provider.rules({"answers": [error(503, message="down")]})
        shots = flood(daemon, PER_SECOND * SECONDS, 1000 / PER_SECOND)
        yield [(s, s.answer, int(s.answer.header("x-retryd-attempts"))) for s in shots], provider.record(), \
            daemon.metrics()


def test_what_the_upstream_sees_of_an_outage(total_outage):
    answers, record, _ = total_outage
    requests, times = len(answers), [r["t_first"] for r in record]
    took_s = (max(times) - min(times)) / 1000  # SECONDS, and more where the machine is busy
    assert len(record) <= 1.2 * requests + 10 * (WINDOW_S + took_s)
    assert len(record) >= 1.15 * requests, "it did not use what it may"
    assert len(record) == sum(attempts for _, _, attempts in answers)


def test_in_no_part_of_it_more(total_outage):
    """Later on, when all that may be spent at once is spent, each second sees a fifth more."""
    _, record, _ = total_outage
    start = in_order(record)[0]["t_first"]
    for second in range(3, SECONDS - 1):
        seen = sum(start + second * 1000 <= r["t_first"] < start + (second + 1) * 1000 for r in record)
        assert seen <= 2.5 * PER_SECOND, second  # clients come late on a busy machine; without a budget it is 5


def test_callers_get_the_upstreams_error_without_delay(total_outage):
    for shot, answer, attempts in total_outage[0]:
        assert answer.status == 503 and answer.json()["error"]["message"] == "down"
        assert answer.header("x-should-retry") == "false"
        assert int(answer.header("x-retryd-wait-ms")) <= WAITS_MS[attempts - 1] + BUSY_MS, (shot.n, attempts)


def test_denials_are_counted(total_outage):
    answers, _, samples = total_outage
    denied = sum(attempts < 5 for _, _, attempts in answers)
    assert denied >= 0.5 * len(answers)
    assert sum(v for name, v in samples.items() if name.startswith("retryd_retries_denied_total")) == denied


def test_denials_are_logged():
    """The attempt's line says why it was the last."""
    with house(breaker=NO_BREAKER, retry={**POLICY, "budget": "0%", "budget_min": 0}) as (provider, daemon):
        provider.rules({"answers": [error(503)]})
        assert ask(daemon).header("x-retryd-attempts") == "1"
        assert "budget" in daemon.wait_log("attempt 1 of 5")["cannot_retry"]
        assert total(daemon, "retryd_retries_denied_total") == 1


def test_a_share_of_the_requests():
    """Forty requests that go well pay for eight repeats, and no more."""
    with house(breaker=NO_BREAKER, retry={**POLICY, "budget_min": 0}) as (provider, daemon):
        assert {ask(daemon).status for _ in range(40)} == {200}
        provider.rules({"answers": [error(503)]})
        provider.clear()
        attempts = [int(ask(daemon).header("x-retryd-attempts")) for _ in range(10)]
        assert len(provider.record()) == sum(attempts)
    repeats = sum(attempts) - len(attempts)
    assert 8 <= repeats <= (40 + 10) / 5
    assert attempts[:3] == [5, 5, 1]


def test_small_traffic_is_never_denied():
    """Ten a second: who asks now and then is not told that there is no budget."""
    with house(breaker=NO_BREAKER, retry=POLICY) as (provider, daemon):
        provider.rules({"answers": [error(503)] * 4 + [AUTO], "then": "cycle"})
        answers = [ask(daemon) for _ in range(5)]
        assert total(daemon, "retryd_retries_denied_total") == 0
    assert {(a.status, a.header("x-retryd-attempts")) for a in answers} == {(200, "5")}


@pytest.mark.parametrize("count,attempts", [("1", "1"), ("0", "5"), (None, "5")])
def test_repeats_that_sdks_make_are_charged(count, attempts):
    """With room for ten repeats in ten seconds, and ten requests that an SDK has made again."""
    with house(breaker=NO_BREAKER, retry={**POLICY, "budget": "0%", "budget_min": 1}) as (provider, daemon):
        headers = [] if count is None else [f"x-stainless-retry-count: {count}"]
        assert {ask(daemon, headers=headers).status for _ in range(10)} == {200}
        provider.rules({"answers": [error(503)]})
        assert ask(daemon).header("x-retryd-attempts") == attempts


def test_a_budget_is_one_upstreams():
    routes = {"first": {"model": "a*", "upstreams": "one"}, "second": {"upstreams": "two"}}
    with house({"one": {}, "two": {}}, routes=routes, breaker=NO_BREAKER,
               retry={**POLICY, "budget": "0%", "budget_min": 1}) as (provider, daemon):
        provider.rules({"answers": [error(503)]})
        attempts = [ask(daemon, chat("a")).header("x-retryd-attempts") for _ in range(4)]
        other = ask(daemon, chat("b")).header("x-retryd-attempts")
    assert attempts == ["5", "5", "3", "1"] and other == "5"


def test_a_route_may_have_more():
    routes = {"more": {"model": "a*", "upstreams": "one", "retry.budget": "1000%"}, "rest": {"upstreams": "one"}}
    with house(routes=routes, breaker=NO_BREAKER, retry={**POLICY, "budget": "0%", "budget_min": 0}) \
            as (provider, daemon):
        provider.rules({"answers": [error(503)]})
        assert ask(daemon, chat("a")).header("x-retryd-attempts") == "5"
        assert ask(daemon, chat("b")).header("x-retryd-attempts") == "1"


def test_waits_at_a_gate_cost_nothing():
    """Those who only wait for their turn have repeated nothing."""
    with house(breaker=NO_BREAKER, retry={**POLICY, "budget": "0%", "budget_min": 1}) as (provider, daemon):
        provider.rules(on("one", {**error(429), "headers": {"retry-after-ms": "700"}}, AUTO))
        first = Asked(daemon)
        daemon.wait_line("gate closed")
        shots = flood(daemon, 40, request=lambda n: payload())
        assert first.answer().status == 200
        assert total(daemon, "retryd_retries_denied_total") == 0
        assert where(provider.record()) == ["one"] * 42
    assert {(s.answer.status, s.answer.header("x-retryd-attempts")) for s in shots} == {(200, "1")}


SAYS_NO = {"x-should-retry": "false"}


@pytest.mark.parametrize("failure", [error(503), {**error(503), "headers": SAYS_NO}, {**error(429), "headers": SAYS_NO},
                                     error(501)], ids=["503", "503-no", "429-no", "501"])
def test_a_fallback_model_is_no_way_around_it(failure):
    """For the upstream it is one more request, whatever model it is for."""
    with house(route={"fallback_models": "small, tiny"}, breaker=NO_BREAKER,
               retry={**POLICY, "budget": "0%", "budget_min": 0}) as (provider, daemon):
        provider.rules({"answers": [failure]})
        assert ask(daemon).header("x-retryd-attempts") == "1"
        assert len(provider.record()) == 1 and total(daemon, "retryd_retries_denied_total") == 1


@pytest.mark.parametrize("code,status", [("context_length_exceeded", 400), ("model_not_found", 404)])
def test_another_models_work_is_no_repeat(code, status):
    """What says nothing against the upstream is not held against it: the larger model has the first request for it."""
    with house(route={"fallback_models": "small"}, breaker=NO_BREAKER,
               retry={**POLICY, "budget": "0%", "budget_min": 0}) as (provider, daemon):
        provider.rules(on("one", verdict(code, status), model="big"))
        answer = ask(daemon)
    assert answer.status == 200 and answer.header("x-retryd-model") == "small"
