"""C23: hedging. A second attempt joins a first one that is silent; the first good response wins."""

import pytest
from cases import AUTO, error
from raw import events_of, in_time, text_of, time_of, wait_requests
from targets import Asked, ask, chat, flood, house, in_order, on, payload, total, where

AFTER = {"hedge": {"after": "150ms"}}
ALL = {"hedge.after": "150ms", "hedge.requests": "all"}
SILENT = {"stall": {"before_head": True}}
EMBEDDING = {"model": "e", "input": "x"}
ASKED = {  # what is safe to ask twice: (body, path, method)
    "embeddings": (EMBEDDING, "/v1/embeddings", "POST"), "moderations": (EMBEDDING, "/v1/moderations", "POST"),
    "models": (None, "/v1/models", "GET"), "a-response": (None, "/v1/responses/resp_1", "GET"),
}
CHAT = (chat(), "/v1/chat/completions", "POST")


def send(daemon, what, headers=()):
    body, path, method = what
    return ask(daemon, body, path, headers, method)


def assert_closed_at_once(record, loser, winner):
    assert record[loser]["closed_early"] and not record[winner]["closed_early"]
    in_time(record[loser]["t_closed"] - record[winner]["t_answer_end"])


# --- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASKED)
def test_off_by_default(name):
    with house() as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 700}))
        answer = send(daemon, ASKED[name])
        assert len(provider.record()) == 1 and total(daemon, "retryd_hedges_total") == 0
    assert (answer.status, answer.header("x-retryd-attempts")) == (200, "1")


@pytest.mark.parametrize("name", ASKED)
def test_what_is_safe_to_ask_twice(name):
    with house(**AFTER) as (provider, daemon):
        provider.rules(on("one", SILENT, AUTO))
        answer = send(daemon, ASKED[name])
        record = in_order(provider.wait(closed=1))
        line = wait_requests(daemon, 1)[0]
        begun = [daemon.wait_log("attempt begins", count=n) for n in (1, 2)]
        assert total(daemon, "retryd_hedges_total") == 1
        assert total(daemon, "retryd_possible_duplicates_total") == 1
    assert (answer.status, answer.header("x-retryd-attempts")) == (200, "2")
    assert len(record) == 2 and record[0]["body_sha256"] == record[1]["body_sha256"]
    first, second = (time_of(line) for line in begun)
    assert second - first >= 149  # in whole milliseconds of two clocks
    in_time(second - first, 150 + 2000)
    assert_closed_at_once(record, loser=0, winner=1)
    assert (line["attempts"], line["possible_duplicates"]) == ("2", "1")


@pytest.mark.parametrize("what", [CHAT, (chat(stream=True), *CHAT[1:]), ({"model": "m", "input": "x"},
                                                                     "/v1/responses", "POST"),
                                  (None, "/v1/files/file_1", "DELETE")],
                         ids=["chat", "stream", "responses", "delete"])
def test_what_may_cost_twice_is_not_asked_twice(what):
    with house(**AFTER) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 700}))
        answer = send(daemon, what)
        assert len(provider.record()) == 1 and total(daemon, "retryd_hedges_total") == 0
    assert answer.status == 200


def test_no_hedge_for_what_answers_in_time():
    with house(hedge={"after": "3s"}) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 20}))
        assert {send(daemon, ASKED["models"]).status for _ in range(10)} == {200}
        assert len(provider.record()) == 10 and total(daemon, "retryd_hedges_total") == 0


def test_one_hedge_and_no_more():
    with house(**AFTER) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 1000}))
        assert send(daemon, ASKED["models"]).header("x-retryd-attempts") == "2"
        assert len(provider.wait(closed=1)) == 2


def test_a_body_in_a_file_is_sent_once():
    with house(**AFTER, server={"memory_body": "64K"}) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 500}))
        answers = [send(daemon, ({"model": "e", "input": "x" * size}, "/v1/embeddings", "POST"))
                   for size in (100_000, 1000)]
    assert [a.header("x-retryd-attempts") for a in answers] == ["1", "2"]


def test_a_head_ends_the_silence():
    """What has begun to answer is not asked again, however slow the rest is."""
    with house(hedge={"after": "700ms"}) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "head_delay_ms": 1500}))
        assert send(daemon, ASKED["models"]).status == 200
        assert len(provider.record()) == 1


@pytest.mark.parametrize("headers", [["x-retryd-max-attempts: 1"], ["x-retryd-no-retry: yes"]])
def test_a_client_that_allows_one_attempt_has_one(headers):
    with house(**AFTER) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 600}))
        assert send(daemon, ASKED["models"], headers).status == 200
        assert len(provider.record()) == 1


# --- who wins --------------------------------------------------------------------------------------


def test_the_first_one_may_win_after_all():
    slow = {"preset": "auto", "delay_ms": 500, "text": "of the first"}
    with house(route=ALL) as (provider, daemon):
        provider.rules(on("one", slow, SILENT))
        answer = ask(daemon, chat())
        record = in_order(provider.wait(closed=1))
    assert text_of_whole(answer) == "of the first" and answer.header("x-retryd-attempts") == "2"
    assert_closed_at_once(record, loser=1, winner=0)


def text_of_whole(answer):
    return answer.json()["choices"][0]["message"]["content"]


def test_a_failure_does_not_win():
    """The first fails while the second is under way: its response is waited for, and nothing else sent."""
    with house(route=ALL) as (provider, daemon):
        provider.rules(on("one", error(503, delay_ms=300), {"preset": "auto", "delay_ms": 500, "text": "of the second"}))
        answer = ask(daemon, chat())
        assert len(provider.record()) == 2
    assert text_of_whole(answer) == "of the second" and answer.header("x-retryd-attempts") == "2"


def test_the_hedge_fails_first():
    with house(route=ALL) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 600, "text": "of the first"}, error(503)))
        answer = ask(daemon, chat())
        assert len(provider.record()) == 2
    assert text_of_whole(answer) == "of the first"


def test_both_fail():
    """Then it goes on as after any failure; no more attempts in all than allowed."""
    with house(route={**ALL, "retry.max_attempts": 3}) as (provider, daemon):
        provider.rules(on("one", error(503, delay_ms=300), error(500, delay_ms=300), AUTO))
        answer = ask(daemon, chat())
        assert len(provider.record()) == 3
    assert (answer.status, answer.header("x-retryd-attempts")) == (200, "3")


def test_hedges_count_as_attempts():
    with house(route={**ALL, "retry.max_attempts": 4}) as (provider, daemon):
        provider.rules(on("one", error(503, delay_ms=300)))
        answer = ask(daemon, chat())
        assert len(provider.record()) == 4
    assert (answer.status, answer.header("x-retryd-attempts")) == (503, "4")


def test_a_stream_is_won_at_its_head():
    """The second has begun to answer first; that the first would have been done earlier nobody knew."""
    first = {"preset": "chat_stream", "held": True, "events": 20, "interval_ms": 100}
    second = {"preset": "chat_stream", "delay_ms": 100, "first_delay_ms": 700, "text": "of the second"}
    with house(route=ALL) as (provider, daemon):
        provider.rules(on("one", first, second))
        answer = ask(daemon, chat(stream=True))
        record = in_order(provider.wait(closed=1))
    assert text_of(answer.body) == "of the second" and events_of(answer.body)[-1] == "[DONE]"
    assert len({e.split('"id":"')[1].split('"')[0] for e in events_of(answer.body) if "id" in e}) == 1
    assert_closed_at_once(record, loser=0, winner=1)


def test_a_hedge_goes_elsewhere_where_it_can():
    with house({"one": {}, "two": {}}, ALL) as (provider, daemon):
        provider.rules(on("one", SILENT))
        answer = ask(daemon, chat())
        assert where(provider.wait(closed=1)) == ["one", "two"]
    assert (answer.status, answer.header("x-retryd-target")) == (200, "two")


# --- bounds ----------------------------------------------------------------------------------------


def test_the_budget_bounds_hedges():
    """A slow upstream is not asked twice as often: ten in ten seconds here."""
    with house(retry={"initial_delay": "20ms", "budget": "0%", "budget_min": 1}, **AFTER) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 600}))
        shots = flood(daemon, 40, request=lambda n: payload(None, path="/v1/models", method="GET"))
        hedges = len(provider.record()) - 40
        assert total(daemon, "retryd_hedges_total") == hedges == 10
    assert {s.answer.status for s in shots} == {200}


def test_a_client_that_leaves_ends_both():
    with house(route=ALL) as (provider, daemon):
        provider.rules(on("one", SILENT))
        asked = Asked(daemon)
        provider.wait(requests=2)
        asked.leave()
        record = provider.wait(closed=2)
    in_time(abs(record[0]["t_closed"] - record[1]["t_closed"]))


def test_a_full_upstream_has_no_room_for_hedges():
    with house({"one": {"max_concurrency": 1}}, **AFTER) as (provider, daemon):
        provider.rules(on("one", {"preset": "auto", "delay_ms": 600}))
        assert send(daemon, ASKED["models"]).status == 200
        assert provider.stats()["max_in_flight"] == 1 and len(provider.record()) == 1
        assert total(daemon, "retryd_queue_waits_total") == 0  # it is made at once or not at all


def test_many_hedges_and_nothing_left_behind():
    """The first attempt of each is slow; each request is answered, each loser closed, and all is counted."""
    with house(route=ALL, retry={"initial_delay": "20ms", "budget": "1000%"}) as (provider, daemon):
        # A target is not stormed before it has answered well, and a hedge that finds no turn is not made.
        flood(daemon, 100, every_ms=5, request=lambda n: payload(headers=["x-retryd-no-retry: yes"]))
        provider.clear()
        provider.rules(on("one", {"preset": "auto", "delay_ms": 15_000}, AUTO, key_header="x-n"))
        shots = flood(daemon, 100, every_ms=5, request=lambda n: payload(headers=[f"x-n: {n}"]))
        provider.wait(closed=100)
        assert total(daemon, "retryd_hedges_total") == 100
        assert total(daemon, "retryd_possible_duplicates_total") == 100
    assert {(s.answer.status, s.answer.header("x-retryd-attempts")) for s in shots} == {(200, "2")}
    assert max(s.took_ms for s in shots) < 12_000
