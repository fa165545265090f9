"""C30: pages of allowed origins send requests and can read every response; no other page can."""

import pytest
from cases import AUTO, Case, error, pair, run
from raw import Raw, head_of

HERE = "https://app.example"
ELSEWHERE = "https://evil.example"
ASKS = ["Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, content-type, x-stainless-lang"]
CORS = ("access-control-allow-origin", "access-control-expose-headers", "access-control-allow-methods",
        "access-control-allow-headers", "access-control-allow-private-network", "access-control-max-age")


@pytest.fixture(scope="module")
def machine():
    with pair(server={"allowed_origins": f"{HERE}, http://localhost:3000", "max_body": "1M"}) as both:
        yield both


def preflight(daemon, origin, more=(), path="/v1/chat/completions"):
    with Raw(daemon) as c:
        for _ in range(2):  # the connection is kept
            c.send(head_of("OPTIONS", path, [f"Origin: {origin}", *ASKS, *more]))
            answer = c.answer("OPTIONS")
        return answer


def test_preflights_behind_each_other_are_all_answered(machine):
    with Raw(machine[1]) as c:
        c.send(head_of("OPTIONS", "/v1/chat/completions", [f"Origin: {HERE}", *ASKS]) * 12)
        assert [c.answer("OPTIONS").status for _ in range(12)] == [204] * 12


def test_a_preflight_is_answered_here(machine):
    provider, daemon = machine
    provider.clear()
    before = daemon.metric("retryd_requests_total")
    answer = preflight(daemon, HERE)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.all("access-control-allow-origin") == [HERE]
    assert answer.header("access-control-allow-methods") == "POST"
    assert answer.header("access-control-allow-headers") == "authorization, content-type, x-stainless-lang"
    assert answer.header("access-control-allow-private-network") is None
    assert "Origin" in answer.header("vary")
    assert int(answer.header("access-control-max-age")) > 0
    assert provider.record() == [] and daemon.metric("retryd_requests_total") == before


def test_a_public_page_may_reach_this_machine(machine):
    answer = preflight(machine[1], HERE, ["Access-Control-Request-Private-Network: true"])
    assert answer.header("access-control-allow-private-network") == "true"


def test_what_is_no_field_is_not_granted(machine):
    with Raw(machine[1]) as c:
        c.send(head_of("OPTIONS", "/v1/x", [f"Origin: {HERE}", "Access-Control-Request-Method: POST",
                                            "Access-Control-Request-Headers: a\"b"]))
        answer = c.answer("OPTIONS")
    assert answer.status == 204 and answer.header("access-control-allow-headers") is None


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", HERE + ".evil.example", HERE.replace("s:", ":")])
def test_other_pages_learn_nothing(machine, origin):
    provider, daemon = machine
    provider.clear()
    with Raw(daemon) as c:
        c.send(head_of("OPTIONS", "/v1/chat/completions", [f"Origin: {origin}", *ASKS]))
        asked = c.answer("OPTIONS")
    sent = run(provider, daemon, {"page": Case([AUTO], headers=[f"Origin: {origin}"], body=b"{}")})["page"]
    for answer in (asked, sent.answer):
        assert answer.status == 403
        assert [name for name in CORS if answer.all(name)] == []
    assert provider.record() == []


OPEN = {**AUTO, "headers": {"access-control-allow-origin": "*", "access-control-expose-headers": "X-Request-ID",
                            "access-control-allow-credentials": "true", "vary": "Accept"}}
ANSWERS = {  # name: (case, status)
    "good": (Case([OPEN]), 200),
    "stream": (Case([OPEN], more={"stream": True}), 200),
    "retried": (Case([error(503), OPEN]), 200),
    "final": (Case([{**error(400), "headers": {"access-control-allow-origin": "*"}}]), 400),
    "ours": (Case([{"cut": {"before_head": True}}]), 502),
    "no-route": (Case([AUTO], path="/nowhere"), 404),
    "too-large": (Case([AUTO], body=b"x" * (2 << 20)), 413),
    "bad-override": (Case([AUTO], headers=["x-retryd-max-attempts: 0"]), 400),
    "upgrade": (Case([AUTO], headers=["Connection: upgrade", "Upgrade: websocket"], method="GET", body=b""),
                426),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_response_can_be_read(machine, name):
    """retryd's own errors among them, and what the upstream grants to all is not repeated."""
    case, status = ANSWERS[name]
    case.headers = [*case.headers, f"Origin: {HERE}", "Sec-Fetch-Site: cross-site"]
    if case.body is None:
        answer = run(*machine, {name: case})[name].answer
    else:
        with Raw(machine[1]) as c:
            c.request(case.method, case.path, case.body, case.headers)
            answer = c.answer(case.method)
    assert answer.status == status
    assert answer.all("access-control-allow-origin") == [HERE]
    assert answer.all("access-control-expose-headers") == ["*"]
    assert answer.all("access-control-allow-credentials") == []
    assert "Origin" in answer.all("vary")


CHUNKED = head_of("POST", "/v1/chat/completions", ["Transfer-Encoding: chunked", "Origin: ORIGIN"])
PLAIN = head_of("POST", "/v1/chat/completions", ["Content-Length: 2", "Origin: ORIGIN"])
MALFORMED = {  # name: (the request, status): what is refused before retryd's own rules are asked, or amid the body
    "chunk-too-large": (CHUNKED + b"200000\r\nx", 413),
    "line-of-a-chunk": (CHUNKED + b"1;" + b"x" * 20_000, 400),
    "many-fields": (PLAIN[:-2] + b"x: y\r\n" * 120 + b"\r\n{}", 431),
    "two-lengths": (PLAIN[:-2] + b"Content-Length: 3\r\n\r\n{}", 400),
    "no-room": (PLAIN[:-2] + b"x: " + b"y" * 15_000 + b"\r\n\r\n{}", 431),
    "method": (PLAIN.replace(b"POST", b"TRACE") + b"{}", 405),
}


@pytest.mark.parametrize("origin", [HERE, ELSEWHERE])
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_refused_early_can_be_read_by_pages_that_may(name, origin, machine):
    request, status = MALFORMED[name]
    with Raw(machine[1]) as c:
        c.send(request.replace(b"ORIGIN", origin.encode()))
        if origin == ELSEWHERE:
            c.half_close()
            assert b"access-control" not in c.rest().lower()
            return
        answer = c.answer()
    assert answer.status == status and answer.error["message"]
    assert answer.all("access-control-allow-origin") == [HERE]
    assert answer.all("access-control-expose-headers") == ["*"]
    assert answer.all("vary") == ["Origin"]


def test_programs_get_what_the_upstream_sent(machine):
    answer = run(*machine, {"program": Case([OPEN])})["program"].answer
    assert answer.all("access-control-allow-origin") == ["*"]
    assert answer.all("vary") == ["Accept"]


def test_another_options_request_is_forwarded(machine):
    """C1."""
    provider, daemon = machine
    seen = run(provider, daemon, {"options": Case([{"status": 204}], method="OPTIONS", body=b"",
                                                  headers=[f"Origin: {HERE}"])})
    assert seen["options"].answer.status == 204
    assert len(seen["options"].attempts) == 1
