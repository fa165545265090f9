"""C10: nothing goes to the client before the response is committed: once complete, or at a stream's first content.

A response that claims success but breaks its promise is not a response: its JSON is invalid or incomplete.
"""

import base64
import gzip
import json
import zlib

import pytest
from client import pattern
from raw import CHAT, STREAM, Raw, ask, events_of, now_ms, text_of, wait_metric, wait_requests

MIB = 1 << 20
JSON = {"content-type": "application/json"}
GOOD = {"preset": "auto", "text": "good"}
WHOLE = json.dumps({"choices": [{"message": {"content": "x" * 500}}]}).encode()


def body_b64(data):
    return {"body_b64": base64.b64encode(data).decode()}


def broken(data, encoding=None):
    return {"headers": {**JSON, **({"content-encoding": encoding} if encoding else {})}, **body_b64(data)}


# What breaks its promise though HTTP calls it whole, and the reason it is given.
UNKEPT = {
    "empty": (broken(b""), "empty_answer"),
    "blank": (broken(b" \r\n"), "empty_answer"),
    "half": (broken(WHOLE[:200]), "answer_malformed"),
    "html": (broken(b"<html>busy</html>"), "answer_malformed"),
    "two": (broken(WHOLE + b"x"), "answer_malformed"),
    "problem-json": ({**broken(b"{"), "headers": {"content-type": "application/problem+json"}}, "answer_malformed"),
    "gzip-of-half": (broken(gzip.compress(WHOLE[:200]), "gzip"), "answer_malformed"),
    "gzip-of-nothing": (broken(gzip.compress(b""), "gzip"), "empty_answer"),
    "half-a-gzip": (broken(gzip.compress(WHOLE)[:40], "gzip"), "answer_malformed"),
    "no-gzip": (broken(WHOLE, "gzip"), "answer_malformed"),
    "deflate-of-half": (broken(zlib.compress(WHOLE[:200]), "deflate"), "answer_malformed"),
    "half-a-deflate": (broken(zlib.compress(WHOLE)[:-6], "deflate"), "answer_malformed"),
    "encoded-error": (broken(gzip.compress(b'{"error":{"message":"m","code":503}}'), "gzip"), "overloaded"),
}


@pytest.mark.parametrize("name", UNKEPT)
def test_a_promise_that_is_not_kept_is_asked_for_again(provider, retryd, name):
    answer, reason = UNKEPT[name]
    provider.answers(answer, GOOD)
    d = retryd()
    got = ask(d)
    assert got.json()["choices"][0]["message"]["content"] == "good"
    assert d.wait_log("attempt 1 of 5")["reason"] == reason


@pytest.mark.parametrize("name", ["empty", "half", "half-a-gzip"])
def test_a_promise_that_is_never_kept_is_an_error(provider, retryd, name):
    answer, reason = UNKEPT[name]
    provider.answers(answer)
    d = retryd(retry={"initial_delay": "10ms", "max_attempts": 2})
    got = ask(d)
    assert (got.status, got.error["code"]) == (502, reason)
    assert len(provider.record()) == 2


# What is as good as its head promises passes byte for byte.
KEPT = {
    "json-as-text": {"headers": {"content-type": "text/plain"}, "body": '{"choices": [{"text": "x"}]}'},
    "json-without-a-type": {"headers": {"content-type": None}, "body": ' \n{"x": 1}'},
    "nan": {"headers": JSON, "body": '{"x": NaN, "y": [-Infinity, 1e999]}'},
    "latin-1": broken(b'{"x": "caf\xe9"}'),
    "bom": broken(b'\xef\xbb\xbf{"x": 1}'),
    "scalar": {"headers": JSON, "body": " 17 "},
    "unknown-encoding": broken(b"whatever", "br"),
    "gzip-members": broken(gzip.compress(b'{"x":') + gzip.compress(b"1}"), "gzip"),
    "bare-deflate": broken(zlib.compress(WHOLE)[2:-4], "deflate"),
    "error-status": {**broken(b"{half"), "status": 404},
    "no-content": {"status": 204, "headers": {**JSON, "content-length": None}, "body": ""},
    "events-as-text": {"headers": {"content-type": "text/plain"}, "body": "data: {}\n\n"},
    "accepted": {"status": 202, "headers": JSON, "body": ""},
}
# What promises nothing, where anything can be the response.
FREE = {
    "text": {"headers": {"content-type": "text/plain"}, "body": "{half"},
    "empty-text": {"headers": {"content-type": "text/plain"}, "body": ""},
    "json-lines": {"headers": {"content-type": "application/jsonl"}, "body": "{}\n{}\n"},
    "no-type": {"headers": {"content-type": None}, "body": "{half"},
    "html": {"headers": {"content-type": "text/html"}, "body": "<html>"},
    "error-as-text": {"headers": {"content-type": "text/plain"}, "body": '{"error": {"code": 503}}'},
    "nothing-as-json": {"headers": JSON, "body": ""},
}
ELSEWHERE = ["/v1/audio/speech", "/v1/files", "/v1/realtime/calls/c/hangup", "/v1/responses/r/cancel"]


@pytest.mark.parametrize("name, path", [(n, "/v1/chat/completions") for n in KEPT] +
                         [(n, ELSEWHERE[i % len(ELSEWHERE)]) for i, n in enumerate(FREE)])
def test_what_promises_nothing_passes(provider, retryd, name, path):
    answer = {**KEPT, **FREE}[name]
    provider.answers(answer)
    d = retryd()
    with Raw(d) as c:
        c.request(path=path, body=CHAT, headers=["Accept-Encoding: gzip"])
        got = c.answer()
    assert wait_requests(d, 1)[0]["attempts"] == "1"
    assert got.status == answer.get("status", 200)
    if "body_b64" in answer:
        assert got.body == base64.b64decode(answer["body_b64"])
    else:
        assert got.body == answer["body"].encode()


def test_head_promises_no_body(provider, retryd):
    provider.answers({"headers": {**JSON, "content-length": "500"}, "body": ""})
    d = retryd()
    assert ask(d, None, method="HEAD", path="/v1/models").status == 200
    assert wait_requests(d, 1)[0]["attempts"] == "1"


# --- streams ------------------------------------------------------------------------------------------


def chunk(**delta):
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_a_stream_is_held_to_its_first_content(provider, retryd):
    """Head, role chunk and comments are there for half a second before anything goes to the client."""
    provider.answers({"sse": [": hello\n\n", chunk(role="assistant", content=""), chunk(content=""), chunk(content="yes"),
                              {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "data: [DONE]\n\n"],
                      "stall": {"after_events": 3, "for_ms": 500}})
    d = retryd()
    with Raw(d) as c:
        began = now_ms()
        c.request(body=STREAM)
        head = c.answer_head()
        assert now_ms() - began > 450, "something came before there was content"
        body = b"".join(c.chunks())
    assert head.status == 200
    assert body.startswith(b": hello\n\n") and b'"role"' in body, "what was held goes along"
    assert text_of(body) == "yes"


@pytest.mark.parametrize("lifecycle", [
    [chunk(role="assistant", content="")],
    [{"id": "c", "choices": [], "prompt_filter_results": []}, chunk(role="assistant"), ": OPENROUTER PROCESSING\n\n"]])
def test_what_breaks_before_content_is_asked_for_again(provider, retryd, lifecycle):
    provider.answers({"sse": lifecycle, "cut": {"after_events": len(lifecycle), "delay_ms": 200}},
                     {"preset": "chat_stream", "text": "whole"})
    d = retryd()
    answer = ask(d, STREAM)
    assert text_of(answer.body) == "whole"
    assert answer.body.count(b'"role"') == 1, "what the first attempt announced is forgotten"
    assert events_of(answer.body)[-1] == "[DONE]"


def test_responses_lifecycle_is_held(provider, retryd):
    events = [("response.created", {"response": {"id": "resp_1", "status": "in_progress"}}),
              ("response.in_progress", {"response": {"id": "resp_1"}}),
              ("response.output_item.added", {"output_index": 0, "item": {"id": "m", "type": "message"}})]
    sse = [f"event: {t}\ndata: {json.dumps({'type': t, 'sequence_number': n, **more})}\n\n"
           for n, (t, more) in enumerate(events)]
    provider.answers({"sse": sse, "cut": {"after_events": 3, "delay_ms": 200}},
                     {"preset": "responses_stream", "text": "whole"})
    d = retryd()
    answer = ask(d, {"model": "gpt-4o", "input": "hi", "stream": True}, path="/v1/responses")
    assert b"resp_1" not in answer.body and b"response.completed" in answer.body
    assert wait_requests(d, 1)[0]["attempts"] == "2"


# --- a background response is read on ---------------------------------------------------------------------


def background(text):
    """The events of a background response, each with its number."""
    rows = [("response.created", {"response": {"id": "resp_bg", "status": "in_progress", "background": True}}),
            ("response.in_progress", {"response": {"id": "resp_bg"}}),
            ("response.output_item.added", {"output_index": 0, "item": {"id": "msg_1", "type": "message"}}),
            *(("response.output_text.delta", {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": c})
              for c in text),
            ("response.completed", {"response": {"id": "resp_bg", "status": "completed"}})]
    return [f"event: {t}\ndata: {json.dumps({'type': t, 'sequence_number': n, **more})}\n\n"
            for n, (t, more) in enumerate(rows)]


@pytest.mark.parametrize("mode, cut", [("splice", 7), ("hold", 7), ("live", 2), ("splice", 1), ("splice", 13)])
def test_a_background_response_is_read_on(provider, retryd, mode, cut):
    """C13."""
    events = background("0123456789")
    provider.rules({"match": {"method": "POST"},
                    "answers": [{"sse": events, "cut": {"after_events": cut, "delay_ms": 200}}], "then": "repeat"},
                   {"match": {"method": "GET", "path": "/v1/responses/resp_bg"},
                    "answers": [{"preset": "error", "status": 503}, {"sse": events[cut:]}], "then": "repeat"})
    d = retryd()
    answer = ask(d, {"model": "gpt-4o", "input": "hi", "stream": True, "background": True}, path="/v1/responses",
                 headers=[f"x-retryd-stream-mode: {mode}", "Authorization: Bearer sk-bg"])
    assert answer.body.decode() == "".join(events)
    posted, *gets = provider.record()
    assert posted["method"] == "POST" and [g["method"] for g in gets] == ["GET", "GET"]
    for get in gets:
        assert get["target"] == f"/v1/responses/resp_bg?stream=true&starting_after={cut - 1}"
        assert get["body_len"] == 0
        names = {n.lower(): v for n, v in get["headers"]}
        assert names["authorization"] == "Bearer sk-bg" and "content-type" not in names
    assert wait_requests(d, 1)[0]["end"] == "answered"


def test_a_background_response_that_is_gone_is_told(provider, retryd):
    """C13."""
    events = background("0123456789")
    provider.rules({"match": {"method": "POST"},
                    "answers": [{"sse": events, "cut": {"after_events": 7, "delay_ms": 200}}], "then": "repeat"},
                   {"match": {"method": "GET"}, "then": "repeat",
                    "answers": [{"preset": "error", "status": 404, "message": "No such response."}]})
    d = retryd()
    answer = ask(d, {"model": "gpt-4o", "input": "hi", "stream": True, "background": True}, path="/v1/responses",
                 headers=["x-retryd-stream-mode: splice"])
    told = answer.body.decode()
    assert told.startswith("".join(events[:7]))
    failed, error = (json.loads(event.partition("data: ")[2])
                     for event in told[len("".join(events[:7])):].strip().split("\n\n"))
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 7)
    assert failed["response"]["error"]["message"] == "No such response."
    assert error["sequence_number"] == 8 and error["error"]["message"] == "No such response."
    assert len(provider.record()) == 2


# --- much that is held -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_large_stream_is_held_in_a_file(provider, retryd, version):
    """C13: 24 MiB of events, broken once: the client gets them whole, and memory does not grow with them."""
    event = "data: " + json.dumps(chunk(content="y" * 4000)) + "\n\n"
    count = 6000
    end = "data: " + json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + "\n\ndata: [DONE]\n\n"
    head = {"send": "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"}
    provider.answers({"wire": [head, {"repeat": {"count": count // 2, "ops": [{"send": event}]}}, {"reset": True}]},
                     {"wire": [head, {"repeat": {"count": count, "ops": [{"send": event}]}}, {"send": end}, {"fin": True}]})
    d = retryd()
    with Raw(d, timeout=60) as c:
        c.request(body=STREAM, headers=["x-retryd-stream-mode: hold"], version=version)
        answer = c.answer()
    assert answer.status == 200
    assert len(answer.body) == count * len(event) + len(end)
    assert answer.body == (event * count + end).encode()
    if version == "1.0":
        assert answer.header("content-length") == str(len(answer.body))
    assert d.metric("retryd_buffered_max_bytes") < 4 * MIB
    assert wait_requests(d, 1)[0]["attempts"] == "2"
    assert d.metric("retryd_spooled_bytes_total") > 20 * MIB


def test_without_a_spool_a_stream_that_is_too_long_goes_out(provider, retryd, tmp_path):
    """C13."""
    event = "data: " + json.dumps(chunk(content="y" * 4000)) + "\n\n"
    end = "data: " + json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + "\n\ndata: [DONE]\n\n"
    head = {"send": "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"}
    provider.answers({"wire": [head, {"repeat": {"count": 500, "ops": [{"send": event}]}}, {"send": end}, {"fin": True}]})
    d = retryd(server={"spool_dir": str(tmp_path / "gone"), "hold_limit": "1M"})
    answer = ask(d, STREAM, headers=["x-retryd-stream-mode: hold"])
    assert answer.body == (event * 500 + end).encode()
    assert wait_requests(d, 1)[0]["end"] == "answered"


def test_a_response_beyond_hold_limit_leaves_memory(provider, retryd):
    """Without a length nobody knows until hold_limit is reached; a slow client then does not keep it in memory."""
    size = 24 * MIB
    provider.answers({"body_bytes": size, "chunked": True, "headers": {"content-type": "audio/mpeg"}})
    d = retryd()
    with Raw(d, receive_buffer=16384, timeout=60) as c:
        c.request(body=CHAT)
        c.answer_head()
        wait_metric(d, "retryd_spooled_bytes_total", 1)
        deadline = now_ms() + 20_000
        while d.metric("retryd_buffered_bytes") >= MIB:
            assert now_ms() < deadline, d.metric("retryd_buffered_bytes")
        assert b"".join(c.chunks()) == pattern(size)
    assert wait_requests(d, 1)[0]["end"] == "answered"
