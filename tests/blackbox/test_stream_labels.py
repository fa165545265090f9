"""C10, C11: if the request asked for a stream, retryd recognizes one by its content, whatever its Content-Type says."""

import base64
import gzip
import json

import pytest
from cases import pair, run
from raw import STREAM, Raw, ask, text_of
from streams import DONE, MODES, PAUSE_MS, assert_broken, assert_whole, case, chat_events, chunk, data, read_chat

LABELS = {"json": "application/json", "json-charset": "application/json; charset=utf-8", "text": "text/plain",
          "bytes": "application/octet-stream", "html": "text/html", "none": None, "blank": ""}
TEXT = "one two three"
EVENTS = chat_events("one ", "two ", "three")


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "budget_min": 100000}) as running:
        yield running


def labelled(name, events, **how):
    return {"sse": events, "headers": {"content-type": LABELS[name]}, **how}


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_under_any_label_passes_as_it_is(mode, both):
    """C11: In one attempt, its bytes and its label unchanged, whatever the pieces it comes in."""
    heads = {"": "", "comment": ": hello\n\n", "blank": "\n\n", "mark": "\ufeff", "id": "id: 1\n", "event": "event: x\n"}
    cases, bodies = {}, {}
    for name in LABELS:
        for head, text in heads.items():
            for pace in ({}, {"pace": {"bytes": 3, "every_ms": 1}}):
                key = f"{mode}-{name}-{head}-{len(pace)}"
                events = [text + EVENTS[0], *EVENTS[1:]]
                cases[key] = case("chat", [labelled(name, events, **pace)], mode)
                bodies[key] = ("".join(events).encode(), LABELS[name])
    for key, seen in run(*both, cases).items():
        body, label = bodies[key]
        assert seen.problem is None and seen.answer.status == 200, (key, seen.problem)
        assert (seen.answer.body, len(seen.attempts)) == (body, 1), key
        assert (seen.answer.header("content-type") or None) == (label or None), key


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("mode", ["live", "splice"])
def test_each_event_passes_when_it_is_whole(mode, label, provider, retryd):
    """C11: The provider says nothing behind its second text before the client has it."""
    provider.answers(labelled(label, EVENTS, stall={"after_events": 3}))
    with Raw(retryd()) as c:
        c.request(body=STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
        c.answer_head()
        got = b""
        for piece in c.chunks():
            got += piece
            if text_of(got) == "one two ":
                break
    provider.wait(closed=1)


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_under_any_label_is_guarded(mode, both):
    """C12: A break is told or mended; what comes to nothing before its content is asked for again."""
    cases = {}
    for name in LABELS:
        good = labelled(name, EVENTS)
        bad = {"cut": labelled(name, EVENTS, cut={"after_events": 3, "delay_ms": PAUSE_MS}),
               "role": labelled(name, EVENTS[:1]), "error": labelled(name, [{"error": {"message": "m", "code": 503}}]),
               "comments": labelled(name, [": c\n\n"] * 3), "no-json": labelled(name, ["data: {\n\n", *EVENTS])}
        cases.update({f"{mode}-{name}-{how}": case("chat", [answer, good], mode) for how, answer in bad.items()})
    for name, seen in run(*both, cases).items():
        told = read_chat(seen.answer.body)
        if mode == "live" and name.endswith("-cut"):
            assert_broken(told, "one two ")
            assert len(seen.attempts) == 1, name
        else:
            assert_whole(told, "chat", TEXT)
            assert len(seen.attempts) == 2, name


@pytest.mark.parametrize("mode", MODES)
def test_a_compressed_stream_under_another_label(mode, provider, retryd):
    """C11."""
    body = "".join(EVENTS).encode()
    provider.answers({"headers": {"content-type": "application/json", "content-encoding": "gzip"},
                      "body_b64": base64.b64encode(gzip.compress(body)).decode(), "pace": {"bytes": 7, "every_ms": 1}})
    answer = ask(retryd(), STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
    assert answer.body == body and answer.header("content-encoding") is None
    assert len(provider.record()) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_heartbeat_comes_before_a_stream_under_another_label(mode, provider, retryd):
    """C14."""
    provider.answers(labelled("json", EVENTS, delay_ms=300))
    answer = ask(retryd(stream={"heartbeat": "50ms"}), STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
    assert answer.body.startswith(b": retryd\n") and answer.body.endswith("".join(EVENTS).encode())
    assert len(provider.record()) == 1


# What is no stream stays as it was: (path, request, answer).
JSON = {"model": "gpt-4o", "choices": [{"message": {"content": "x" * 300}}]}
OTHERS = {
    "json": ("/v1/chat/completions", STREAM, {"json": JSON}),
    "json-in-pieces": ("/v1/chat/completions", STREAM, {"json": JSON, "pace": {"bytes": 50, "every_ms": 1}}),
    "an-error-status": ("/v1/chat/completions", STREAM, {"status": 400, "headers": {"content-type": "text/plain"},
                                                         "body": "data: no\n\n"}),
    "not-asked-for": ("/v1/files", {"a": 1}, {"headers": {"content-type": "text/plain"}, "body": "data: x\n\nid: 5"}),
    "stream-false": ("/v1/x", {"stream": False}, {"headers": {"content-type": None}, "body": ": x"}),
    "words": ("/v1/x", {"stream": True}, {"headers": {"content-type": "text/plain"}, "body": "data"}),
    "audio": ("/v1/audio/speech", {"stream": True}, {"headers": {"content-type": "audio/mpeg"}, "body_bytes": 5000000}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_stream_is_as_it_was(name, provider, retryd):
    """C10."""
    path, request, answer = OTHERS[name]
    provider.answers(answer)
    got = ask(retryd(), request, path)
    assert got.status == answer.get("status", 200) and len(provider.record()) == 1
    if "json" in answer:
        assert got.json() == JSON
    elif "body" in answer:
        assert got.body == answer["body"].encode()
    else:
        assert len(got.body) == answer["body_bytes"]


def test_json_under_a_streams_label_is_as_it_was(provider, retryd):
    """C11."""
    provider.answers({"headers": {"content-type": "text/event-stream"}, "body": json.dumps(JSON)}, {"sse": EVENTS})
    assert text_of(ask(retryd(), STREAM).body) == TEXT
    assert len(provider.record()) == 2


@pytest.mark.parametrize("label", ["json", "none"])
def test_images_and_responses_too(label, both):
    """C11: Any request that says "stream": true."""
    created = "event: response.created\n" + data({"type": "response.created", "sequence_number": 0,
                                                  "response": {"id": "resp_1"}})
    done = "event: response.completed\n" + data({"type": "response.completed", "sequence_number": 1,
                                                 "response": {"id": "resp_1"}})
    cases = {f"cut-{mode}": case("responses", [labelled(label, [created], cut={"after_events": 1}),
                                               labelled(label, [created, done])], mode) for mode in MODES}
    for name, seen in run(*both, cases).items():
        assert seen.answer.body == (created + done).encode() and len(seen.attempts) == 2, name


def test_http_1_0_gets_it_whole(provider, retryd):
    """C12."""
    provider.answers(labelled("text", EVENTS, cut={"after_events": 3}), labelled("text", EVENTS))
    with Raw(retryd()) as c:
        body = json.dumps(STREAM).encode()
        c.send(b"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
               b"content-length: %d\r\n\r\n" % len(body) + body)
        answer = c.answer()
    assert answer.body == "".join(EVENTS).encode() and DONE.encode() in answer.body
    assert chunk() and int(answer.header("content-length")) == len(answer.body)
