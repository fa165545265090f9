"""C28: retries at other targets, and hedges, that may be charged twice are counted, reported, and forbidden on demand.

Retries at the same target are in test_attempts_in_all.py.
"""

import pytest
from cases import AUTO, error
from raw import wait_requests
from targets import ask, chat, house, in_order, limited, on, total, value, verdict, where

BOTH = {"one": {}, "two": {}}
BREAK = {"cut": {"before_head": True}}
SILENT = {"stall": {"before_head": True}}
AMBIGUOUS = {"reset": BREAK, "silence": SILENT, "502": error(502), "504": error(504),
             "truncated": {"preset": "auto", "cut": {"after_bytes": 5}}}
CLEAR = {"503": error(503), "429": limited(1000), "quota": verdict("insufficient_quota"),
         "unknown-model": verdict("model_not_found", 404)}
HASTY = {"timeout": {"first_byte": "400ms"}}


def moved(failure, route=None, retry=None, upstreams=None):
    """One request whose first attempt ends so, with another upstream and model to turn to:
    (answer, record, its log line, duplicates counted)."""
    with house(upstreams or BOTH, {"fallback_models": "small", **(route or {})},
               retry={"initial_delay": "20ms", **(retry or {})}, **HASTY) as (provider, daemon):
        provider.rules(on("one", failure, model="big"))
        answer = ask(daemon)
        line = wait_requests(daemon, 1)[0]
        return answer, in_order(provider.record()), line, total(daemon, "retryd_possible_duplicates_total")


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_move_after_what_may_have_been_processed(name):
    answer, record, line, duplicates = moved(AMBIGUOUS[name])
    assert answer.status == 200 and len(record) == 2
    assert duplicates == 1 and line["possible_duplicates"] == "1"


@pytest.mark.parametrize("name", CLEAR)
def test_a_move_after_what_was_refused(name):
    answer, record, line, duplicates = moved(CLEAR[name])
    assert answer.status == 200 and where(record) == ["one", "two"]
    assert duplicates == 0 and "possible_duplicates" not in line


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_retry_ambiguous_off_forbids_moves_too(name):
    """A repeat elsewhere costs as much as one at the same place."""
    answer, record, line, duplicates = moved(AMBIGUOUS[name], retry={"retry_ambiguous": "no"})
    assert answer.status >= 500 and where(record) == ["one"]
    assert duplicates == 0 and "possible_duplicates" not in line


@pytest.mark.parametrize("name", CLEAR)
def test_retry_ambiguous_off_leaves_the_others(name):
    answer, record, _, _ = moved(CLEAR[name], retry={"retry_ambiguous": "no"})
    assert answer.status == 200 and where(record) == ["one", "two"]


def test_one_idempotency_key_for_all_attempts_of_an_upstream():
    """Wherever they go, and whichever model they name; where one honours the header."""
    name = {"idempotency_header": "Idempotency-Key"}
    with house({"one": name, "two": name, "three": {}}, {"fallback_models": "small", "retry.attempts_per_tier": 3,
                                                         "retry.max_attempts": 6}) as (provider, daemon):
        provider.rules(on("*", error(503)))
        ask(daemon)
        line = wait_requests(daemon, 1)[0]
        record = in_order(provider.record())
    assert len(record) == 6
    keys = {upstream: {value(r, "idempotency-key") for r in record if where([r]) == [upstream]}
            for upstream in ("one", "two", "three")}
    assert keys["one"] == keys["two"] == {line["id"]} and keys["three"] == {None}


HEDGED = {"hedge.after": "150ms", "hedge.requests": "all"}


def test_a_hedge_is_a_possible_duplicate():
    with house(route=HEDGED) as (provider, daemon):
        provider.rules(on("one", SILENT, AUTO))
        assert ask(daemon).status == 200
        provider.wait(closed=1)
        line = wait_requests(daemon, 1)[0]
        assert total(daemon, "retryd_possible_duplicates_total") == 1
    assert line["possible_duplicates"] == "1"


def test_retry_ambiguous_off_forbids_hedges():
    with house(route=HEDGED, retry={"initial_delay": "20ms", "retry_ambiguous": "no"}) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 700}))
        assert ask(daemon, chat()).status == 200
        assert len(provider.record()) == 1
        assert total(daemon, "retryd_hedges_total") == 0


def test_a_hedge_has_the_idempotency_key_of_the_first():
    with house({"one": {"idempotency_header": "Idempotency-Key"}}, HEDGED) as (provider, daemon):
        provider.rules(on("one", SILENT, AUTO))
        assert ask(daemon).status == 200
        first, second = in_order(provider.wait(closed=1))
        assert value(first, "idempotency-key") == value(second, "idempotency-key") == wait_requests(daemon, 1)[0]["id"]
