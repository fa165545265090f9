"""C1: a request and its response pass unchanged, byte for byte, except for the headers of a connection."""

import base64
import hashlib

import pytest
from cases import AUTO, pair
from client import pattern
from raw import CHAT, STREAM, Raw, ask

BLOB = bytes(range(256)) * 5 + b"\0" * 700 + b"\r\n\r\n"


@pytest.fixture(scope="module")
def machine():
    with pair() as both:
        yield both


def reach(machine, *args, answer=AUTO, **how):
    """(what the client got, what the provider saw) of one request."""
    provider, daemon = machine
    provider.answers(answer)
    provider.clear()
    got = ask(daemon, *args, **how)
    seen, = provider.record()
    return got, seen


def sent_headers(seen, leave_out=("host", "content-length")):
    """What passed of the client's: without what this hop writes itself, its own Via among it."""
    return [(n, v) for n, v in seen["headers"]
            if n.lower() not in leave_out and not (n == "Via" and v.startswith("1.1 retryd-"))]


# --- requests --------------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [None, b"", b"x", BLOB], ids=["none", "empty", "one", "blob"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE"])
def test_methods_and_bodies(machine, method, body):
    got, seen = reach(machine, body, method=method, path="/v1/things/1",
                      answer={"status": 200, "body": "" if method == "HEAD" else "ok"})
    assert got.status == 200
    assert seen["method"] == method
    assert seen["target"] == "/v1/things/1"
    wanted = b"" if method == "HEAD" else body or b""  # HEAD leaves its body behind
    assert seen["body_sha256"] == hashlib.sha256(wanted).hexdigest()
    assert got.body == (b"" if method == "HEAD" else b"ok")


PATHS = ["/v1", "/v1/", "/v1?a=1", "/v1/a?", "/v1/a?b=1&b=2&c", "/v1/a?b?c/d", "/v1/files/a%2Fb%2fc",
         "/v1/a%20b+c?q=%26%3D+x%00", "/v1/%zz%", "/v1//a///b/", "/v1/./a/../b/.", "/v1/../a", "/v1/...",
         "/v1/a;p=1,2:3@4!$'()*~_-", "/v1/a{b}[c]|d^e`f\"g<h>i\\j",
         "/v1/a?redirect=http://x/../y", "/v1/" + "x" * 6000 + "?" + "y" * 6000]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_path_and_query(machine, path):
    _, seen = reach(machine, path=path, answer={"status": 200, "body": "ok"})
    assert seen["target"] == path


def test_what_no_path_may_hold(machine):
    """Bytes beyond ASCII have no place in a URI (RFC 3986 2): in a path they come percent-encoded."""
    _, seen = reach(machine, path="/v1/caf\xe9/\xff?\xe9", answer={"status": 200, "body": "ok"})
    assert seen["target"] == "/v1/caf%e9/%ff?\xe9"


@pytest.mark.parametrize("base", ["", "/", "/api", "/openai/deployments/d%20e/", "/v1beta/../x"])
def test_the_base_is_replaced(provider, retryd, base):
    d = retryd(f"http://127.0.0.1:{provider.port}{base}")
    for path in ("/v1/chat/completions?api-version=1", "/v1//a%2F", "/v1/", "/v1", "/v1?x=/v1/y"):
        provider.clear()
        ask(d, path=path)
        rest = path[len("/v1"):]
        wanted = base.rstrip("/") + rest
        assert provider.record()[0]["target"] == (wanted if wanted.startswith("/") else "/" + wanted)


@pytest.mark.parametrize("path", ["/", "/v2/chat/completions", "/v10/x", "/V1/x", "/chat/completions"])
def test_other_paths_have_no_route(machine, path):
    provider, daemon = machine
    provider.clear()
    answer = ask(daemon, path=path)
    assert (answer.status, answer.error["code"]) == (404, "no_route")
    assert provider.record() == []


HEADERS = [
    ("Zulu", "1"), ("Authorization", "Bearer sk-client"), ("alpha", "2"), ("ACCEPT", "application/json"),
    ("x-MiXed-CaSe", "Value: with; \"quotes\", commas  and  spaces"), ("X-Twice", "first"),
    ("OpenAI-Organization", "org-1"), ("X-Twice", "second"), ("x-twice", "third"), ("X-Empty", ""),
    ("Cookie", "a=b; c=d"), ("X-Latin", "caf\xe9 \xff"), ("X-Tab", "a\tb"), ("User-Agent", "test/1.0"),
    ("Content-Type", "text/plain; charset=x"), ("X-Stainless-Lang", "python"), ("Range", "bytes=0-9"),
    ("If-None-Match", '"x"'), ("Content-Encoding", "gzip"), ("X-Forwarded-For", "192.0.2.1"),
    ("Via", "1.1 someone"), ("x" * 200, "y" * 4000), ("!#$%&'*+-.^_`|~09", "token"),
]


def test_request_headers(machine):
    """In their order, as they were written, however often they stand."""
    _, seen = reach(machine, b"x", headers=[f"{n}: {v}" for n, v in HEADERS])
    assert sent_headers(seen) == HEADERS


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_added(machine, method):
    _, seen = reach(machine, b"x" if method == "POST" else None, method=method, path="/v1/models")
    assert sent_headers(seen) == []


def test_host_is_the_upstreams(machine):
    _, seen = reach(machine)
    assert [v for n, v in seen["headers"] if n.lower() == "host"] == [f"127.0.0.1:{machine[0].port}"]


def test_hop_by_hop_request_headers(machine):
    """RFC 9110 7.6.1: the known ones, and those that Connection names, in any case."""
    gone = ["Connection: keep-alive, X-Hop ,x-other-hop", "X-HOP: 1", "X-Other-Hop: 2", "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eA==", "TE: trailers",
            "Trailer: X-Sum", "Upgrade: h2c", "Connection: X-Third", "X-Third: 3"]
    _, seen = reach(machine, b"x", headers=[*gone[:5], "X-Stays: 1", *gone[5:], "X-Hop-Not: 2"])
    assert sent_headers(seen) == [("X-Stays", "1"), ("X-Hop-Not", "2")]


ENCODINGS = {
    "gzip, deflate, br, zstd": "gzip, deflate", "gzip": "gzip", "br": "identity", "*": "identity",
    "br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip;q=0.8", "GZIP, X-Gzip": "GZIP, X-Gzip",
    "identity": "identity", "deflate;q=0.5 , identity": "deflate;q=0.5, identity",
}


@pytest.mark.parametrize("asked", ENCODINGS)
def test_accept_encoding(machine, asked):
    """Only what retryd can read itself; for a stream nothing at all, so that events can be seen."""
    for body, wanted in ((CHAT, ENCODINGS[asked]), (STREAM, "identity")):
        _, seen = reach(machine, body, headers=[f"Accept-Encoding: {asked}"])
        assert [v for n, v in seen["headers"] if n == "Accept-Encoding"] == [wanted]


def test_forms_and_queries_that_can_stream_are_asked_for_without_coding(machine):
    """Coded events could not be passed on one by one."""
    form = b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--\r\n'
    cases = [
        (dict(body=form, path="/v1/audio/transcriptions"), "identity"),
        (dict(method="GET", body=b"", path="/v1/responses/r?stream=true&starting_after=3"), "identity"),
        (dict(method="GET", body=b"", path="/v1/responses/r"), "gzip"),
    ]
    for request, wanted in cases:
        _, seen = reach(machine, headers=["Accept-Encoding: gzip"], **request)
        assert [v for n, v in seen["headers"] if n == "Accept-Encoding"] == [wanted]


def test_large_bodies_both_ways(machine):
    body = pattern(5 << 20)
    got, seen = reach(machine, body, path="/v1/files", answer={"status": 200, "body_bytes": 5 << 20})
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert dict(seen["headers"])["Content-Length"] == str(5 << 20)
    assert got.body == body
    assert got.header("content-length") == str(5 << 20)


def test_chunked_upload(machine):
    provider, daemon = machine
    provider.answers(AUTO)
    provider.clear()
    with Raw(daemon) as c:
        c.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (BLOB, b"x", BLOB[::-1]):
            c.chunk(piece)
        c.chunk(b"")
        assert c.answer().status == 200
    seen, = provider.record()
    assert seen["body_sha256"] == hashlib.sha256(BLOB + b"x" + BLOB[::-1]).hexdigest()
    assert "transfer-encoding" not in {n.lower() for n, _ in seen["headers"]}


@pytest.mark.parametrize("name", ["websocket", "WebSocket", "websocket, foo/2"])
def test_websocket(machine, name):
    provider, daemon = machine
    provider.clear()
    answer = ask(daemon, None, method="GET", path="/v1/realtime?model=x", headers=[
        "Connection: Upgrade", f"Upgrade: {name}", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
    assert (answer.status, answer.header("upgrade")) == (426, "HTTP/1.1")  # agents go on over HTTP at once
    assert answer.error["code"] == "upgrade_not_supported"
    assert "WebSocket" in answer.error["message"]
    assert provider.record() == []


# --- answers ---------------------------------------------------------------------------------------

STATUSES = [200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402,
            403, 404, 405, 406, 409, 410, 413, 418, 422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 505,
            511, 520, 529, 599]


@pytest.mark.parametrize("status", STATUSES)
def test_status(machine, status):
    body = "" if status in (204, 304) else f'{{"n":{status}}}'
    got, _ = reach(machine, headers=["x-retryd-no-retry: yes"],
                   answer={"status": status, "body": body, "headers": {"location": "/x"}})
    assert (got.status, got.body.decode()) == (status, body)
    assert got.header("location") == "/x"


ANSWER_HEADERS = [
    ("X-Request-Id", "req_1"), ("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "59"),
    ("x-ratelimit-reset-requests", "1s"), ("X-RateLimit-Reset-Tokens", "6m0s"), ("Set-Cookie", "a=1; Path=/"),
    ("Content-Type", "application/json; charset=utf-8"), ("set-cookie", "b=2; HttpOnly"),
    ("openai-processing-ms", "12"), ("X-MiXed", "a, \"b\"; c"), ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ("Server", "cloudflare"), ("CF-RAY", "x-y"), ("ETag", 'W/"x"'), ("Vary", "Origin"), ("vary", "Accept"),
    ("X-Latin", "caf\xe9"), ("Via", "1.1 google"), ("Alt-Svc", 'h3=":443"; ma=86400'),
    ("Strict-Transport-Security", "max-age=1"), ("Cache-Control", "no-store"), ("X-Long", "z" * 6000),
]
OURS = {"x-retryd-attempts", "x-retryd-wait-ms", "x-retryd-target", "proxy-status"}
FRAMING = {"content-length", "connection", "transfer-encoding"}


def end_to_end(answer, leave_out=OURS | FRAMING):
    return [(n, v) for n, v in answer.headers if n.lower() not in leave_out]


def wire(head, body=b""):
    text = "HTTP/1.1 " + "\r\n".join(head) + "\r\n\r\n"
    return {"wire": [{"send_b64": base64.b64encode(text.encode("latin-1") + body).decode()}, {"close": True}]}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_answer_headers(machine, framing):
    head = ["200 OK", *(f"{n}: {v}" for n, v in ANSWER_HEADERS)]
    frame = {"length": ("Content-Length: 2", b"{}"), "close": ("Connection: close", b"{}"),
             "chunked": ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")}[framing]
    got, _ = reach(machine, answer=wire([*head, frame[0]], frame[1]))
    assert got.body == b"{}"
    assert end_to_end(got) == ANSWER_HEADERS
    assert got.header("content-length") == "2"


def test_stream_answer_headers(machine):
    headers = [h for h in ANSWER_HEADERS if h[0] != "Content-Type"] + [("Content-Type", "text/event-stream")]
    head = ["200 OK", *(f"{n}: {v}" for n, v in headers), "Connection: close"]
    got, _ = reach(machine, STREAM, answer=wire(head, b"data: {}\n\ndata: [DONE]\n\n"))
    assert got.body == b"data: {}\n\ndata: [DONE]\n\n"
    assert end_to_end(got) == headers


def test_hop_by_hop_answer_headers(machine):
    head = ["200 OK", "Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=1", "Content-Length: 2",
            "Proxy-Authenticate: Basic", "Trailer: X-Sum", "Upgrade: h2c", "Proxy-Connection: x", "X-Stays: 1"]
    got, _ = reach(machine, answer=wire(head, b"{}"))
    names = {n.lower() for n, _ in got.headers}
    assert names - {"date"} == {"x-stays"} | OURS | {"content-length"} | (names & {"connection"})
    assert "close, X-Hop" not in got.all("connection")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 404])
def test_compressed_bytes(machine, encoding, status):
    provider, _ = machine
    answer = {"status": status, "json": {"choices": [{"text": "hello " * 1000}]}, "encoding": encoding}
    headers = ["Accept-Encoding: gzip, deflate"]
    got, _ = reach(machine, headers=headers, answer=answer)
    direct = ask(("127.0.0.1", provider.port), headers=headers)
    assert got.status == direct.status == status
    assert got.header("content-encoding") == encoding
    assert got.body == direct.body and len(got.body) < 1000


def test_unreadable_coding_passes(machine):
    blob = base64.b64encode(BLOB).decode()
    got, _ = reach(machine, answer={"status": 200, "body_b64": blob, "headers": {"content-encoding": "br"}})
    assert (got.body, got.header("content-encoding")) == (BLOB, "br")


def test_binary_body(machine):
    got, _ = reach(machine, answer={"status": 200, "body_b64": base64.b64encode(BLOB).decode(),
                                    "headers": {"content-type": "audio/mpeg"}})
    assert got.body == BLOB


def test_early_hints_are_not_the_response(machine):
    got, _ = reach(machine, answer={"preset": "auto", "early_hints": True})
    assert got.status == 200 and got.json()["choices"]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_interim_responses_pass(machine, body):
    """RFC 9110 15.2: at once, before there is a response; not to a client of HTTP/1.0, which knows none."""
    provider, daemon = machine
    provider.answers({"preset": "auto", "early_hints": True, "delay_ms": 300})
    with Raw(daemon) as c:
        for _ in range(2):
            c.request(body=body)
            hints = c.answer_head()
            assert (hints.status, hints.version) == (103, "HTTP/1.1")
            assert hints.header("link")
            assert hints.header("connection") is None
            assert c.answer().status == 200
    with Raw(daemon) as c:
        c.request(body=body, version="1.0")
        assert c.answer_head().status == 200



WITHOUT_BODY = {  # name: (the upstream's head, the method, may another request follow)
    "head": (["200 OK", "Content-Length: 1234", "X-A: 1"], "HEAD", True),
    "head-404": (["404 Not Found", "Content-Length: 17"], "HEAD", True),
    "head-chunked": (["200 OK", "Transfer-Encoding: chunked"], "HEAD", False),
    "head-bare": (["200 OK"], "HEAD", False),
    "head-304": (["304 Not Modified"], "HEAD", False),
    "304": (["304 Not Modified", "Content-Length: 1234", 'ETag: "x"'], "GET", True),
    "304-bare": (["304 Not Modified"], "GET", False),
    "204": (["204 No Content"], "POST", True),
}


@pytest.mark.parametrize("name", WITHOUT_BODY)
def test_answers_without_a_body(machine, name):
    """They tell the length they would have had, and nothing follows that is taken for a response."""
    provider, daemon = machine
    lines, method, goes_on = WITHOUT_BODY[name]
    provider.answers(wire(lines), AUTO)
    wanted = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines[1:]}
    wanted.pop("transfer-encoding", None)
    with Raw(daemon) as c:
        c.request(method, "/v1/files/1")
        got = c.answer(method)
        assert got.status == int(lines[0].split()[0])
        assert {n: got.header(n) for n in wanted} == wanted
        if "content-length" not in wanted:
            assert got.header("content-length") is None
        if goes_on:
            c.request(body=CHAT)
            assert c.answer().status == 200
        else:
            assert got.header("connection") == "close"
            assert c.rest() == b""
