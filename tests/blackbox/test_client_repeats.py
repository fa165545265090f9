"""C8 for clients that ignore x-should-retry: their retries add to retryd's and do not multiply them."""

import json

from cases import AUTO, error
from daemon import parse_logfmt
from targets import ask, chat, house

ON = {"initial_delay": "5ms", "max_attempts": 5, "repeat_window": "1m"}


def attempts(answer):
    return int(answer.header("x-retryd-attempts"))


def test_an_agent_that_starts_over_gets_one_attempt_each_time():
    """A client that makes 25 requests of one turn, on new connections and whichever worker they reach:
    5 + 24 attempts, not 125."""
    with house(retry=ON, server={"workers": 2}) as (provider, daemon):
        provider.rules({"match": {}, "answers": [error(503)], "then": "repeat"})
        made = [attempts(ask(daemon)) for _ in range(25)]
        assert made == [5] + [1] * 24
        assert len(provider.record()) == 29
        assert daemon.metric("retryd_client_repeats_total") == 24
        lines = [parse_logfmt(line) for line in daemon.log.splitlines() if 'msg="attempt' in line]
        assert lines[-1]["cannot_retry"] == "the client repeats a request that has just failed here"
        daemon.wait_line('msg="request"', count=25)
        # Two workers write them: in which order two of them come is theirs.
        told = [line.get("client_repeat") for line in daemon.requests()]
        assert told.count(None) == 1 and told.count("yes") == 24


def test_a_repeat_that_is_answered_is_forgotten():
    with house(retry=ON) as (provider, daemon):
        provider.rules({"match": {}, "answers": [error(503)] * 5 + [AUTO, error(503), AUTO],
                        "then": "repeat"})
        assert [(a.status, attempts(a)) for a in (ask(daemon), ask(daemon), ask(daemon))] == \
            [(503, 5), (200, 1), (200, 2)]


def test_the_last_error_is_the_upstreams():
    with house(retry=ON) as (provider, daemon):
        provider.rules({"match": {}, "answers": [error(503, message="first")] * 5 +
                        [error(500, message="second")], "then": "repeat"})
        ask(daemon)
        again = ask(daemon)
        assert (again.status, json.loads(again.body)["error"]["message"]) == (500, "second")
        assert again.header("x-should-retry") == "false"
        assert again.header("x-retryd-wait-ms") == "0"


def test_a_repeat_behind_an_open_breaker_is_told_when_to_come_again():
    """It waits for a probe as a first attempt does; where it cannot, it is told when one is due."""
    with house(retry=ON, breaker={"failures": 5, "open_for": "30s"}) as (provider, daemon):
        provider.rules({"match": {}, "answers": [error(503)], "then": "repeat"})
        ask(daemon)
        again = ask(daemon, headers=["x-retryd-deadline: 2s"])
        assert (again.status, json.loads(again.body)["error"]["code"]) == (503, "upstream_down")
        assert 0 < int(again.header("retry-after")) <= 30
        assert len(provider.record()) == 5


def test_a_repeat_that_is_not_tried_hears_the_last_error_again():
    """As often as it comes, and nobody else does; behind a gate, too."""
    for answer in (error(503, message="Maintenance"),
                   {**error(429, message="Maintenance"), "headers": {"retry-after": "100"}}):
        with house(retry=ON, breaker={"failures": 5, "open_for": "30s"}) as (provider, daemon):
            provider.rules({"match": {}, "answers": [answer], "then": "repeat"})
            ask(daemon, headers=["x-retryd-deadline: 2s"])
            for _ in range(3):
                again = ask(daemon, headers=["x-retryd-deadline: 2s"])
                assert again.header("x-retryd-attempts") == "0" and int(again.header("retry-after")) > 0
                told = json.loads(again.body)["error"]["message"]
                assert told.endswith(f"This request failed before: status {answer['status']}: Maintenance"), told
            other = ask(daemon, chat("big", user="another"), headers=["x-retryd-deadline: 2s"])
            assert other.header("x-retryd-attempts") == "0"
            assert "Maintenance" not in json.loads(other.body)["error"]["message"]


def test_a_connection_that_failed_is_told_again():
    with house({"one": {"url": "http://127.0.0.1:1/v1"}}, retry=ON,
               breaker={"failures": 5, "open_for": "30s"}) as (_, daemon):
        first = json.loads(ask(daemon).body)["error"]
        again = json.loads(ask(daemon, headers=["x-retryd-deadline: 2s"]).body)["error"]
        assert (first["code"], again["code"]) == ("connect_failed", "upstream_down")
        told = again["message"].partition("This request failed before: ")[2]
        assert told and told in first["message"]
