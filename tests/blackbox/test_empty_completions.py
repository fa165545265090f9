"""C3: retryd retries an empty completion once. It delivers the next response, and nothing of it counts as a failure."""

import json
import signal

import pytest
from cases import AUTO, Case, error, pair, run
from raw import CHAT, Raw, ask, text_of
from streams import DONE, chat_events, chunk, choice, usage
from targets import total

CHATS, TEXTS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MODES = ["live", "splice", "hold"]
ROLE, STOP = chunk(choice({"role": "assistant", "content": ""})), chunk(choice({}, "stop"))


def completion(*choices, **more):
    return {"json": {"id": "c", "object": "chat.completion", "model": "m", "choices": list(choices),
                     "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}, **more}}


def message(finish="stop", index=0, **said):
    return {"index": index, "message": {"role": "assistant", "content": None, **said}, "finish_reason": finish}


def text(said, finish="stop"):
    return completion({"index": 0, "text": said, "finish_reason": finish})


def response(output, status="completed", **more):
    return {"json": {"id": "resp_1", "object": "response", "status": status, "error": None, "output": output,
                     "instructions": "x" * 3000, "text": {"format": {"type": "text"}}, **more}}


def says(*parts):
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(parts)}


def part(said):
    return {"type": "output_text", "text": said, "annotations": []}


def streamed(*events):
    return {"sse": list(events)}


def completed(output):
    created = 'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r"}}\n\n'
    return streamed(created, 'event: response.completed\ndata: {"type":"response.completed","sequence_number":1,'
                    f'"response":{{"id":"r","status":"completed","output":{output}}}}}\n\n')


TOOL = [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
EMPTY = {  # (path, the response)
    "no-choices": (CHATS, completion()),
    "null-choices": (CHATS, {"json": {"id": "c", "object": "chat.completion", "choices": None}}),
    "content-null": (CHATS, completion(message())),
    "content-empty": (CHATS, completion(message(content=""))),
    "content-list": (CHATS, completion(message(content=[]))),
    "empty-everything": (CHATS, completion(message(content="", refusal=None, tool_calls=[], annotations=[],
                                                   reasoning_content="", audio=None, function_call=None))),
    "no-finish": (CHATS, completion(message(finish=None))),
    "empty-finish": (CHATS, completion(message(finish=""))),
    "all-of-two": (CHATS, completion(message(), message(index=1, content=""))),
    "gzipped": (CHATS, {**completion(message()), "gzip": True}),
    "as-text": (CHATS, {**completion(message()), "headers": {"content-type": "text/plain"}}),
    "text": (TEXTS, text("")),
    "no-output": (RESPONSES, response([])),
    "message-without-parts": (RESPONSES, response([says()])),
    "message-without-text": (RESPONSES, response([says(part(""))])),
}
EMPTY_STREAMS = {
    "role-and-stop": (CHATS, streamed(ROLE, STOP, DONE)),
    "with-usage": (CHATS, streamed(ROLE, STOP, usage(), DONE)),
    "stop-alone": (CHATS, streamed(STOP, DONE)),
    "stop-with-empty-content": (CHATS, streamed(ROLE, chunk(choice({"content": ""}, "stop")), DONE)),
    "without-done": (CHATS, streamed(ROLE, STOP)),
    "gzipped": (CHATS, {**streamed(ROLE, STOP, DONE), "gzip": True}),
    "text": (TEXTS, streamed(chunk({"index": 0, "text": "", "finish_reason": "stop"}), DONE)),
    "no-output": (RESPONSES, completed("[]")),
}
FULL = {  # what only looks like it
    "refusal": (CHATS, completion(message(refusal="no"))),
    "tool-calls": (CHATS, completion(message(finish="tool_calls", tool_calls=TOOL))),
    "tool-calls-and-stop": (CHATS, completion(message(tool_calls=TOOL))),
    "function-call": (CHATS, completion(message(finish="function_call", function_call={"name": "f", "arguments": ""}))),
    "reasoning": (CHATS, completion(message(reasoning_content="hm"))),
    "reasoning-details": (CHATS, completion(message(reasoning_details=[{"text": "hm"}]))),
    "audio": (CHATS, completion(message(audio={"id": "a", "data": "AAAA"}))),
    "images": (CHATS, completion(message(images=[{"url": "data:"}]))),
    "length": (CHATS, completion(message(finish="length"))),
    "content-filter": (CHATS, completion(message(finish="content_filter"))),
    "tool-calls-without-any": (CHATS, completion(message(finish="tool_calls"))),
    "one-of-two": (CHATS, completion(message(), message(index=1, content="x"))),
    "blank": (CHATS, completion(message(content=" "))),
    "nobody-knows": (CHATS, {"json": {"id": "x", "result": ""}}),
    "text-length": (TEXTS, text("", "length")),
    "incomplete": (RESPONSES, response([], "incomplete", incomplete_details={"reason": "max_output_tokens"})),
    "in-progress": (RESPONSES, response([], "in_progress")),
    "queued": (RESPONSES, response([], "queued")),
    "function": (RESPONSES, response([{"type": "function_call", "name": "f", "arguments": ""}])),
    "reasoning-item": (RESPONSES, response([{"type": "reasoning", "summary": []}])),
    "refusal-part": (RESPONSES, response([says({"type": "refusal", "refusal": "no"})])),
    "anthropic": ("/v1/messages", {"json": {"type": "message", "content": [], "stop_reason": "end_turn"}}),
    "embeddings": ("/v1/embeddings", {"json": {"object": "list", "data": []}}),
}
FULL_STREAMS = {
    "length": (CHATS, streamed(ROLE, chunk(choice({}, "length")), DONE)),
    "content-filter": (CHATS, streamed(ROLE, chunk(choice({}, "content_filter")), DONE)),
    "tool-calls": (CHATS, streamed(ROLE, chunk(choice({"tool_calls": [{"index": 0, **TOOL[0]}]})),
                                   chunk(choice({}, "tool_calls")), DONE)),
    "reasoning": (CHATS, streamed(ROLE, chunk(choice({"reasoning_content": "hm"})), STOP, DONE)),
    "one-of-two": (CHATS, streamed(ROLE, STOP, chunk(choice({"content": "x"}, index=1)),
                                   chunk(choice({}, "stop", 1)), DONE)),
    "output": (RESPONSES, completed('[{"type":"message","content":[{"type":"output_text","text":"x"}]}]')),
}
# Requests that may be answered by nothing.
ASKED_FOR = [{"max_tokens": 0}, {"max_completion_tokens": 0}, {"max_output_tokens": 0}, {"stop": ["\n"]},
             {"suffix": "}"}, {"generate": False}]


def good(path):
    return {CHATS: completion(message(content="good")), TEXTS: text("good"),
            RESPONSES: response([says(part("good"))])}.get(path, AUTO)


def whole(path, *answers, headers=(), more=None):
    return Case(list(answers), path=path, more={"stream": False, **(more or {})}, headers=list(headers))


def stream(path, mode, *answers, headers=(), more=None):
    return Case(list(answers), path=path, more={"stream": True, **(more or {})},
                headers=[f"x-retryd-stream-mode: {mode}", *headers])


@pytest.fixture(scope="module")
def seen():
    cases = {}
    for name, (path, empty) in EMPTY.items():
        cases[f"{name}.once"] = whole(path, empty, good(path))
        cases[f"{name}.always"] = whole(path, empty)
        cases[f"{name}.fails"] = whole(path, empty, error(503))
        cases[f"{name}.breaks"] = whole(path, empty, {"cut": {"before_head": True}})
    for name, (path, full) in FULL.items():
        cases[f"{name}.full"] = whole(path, full)
    for mode in MODES:
        for name, (path, empty) in EMPTY_STREAMS.items():
            cases[f"{name}.{mode}.once"] = stream(path, mode, empty, {**AUTO, "text": "good"})
            cases[f"{name}.{mode}.always"] = stream(path, mode, empty)
            cases[f"{name}.{mode}.fails"] = stream(path, mode, empty, error(503))
        for name, (path, full) in FULL_STREAMS.items():
            cases[f"{name}.{mode}.full"] = stream(path, mode, full, more={"n": 2} if name == "one-of-two" else {})
    for i, more in enumerate(ASKED_FOR):
        cases[f"asked-{i}"] = whole(CHATS, EMPTY["content-null"][1], more=more)
        cases[f"asked-{i}.stream"] = stream(CHATS, "live", EMPTY_STREAMS["role-and-stop"][1], more=more)
    cases["one-token"] = whole(CHATS, EMPTY["content-null"][1], more={"max_tokens": 1})
    found = {}
    names = list(cases)
    with pair() as (provider, daemon):
        for at in range(0, len(names), 64):
            found |= run(provider, daemon, {n: cases[n] for n in names[at:at + 64]})
    return found


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_completion_is_asked_for_once_more(seen, name):
    case = seen[f"{name}.once"]
    path = EMPTY[name][0]
    assert (case.answer.status, len(case.attempts)) == (200, 2)
    assert case.answer.json() == good(path)["json"]
    failure, = case.failures
    assert (failure["reason"], failure["possible_duplicate"]) == ("empty_answer", "yes")
    assert case.request["possible_duplicates"] == "1" and case.request["end"] == "answered"


@pytest.mark.parametrize("name", EMPTY)
def test_what_comes_then_is_delivered_as_it_is(seen, name):
    case = seen[f"{name}.always"]
    assert (case.answer.status, len(case.attempts)) == (200, 2)
    assert case.request["end"] == "answered"
    if "gzip" not in name:
        assert case.answer.json() == EMPTY[name][1]["json"]


@pytest.mark.parametrize("how", ["fails", "breaks"])
@pytest.mark.parametrize("name", EMPTY)
def test_a_repeat_that_fails_makes_nothing_worse(seen, name, how):
    """The client has what it would have had without it."""
    case, direct = seen[f"{name}.{how}"], seen[f"{name}.always"]
    assert (case.answer.status, len(case.attempts)) == (200, 2)
    assert case.answer.body == direct.answer.body
    assert case.answer.all("content-encoding") == direct.answer.all("content-encoding")
    assert case.request["end"] == "answered"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EMPTY_STREAMS)
def test_an_empty_stream_is_asked_for_once_more(seen, name, mode):
    once, always, fails = (seen[f"{name}.{mode}.{how}"] for how in ("once", "always", "fails"))
    assert (once.answer.status, len(once.attempts)) == (200, 2)
    assert b'"good"' in once.answer.body
    assert once.failures[0]["reason"] == "empty_answer"
    for case in (always, fails):
        assert (case.answer.status, len(case.attempts), case.request["end"]) == (200, 2, "answered")
        assert case.answer.all("content-encoding") == []
    first = EMPTY_STREAMS[name][1]["sse"]
    assert always.answer.body == fails.answer.body == "".join(first).encode()


@pytest.mark.parametrize("name", FULL)
def test_what_is_not_empty_is_asked_for_once(seen, name):
    assert (seen[f"{name}.full"].answer.status, len(seen[f"{name}.full"].attempts)) == (200, 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FULL_STREAMS)
def test_a_stream_that_is_not_empty_is_asked_for_once(seen, name, mode):
    case = seen[f"{name}.{mode}.full"]
    assert (case.answer.status, len(case.attempts)) == (200, 1)


@pytest.mark.parametrize("i", range(len(ASKED_FOR)), ids=lambda i: "-".join(ASKED_FOR[i]))
def test_nothing_may_be_what_was_asked_for(seen, i):
    assert len(seen[f"asked-{i}"].attempts) == len(seen[f"asked-{i}.stream"].attempts) == 1
    assert len(seen["one-token"].attempts) == 2


def test_what_forbids_the_repeat():
    empty = EMPTY["content-null"][1]
    cases = {"no-retry": whole(CHATS, empty, headers=["x-retryd-no-retry: yes"]),
             "one-attempt": whole(CHATS, empty, headers=["x-retryd-max-attempts: 1"]),
             "not-listed": whole(CHATS, empty), "ambiguous": whole(CHATS, empty), "listed": whole(CHATS, empty)}
    cases |= {f"{n}-stream": stream(CHATS, "live", EMPTY_STREAMS["role-and-stop"][1], headers=c.headers)
              for n, c in cases.items()}
    config = """
[route not-listed]
model = not-listed*
retry.retry_on = connect, reset, timeout, 5xx
[route listed]
model = listed*
retry.retry_on = empty
[route ambiguous]
model = ambiguous*
retry.retry_ambiguous = no
"""
    with pair(config=config) as (provider, daemon):
        seen = run(provider, daemon, cases)
        assert total(daemon, "retryd_retries_total", reason="empty_answer") == 2
    assert {n: len(c.attempts) for n, c in seen.items()} == {n: 2 if n.startswith("listed") else 1 for n in cases}
    assert {c.answer.status for c in seen.values()} == {200}


def test_an_empty_completion_is_no_mark_for_the_breaker():
    with pair(breaker={"failures": 2, "failure_rate": "0%"}) as (provider, daemon):
        provider.answers(EMPTY["no-choices"][1])
        for _ in range(4):
            assert ask(daemon, CHAT).status == 200
        assert len(provider.record()) == 8
        assert "breaker open" not in daemon.log


def test_the_repeat_of_an_empty_stream_behind_heartbeats():
    """The head has gone out already: what was empty is passed on behind it, where the repeat fails."""
    empty = {**EMPTY_STREAMS["role-and-stop"][1], "delay_ms": 400}
    cases = {"fails": stream(CHATS, "live", empty, {**error(503), "delay_ms": 300}),
             "helps": stream(CHATS, "live", empty, AUTO)}
    with pair(stream={"heartbeat": "100ms"}) as (provider, daemon):
        seen = run(provider, daemon, cases)
    body = seen["fails"].answer.body.decode()
    assert seen["fails"].request["end"] == "answered" and ": retryd\n" in body
    assert body.replace(": retryd\n", "") == ROLE + STOP + DONE
    assert text_of(seen["helps"].answer.body.replace(b": retryd\n", b""))


@pytest.mark.parametrize("kind", ["whole", "stream", "heartbeat"])
def test_an_empty_completion_is_delivered_at_the_end_of_retryd(kind):
    """It is a response, and paid for; its repeat would be cut."""
    empty = EMPTY["content-null"][1] if kind == "whole" else EMPTY_STREAMS["role-and-stop"][1]
    heartbeat = {"stream": {"heartbeat": "50ms"}} if kind == "heartbeat" else {}
    with pair(server={"drain_timeout": "0"}, **heartbeat) as (provider, daemon):
        provider.answers({**empty, "delay_ms": 200}, {"stall": {"before_head": True}})
        with Raw(daemon) as c:
            c.request(body={**CHAT, "stream": kind != "whole"})
            provider.wait(requests=2)
            daemon.signal(signal.SIGTERM)
            answer = c.answer()
        assert daemon.wait(timeout=20) == 0
        assert [(r["end"], r["attempts"]) for r in daemon.requests()] == [("answered", "2")]
    body = answer.body.decode().replace(": retryd\n", "")
    assert answer.status == 200
    assert json.loads(body) == empty["json"] if kind == "whole" else body == ROLE + STOP + DONE


def test_an_empty_response_is_kept_by_no_other_request():
    with pair() as (provider, daemon):
        provider.answers(*[EMPTY["content-null"][1], completion(message(content="a"))] * 3, then="cycle")
        for _ in range(3):
            assert ask(daemon, CHAT).json()["choices"][0]["message"]["content"] == "a"
        assert len(provider.record()) == 6


def test_events_of_streams_are_not_held_for_it():
    """A stream that says something goes out as ever."""
    with pair() as (provider, daemon):
        provider.answers({"sse": chat_events("x", "y")})
        assert text_of(ask(daemon, {**CHAT, "stream": True}).body) == "xy"
        assert len(provider.record()) == 1
