"""The log lines of one request: each step at level = debug, and always the upstream's id for it."""

import threading

import pytest
from cases import AUTO, error, pair
from daemon import parse_logfmt
from raw import CHAT, STREAM, Raw, ask
from targets import house, on

SECRET = "sk-secret-0123456789abcdef"


def steps(daemon, start=0):
    """(msg without "step: ", fields) of each step so far."""
    lines = [parse_logfmt(line) for line in daemon.lines[start:] if 'msg="step: ' in line]
    return [(line["msg"].removeprefix("step: "), line) for line in lines]


def of_request(daemon, n=1):
    """The steps of the n-th request that ended."""
    daemon.wait_line('msg="request"', count=n)
    id = daemon.requests()[n - 1]["id"]
    return [(msg, line) for msg, line in steps(daemon) if line["id"] == id]


def only(all_steps, msg):
    found = [line for name, line in all_steps if name == msg]
    assert len(found) == 1, (msg, all_steps)
    return found[0]


def test_a_good_request_step_by_step():
    with pair(log={"level": "debug"}, retry={"deadline": "60s", "max_attempts": 4}) as (provider, daemon):
        provider.answers({**AUTO, "delay_ms": 30})
        for connection in ("new", "kept"):
            assert ask(daemon).status == 200
            told = of_request(daemon, 1 if connection == "new" else 2)
            assert [msg for msg, _ in told] == ["request accepted", "attempt begins", "attempt ended", "response handed over"]
            taken, begins, over, handed = (line for _, line in told)
            assert (taken["max_attempts"], taken["upstreams"], taken["stream"]) == ("4", "1", "no")
            assert 0 < int(taken["deadline_ms"]) <= 60000
            assert (begins["attempt"], begins["target"], begins["why"]) == ("1", "test", "the first choice")
            assert (over["connection"], over["status"], over["http"]) == (connection, "200", "1.1")
            assert over["address"] == f"127.0.0.1:{provider.port}"
            assert 30 <= int(over["first_byte_ms"]) <= int(over["total_ms"])
            assert int(over["bytes_sent"]) > 0 and int(over["bytes_received"]) > 0
            assert {"dns_ms", "connect_ms", "tls_ms"} <= set(over)
            assert (handed["status"], handed["attempts"]) == ("200", "1")


def test_nothing_of_this_at_the_usual_level():
    with pair() as (provider, daemon):
        provider.answers(AUTO)
        assert ask(daemon).status == 200
        daemon.wait_line('msg="request"')
        assert steps(daemon) == []


def test_where_a_repeat_goes_and_why():
    with house({"one": {}, "two": {}}) as (provider, daemon):
        provider.rules(on("one", {**error(429), "headers": {"retry-after": "50"}}), on("two", AUTO))
        assert ask(daemon).status == 200
        first, second = [line for msg, line in of_request(daemon) if msg == "attempt begins"]
        assert (first["target"], first["why"]) == ("one", "the first choice")
        assert (second["target"], second["why"]) == ("two", "another target")
        assert ask(daemon).status == 200
        begins = only(of_request(daemon, 2), "attempt begins")
        assert (begins["target"], begins["why"], begins["first_choice_held_by"]) == \
            ("two", "the first free target", "gate")


def test_the_same_target_again():
    with pair(log={"level": "debug"}, retry={"initial_delay": "1ms"}) as (provider, daemon):
        provider.answers(error(503), AUTO)
        assert ask(daemon).status == 200
        first, second = [line for msg, line in of_request(daemon) if msg == "attempt begins"]
        assert (first["attempt"], first["why"]) == ("1", "the first choice")
        assert (second["attempt"], second["why"]) == ("2", "the same target again")
        assert second["anew"]


def test_a_wait_in_the_queue():
    with pair(log={"level": "debug"}, upstream_settings={"max_concurrency": 1}) as (provider, daemon):
        provider.answers({**AUTO, "delay_ms": 300}, AUTO)
        first = threading.Thread(target=ask, args=(daemon,))
        first.start()
        provider.wait(requests=1)
        assert ask(daemon).status == 200
        first.join()
        told = of_request(daemon, 2)
        assert only(told, "queued")["why"] == "limit"
        begins = only(told, "attempt begins")
        assert int(begins["queue_ms"]) > 0 and begins["queued_for"] == "limit"


def test_nobody_there():
    with pair(log={"level": "debug"}, retry={"max_attempts": 1}) as (provider, daemon):
        provider.stop()
        assert ask(daemon).status == 502
        over = only(of_request(daemon), "attempt ended")
        assert over["connection"] == "none" and "status" not in over


def test_a_client_that_leaves():
    with pair(log={"level": "debug"}) as (provider, daemon):
        provider.answers({"stall": {"before_head": True}})
        with Raw(daemon) as c:
            c.request(body=CHAT)
            provider.wait(requests=1)
        daemon.wait_line("client_gone")
        assert only(of_request(daemon), "attempt cancelled")["connection"] == "new"


def test_a_hint_is_told_where_it_is_too_long_to_wait_for():
    with pair(retry={"max_hint": "1s"}) as (provider, daemon):
        provider.answers({**error(429), "headers": {"retry-after": "77"}})
        assert ask(daemon).status == 429
        failed = daemon.wait_log("attempt 1 of 5 failed")
        assert (failed["hint"], failed["hint_ms"]) == ("retry_after", "77000")
        assert "cannot_retry" in failed


# --- the upstream's id ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def machine():
    with pair(retry={"initial_delay": "1ms"}) as both:
        yield both


def line_of(daemon, start):
    return parse_logfmt(daemon.wait_line('msg="request"', start=start))


IDS = ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-goog-request-id", "cf-ray"]


@pytest.mark.parametrize("names", [[name] for name in IDS] + [IDS[i::-1] for i in range(1, len(IDS))] + [IDS],
                         ids=lambda names: "+".join(names))
def test_the_upstreams_id_stands_in_the_requests_line(machine, names):
    """Where there are many, the first of the rule, however they are ordered in the response."""
    provider, daemon = machine
    provider.answers({**AUTO, "headers": {"x-request-id": None, **{name: f"id-of-{name}" for name in names}}})
    start = len(daemon.lines)
    assert ask(daemon).status == 200
    best = min(names, key=IDS.index)
    assert line_of(daemon, start)["upstream_id"] == f"id-of-{best}"


def test_each_attempt_has_its_own(machine):
    provider, daemon = machine
    provider.answers({**error(503), "headers": {"x-request-id": "req_1"}},
                     {**AUTO, "headers": {"X-Request-Id": "req_2"}})
    start = len(daemon.lines)
    assert ask(daemon).status == 200
    assert daemon.wait_log("attempt 1 of 5 failed", start=start)["upstream_id"] == "req_1"
    assert line_of(daemon, start)["upstream_id"] == "req_2"


def test_a_failure_has_that_of_the_response_that_was_told(machine):
    provider, daemon = machine
    provider.answers({**error(500), "headers": {"x-request-id": "req_1"}}, {"cut": {"before_head": True}})
    start = len(daemon.lines)
    assert ask(daemon, headers=["x-retryd-max-attempts: 2"]).status == 500
    assert line_of(daemon, start)["upstream_id"] == "req_1"


def test_so_has_a_stream(machine):
    provider, daemon = machine
    provider.answers({**AUTO, "headers": {"x-request-id": "req_s"}})
    start = len(daemon.lines)
    assert ask(daemon, STREAM).status == 200
    assert line_of(daemon, start)["upstream_id"] == "req_s"


def test_a_response_of_ours_has_none(machine):
    provider, daemon = machine
    provider.answers({"cut": {"before_head": True}})
    start = len(daemon.lines)
    assert ask(daemon, headers=["x-retryd-no-retry: 1"]).status == 502
    assert "upstream_id" not in line_of(daemon, start)


def test_it_is_foreign_text(machine):
    """It breaks no line, is cut where it is long, and shows no key that it quotes."""
    provider, daemon = machine
    for value, shown in (('a" b=c', 'a" b=c'), ("x" * 300, "x" * 128), (f"for {SECRET[3:]}", "(not shown: it quotes a key)")):
        provider.answers({**AUTO, "headers": {"x-request-id": value}})
        start = len(daemon.lines)
        assert ask(daemon, headers=[f"Authorization: Bearer {SECRET}"]).status == 200
        line = line_of(daemon, start)
        assert line["upstream_id"] == shown
        assert line["end"] == "answered" and "b" not in line


def test_every_move_of_the_state_machine_is_told():
    with pair(log={"level": "debug"}) as (provider, daemon):
        provider.answers(error(500), AUTO)
        assert ask(daemon).status == 200
        daemon.wait_line('msg="request"')
        moves = [parse_logfmt(line) for line in daemon.lines if "msg=state" in line or 'msg="state"' in line]
        assert len({line["id"] for line in moves}) == 1
        assert [moves[0]["from"], *(line["to"] for line in moves)] == [
            "receiving", "queued", "attempting", "holding", "backoff", "queued", "attempting", "holding", "done"]
