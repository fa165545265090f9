"""C24, C25, C26: what the caller sees of an error, and the overrides that it may send."""

import base64
import contextlib
import re
import socket

import pytest
from cases import AUTO, Case, error, pair, run
from raw import CHAT, STREAM, Raw, ask, text_of

BLOB = bytes(range(256)) * 8
BREAK = {"cut": {"before_head": True}}
SILENT = {"stall": {"before_head": True}}


@pytest.fixture(scope="module")
def machine():
    with pair(retry={"initial_delay": "5ms"}, server={"max_body": "64K"},
              timeout={"first_byte": "900ms", "idle": "700ms"}) as both:
        yield both


# --- C24: the upstream's last word -----------------------------------------------------------------

LAST = {
    "json": {"status": 503, "body": ' {"error" : {"message":"caf\\u00e9"}}\n\n', "headers": {"X-Mark": "1"}},
    "bytes": {"status": 500, "body_b64": base64.b64encode(BLOB).decode()},
    "html": {"status": 502, "body": "<html>502</html>", "headers": {"content-type": "text/html"}},
    "empty": {"status": 504, "body": ""},
    "gzip": {"status": 529, "body": '{"error":{"message":"x"}}' * 50, "encoding": "gzip"},
    "chunked": {"status": 429, "body": '{"error":{"message":"x"}}', "framing": "chunked"},
    "until-close": {"status": 500, "body": "the end", "framing": "close"},
    "verdict": {**error(401, code="invalid_api_key"), "headers": {"www-authenticate": "Bearer"}},
    "large": {"status": 500, "body_bytes": 3 << 20},
    "larger-than-held": {"status": 500, "body_bytes": 5 << 20},
}


def without_ours(headers):
    ours = {"x-retryd-attempts", "x-retryd-wait-ms", "x-retryd-target", "proxy-status", "x-should-retry",
            "content-length", "transfer-encoding", "connection", "date", "x-request-id", "keep-alive"}
    return [(n, v) for n, v in headers if n.lower() not in ours]


@pytest.mark.parametrize("name", LAST)
def test_last_error_byte_for_byte(machine, name):
    """C24."""
    provider, daemon = machine
    provider.answers(LAST[name])
    direct = ask(("127.0.0.1", provider.port), headers=["Accept-Encoding: gzip"])
    provider.answers(error(500), {"status": 503, "body": "another"}, LAST[name])
    got = ask(daemon, headers=["Accept-Encoding: gzip", "x-retryd-max-attempts: 3"])
    assert got.status == direct.status == LAST[name]["status"]
    assert got.body == direct.body
    assert without_ours(got.headers) == without_ours(direct.headers)
    assert got.header("x-retryd-attempts") == "3"


def test_last_error_before_a_break(machine):
    """C24: Where the last attempt brought no response, the one before it did."""
    provider, daemon = machine
    told = {"status": 503, "body": "told", "headers": {"x-mark": "yes"}}
    for last in (BREAK, {**error(500), "cut": {"after_bytes": 3}}):
        provider.answers(error(500), told, last)
        got = ask(daemon, headers=["x-retryd-max-attempts: 3"])
        assert (got.status, got.body, got.header("x-mark")) == (503, b"told", "yes")
        assert got.header("x-retryd-attempts") == "3"


def test_a_failure_in_a_200_becomes_one(machine):
    """C24: Its body is the upstream's, byte for byte; its status no longer says that all is well."""
    provider, daemon = machine
    for code, status in ((None, 502), (503, 503), ("insufficient_quota", 502)):
        provider.answers({"status": 200, "json": {"error": {"message": "m", "code": code}}})
        direct = ask(("127.0.0.1", provider.port))
        got = ask(daemon, headers=["x-retryd-no-retry: yes"])
        assert (got.status, got.body) == (status, direct.body)
        assert got.header("x-should-retry") == "false"


# --- an error event in front of all content ---------------------------------------------------------

def told(**error_object):
    return {"error": {"message": "boom", "param": None, **error_object}}


LAST_EVENTS = {  # (path, the event, the status that fits it)
    "overloaded": ("/v1/chat/completions", told(type="server_error", code="server_is_overloaded"), 503),
    "limited": ("/v1/chat/completions", told(type="requests", code="rate_limit_exceeded"), 429),
    "server-error": ("/v1/completions", told(type="server_error", code=None), 500),
    "a-number": ("/v1/chat/completions", told(type="x", code=524), 524),
    "unknown": ("/v1/chat/completions", told(type="x", code="y"), 502),
    "in-a-choice": ("/v1/chat/completions", {"id": "g", "choices": [
        {"index": 0, "delta": {"content": ""}, "finish_reason": "error", **told(type="x", code=502)}]}, 502),
    "responses": ("/v1/responses", 'event: error\ndata: {"type":"error","sequence_number":0,"code":"server_error",'
                  '"message":"boom","param":null}\n\n', 500),
    "failed-response": ("/v1/responses", 'event: response.failed\ndata: {"type":"response.failed","sequence_number":0,'
                        '"response":{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded",'
                        '"message":"boom"}}}\n\n', 429),
    "anthropic": ("/v1/messages", 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
                  '"message":"boom"}}\n\n', 529),
}
WORSE = {"reset": BREAK, "silence": SILENT, "html": {"headers": {"content-type": "text/html"}, "body": "<html>"},
         "empty-stream": {"sse": []}}


@pytest.fixture(scope="module")
def events(machine):
    cases = {}
    for name, (path, event, _) in LAST_EVENTS.items():
        for mode in ("live", "splice", "hold"):
            for worse, how in WORSE.items():
                cases[f"{name}.{mode}.{worse}"] = Case(
                    [{"sse": [event], "headers": {"x-mark": "1", "retry-after": "7"}}, how], path=path,
                    more={"stream": True}, headers=["x-retryd-max-attempts: 2", f"x-retryd-stream-mode: {mode}"])
    return run(*machine, cases)


@pytest.mark.parametrize("worse", WORSE)
@pytest.mark.parametrize("mode", ["live", "splice", "hold"])
@pytest.mark.parametrize("name", LAST_EVENTS)
def test_an_error_event_is_an_upstreams_last_word(events, name, mode, worse):
    """C24: Where nothing better follows it is told as the error response that it would have been."""
    case = events[f"{name}.{mode}.{worse}"]
    assert len(case.attempts) == 2
    assert case.answer.status == LAST_EVENTS[name][2]
    assert case.answer.all("content-type") == ["application/json"]
    assert case.answer.header("x-should-retry") == "false" and case.answer.header("x-mark") == "1"
    body = case.answer.json()
    assert body["error"]["message"] == "boom"
    assert body.get("type") == ("error" if name == "anthropic" else None)
    if isinstance(LAST_EVENTS[name][1], dict) and name != "in-a-choice":
        assert body == LAST_EVENTS[name][1]


def test_an_error_event_is_told_at_the_deadline(machine):
    """C24."""
    provider, daemon = machine
    provider.answers({"sse": [told(type="server_error", code="server_is_overloaded")]}, SILENT)
    got = ask(daemon, STREAM, headers=["x-retryd-deadline: 0.5"])
    assert (got.status, got.error["code"]) == (503, "server_is_overloaded")


def test_an_error_event_is_told_behind_an_open_breaker():
    """C24."""
    with pair(breaker={"failures": 1, "open_for": "60s"}) as (provider, daemon):
        provider.answers({"sse": [told(type="server_error", code="server_is_overloaded")]})
        got = ask(daemon, STREAM, headers=["x-retryd-deadline: 1"])
        assert len(provider.record()) == 1 and daemon.wait_log('msg="breaker open"')
    assert (got.status, got.error["code"]) == (503, "server_is_overloaded")


def test_a_better_attempt_goes_before_an_error_event(machine):
    """C24."""
    provider, daemon = machine
    event = {"sse": [told(type="server_error", code="server_is_overloaded")]}
    provider.answers(event, AUTO)
    assert text_of(ask(daemon, STREAM).body)
    provider.answers(event, {"status": 503, "body": "later"}, BREAK)
    got = ask(daemon, STREAM, headers=["x-retryd-max-attempts: 3"])
    assert (got.status, got.body) == (503, b"later")


OWN_STATUS = {
    "type": told(type="invalid_request_error", code=None),
    "code": told(type="x", code=400),
    "text-code": told(type="x", code="404"),
    "status-code": told(type="x", code="y", status_code=400),
    "status-code-beside": {**told(type="x", code="y"), "status_code": 422},
    "google": told(code=400, status="INVALID_ARGUMENT"),
}


def test_an_error_event_with_a_status_of_its_own(machine):
    """C24: What is the client's own fault is final, as that status would be."""
    cases = {name: Case([{"sse": [event]}, AUTO], more={"stream": True}) for name, event in OWN_STATUS.items()}
    seen = run(*machine, cases)
    for name, case in seen.items():
        assert len(case.attempts) == 1, name
        assert b"boom" in case.answer.body, name
        assert case.failures[0]["cannot_retry"] == "the same request would fail again", name


def test_says_why_it_was_not_asked_again(machine):
    """C24: In the words of the log."""
    cases = {
        "attempts": Case([BREAK], headers=["x-retryd-max-attempts: 2"]),
        "single": Case([BREAK], headers=["x-retryd-no-retry: yes"]),
        "deadline": Case([BREAK, SILENT], headers=["x-retryd-deadline: 0.5"]),
        "hint": Case([{**error(429), "headers": {"retry-after": "9999"}}]),
        "verdict": Case([error(400)]),
        "in-a-stream": Case([{"preset": "chat_stream", "cut": {"after_deltas": 1, "delay_ms": 200}}],
                            more={"stream": True}),
    }
    seen = run(*machine, cases)
    for name, case in seen.items():
        why = case.failures[-1]["cannot_retry"]
        assert case.request["cannot_retry"] == why, name
        if name not in ("hint", "verdict"):  # those are the upstream's own words
            assert f"ot retried: {why}" in case.answer.body.decode(), name


@contextlib.contextmanager
def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


OWN = {  # (the response, status, code, Proxy-Status error, words of the message)
    "reset": (BREAK, 502, "connection_lost", "connection_terminated", "after 2 attempts"),
    "truncated": ({"preset": "auto", "cut": {"after_bytes": 9}}, 502, "answer_truncated",
                  "http_response_incomplete", "after 2 attempts"),
    "not-http": ({"wire": [{"send": "SSH-2.0\r\n\r\n"}, {"fin": True}]}, 502, "answer_unreadable",
                 "http_protocol_error", "after 2 attempts"),
    "silence": (SILENT, 504, "first_byte_timeout", "http_response_timeout", "silence for 900 ms"),
    "idle": ({"preset": "auto", "stall": {"after_bytes": 9}}, 504, "idle_timeout", "http_response_timeout",
             "silence for 700 ms"),
    "empty-stream": ({"sse": []}, 502, "empty_stream", "http_protocol_error", "after 2 attempts"),
}


@pytest.fixture(scope="module")
def own(machine):
    return run(*machine, {n: Case([o[0]], headers=["x-retryd-max-attempts: 2"], more={"stream": True}
                                  if n == "empty-stream" else {}) for n, o in OWN.items()})


def assert_own(answer, status, code, proxy_error, words):
    assert answer.status == status
    body = answer.error
    assert (body["type"], body["param"], body["code"]) == ("server_error", None, code)
    assert body["message"].startswith("retryd: no response from upstream test after ")
    assert words in body["message"]
    assert set(answer.json()) == {"error"}
    assert proxy_status(answer)["error"] == proxy_error


@pytest.mark.parametrize("name", OWN)
def test_own_errors(own, name):
    """C24."""
    assert_own(own[name].answer, *OWN[name][1:])
    assert own[name].fact("x-retryd-attempts") == "2"


def test_own_error_of_a_refused_connection():
    """C24."""
    with closed_port() as port, pair(f"http://127.0.0.1:{port}/v1", retry={"max_attempts": "1"}) as (_, d):
        answer = ask(d)
        assert_own(answer, 502, "connect_failed", "destination_unavailable", "Check that the upstream's url")
        assert str(port) in answer.error["message"]


def test_own_error_of_retryd_itself(provider, retryd):
    """C24: More fields than one request has room for: nothing was sent, and it is not the upstream's fault."""
    d = retryd(upstream_settings={f"header.X-{n}": "secret" for n in range(60)})
    answer = ask(d, headers=[f"Y-{n}: 1" for n in range(90)])
    assert_own(answer, 503, "internal_error", "proxy_internal_error", "could not be started")
    assert provider.record() == []
    assert "secret" not in answer.body.decode() + d.log


# --- C25 -------------------------------------------------------------------------------------------

def proxy_status(answer):
    """RFC 9209: the parameters of the one member of the list that retryd writes."""
    value, = answer.all("proxy-status")
    name, *rest = re.split(r';\s*(?=(?:[^"]|"(?:\\.|[^"\\])*")*$)', value)
    assert name == "retryd"
    parameters = {}
    for part in rest:
        key, sep, item = part.partition("=")
        assert sep and re.fullmatch(r"[a-z*][a-z0-9_.*-]*", key), value
        assert re.fullmatch(r'\d+|[A-Za-z*][\w:/.*-]*|"(?:[ !#-\[\]-~]|\\["\\])*"', item), value
        assert key not in parameters
        parameters[key] = item.strip('"')
    return parameters


def facts(answer):
    for name in ("x-retryd-attempts", "x-retryd-wait-ms", "proxy-status"):
        assert len(answer.all(name)) == 1, (name, answer.headers)
    return (int(answer.header("x-retryd-attempts")), int(answer.header("x-retryd-wait-ms")),
            answer.header("x-retryd-target"), proxy_status(answer))


UPSTREAM = {"next-hop": "127.0.0.1"}


@pytest.mark.parametrize("name, answers, request_, wanted", [
    ("good", [AUTO], {}, (1, "200")),
    ("stream", [AUTO], {"body": STREAM}, (1, "200")),
    ("rescued", [error(503), error(500), AUTO], {}, (3, "200")),
    ("rescued-stream", [error(503), AUTO], {"body": STREAM}, (2, "200")),
    ("head", [{"status": 200, "body": ""}], {"method": "HEAD", "body": None}, (1, "200")),
    ("no-content", [{"status": 204}], {}, (1, "204")),
    ("verdict", [error(404)], {}, (1, "404")),
    ("failed", [error(503)], {}, (5, "503")),
    ("large", [{"status": 200, "body_bytes": 5 << 20}], {}, (1, "200")),
    ("error-in-200", [{"status": 200, "json": {"error": {"message": "m", "code": 503}}}], {}, (5, "200")),
], ids=lambda v: v if isinstance(v, str) else "")
def test_facts_of_an_upstreams_response(machine, name, answers, request_, wanted):
    """C25."""
    provider, daemon = machine
    provider.answers(*answers)
    attempts, waited, target, status = facts(ask(daemon, **request_))
    assert (attempts, target) == (wanted[0], "test")
    assert (waited >= 5 // 2 * (attempts - 1)) and (attempts > 1 or waited == 0)
    assert status == {"received-status": wanted[1], **UPSTREAM}


@pytest.mark.parametrize("name", OWN)
def test_facts_of_our_own_response(own, name):
    """C25."""
    attempts, waited, target, status = facts(own[name].answer)
    assert (attempts, target) == (2, "test") and waited > 0
    assert status["next-hop"] == "127.0.0.1" and "received-status" not in status


REFUSALS = {
    "bad-override": ({"headers": ["x-retryd-max-attempts: 0"]}, 400, "invalid_retryd_header"),
    "no-route": ({"path": "/v2/x"}, 404, "no_route"),
    "host": ({"host": "evil.example"}, 403, "not_allowed"),
    "origin": ({"headers": ["Origin: https://evil.example"]}, 403, "not_allowed"),
    "websocket": ({"headers": ["Upgrade: websocket"]}, 426, "upgrade_not_supported"),
    "too-large": ({"body": b"x" * 70000}, 413, "request_too_large"),
    "malformed": ({"headers": ["X(Y: 1"]}, 400, "bad_request"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_facts_of_a_refusal(machine, name):
    """C25."""
    provider, daemon = machine
    how, status, code = REFUSALS[name]
    provider.clear()
    with Raw(daemon) as c:
        c.request(**{"body": CHAT, **how})
        answer = c.answer()
    assert (answer.status, answer.error["code"]) == (status, code)
    attempts, waited, target, told = facts(answer)
    assert (attempts, waited, target) == (0, 0, None)
    assert told["error"] == "http_request_error"
    assert provider.record() == []


# --- C26 -------------------------------------------------------------------------------------------

def test_overrides_are_not_forwarded(machine):
    """C26."""
    provider, daemon = machine
    provider.answers(error(503), AUTO)
    provider.clear()
    own_headers = ["x-retryd-max-attempts: 2", "X-Retryd-Deadline: 30s", "x-retryd-stream-mode: live",
                   "X-RETRYD-NO-RETRY: no", "x-retryd-unknown: 1"]
    assert ask(daemon, headers=[*own_headers, "x-stays: 1"]).status == 200
    for attempt in provider.record():
        names = [n.lower() for n, _ in attempt["headers"]]
        assert "x-stays" in names
        assert not [n for n in names if n.startswith("x-retryd")]


BAD = {
    "x-retryd-max-attempts": ["0", "-1", "101", "five", "1.5", "", "2 3", "99999999999999999999"],
    "x-retryd-deadline": ["0", "-1", "soon", "", "5 s", "0ms", "1e400", "nan", "inf"],
    "x-retryd-no-retry": ["maybe", "", "2"],
    "x-retryd-stream-mode": ["fast", "", "live,hold"],
}


@pytest.mark.parametrize("name, value", [(n, v) for n, values in BAD.items() for v in values])
def test_bad_values(machine, name, value):
    """C26."""
    provider, daemon = machine
    provider.clear()
    answer = ask(daemon, headers=[f"{name}: {value}"])
    assert answer.status == 400
    assert (answer.error["code"], answer.error["type"]) == ("invalid_retryd_header", "invalid_request_error")
    assert name in answer.error["message"] and f'"{value}"' in answer.error["message"]
    assert "expected" in answer.error["message"]
    assert provider.record() == []


def test_bad_values_are_quoted_safely(machine):
    """C26."""
    answer = ask(machine[1], headers=['x-retryd-deadline: "\\caf\xe9' + "x" * 500])
    assert answer.status == 400 and len(answer.error["message"]) < 400


def test_good_values(machine):
    """C26."""
    provider, daemon = machine
    for header in ("x-retryd-max-attempts: 100", "x-retryd-max-attempts: 1", "x-retryd-deadline: 1.5",
                   "x-retryd-deadline: 1500ms", "x-retryd-deadline: 10m", "x-retryd-no-retry: yes",
                   "x-retryd-no-retry: 0", "x-retryd-stream-mode: live", "x-retryd-stream-mode: Live"):
        provider.answers(AUTO)
        assert ask(daemon, headers=[header]).status == 200, header
