"""C12: the reason reaches the user: a response that has begun ends as failed, with the reason, then the error event."""

import json

import pytest
from cases import error, pair, run
from streams import MODES, PAUSE_MS, case, events_in, read_responses

BOOM = {"message": "Slow down. Please try again in 2.5s.", "type": "requests", "param": None,
        "code": "rate_limit_exceeded"}


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "max_attempts": 2, "budget_min": 100000}) as running:
        yield running


def cut(events=7, **more):
    return {"preset": "responses_stream", "events": 5, "cut": {"after_events": events, "delay_ms": PAUSE_MS}, **more}


def told_events(kind):
    """A response of one word, then what its upstream tells of its failure."""
    response = {"id": "resp_9", "object": "response", "created_at": 17, "model": "gpt-9", "output": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    last = {"error": {"type": "error", "error": BOOM}, "flat": {"type": "error", **BOOM},
            "failed": {"type": "response.failed", "response": {**response, "status": "failed", "error": BOOM}}}[kind]
    last["type"] = "response.failed" if kind == "failed" else "error"
    events = [{"type": "response.created", "response": {**response, "status": "in_progress", "error": None}},
              {"type": "response.output_text.delta", "delta": "He", **place}, last]
    return {"sse": [f"event: {e['type']}\ndata: {json.dumps({**e, 'sequence_number': n})}\n\n"
                    for n, e in enumerate(events)]}


def last_two(body):
    """The response that failed, and the error, once each and last."""
    values = [json.loads(text) for _, text in events_in(body)]
    assert [v["type"] for v in values if v["type"] in ("response.failed", "error")] == ["response.failed", "error"]
    failed, problem = values[-2:]
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    return failed["response"], problem


@pytest.mark.parametrize("mode", ["live", "splice"])
def test_a_response_that_broke_ends_as_failed(mode, both):
    """In splice the second response is another one: the ids and numbers are those of the first."""
    other = {"preset": "responses_stream", "events": 5, "text": "something else"}
    seen = run(*both, {"a": case("responses", [cut(), other], mode)})["a"]
    told = read_responses(seen.answer.body)
    response, problem = last_two(seen.answer.body)
    assert told.error == problem["error"] and told.text == "w1 w2 w3 "
    assert response["error"] == {key: problem[key] for key in ("code", "message")}
    assert response["id"] in told.ids and len(told.ids) == 1
    first = json.loads(told.events[0][1])["response"]
    assert {key: response[key] for key in ("created_at", "model")} == {k: first[k] for k in ("created_at", "model")}


@pytest.mark.parametrize("kind", ["error", "flat", "failed"])
def test_what_the_upstream_told_is_the_reason_in_both(kind, both):
    """What reads only one of the two, as Codex, finds code and message there, and how long to wait."""
    seen = run(*both, {"a": case("responses", [told_events(kind)], "live")})["a"]
    read_responses(seen.answer.body)
    response, problem = last_two(seen.answer.body)
    assert response["id"] == "resp_9"
    for found in (response["error"], problem, problem["error"]):
        assert (found["code"], found["message"]) == (BOOM["code"], BOOM["message"]), found


@pytest.mark.parametrize("mode", MODES)
def test_no_response_fails_that_the_client_never_saw_begin(mode, both):
    """Where it has nothing of one, the response is an error's as ever."""
    seen = run(*both, {"a": case("responses", [error(503), error(503)], mode)})["a"]
    assert seen.answer.status == 503 and b"response.failed" not in seen.answer.body
