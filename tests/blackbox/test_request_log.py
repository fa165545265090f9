"""C27: the log has a line for each request and for each failed attempt, and never a key or a body."""

import json
import re
import signal

import pytest
from cases import AUTO, error, pair
from daemon import parse_logfmt
from raw import CHAT, STREAM, Raw, ask
from streams import PATHS, PAUSE_MS, data, request_of

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def lines_of(daemon, kind):
    """All lines as fields; in JSON each one must be an object without a name given twice."""
    if kind == "logfmt":
        return [parse_logfmt(line) for line in daemon.lines]

    def once(pairs):
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)
    return [json.loads(line, object_pairs_hook=once) for line in daemon.lines]


def number(value, kind):
    """Numbers are numbers in JSON."""
    assert kind == "logfmt" or isinstance(value, int), value
    return int(value)


@pytest.fixture(scope="module", params=["logfmt", "json"])
def machine(request):
    with pair(log={"format": request.param}, retry={"initial_delay": "20ms", "jitter": "none"}) as both:
        yield *both, request.param


def told(machine, answers, *args, **how):
    """(the attempts' lines, the request's line, what the client got) of one request."""
    provider, daemon, kind = machine
    provider.answers(*answers)
    start = len(daemon.lines)
    answer = ask(daemon, *args, **how)
    daemon.wait_line(r'"?msg"?[=:]"request"', start=start)
    lines = lines_of(daemon, kind)[start:]
    attempts = [fields for fields in lines if fields["msg"].startswith("attempt ")]
    line, = [fields for fields in lines if fields["msg"] == "request"]
    others = [fields["msg"] for fields in lines if fields not in attempts and fields is not line]
    assert set(others) <= {"gate closed", "gate open"}  # of targets, not of this request
    return attempts, line, answer


def test_a_good_request(machine):
    kind = machine[2]
    attempts, line, answer = told(machine, [AUTO], headers=["x-request-id: mine"])
    assert attempts == []
    assert (line["msg"], line["level"], line["end"], line["method"]) == ("request", "info", "answered", "POST")
    assert (line["model"], line["target"], line["path"]) == ("gpt-4o", "test", "/v1/chat/completions")
    assert TIME.fullmatch(line["ts"]) and ID.fullmatch(line["id"])
    assert number(line["status"], kind) == 200 and number(line["attempts"], kind) == 1
    assert number(line["wait_ms"], kind) == 0
    assert 0 <= number(line["first_byte_ms"], kind) <= number(line["duration_ms"], kind) < 10000
    assert number(line["bytes"], kind) == len(answer.body)
    assert not {"reason", "sdk_retry", "possible_duplicates"} & set(line)


def test_a_rescued_request(machine):
    """Each failed attempt says in words and in fields what happened and what comes of it."""
    kind = machine[2]
    hinting = {**error(429, code="rate_limit_exceeded"), "headers": {"retry-after-ms": "60"}}
    (first, second), line, _ = told(machine, [error(503, code="slow_down", delay_ms=5), hinting, AUTO])
    assert first["msg"] == "attempt 1 of 5 failed: 503 overloaded; next in 0.0 s"
    assert second["msg"] == "attempt 2 of 5 failed: 429 rate_limited; next in 0.1 s"
    assert [number(a["attempt"], kind) for a in (first, second)] == [1, 2]
    assert [number(a["status"], kind) for a in (first, second)] == [503, 429]
    assert [a["reason"] for a in (first, second)] == ["overloaded", "rate_limited"]
    assert [a["code"] for a in (first, second)] == ["slow_down", "rate_limit_exceeded"]
    assert number(first["wait_ms"], kind) == 20
    assert 60 <= number(second["wait_ms"], kind) <= 60 * 1.1 + 20
    assert number(first["duration_ms"], kind) >= 4
    assert "hint" not in first
    assert (second["hint"], number(second["hint_ms"], kind)) == ("retry_after_ms", 60)
    assert {a["id"] for a in (first, second)} == {line["id"]}
    assert {a["model"] for a in (first, second, line)} == {"gpt-4o"}
    assert {a["target"] for a in (first, second, line)} == {"test"}
    assert (line["end"], number(line["attempts"], kind)) == ("answered", 3)
    assert number(line["wait_ms"], kind) >= 80
    assert "reason" not in line


@pytest.mark.parametrize("source, headers, message", [
    ("retry_after_ms", {"retry-after-ms": "30"}, "m"), ("retry_after", {"retry-after": "0.03"}, "m"),
    ("message", {}, "try again in 30ms"),
    ("bucket", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "30ms"}, "m")])
def test_where_a_hint_came_from(machine, source, headers, message):
    (failed,), _, _ = told(machine, [{**error(429, message=message), "headers": headers}, AUTO])
    assert (failed["hint"], number(failed["hint_ms"], machine[2])) == (source, 30)


def test_a_failed_request(machine):
    attempts, line, _ = told(machine, [error(500)], headers=["x-retryd-max-attempts: 2"])
    assert [a["msg"] for a in attempts] == ["attempt 1 of 2 failed: 500 server_error; next in 0.0 s",
                                            "attempt 2 of 2 failed: 500 server_error; final"]
    assert attempts[1]["cannot_retry"] == "all attempts are used up"
    assert (line["end"], line["reason"], number(line["status"], machine[2])) == ("failed", "server_error", 500)


def test_a_failed_transport(machine):
    (failed,), line, _ = told(machine, [{"cut": {"before_head": True}}], headers=["x-retryd-no-retry: 1"])
    assert failed["msg"] == "attempt 1 of 5 failed: connection_lost; final"
    assert "status" not in failed and failed["detail"]
    assert failed["cannot_retry"] == "the caller asked for a single attempt"
    assert (line["reason"], number(line["status"], machine[2])) == ("connection_lost", 502)


def test_a_refused_request(machine):
    attempts, line, _ = told(machine, [AUTO], headers=["x-retryd-deadline: no"])
    assert attempts == []
    assert (line["end"], number(line["status"], machine[2]), number(line["attempts"], machine[2])) == \
        ("refused", 400, 0)
    assert "target" not in line


def test_a_broken_stream(machine):
    cut = {"preset": "chat_stream", "events": 3, "cut": {"after_events": 2, "delay_ms": 200}}
    _, line, _ = told(machine, [cut], STREAM)
    assert (line["end"], line["reason"], number(line["status"], machine[2])) == \
        ("broken", "answer_truncated", 200)


def test_a_client_that_left(machine):
    provider, daemon, kind = machine
    provider.answers({"stall": {"before_head": True}})
    provider.clear()
    start = len(daemon.lines)
    with Raw(daemon) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
    daemon.wait_line("client_gone", start=start)
    line = lines_of(daemon, kind)[-1]
    assert (line["msg"], line["end"], line["reason"]) == ("request", "client_gone", "client_gone")
    assert "status" not in line


def test_a_refusal_at_the_door(machine):
    provider, daemon, kind = machine
    start = len(daemon.lines)
    ask(daemon, headers=["Origin: https://evil.example"])
    daemon.wait_line("request refused", start=start)
    line = lines_of(daemon, kind)[-1]
    assert number(line["status"], kind) == 403 and "allowed_origins" in line["why"]


MODELS = ['say "hi"', "a\nb\tc", "back\\slash", "caf\u00e9 \U0001f600", "a=b c", "", "x" * 127,
          "\u2028 \x7f \x01", "=", "'"]


@pytest.mark.parametrize("model", MODELS, ids=range(len(MODELS)))
def test_lines_hold_whatever_is_in_them(machine, model):
    """A client's words cannot make two lines of one, nor a field of a value."""
    _, line, _ = told(machine, [AUTO], {**CHAT, "model": model})
    assert line.get("model", "") == re.sub(r"[\x00-\x1f\x7f]", " ", model)
    assert line["target"] == "test"


def test_paths_are_told_without_their_query(machine):
    provider, daemon, _ = machine
    _, line, _ = told(machine, [{"status": 200, "body": ""}], None, method="GET",
                      path="/v1/files/a%20b?secret=canary")
    assert line["path"] == "/v1/files/a%20b"


# --- which requests get a line ---------------------------------------------------------------------

KINDS = {"good": ([AUTO], 200), "retried": ([error(503), AUTO], 200), "failed": ([error(404)], 404),
         "refused": ([AUTO], 400)}


@pytest.mark.parametrize("access, wanted", [
    ("all", ["good", "retried", "failed", "refused"]), ("retried", ["retried", "failed", "refused"]),
    ("failed", ["failed", "refused"]), ("off", [])])
def test_access(access, wanted):
    with pair(log={"access": access}) as (provider, daemon):
        for kind, (answers, status) in KINDS.items():
            provider.answers(*answers)
            headers = ["x-retryd-deadline: x"] if kind == "refused" else []
            assert ask(daemon, {**CHAT, "model": kind}, headers=headers).status == status
        assert ask(daemon, headers=["Origin: https://evil.example"]).status == 403
        daemon.stop()
        assert [line["model"] for line in daemon.requests()] == wanted
        assert daemon.log.count("attempt 1 of 5 failed") == 2  # attempts are told all the same
        assert daemon.log.count("request refused") == (access != "off")


@pytest.mark.parametrize("level", ["warn", "error"])
def test_level(level):
    """Set by a reload, since a daemon that is quiet from the start cannot say where it listens."""
    with pair() as (provider, daemon):
        provider.answers(error(503), AUTO, then="cycle")
        daemon.write_config(daemon.make_config(
            provider.base_url, None, "", {"log": {"level": level}, "retry": {"initial_delay": "5ms"},
                                          "server": {"allowed_hosts": "new.example"}}))
        daemon.signal(signal.SIGHUP)
        for _ in range(2000):
            with Raw(daemon) as c:
                c.request(body=CHAT, host="new.example")
                if c.answer().status == 200:
                    break
        daemon.stop()
        assert daemon.log.count('msg="request refused"') < 2000
        assert "attempt 1" not in daemon.log and 'msg="request"' not in daemon.log


# --- canaries --------------------------------------------------------------------------------------

SECRETS = ["Authorization: Bearer sk-CANARY-1", "x-api-key: CANARY-2", "api-key: CANARY-3",
           "Cookie: session=CANARY-4", "Proxy-Authorization: Basic CANARY-5", "X-Custom: CANARY-6"]
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "CANARY-7 " * 20}], "user": "CANARY-8"}
LEAKY = {"message": "Incorrect API key provided: sk-CANARY-9. CANARY-10", "param": "CANARY-11"}


@pytest.mark.parametrize("kind", ["logfmt", "json"])
def test_no_key_and_no_body(kind):
    """At the most talkative level, in every way that a request can end. A Host or an Origin that is refused is
    named, so that a person can let it in."""
    answers = [
        [AUTO], [error(401, **{"message": LEAKY["message"]})], [error(503, message="CANARY-12"), AUTO],
        [{"status": 500, "json": {"error": LEAKY}, "headers": {"x-secret": "CANARY-13"}}],
        [{"status": 200, "json": {"error": LEAKY}}], [{"status": 500, "body": "CANARY-14" * 100}],
        [{"cut": {"before_head": True}}], [{"preset": "auto", "text": "CANARY-15", "cut": {"after_bytes": 90}}],
        [{"wire": [{"send": "CANARY-16 is no HTTP\r\n\r\n"}, {"fin": True}]}],
        [{"wire": [{"send": "HTTP/1.1 200 CANARY-17\r\nCANARY-18\r\n\r\n"}, {"fin": True}]}],
        [{"wire": [{"send": "HTTP/1.1 200 OK\r\ncontent-length: CANARY-19\r\n\r\n"}, {"fin": True}]}],
        [{"wire": [{"send": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nCANARY-20\r\n"}, {"fin": True}]}],
        [{"sse": [{"error": {"message": "CANARY-21"}}]}], [{"preset": "chat_stream", "text": "CANARY-22"}],
        [{**AUTO, "after": {"send": "CANARY-23 after the answer"}}], [AUTO],
    ]
    with pair(log={"level": "debug", "format": kind}, retry={"initial_delay": "1ms", "max_attempts": "2"},
              timeout={"first_byte": "2s"}) as (provider, daemon):
        for script in answers:
            provider.answers(*script)
            for body in (BODY, {**BODY, "stream": True}):
                ask(daemon, body, path="/v1/chat/completions?key=CANARY-24", headers=SECRETS)
        for odd in (b"POST /v1/x?CANARY-25 HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\nabc",
                    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization CANARY-27\r\n\r\n",
                    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: CANARY-28\r\n\r\n",
                    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nCANARY-29\r\n",
                    b"CANARY-30 /v1/x?CANARY-31 CANARY-32\r\n\r\n",
                    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nx-retryd-deadline: CANARY-33\r\n\r\n",
                    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n"):
            with Raw(daemon) as c:
                c.send(odd)
                c.half_close()
                c.is_closed()
        metrics = daemon.admin("/metrics")[1]
        daemon.stop()
        assert lines_of(daemon, kind)
        assert len([line for line in daemon.lines if "attempt" in line]) > 20  # it did talk
        assert "CANARY" not in daemon.log.upper()
        assert "CANARY" not in metrics.upper()


# A client that closes as soon as it has read the last event was answered, or was told of the failure.
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def typed(kind, **more):
    return f"event: {kind}\n" + data({"type": kind, **more})


def chunk(delta, finish=None):
    return data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
DELTA = typed("response.output_text.delta", sequence_number=1, item_id="i", output_index=0, content_index=0,
              delta="hi")
STREAMS = {  # name: (api, the events, what the client reads last, how it ended)
    "responses": ("responses", DELTA + typed("response.completed", sequence_number=2, response=RESPONSE),
                  b"response.completed", "answered"),
    "responses-incomplete": ("responses", DELTA + typed("response.incomplete", sequence_number=2,
                                                        response={**RESPONSE, "status": "incomplete"}),
                             b"response.incomplete", "answered"),
    "chat": ("chat", chunk({"content": "hi"}) + chunk({}, "stop") + "data: [DONE]\n\n", b"[DONE]", "answered"),
    "chat-finish-reason": ("chat", chunk({"content": "hi"}) + chunk({}, "stop"), b'"stop"', "answered"),
    "responses-error": ("responses", DELTA + typed("error", sequence_number=2, code="x", message="m", param=None),
                        b"event: error", "broken"),
    "chat-amid": ("chat", chunk({"content": "hi"}), b'"hi"', "client_gone"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_closing_behind_the_last_event_is_no_departure(name):
    api, events, last, end = STREAMS[name]
    first, _, rest = events.partition("\n\n")
    with pair() as (provider, daemon):
        provider.rules({"match": {}, "then": "repeat", "answers": [
            {"wire": [{"send": HEAD + first + "\n\n"}, {"delay_ms": PAUSE_MS}, {"send": rest}, {"delay_ms": 60000}]}]})
        with Raw(daemon) as c:
            c.request("POST", PATHS[api], json.dumps(request_of(api, "gpt-4o")).encode())
            c.until(last)
            c.until(b"\n\n")
        line = daemon.wait_log('msg="request"')
        assert line["end"] == end
        assert daemon.metric("retryd_client_connections") <= 1
