"""C18: the kind of operation is part of a target, so the result of a token count says nothing about messages."""

import json

import pytest
from cases import error
from targets import ask, house, total, value

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BODY = json.dumps({"model": "claude", "max_tokens": 5,
                   "messages": [{"role": "user", "content": "hi"}]}).encode()
OK = {"status": 200, "json": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
                              "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
                              "usage": {"input_tokens": 1, "output_tokens": 1}}}
LIMITED = {**error(429), "headers": {"retry-after": "100"}}

OTHERS = {  # what says nothing of messages, and of what messages say nothing
    "count": ("POST", COUNT), "models": ("GET", "/v1/models"), "embeddings": ("POST", "/v1/embeddings"),
    "files": ("POST", "/v1/files"),
}


def send(daemon, method, path, deadline="10s"):
    return ask(daemon, BODY if method == "POST" else b"", path, [f"x-retryd-deadline: {deadline}"],
               method=method)


def rules(provider, bad, answer):
    provider.rules({"match": {"path": "/one" + bad}, "answers": [answer], "then": "repeat"},
                   {"match": {}, "answers": [OK], "then": "repeat"})


@pytest.mark.parametrize("other", OTHERS)
def test_a_429_closes_the_gate_of_its_own_kind_only(other):
    """C19."""
    method, path = OTHERS[other]
    for limited, free in (((method, path), ("POST", MESSAGES)), (("POST", MESSAGES), (method, path))):
        with house() as (provider, daemon):
            rules(provider, limited[1], LIMITED)
            assert send(daemon, *limited).status == 429
            assert send(daemon, *free).status == 200
            shut = send(daemon, *limited, deadline="1s")
            assert (shut.status, shut.header("x-retryd-attempts")) == (429, "0")
            assert total(daemon, "retryd_gate_closed_total") == 1


@pytest.mark.parametrize("other", OTHERS)
def test_a_breaker_opens_for_its_own_kind_only(other):
    """C20."""
    method, path = OTHERS[other]
    for down, up in (((method, path), ("POST", MESSAGES)), (("POST", MESSAGES), (method, path))):
        with house(breaker={"failures": 3, "open_for": "100s"}) as (provider, daemon):
            rules(provider, down[1], error(503))
            send(daemon, *down)
            assert send(daemon, *up).status == 200
            shut = send(daemon, *down, deadline="1s")
            assert shut.json()["error"]["code"] == "upstream_down"
            assert total(daemon, "retryd_breaker_opened_total") == 1


def test_a_key_that_may_not_read_generates_all_the_same(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-one\nsk-two\n")
    with house({"one": {"api_key_file": keys}}) as (provider, daemon):
        provider.rules({"match": {"path": "/one/v1/models"}, "answers": [error(401)], "then": "repeat"},
                       {"match": {}, "answers": [OK], "then": "repeat"})
        assert send(daemon, "GET", "/v1/models").status == 401
        before = len(provider.record())
        assert [send(daemon, "POST", MESSAGES).status for _ in range(4)] == [200] * 4
        used = {value(r, "authorization") for r in provider.record()[before:]}
        assert used == {"Bearer sk-one", "Bearer sk-two"}


def test_what_is_free_takes_nothing_of_requests_per_minute():
    """C22."""
    with house({"one": {"requests_per_minute": 1}}) as (provider, daemon):
        provider.rules({"match": {}, "answers": [OK], "then": "repeat"})
        assert [send(daemon, "POST", COUNT).status for _ in range(5)] == [200] * 5
        assert [send(daemon, "GET", "/v1/models").status for _ in range(5)] == [200] * 5
        assert send(daemon, "POST", MESSAGES).status == 200
        assert send(daemon, "POST", MESSAGES, deadline="1s").status == 429
        assert send(daemon, "POST", COUNT).status == 200
