"""HTTP/1.0 clients cannot detect a broken stream, so they get the complete stream with its length, or an error."""

import json

import pytest
from cases import error
from raw import Raw, head_of
from streams import MODES, PATHS, READ, assert_whole, request_of

TEXT = "w1 w2 w3 w4 w5"
GOOD = {"preset": "auto", "events": 5}


def ask(daemon, api="chat", headers=(), **more):
    """A stream asked for by an HTTP/1.0 client; the connection ends with the response."""
    body = json.dumps(request_of(api, "gpt-4o", **more)).encode()
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    with Raw(daemon) as c:
        c.send(head_of("POST", PATHS[api], lines, version="1.0") + body)
        answer = c.answer()
        assert c.is_closed()
    assert answer.header("transfer-encoding") is None
    assert answer.header("content-length") == str(len(answer.body))
    return answer


@pytest.fixture
def daemon(retryd):
    return retryd(stream={"heartbeat": "20ms"})  # a heartbeat would be a part of the response


@pytest.mark.parametrize("mode", [None, *MODES])
@pytest.mark.parametrize("api", READ)
def test_the_whole_stream_with_its_length(api, mode, provider, daemon):
    """C10."""
    provider.answers({**GOOD, "interval_ms": 30})
    answer = ask(daemon, api, [] if mode is None else [f"x-retryd-stream-mode: {mode}"])
    assert answer.status == 200
    assert answer.header("content-type").startswith("text/event-stream")
    assert b": retryd" not in answer.body
    assert_whole(READ[api](answer.body), api, TEXT)


BREAKS = {
    "reset": {**GOOD, "cut": {"after_deltas": 3, "delay_ms": 50}},
    "fin": {**GOOD, "cut": {"after_deltas": 3, "how": "fin", "delay_ms": 50}},
    "clean": {**GOOD, "done": False, "finish": False},
    "error": {"sse": [{"error": {"message": "boom", "type": "server_error", "param": None, "code": None}}]},
    "silence": {**GOOD, "stall": {"after_deltas": 3}},
}


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("bad", BREAKS)
def test_a_break_is_ridden_out(bad, api, provider, retryd):
    """C12."""
    provider.answers(BREAKS[bad], error(503), GOOD)
    answer = ask(retryd(timeout={"idle": "1s"}), api)
    assert answer.header("x-retryd-attempts") == "3"
    assert_whole(READ[api](answer.body), api, TEXT)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_keeps_breaking_is_an_error(api, provider, daemon):
    """C12."""
    provider.answers(BREAKS["reset"])
    answer = ask(daemon, api)
    assert answer.status == 502
    assert answer.error["code"] == "answer_truncated"
    assert len(provider.record()) == 5


def test_the_upstreams_own_error_with_its_own_status(provider, daemon):
    """C24."""
    provider.answers({**error(429, code="insufficient_quota", message="No money."), "delay_ms": 100})
    answer = ask(daemon)
    assert answer.status == 429
    assert (answer.error["code"], answer.error["message"]) == ("insufficient_quota", "No money.")


def test_an_error_that_ends_the_stream_is_in_the_response(provider, daemon):
    """C12: The stream and the connection end in one piece with the event: the length counts it."""
    refusal = 'data: {"error":{"message":"no","type":"x","param":null,"code":"content_filter"}}\n\n'
    provider.answers({"headers": {"content-type": "text/event-stream"}, "body": refusal})
    assert ask(daemon).body == refusal.encode()
