"""C3: which failures are worth another attempt, and which are not. Each cause occurs on the wire."""

import contextlib
import json
import socket

import pytest
from cases import AUTO, Case, error, pair, run
from raw import CHAT, Raw, ask, events_of, text_of

STREAM = {"stream": True}


@contextlib.contextmanager
def closed_port():
    """A port where connections are refused, for as long as the block lasts."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


def head(text):
    return {"wire": [{"send": text}, {"fin": True}]}


STATUSES = {
    408: "request_timeout", 409: "conflict", 425: "too_early", 429: "rate_limited",
    500: "server_error", 502: "bad_gateway", 503: "overloaded", 504: "gateway_timeout",
    520: "server_error", 521: "server_error", 522: "server_error", 523: "server_error",
    524: "gateway_timeout", 525: "server_error", 526: "server_error", 527: "server_error",
    529: "overloaded", 507: "server_error", 599: "server_error",
}

# name: (the first response, the reason in the log, the status in the log or None, request fields)
RETRIED = {
    **{f"status-{s}": (error(s), reason, s, {}) for s, reason in STATUSES.items()},
    **{f"bare-{s}": ({"status": s, "body": "<html>oops</html>"}, reason, s, {})
       for s, reason in ((429, "rate_limited"), (500, "server_error"), (502, "bad_gateway"))},
    "reset-before-the-answer": ({"cut": {"before_head": True}}, "connection_lost", None, {}),
    "closed-before-the-answer": ({"cut": {"before_head": True, "how": "fin"}}, "connection_lost",
                                 None, {}),
    "reset-amid-the-head": ({"wire": [{"send": "HTTP/1.1 200 OK\r\ncontent-le"}, {"reset": True}]},
                            "connection_lost", None, {}),
    "reset-after-the-head": ({"preset": "auto", "cut": {"after_head": True}}, "answer_truncated", 200, {}),
    "reset-amid-the-body": ({"preset": "auto", "cut": {"after_bytes": 20}}, "answer_truncated", 200, {}),
    "short-of-its-length": ({"preset": "auto", "framing": "length",
                             "cut": {"after_bytes": 20, "how": "fin"}}, "answer_truncated", 200, {}),
    "chunk-unfinished": ({"preset": "auto", "framing": "chunked",
                          "cut": {"after_bytes": 20, "how": "fin"}}, "answer_truncated", 200, {}),
    "last-chunk-missing": (head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                                "2\r\n{}\r\n"), "answer_truncated", 200, {}),
    "chunk-size-is-no-number": (head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                                     "zz\r\n{}\r\n0\r\n\r\n"), "answer_truncated", 200, {}),
    "not-http": (head("SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), "answer_unreadable", None, {}),
    "not-http-at-all": ({"wire": [{"send_b64": "AAECAwQFBgcICQ=="}, {"fin": True}]},
                        "answer_unreadable", None, {}),
    "error-object-in-a-200": ({"status": 200, "json": {"error": {"message": "m", "code": None}}},
                              "error_in_body", 200, {}),
    "error-500-in-a-200": ({"status": 200, "json": {"error": {"message": "m", "code": 500}}},
                           "server_error", 200, {}),
    "error-429-in-a-200": ({"status": 200, "json": {"error": {"message": "m", "code": 429}}},
                           "rate_limited", 200, {}),
    "gzipped-error-in-a-200": ({"status": 200, "json": {"error": {"message": "m"}}, "gzip": True},
                               "error_in_body", 200, {}),
    "stream-starts-with-an-error": ({"sse": [{"error": {"message": "m", "code": "x"}}]},
                                    "error_in_stream", 200, STREAM),
    "stream-starts-with-error-event": (
        {"sse": ['event: error\ndata: {"type":"error","code":"x","message":"m"}\n\n']},
        "error_in_stream", 200, STREAM),
    "stream-error-after-comments": ({"sse": [": one\n\n", ":\n\n", {"error": {"message": "m"}}]},
                                    "error_in_stream", 200, STREAM),
    "stream-with-llama-error": ({"sse": ['error: {"code":500,"message":"m"}\n\n']},
                                "server_error", 200, STREAM),
    "stream-with-llama-error-at-last": ({"sse": [": ping\n\n", 'error: {"message":"m"}\n\n']},
                                        "error_in_stream", 200, STREAM),
    "stream-with-unnamed-error": ({"sse": ['event: error\ndata: {"detail":"m"}\n\n']},
                                  "error_in_stream", 200, STREAM),
    "stream-with-openrouter-error": (
        {"sse": [{"id": "gen-1", "object": "chat.completion.chunk", "choices": [],
                  "error": {"code": 502, "message": "m"}}]}, "bad_gateway", 200, STREAM),
    "stream-with-spaces": ({"sse": ['data: { "error" : { "message" : "m" } }\n\n']},
                           "error_in_stream", 200, STREAM),
    "stream-with-vllm-overload": ({"sse": [{"error": {"message": "m", "code": 503}}]},
                                  "overloaded", 200, STREAM),
    "stream-breaks-before-an-event": ({"preset": "chat_stream", "cut": {"after_head": True}},
                                      "answer_truncated", 200, STREAM),
    "stream-breaks-amid-an-event": ({"preset": "chat_stream", "cut": {"after_bytes": 10}},
                                    "answer_truncated", 200, STREAM),
    "stream-ends-before-an-event": ({"sse": []}, "empty_stream", 200, STREAM),
    "stream-ends-after-a-comment": ({"sse": [": hello\n\n"]}, "empty_stream", 200, STREAM),
}

FINAL = [400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 415, 418, 422, 451, 501, 505]


@pytest.fixture(scope="module")
def seen():
    cases = {name: Case([first, AUTO], more=more) for name, (first, _, _, more) in RETRIED.items()}
    cases |= {f"final-{s}": Case([error(s), AUTO]) for s in FINAL}
    cases |= {f"final-bare-{s}": Case([{"status": s, "body": "no"}, AUTO]) for s in FINAL}
    with pair() as (provider, daemon):
        yield run(provider, daemon, cases)


@pytest.mark.parametrize("name", RETRIED)
def test_is_retried(seen, name):
    case = seen[name]
    _, reason, status, more = RETRIED[name]
    assert case.answer.status == 200, case.lines
    assert [a["answer"] for a in case.attempts] == [0, 1]
    assert case.fact("x-retryd-attempts") == "2"
    failure, = case.failures
    assert (failure["reason"], failure.get("status")) == (reason, str(status) if status else None)
    if more:
        assert text_of(case.answer.body) and case.answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert case.answer.json()["choices"]


@pytest.mark.parametrize("kind", ["final", "final-bare"])
@pytest.mark.parametrize("status", FINAL)
def test_is_final(seen, status, kind):
    case = seen[f"{kind}-{status}"]
    assert case.answer.status == status
    assert len(case.attempts) == 1
    assert case.failures[0]["cannot_retry"] == "the same request would fail again"


def test_good_responses_are_not_repeated():
    """What only looks like a failure: an error told of something else, redirects, empty responses."""
    answers = {
        "null-error": {"status": 200, "json": {"id": "x", "error": None}},
        "empty-error": {"status": 200, "json": {"id": "x", "error": {}}},
        "a-failed-job": {"status": 200, "json": {"object": "fine_tuning.job", "error": {"code": "x"}}},
        "redirect": {"status": 302, "headers": {"location": "/elsewhere"}, "body": ""},
        "nothing": {"status": 204},
    }
    elsewhere = {  # where anything may be the response
        "text-about-errors": {"status": 200, "body": '{"error":{"code":"x"}}',
                              "headers": {"content-type": "text/plain"}},
        "empty": {"status": 200, "body": ""},
    }
    cases = {n: Case([a, error(500)]) for n, a in answers.items()}
    cases |= {n: Case([a, error(500)], path="/v1/audio/speech") for n, a in elsewhere.items()}
    answers |= elsewhere
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    for name, case in seen.items():
        assert len(case.attempts) == 1, name
        assert case.answer.status == answers[name]["status"], name


# --- what cannot be a response ----------------------------------------------------------------------

HTML = {"content-type": "text/html; charset=utf-8"}
WORDS = {"content-type": "text/plain"}
USELESS = {  # (the response, what the message calls it)
    "html": ({"headers": HTML, "body": "<!doctype html><title>Just a moment...</title>"}, "an HTML page"),
    "html-gzipped": ({"headers": HTML, "body": "<html>" + "x" * 900, "gzip": True}, "an HTML page"),
    "html-as-json": ({"headers": {"content-type": "application/json"}, "body": "\n<html>"}, "an HTML page"),
    "html-without-a-type": ({"headers": {"content-type": None}, "body": "<html>"}, "an HTML page"),
    "words": ({"headers": WORDS, "body": "upstream connect error"}, "plain text"),
    "a-word": ({"headers": WORDS, "body": "ok"}, "plain text"),
    "nothing": ({"headers": WORDS, "body": ""}, "an empty body"),
    "nothing-as-json": ({"headers": {"content-type": "application/json"}, "body": ""}, "an empty body"),
    "nothing-without-a-type": ({"headers": {"content-type": None}, "body": ""}, "an empty body"),
    "blanks": ({"headers": {"content-type": None}, "body": " \r\n" * 20}, "an empty body"),
    "html-accepted": ({"status": 202, "headers": HTML, "body": "<html>"}, "an HTML page"),
}
GENERATES = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings",
             "/v1/moderations", "/v1/deployments/d/chat/completions?api-version=2024-10-21"]


@pytest.fixture(scope="module")
def useless():
    cases = {}
    for i, (name, (first, _)) in enumerate(USELESS.items()):
        for n, path in enumerate(GENERATES):
            cases[f"{name}.{n}"] = Case([first, {"json": {"path": path}}], path=path)
        cases[f"{name}.stream"] = Case([first, AUTO], more=STREAM)
        cases[f"{name}.never"] = Case([first], path=GENERATES[i % len(GENERATES)])
    with pair() as (provider, daemon):
        yield run(provider, daemon, cases)


@pytest.mark.parametrize("name", USELESS)
def test_what_cannot_be_a_response_is_asked_for_again(useless, name):
    for n, path in enumerate(GENERATES):
        case = useless[f"{name}.{n}"]
        assert (case.answer.status, case.answer.json()) == (200, {"path": path}), path
        assert len(case.attempts) == 2, path
        failure, = case.failures
        assert failure["reason"] in ("answer_malformed", "empty_answer") and failure["possible_duplicate"] == "yes"
        assert USELESS[name][1] in failure["detail"]
    assert len(useless[f"{name}.stream"].attempts) == 2
    assert text_of(useless[f"{name}.stream"].answer.body)


@pytest.mark.parametrize("name", USELESS)
def test_what_cannot_be_a_response_is_told_as_what_it_is(useless, name):
    case = useless[f"{name}.never"]
    assert case.answer.status == 502 and len(case.attempts) == 5
    message = case.answer.error["message"]
    assert message.startswith("retryd:") and USELESS[name][1] in message


SUCCESSES = {  # operations that end with JSON's label and nothing behind it
    "delete-container": ("DELETE", "/v1/containers/c", {"status": 200}),
    "delete-response": ("DELETE", "/v1/responses/r", {"status": 200}),
    "delete-completion": ("DELETE", "/v1/chat/completions/c", {"status": 200}),
    "hang-up": ("POST", "/v1/realtime/calls/c/hangup", {"status": 200}),
    "mcp": ("POST", "/mcp", {"status": 202}),
    "accepted": ("POST", "/v1/responses", {"status": 202}),
    "no-content": ("POST", "/v1/embeddings", {"status": 204}),
    "reset-content": ("POST", "/v1/chat/completions", {"status": 205}),
    "get": ("GET", "/v1/responses/r", {"status": 200}),
}


def test_an_empty_success_is_one():
    empty = {"headers": {"content-type": "application/json"}, "body": ""}
    cases = {n: Case([{**empty, **how}, error(500)], method=method, path=path)
             for n, (method, path, how) in SUCCESSES.items()}
    with pair(config="[route all]\nbase = /\n") as (provider, daemon):
        seen = run(provider, daemon, cases)
    for name, case in seen.items():
        assert case.answer.status == SUCCESSES[name][2]["status"], (name, case.answer.body)
        assert (len(case.attempts), case.answer.body) == (1, b""), name


# --- errors within what looks good ------------------------------------------------------------------

def choice(**more):
    return {"id": "gen-1", "object": "chat.completion", "choices": [{"index": 0, **more}]}


BAD = {"code": 502, "message": "boom"}
WITHIN = {  # (path, the response, the reason, the status at the end)
    "in-a-choice": ("/v1/chat/completions", {"json": choice(finish_reason="error", error=BAD)}, "bad_gateway", 502),
    "in-a-choice-alone": ("/v1/chat/completions", {"json": choice(error=BAD)}, "bad_gateway", 502),
    "in-a-choice-as-text": ("/v1/chat/completions", {"json": choice(finish_reason="stop", error="it died",
                                                                    message={"content": "ha"})}, "error_in_body", 502),
    "finish-reason": ("/v1/chat/completions", {"json": choice(finish_reason="error", message={"content": "ha"})},
                      "error_in_body", 502),
    "gzipped": ("/v1/chat/completions", {"json": choice(finish_reason="error", error=BAD), "gzip": True},
                "bad_gateway", 502),
    "as-text": ("/v1/chat/completions", {"body": json.dumps({"error": {"code": 503, "message": "boom"}}),
                                         "headers": WORDS}, "overloaded", 503),
    "a-list": ("/v1/chat/completions", {"json": [{"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}]},
               "overloaded", 503),
    "several": ("/v1/chat/completions", {"json": {"error": [{"code": 503, "message": "boom"}, {"code": 400}]}},
                "overloaded", 503),
    "several-texts": ("/v1/chat/completions", {"json": {**choice(message={"content": "ha"}), "error": ["it died"]}},
                      "error_in_body", 502),
    "msg-alone": ("/v1/chat/completions", {"json": {"code": 1, "msg": "busy"}}, "error_in_body", 502),
    "message-alone": ("/v1/messages", {"json": {"message": "busy"}}, "error_in_body", 502),
    "detail-alone": ("/v1/chat/completions", {"json": {"detail": "Internal Server Error"}}, "error_in_body", 502),
    "error-true": ("/v1/responses", {"json": {"error": True, "message": "busy"}}, "error_in_body", 502),
    "base-resp": ("/v1/chat/completions", {"json": {"choices": None, "base_resp": {
        "status_code": 1002, "status_msg": "limit"}}}, "rate_limited", 429),
    "failed-response": ("/v1/responses", {"json": {"object": "response", "status": "failed", "output": [],
                                                   "error": {"code": "server_error", "message": "boom"}}},
                        "error_in_body", 502),
    "failed-response-limited": ("/v1/responses", {"json": {"object": "response", "status": "failed",
                                                           "error": {"code": "rate_limit_exceeded", "message": "b"}}},
                                "rate_limited", 502),
}


@pytest.mark.parametrize("name", WITHIN)
def test_an_error_within_a_good_response(within, name):
    _, _, reason, status = WITHIN[name]
    rescued, told = within[f"{name}.once"], within[f"{name}.always"]
    assert (rescued.answer.status, len(rescued.attempts)) == (200, 2)
    assert rescued.failures[0]["reason"] == reason
    assert (told.answer.status, len(told.attempts)) == (status, 5)


@pytest.fixture(scope="module")
def within():
    cases = {}
    for name, (path, first, _, _) in WITHIN.items():
        cases[f"{name}.once"] = Case([first, {"json": {"ok": True}}], path=path)
        cases[f"{name}.always"] = Case([first], path=path)
    with pair() as (provider, daemon):
        yield run(provider, daemon, cases)


def test_words_beside_a_response_or_in_its_place_elsewhere_are_no_error():
    """Responses of other endpoints, what is only taken on, and what stands beside choices."""
    fine = {"id": "c", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    answers = {"taken-on": ("/v1/chat/completions", {"request_id": "r"}),
               "no-error": ("/v1/chat/completions", {"choices": [{**fine["choices"][0], "error": ""}]}),
               "beside": ("/v1/chat/completions", {**fine, "message": "ok", "base_resp": {"status_code": 0}}),
               "elsewhere": ("/v1/files", {"message": "uploaded"}),
               "rerank": ("/v1/rerank", {"detail": "nothing found"})}
    cases = {n: Case([{"json": said}, error(500)], path=path) for n, (path, said) in answers.items()}
    cases["accepted"] = Case([{"status": 202, "json": {"message": "queued"}}, error(500)])
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    assert {n: (c.answer.status, len(c.attempts)) for n, c in seen.items()} == {
        **dict.fromkeys(answers, (200, 1)), "accepted": (202, 1)}


def test_an_empty_account_beside_a_response_is_final():
    """C4."""
    said = {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, {"empty": Case([{"json": said}])})["empty"]
    assert (seen.answer.status, len(seen.attempts), seen.answer.json()) == (402, 1, said)
    assert seen.failures[0]["reason"] == "quota_exhausted"


def test_an_error_beside_no_choices_in_a_stream():
    """MiniMax's, in an event that has nothing else; an error object that is an array of them, too."""
    def event(said):
        return {"sse": [f"data: {json.dumps(said)}\n\n"]}

    limited = {"id": "x", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "limit"}}
    empty = {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
    several = {"error": [{"code": 503, "message": "boom"}]}
    good = {"preset": "chat_stream", "events": 2}
    more = {"stream": True}
    cases = {"limited": Case([event(limited), good], more=more), "empty": Case([event(empty), good], more=more),
             "several": Case([event(several), good], more=more), "always": Case([event(several)], more=more)}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    assert {n: (c.answer.status, len(c.attempts), c.failures[0]["reason"]) for n, c in seen.items()} == {
        "limited": (200, 2, "rate_limited"), "empty": (200, 1, "quota_exhausted"),
        "several": (200, 2, "overloaded"), "always": (200, 5, "overloaded")}
    told = {n: [json.loads(e)["error"] for e in events_of(seen[n].answer.body) if '"error"' in e] for n in cases}
    assert [e["message"] for e in told["empty"]] == ["insufficient balance"]
    assert told["always"] == several["error"]
    assert told["limited"] == told["several"] == []


def test_a_stored_response_that_failed_is_a_response():
    failed = {"json": {"object": "response", "status": "failed", "error": {"code": "server_error", "message": "m"}}}
    cases = {"get": Case([failed, error(500)], method="GET", path="/v1/responses/r"),
             "cancelled": Case([{"json": {"object": "response", "status": "cancelled", "error": None}}, error(500)],
                               path="/v1/responses")}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    assert {(n, c.answer.status, len(c.attempts)) for n, c in seen.items()} == {("get", 200, 1), ("cancelled", 200, 1)}


# --- nobody there ----------------------------------------------------------------------------------

def test_connection_refused():
    with closed_port() as port, pair(f"http://127.0.0.1:{port}/v1") as (_, daemon):
        answer = ask(daemon)
        assert (answer.status, answer.error["code"]) == (502, "connect_failed")
        assert answer.header("x-retryd-attempts") == "5"
        assert daemon.metric('retryd_retries_total{reason="connect_failed"}') == 4


def test_connection_refused_at_first(retryd):
    """The upstream comes up while retryd waits."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        d = retryd(f"http://127.0.0.1:{s.getsockname()[1]}/v1",
                   retry={"initial_delay": "20ms", "multiplier": "1", "max_attempts": "100"})
        with Raw(d) as client:
            client.request(body=CHAT)
            d.wait_log("attempt 2 of 100 failed: connect_failed")
            s.listen()
            upstream, _ = s.accept()
            with upstream:
                upstream.recv(65536)
                upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                assert client.answer().status == 200


def test_no_such_host():
    with pair("http://nosuch.invalid/v1", retry={"initial_delay": "20ms", "max_attempts": "2"},
              timeout={"connect": "60s"}) as (_, daemon):
        answer = ask(daemon)
        assert (answer.status, answer.error["code"]) == (502, "dns_failed")
        assert answer.header("x-retryd-attempts") == "2"
        assert "nosuch.invalid" in answer.error["message"]


# --- silence ---------------------------------------------------------------------------------------

SLOW = {"preset": "chat", "text": "x" * 4000, "pace": {"bytes": 10, "every_ms": 100}}
SILENT = {
    "before-the-head": ({"stall": {"before_head": True}}, "first_byte_timeout", None, {}),
    "after-the-head": ({"preset": "auto", "stall": {"after_head": True}}, "idle_timeout", 200, {}),
    "amid-the-body": ({"preset": "auto", "stall": {"after_bytes": 20}}, "idle_timeout", 200, {}),
    "before-an-event": ({"preset": "auto", "stall": {"after_head": True}}, "first_content_timeout", 200, STREAM),
    "before-content": ({"preset": "auto", "stall": {"after_events": 1}}, "first_content_timeout", 200, STREAM),
    "too-slow": (SLOW, "total_timeout", 200, {}),
}


@pytest.fixture(scope="module")
def timed_out():
    cases = {name: Case([first, AUTO], more=more) for name, (first, _, _, more) in SILENT.items()}
    with pair(timeout={"first_byte": "800ms", "first_content": "900ms", "idle": "700ms", "total": "1500ms"}) as (p, daemon):
        yield run(p, daemon, cases)


@pytest.mark.parametrize("name", SILENT)
def test_timeouts_are_retried(timed_out, name):
    case = timed_out[name]
    _, reason, status, _ = SILENT[name]
    assert case.answer.status == 200, case.lines
    assert [a["answer"] for a in case.attempts] == [0, 1]
    failure, = case.failures
    assert (failure["reason"], failure.get("status")) == (reason, str(status) if status else None)
    wanted = {"first_byte_timeout": 800, "first_content_timeout": 900, "idle_timeout": 700, "total_timeout": 1500}[reason]
    assert wanted <= int(failure["duration_ms"]) < wanted + 5000


def test_connect_timeout(retryd):
    """A listener whose queue is full answers no SYN: on Linux the connection just waits."""
    with socket.socket() as s, contextlib.ExitStack() as stack:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(s.getsockname())
        d = retryd(f"http://127.0.0.1:{s.getsockname()[1]}/v1", timeout={"connect": "150ms"},
                   retry={"initial_delay": "20ms", "max_attempts": "2"})
        answer = ask(d)
        assert (answer.status, answer.error["code"]) == (504, "connect_timeout")
        assert answer.header("x-retryd-attempts") == "2"


# --- retry_on --------------------------------------------------------------------------------------

CAUSES = {"reset": RETRIED["reset-before-the-answer"][0], "408": error(408), "409": error(409),
          "425": error(425), "429": error(429), "5xx": error(503),
          "timeout": {"stall": {"before_head": True}}}


@pytest.fixture(scope="module")
def chosen():
    """For each cause a route that retries on it alone, one that does not, and one for none."""
    routes, cases = "", {}
    for cause, first in CAUSES.items():
        others = ", ".join(c for c in [*CAUSES, "connect"] if c != cause)
        for kind, value in (("only", cause), ("not", others), ("none", "none")):
            name = f"{kind}-{cause}"
            routes += f"[route {name}]\nmodel = {name}\nretry.retry_on = {value}\n"
            cases[name] = Case([first, AUTO])
    with pair(config=routes, timeout={"first_byte": "800ms"}) as (provider, daemon):
        yield run(provider, daemon, cases)


@pytest.mark.parametrize("cause", CAUSES)
def test_retry_on(chosen, cause):
    assert len(chosen[f"only-{cause}"].attempts) == 2
    assert chosen[f"only-{cause}"].answer.status == 200
    for kind in ("not", "none"):
        assert len(chosen[f"{kind}-{cause}"].attempts) == 1
        assert chosen[f"{kind}-{cause}"].answer.status >= 400
        failure, = chosen[f"{kind}-{cause}"].failures
        assert failure["cannot_retry"] == "retry_on does not include this failure"


def test_retry_on_connect(retryd):
    with closed_port() as port:
        d = retryd(f"http://127.0.0.1:{port}/v1",
                   retry={"initial_delay": "20ms", "retry_on": "reset, timeout, 5xx"})
        assert ask(d).header("x-retryd-attempts") == "1"
