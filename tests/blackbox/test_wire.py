"""HTTP/1.x from real clients: framing, limits, refusals, and what happens to the connection."""

import hashlib
import json
import subprocess

import pytest
from client import pattern
from raw import CHAT, STREAM, Closed, Raw, ask, head_of, in_time, now_ms, wait_idle, wait_metric, wait_requests

CHAT_BYTES = json.dumps(CHAT).encode()
PATH = "/v1/chat/completions"
JSON = "Content-Type: application/json"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def curl(*args, data=b""):
    """(exit code, what it wrote)"""
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", "30", *args], input=data,
                          capture_output=True, timeout=60)
    return done.returncode, done.stdout


# --- bodies ----------------------------------------------------------------------------------------


def test_chunked_upload(provider, retryd):
    """C1: Chunks of any size, with trailers; the upstream gets a length."""
    d = retryd()
    body = pattern(100_000)
    with Raw(d) as c:
        for sizes in ([1] * 300 + [99_700], [7, 4096, 65_000, 30_897], [100_000]):
            c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
            at = 0
            for n in sizes:
                c.chunk(body[at:at + n])
                at += n
            c.send(b"0\r\nX-Trailer: dropped\r\n\r\n")
            assert c.answer().status == 200
    record = provider.record()
    assert [r["body_sha256"] for r in record] == [sha(body)] * 3
    for r in record:
        names = {n.lower(): v for n, v in r["headers"]}
        assert names["content-length"] == "100000"
        assert "transfer-encoding" not in names and "x-trailer" not in names


def test_chunk_extensions_are_dropped_or_refused(provider, retryd):
    """libmicrohttpd 0.9.75 reads over them, 1.0.1 wants none of them; no one takes them for data."""
    d = retryd()
    for extension in (b"", b";note", b";note=x", b";note=\"a b\""):
        provider.clear()
        with Raw(d) as c:
            c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
            c.send(b"%x%s\r\n%s\r\n0\r\n\r\n" % (len(CHAT_BYTES), extension, CHAT_BYTES))
            status = c.answer().status
        assert status == 200 or (extension and status == 400), extension
        assert [r["body"] for r in provider.record()] == [CHAT_BYTES.decode()] * (status == 200)


def test_empty_bodies(provider, retryd):
    """C1."""
    d = retryd()
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]) + b"0\r\n\r\n")
        assert c.answer().status == 200
        c.request("POST", PATH, b"")
        assert c.answer().status == 200
        c.request("POST", PATH)  # neither length nor encoding: no body
        assert c.answer().status == 200
        c.request("DELETE", "/v1/models/x")
        c.answer()
    assert [r["body_len"] for r in provider.record()] == [0] * 4


def test_retried_upload_is_the_same_body(provider, retryd):
    """C1."""
    provider.answers({"preset": "error", "status": 503},
                     {"status": 503, "on": "head", "cut": {"after_head": True}}, {"preset": "ok"})
    d = retryd()
    body = pattern(3_000_000)
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
        for at in range(0, len(body), 50_000):
            c.chunk(body[at:at + 50_000])
        c.send(b"0\r\n\r\n")
        answer = c.answer()
    assert answer.status == 200
    record = provider.wait(requests=3)
    assert [record[0]["body_sha256"], record[2]["body_sha256"]] == [sha(body)] * 2


def test_curl_uploads(provider, retryd):
    """C1: curl by itself: chunked from a pipe, and Expect: 100-continue for large bodies."""
    d = retryd()
    body = pattern(2_500_000)
    for args in (["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-T", "-", "-X", "POST"]):
        upload = [] if "-T" in args else ["--data-binary", "@-"]
        code, out = curl("-w", "%{http_code}", "-o", "/dev/null", *args, *upload, d.base_url + "/chat/completions",
                         data=body)
        assert (code, out) == (0, b"200")
    assert [r["body_sha256"] for r in provider.record()] == [sha(body)] * 3
    for r in provider.record():
        assert "expect" not in [n.lower() for n, _ in r["headers"]]


def test_expect_100_continue(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        for _ in range(2):
            c.send(head_of("POST", PATH, ["Expect: 100-continue", f"Content-Length: {len(CHAT_BYTES)}"]))
            assert c.answer_head().status == 100  # before a byte of the body
            assert provider.stats()["requests"] == len(provider.record())
            c.send(CHAT_BYTES)
            assert c.answer().status == 200
    assert [r["body"] for r in provider.record()] == [CHAT_BYTES.decode()] * 2


def test_expect_is_refused_before_the_body(provider, retryd):
    d = retryd(server={"max_body": "64K"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Expect: 100-continue", "Content-Length: 65537"]))
        answer = c.answer_head()
        assert answer.status == 413, "the body was asked for in vain"
    assert provider.record() == []


# --- limits ----------------------------------------------------------------------------------------


def test_max_body(provider, retryd):
    """C15."""
    limit = 64 * 1024
    d = retryd(server={"max_body": "64K"})
    for chunked in (False, True):
        for n in (limit - 1, limit, limit + 1, limit * 40):
            body = pattern(n)
            with Raw(d) as c:
                if chunked:
                    c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
                    for at in range(0, n, 5000):
                        c.chunk(body[at:at + 5000])
                    c.send(b"0\r\n\r\n")
                else:
                    c.send(head_of("POST", PATH, [f"Content-Length: {n}"]) + body)
                answer = c.answer()
            if n <= limit:
                assert answer.status == 200
                assert provider.record()[-1]["body_sha256"] == sha(body)
            else:
                assert answer.status == 413
                assert answer.error["code"] == "request_too_large"
                assert "max_body" in answer.error["message"]
    assert len(provider.record()) == 4


@pytest.mark.parametrize("chunks,status", [(50, 413), (0, 400), (3, 400)])
def test_a_refused_body_is_told_as_that(provider, retryd, chunks, status):
    """Too large, or not in chunks: the client did not leave, and neither the log nor the counters say so."""
    d = retryd(server={"max_body": "64K"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
        for _ in range(chunks):
            c.chunk(b"x" * 5000)
        c.send(b"0\r\n\r\n" if status == 413 else b"no chunk\r\n")
        assert c.answer().status == status
    line = wait_requests(d, 1)[0]
    assert (line["end"], line["status"], line["reason"]) == ("refused", str(status), "client_error")
    assert line["attempts"] == "0"
    samples = wait_idle(d)
    assert samples['retryd_requests_ended_total{end="refused"}'] == 1
    assert samples.get('retryd_requests_ended_total{end="client_gone"}', 0) == 0
    assert samples["retryd_refused_total"] == samples["retryd_requests_total"] == 1
    assert "request refused" not in d.log, "it is told once"
    assert provider.record() == []


def test_a_client_that_leaves_amid_its_body_is_told_as_that(provider, retryd):
    d = retryd()
    for n, leave in enumerate((Raw.close, Raw.reset, Raw.half_close), 1):
        with Raw(d) as c:
            c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
            c.chunk(b"{")
            wait_metric(d, "retryd_requests_total", n)
            leave(c)
            d.wait_line("end=client_gone", count=n)
    assert "end=refused" not in d.log


def test_refused_at_the_head(provider, retryd):
    """C15: What is too much to be read and dropped is refused before it comes."""
    d = retryd(server={"max_body": "64K"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, [f"Content-Length: {1 << 40}"]))
        answer = c.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert c.is_closed()
    assert provider.record() == []


@pytest.mark.parametrize("headers", [[], ["Origin: https://evil.example"]])
def test_client_that_sends_it_all_reads_why(provider, retryd, headers):
    """C15: A client that writes first and reads later still learns why, and does not see a reset."""
    d = retryd(server={"max_body": "64K"})
    body = pattern(8_000_000)
    with Raw(d) as c:
        for _ in range(3):
            c.request("POST", PATH, body, headers)
            answer = c.answer()
            assert answer.status == (403 if headers else 413)
            assert answer.error["code"] == ("not_allowed" if headers else "request_too_large")
        c.request("POST", PATH, CHAT)
        assert c.answer().status == 200
    assert len(provider.record()) == 1


def test_endless_refused_upload_is_cut(provider, retryd):
    """After 64 MiB, or after a second in which the client does not read what it was told."""
    d = retryd(server={"max_body": "64K"})
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
        with pytest.raises(OSError):
            for _ in range(4096):  # 256 MiB
                c.send(piece)
                sent += 65536
    assert 64 << 10 < sent < 200 << 20
    assert ask(d).status == 200
    assert len(provider.record()) == 1


def test_hundred_headers_pass(provider, retryd):
    """C1."""
    d = retryd()
    mine = [(f"X-Test-{n}", f"value {n}") for n in range(97)]
    answer = ask(d, headers=[f"{n}: {v}" for n, v in mine])  # and Host, type, length
    assert answer.status == 200
    assert [tuple(h) for h in provider.record()[0]["headers"] if h[0].startswith("X-Test-")] == mine


def test_too_many_or_too_large_headers(provider, retryd):
    d = retryd()
    answer = ask(d, headers=[f"X-{n}: 1" for n in range(98)])
    assert answer.status == 431 and answer.error["message"]
    answer = ask(d, headers=["X-Big: " + "x" * 14_000])
    assert answer.status == 200
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["X-Big: " + "x" * 20_000, "Content-Length: 0"]))
        assert c.answer_head().status == 431
        assert c.is_closed()
    assert len(provider.record()) == 1


@pytest.mark.parametrize("target", [
    "/v1/models?" + "q=" + "x" * 8000, "/v1/" + "y" * 12_000, "/v1/a%2Fb%20c%00d?e=%26&f=;g#h".split("#")[0],
    "/v1//double//slash", "/v1/up/../here/./x", "/v1/?", "/v1/files/%e4%bd%a0/caf%C3%A9", "/v1/a?b?c=/d//e"])
def test_target_is_unchanged(provider, retryd, target):
    """C1."""
    d = retryd()
    with Raw(d) as c:
        c.request("GET", target)
        c.answer()
    assert provider.record()[0]["target"] == target


def test_too_long_target(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        c.send(head_of("GET", "/v1/" + "z" * 60_000))
        assert c.answer_head().status in (414, 431)
        assert c.is_closed()
    assert provider.record() == []


def test_large_response_heads(provider, retryd):
    """Heads that fit come whole, and one that does not is a response that cannot be read."""
    provider.answers({"preset": "ok", "headers": [[f"x-h-{n}", "v" * 200] for n in range(60)]},
                     {"preset": "ok", "headers": [[f"x-h-{n}", "v" * 1000] for n in range(100)]})
    d = retryd(retry={"max_attempts": 1})
    answer = ask(d)
    assert answer.status == 200
    assert [answer.header(f"x-h-{n}") for n in range(60)] == ["v" * 200] * 60
    answer = ask(d)
    assert answer.status == 502
    assert answer.error["message"]


# --- connections -----------------------------------------------------------------------------------


def test_pipelined_requests(provider, retryd):
    """Answered one after the other, in order, even where a later one would be faster."""
    provider.answers(*({"preset": "auto", "text": f"number {n}", "delay_ms": (5 - n) * 30} for n in range(6)))
    d = retryd()
    one = head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"]) + CHAT_BYTES
    with Raw(d) as c:
        c.send(one * 6)
        got = [c.answer().json()["choices"][0]["message"]["content"] for _ in range(6)]
        assert got == [f"number {n}" for n in range(6)]
        assert c.is_open()
    assert len(provider.record()) == 6


def test_pipelined_with_bodies_of_all_kinds(provider, retryd):
    d = retryd()
    chunked = head_of("POST", PATH, ["Transfer-Encoding: chunked"]) + b"2\r\n{}\r\n0\r\n\r\n"
    stream = json.dumps(STREAM).encode()
    with Raw(d) as c:
        c.send(chunked + head_of("GET", "/v1/models") + head_of("HEAD", "/v1/models")
               + head_of("POST", PATH, [f"Content-Length: {len(stream)}"]) + stream + chunked)
        for method in ("POST", "GET", "HEAD", "POST", "POST"):
            assert c.answer(method).status == 200
        assert c.is_open()


def test_head(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        for path in ("/v1/models", "/elsewhere", "/v1/models"):
            c.request("GET", path)
            get = c.answer()
            c.request("HEAD", path)
            head = c.answer("HEAD")
            assert (head.status, head.body) == (get.status, b"")
            assert head.header("content-length") == str(len(get.body))
            assert c.is_open()
    assert [r["method"] for r in provider.record()] == ["GET", "HEAD"] * 2


def test_http_1_0(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        c.send(head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"], version="1.0") + CHAT_BYTES)
        answer = c.answer()
        assert answer.status == 200 and answer.json()["choices"]
        assert answer.header("transfer-encoding") is None
        assert c.is_closed()
    with Raw(d) as c:
        for _ in range(3):
            c.send(head_of("POST", PATH, ["Connection: keep-alive", JSON, f"Content-Length: {len(CHAT_BYTES)}"],
                           version="1.0") + CHAT_BYTES)
            answer = c.answer()
            assert answer.status == 200
            assert answer.header("connection").lower() == "keep-alive"


def test_http_1_0_stream_is_whole_or_an_error(provider, retryd):
    """HTTP/1.0 cannot show that a stream broke: it is held, and comes with a length."""
    provider.answers({"preset": "auto", "cut": {"after_events": 3}}, {"preset": "auto", "events": 5})
    d = retryd()
    body = json.dumps(STREAM).encode()
    with Raw(d) as c:
        c.send(head_of("POST", PATH, [JSON, f"Content-Length: {len(body)}"], version="1.0") + body)
        answer = c.answer()
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.header("x-retryd-attempts") == "2"


def test_http_1_0_answer_that_breaks_is_a_reset(provider, retryd):
    """Beyond hold_limit, without a length: a plain end would make half a response look whole."""
    provider.answers({"body_bytes": 3_000_000, "chunked": True, "cut": {"after_bytes": 2_000_000, "delay_ms": 100}},
                     {"body_bytes": 3_000_000, "chunked": True})
    d = retryd(server={"hold_limit": "64K"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"], version="1.0") + CHAT_BYTES)
        answer = c.answer_head()
        assert answer.status == 200 and answer.header("content-length") is None
        with pytest.raises(ConnectionResetError):
            while True:
                c.more()
    assert wait_requests(d, 1)[0]["end"] == "broken"
    with Raw(d) as c:
        c.send(head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"], version="1.0") + CHAT_BYTES)
        assert c.answer().body == pattern(3_000_000)


@pytest.mark.parametrize("date", [[], ["Sun, 06 Nov 1994 08:49:37 GMT"]])
def test_date_is_the_upstreams(provider, retryd, date):
    """C1."""
    head = "".join(f"{line}\r\n" for line in ["HTTP/1.1 200 OK", *(f"Date: {d}" for d in date), "Content-Length: 2"])
    provider.answers({"wire": [{"send": head + "\r\n{}"}, {"fin": True}]})
    answer = ask(retryd())
    assert answer.json() == {}
    assert answer.all("date") == date


def test_connection_close_is_kept_to(provider, retryd):
    d = retryd()
    for body in (CHAT, STREAM):
        with Raw(d) as c:
            c.request("POST", PATH, body, ["Connection: close"])
            answer = c.answer()
            assert answer.header("connection").lower() == "close"
            assert c.is_closed()
    for r in provider.record():
        assert [v for n, v in r["headers"] if n.lower() == "connection"] in ([], ["keep-alive"])


def test_keep_alive_after_each_kind_of_response(provider, retryd):
    provider.rules({"key": "x-n", "answers": [{"preset": "auto"}]},)
    d = retryd()
    with Raw(d) as c:
        for n in range(120):
            c.request("POST", PATH, STREAM if n % 3 == 0 else CHAT)
            answer = c.answer()
            assert answer.status == 200
            assert (answer.header("transfer-encoding") == "chunked") == (n % 3 == 0)
        assert c.is_open()
    assert provider.stats()["connections"] == 1


def test_half_close_is_leaving(provider, retryd):
    """A FIN cannot be told from a half-close: whoever sends one is taken to have left."""
    provider.answers({"preset": "auto", "delay_ms": 5000})
    d = retryd()
    with Raw(d) as c:
        c.request("POST", PATH, CHAT)
        provider.wait(heads=1)
        c.half_close()
        left = now_ms()
        assert c.is_closed()
    record = provider.wait(closed=1)
    in_time(record[0]["t_closed"] - left)
    assert wait_requests(d, 1)[0]["end"] == "client_gone"


def test_request_in_single_bytes(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        data = head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"]) + CHAT_BYTES
        for n in range(len(data)):
            c.send(data[n:n + 1])
        assert c.answer().status == 200
    assert provider.record()[0]["body"] == CHAT_BYTES.decode()


# --- refusals --------------------------------------------------------------------------------------


REFUSALS = {
    "another host": (403, dict(host="evil.example"), [], "allowed_hosts"),
    "host with a port of another": (403, dict(host="evil.example:80"), [], "allowed_hosts"),
    "a web page": (403, {}, ["Origin: https://evil.example"], "allowed_origins"),
    "a page without an origin": (403, {}, ["Origin: null"], "allowed_origins"),
    "cross-site": (403, {}, ["Sec-Fetch-Site: cross-site"], "web pages"),
    "same-site": (403, {}, ["Sec-Fetch-Site: same-site"], "web pages"),
    "websocket": (426, {}, ["Connection: Upgrade", "Upgrade: websocket"], "WebSocket"),
    "too large": (413, {}, ["Content-Length: 999999999"], "max_body"),
    "too many headers": (431, {}, [f"X-{n}: 1" for n in range(101)], "100"),
    "not a token": (400, {}, ["X(Y: 1"], "token"),
    "bad override": (400, {}, ["x-retryd-max-attempts: 0"], "x-retryd-max-attempts"),
    "bad deadline": (400, {}, ["x-retryd-deadline: soon"], "x-retryd-deadline"),
    "bad stream mode": (400, {}, ["x-retryd-stream-mode: backwards"], "x-retryd-stream-mode"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_can_be_read_by_an_sdk(provider, retryd, name):
    status, how, headers, word = REFUSALS[name]
    d = retryd(server={"max_body": "1M"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, headers, **how))
        answer = c.answer()
    assert answer.status == status
    assert word in answer.error["message"], answer.error
    assert answer.error["type"] == "invalid_request_error" or status >= 500
    assert answer.header("proxy-status").startswith("retryd")
    assert provider.record() == []
    assert ask(d, CHAT).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:4290", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:4290"])
def test_hosts_that_may_come_in(provider, retryd, host):
    d = retryd()
    with Raw(d) as c:
        c.request("POST", PATH, CHAT, host=host)
        assert c.answer().status == 200


def test_no_route(provider, retryd):
    d = retryd()
    answer = ask(d, path="/chat/completions")
    assert answer.status == 404
    assert answer.error["code"] == "no_route"
    assert "/v1" in answer.error["message"]
    assert provider.record() == []


def test_broken_off_requests_reach_nobody(provider, retryd):
    d = retryd()
    whole = head_of("POST", PATH, [JSON, f"Content-Length: {len(CHAT_BYTES)}"]) + CHAT_BYTES
    chunked = head_of("POST", PATH, ["Transfer-Encoding: chunked"]) + b"2\r\n{}\r\n"
    for data in [whole[:n] for n in range(0, len(whole), 9)] + [chunked, chunked + b"0\r\n"]:
        with Raw(d) as c:
            c.send(data)
            c.half_close()
            half_closed = now_ms()
            with pytest.raises((Closed, ConnectionResetError)):
                c.answer()
            assert now_ms() - half_closed < 5000, "a body may rest for 10 s"
    assert ask(d).status == 200
    assert len(provider.record()) == 1


def test_a_configured_host_takes_the_place_of_the_urls(provider, retryd):
    """For an upstream that is reached by another name than it serves."""
    provider.answers({"preset": "auto"})
    d = retryd(upstream_settings={"header.Host": "api.example"})
    assert ask(d).status == 200
    assert [value for name, value in provider.record()[0]["headers"] if name.lower() == "host"] == ["api.example"]
