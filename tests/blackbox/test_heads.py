"""Request headers at the limits of HTTP/1.1: retryd accepts everything well-formed, and nothing that two readers could
read differently.
"""

import json

import pytest
from raw import CHAT, Raw, ask, head_of, now_ms, wait_requests

BODY = json.dumps(CHAT).encode()
PATH = "/v1/chat/completions"


def post(*headers, path=PATH, body=BODY, **how):
    return head_of("POST", path, [*headers, f"Content-Length: {len(body)}"], **how) + body


def sent(daemon, data):
    with Raw(daemon) as c:
        c.send(data)
        return c.answer()


# --- lengths -----------------------------------------------------------------------------------------

LENGTHS = {
    "2^64-1": ["Content-Length: 18446744073709551615"],
    "2^64-2": ["Content-Length: 18446744073709551614"],
    "2^63": ["Content-Length: 9223372036854775808"],
    "2^64": ["Content-Length: 18446744073709551616"],
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_that_no_body_has_are_refused_at_once(provider, retryd, name):
    """C15: Before a byte of it: the client waits for nothing else."""
    d = retryd()
    with Raw(d) as c:
        start = now_ms()
        c.send(head_of("POST", PATH, LENGTHS[name]))
        answer = c.answer_head()
        assert (answer.status, answer.header("connection").lower()) == (413, "close")
        assert now_ms() - start < 5000
        c.rest()
    assert provider.record() == []
    assert ask(d).status == 200


@pytest.mark.parametrize("length", [b"x", b"2x", b"-1", b"0x2", b"2,2"])
def test_what_the_library_refuses_by_itself_is_told(provider, retryd, length):
    """C24: A Content-Length that is no number is answered before retryd hears of the request; the log has it, too."""
    d = retryd()
    with Raw(d) as c:
        c.send(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ".encode() + length + b"\r\n\r\n{}")
        assert c.answer().status == 400
        assert c.is_closed()
    d.wait_line('msg="request refused" status=400 why=')
    assert provider.record() == [] and ask(d).status == 200


def test_blanks_behind_a_length_libmicrohttpd0(provider, retryd):
    """C24."""
    d = retryd()
    assert sent(d, f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2 \r\n\r\n{{}}".encode()).status == 400
    d.wait_line('msg="request refused" status=400 why=')
    assert provider.record() == []


CHUNKS = {
    "FFFFFFFFFFFFFFFF": (b"FFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n", {400, 413}),
    "10000000000 with an extension libmicrohttpd0": (b"10000000000;a=b\r\nx", {400, 413}),
    "FFFFFFFFFFFFFFFF behind another": (b"2\r\n{}\r\nffffffffffffffff\r\n{}", {400, 413}),
    "beyond 64 bits": (b"10000000000000000\r\n{}", {400, 413}),
    "an extension of 100 KB libmicrohttpd0": (b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n", {400, 413}),
    "a size without an end": (b"2" + b" " * 100_000, {400, 413}),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_that_no_body_has_are_refused_at_once(provider, retryd, name):
    """C15: Not by a silent close once the body's time is over, which the log would call a client that left."""
    data, statuses = CHUNKS[name]
    d = retryd()
    with Raw(d) as c:
        start = now_ms()
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
        try:
            c.send(data)
        except OSError:  # it was refused amid it
            pass
        answer = c.answer_head()
        assert answer.status in statuses and answer.header("connection").lower() == "close"
        assert now_ms() - start < 8000
        assert c.is_closed()
    (told,) = wait_requests(d, 1)
    assert (told["end"], int(told["status"])) == ("refused", answer.status)
    assert provider.record() == []
    assert ask(d).status == 200


TOO_LONG = {
    "2^32-1": b"FFFFFFFF\r\n{}",
    "2^31": b"80000000\r\n{}",
    "max_body and a byte": b"10001\r\n{}",
    "with zeros before it": b"0" * 60 + b"10001\r\n{}",
    "with a long extension libmicrohttpd0": b"FFFFFFFFFFFFFFFF;" + b"x" * 900 + b"\r\n{}",
    "with what came before": b"2\r\n{}\r\nffff\r\n{}",
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_chunk_beyond_max_body_is_refused_by_its_line(provider, retryd, name):
    """C15: Nothing more comes, so that only its line can tell."""
    d = retryd(server={"max_body": "64K"})
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]) + TOO_LONG[name])
        answer = c.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert c.is_closed()
    assert provider.record() == []


def test_a_chunk_of_just_max_body_comes_in(provider, retryd):
    """C15."""
    body = BODY + b" " * (65536 - len(BODY))
    d = retryd(server={"max_body": "64K"})
    for sizes in ([65536], [2, 65534], [65535, 1]):
        with Raw(d) as c:
            c.send(head_of("POST", PATH, ["Transfer-Encoding: chunked"]))
            at = 0
            for n in sizes:
                c.send(b"%x\r\n%s\r\n" % (n, body[at:at + n]))
                at += n
            c.send(b"0\r\n\r\n")
            assert c.answer().status == 200


def test_a_body_that_stands_still_is_told_so(provider, retryd):
    """C15."""
    d = retryd()
    with Raw(d) as c:
        c.send(head_of("POST", PATH, ["Content-Length: 1000"]) + b"x")
        answer = c.answer()
        assert answer.status == 408 and answer.error["message"].startswith("retryd:")
        assert c.is_closed()
    (told,) = wait_requests(d, 1)
    assert (told["end"], told["status"]) == ("refused", "408")


# --- names, hosts, targets ---------------------------------------------------------------------------

GLUED = {
    "NUL in a value": b"Authorization: Bearer sk\0x\r\n",
    "NUL at the end of a value": b"Authorization: Bearer sk\0\r\n",
    "NUL before a value": b"X-A: \0x\r\n",
    "folded": b"X-T: v\r\n cont\r\n",
    "folded twice": b"X-T: v\r\n\tcont\r\n more\r\n",
    "folded with a colon": b"X-T: v\r\n cont: x\r\n",
    "bare LF": b"X-T: v\nX-U: w\r\n",
    "no name": b": x\r\n",
    "no name, with a length": b": x\r\nContent-Length: 4\r\n",
    "CR in a value": b"X-T: v\rX-U: w\r\n",
}


@pytest.mark.parametrize("place", ["first", "amid", "last"])
@pytest.mark.parametrize("name", GLUED)
def test_lines_that_are_cut_or_glued_are_refused(provider, retryd, name, place):
    d = retryd()
    start, host, length = f"POST {PATH} HTTP/1.1\r\n".encode(), b"Host: localhost\r\n", b"Content-Length: 2\r\n"
    fields = {"first": [GLUED[name], host, length], "amid": [host, GLUED[name], length],
              "last": [host, length, GLUED[name]]}[place]
    answer = sent(d, start + b"".join(fields) + b"\r\n{}")
    assert answer.status == 400
    assert provider.record() == []


WITH_NUL = [b"/v1/models\0x", b"/v1/mod\0els?a=b", b"/v1/models?a=\0"]


@pytest.mark.parametrize("target", WITH_NUL)
def test_a_target_with_a_nul_is_refused_libmicrohttpd0(provider, retryd, target):
    assert sent(retryd(), b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 400
    assert provider.record() == []


@pytest.mark.parametrize("target", WITH_NUL)
def test_a_target_with_a_nul_ends_the_connection_libmicrohttpd1(provider, retryd, target):
    """Before retryd has seen it, and without a word."""
    with Raw(retryd()) as c:
        c.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert c.rest() == b""
    assert provider.record() == []


def test_whole_heads_of_every_size_and_in_any_pieces_come_in(provider, retryd):
    """C1: What is looked at to find the others moves within memory as a head grows."""
    d = retryd()
    for n in (1, 50, 990, 3000, 4090, 5100, 7000, 8100, 9300, 11000):
        fields = [f"X-{i}: {'v' * (n % 700)}" for i in range(n // 720)] + [f"X-Rest: {'r' * (n % 700)}", "X-Empty:"]
        data = post(*fields, path=PATH + "?a=b&c")
        for piece in (len(data), 1000, 701):
            provider.clear()
            with Raw(d) as c:
                for at in range(0, len(data), piece):
                    c.send(data[at:at + piece])
                assert c.answer().status == 200, (n, piece)
                c.send(data)
                assert c.answer().status == 200, (n, piece)
            names = [f for r in provider.record() for f, _ in r["headers"] if f.startswith("X-")]
            assert len(names) >= 2 * len(fields), (n, piece)


@pytest.mark.parametrize("host", ["localhost \t", " localhost", "localhost:4290  ", "[::1]:1 ", "localhost:"])
def test_blanks_around_the_host(provider, retryd, host):
    """C30."""
    assert sent(retryd(), post(host=host)).status == 200


@pytest.mark.parametrize("host", ["localhost:x", "localhost:4290x", "localhost:4290, evil.example", "localhost:1:2",
                                  "[::1]evil.example", "[::1]:x", "localhost:80 evil", "localhost/x"])
def test_a_host_with_anything_else_behind_it(provider, retryd, host):
    """C30."""
    answer = sent(retryd(), post(host=host))
    assert answer.status in (400, 403)
    assert answer.error["message"].startswith("retryd:")
    assert provider.record() == []


def test_blanks_around_values_are_no_part_of_them(provider, retryd):
    """C1."""
    assert sent(retryd(), post("X-A: \t a b \t ")).status == 200
    assert dict(provider.record()[0]["headers"])["X-A"] == "a b"


@pytest.mark.parametrize("target, host, status", [
    ("http://localhost" + PATH, "evil.example", 200),
    ("HTTP://LOCALHOST:4290" + PATH + "?a=b", "localhost", 200),
    ("https://[::1]" + PATH, "localhost", 200),
    ("http://evil.example" + PATH, "localhost", 403),
    ("http://localhost:x" + PATH, "localhost", 403),
    ("http://me@localhost" + PATH, "localhost", 400),
    ("http://" + PATH, "localhost", 400),
    ("ftp://localhost" + PATH, "localhost", 400),
])
def test_absolute_targets(provider, retryd, target, host, status):
    """C30: RFC 9112 3.2.2: taken by every server, and their host takes the place of the Host."""
    answer = sent(retryd(), post(path=target, host=host))
    assert answer.status == status
    if status == 200:
        assert provider.record()[0]["target"] == target[target.lower().index("/v1"):]
    else:
        assert provider.record() == []
        assert answer.error["message"].startswith("retryd:")


@pytest.mark.parametrize("version, status", [("1.2", 200), ("1.9", 200), ("2.0", 505)])
def test_versions_to_come(provider, retryd, version, status):
    """RFC 9110 6.2: a higher minor version is spoken to in the one that is known."""
    d = retryd()
    with Raw(d) as c:
        c.send(post(version=version))
        answer = c.answer()
        assert answer.status == status
        if status == 200:
            assert answer.version == "HTTP/1.1"
            c.send(post(version=version))
            assert c.answer().status == 200


REFUSALS = {
    "no colon": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX(Y: 1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "a target without a slash": b"GET v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "trace": b"TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "101 fields": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 100 + b"\r\n",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_who_refuses(provider, retryd, name):
    """C24."""
    answer = sent(retryd(), REFUSALS[name])
    assert answer.error["message"].startswith("retryd: "), answer.error


# --- heads that do not fit ---------------------------------------------------------------------------


def fields(n, size=500):
    return [[f"x-h-{i}", "v" * size] for i in range(n)]


@pytest.mark.parametrize("body", [CHAT, {**CHAT, "stream": True}], ids=["whole", "stream"])
def test_a_response_head_that_does_not_fit_is_an_error_of_ours(provider, retryd, body):
    """C24: Heads of request and answer share 16 KiB. The bare close that libmicrohttpd makes of it tells nothing."""
    provider.answers({"preset": "auto", "headers": fields(16)})
    d = retryd()
    answer = ask(d, body, headers=["X-Large: " + "r" * 9000])
    assert answer.status == 502
    assert answer.error["code"] == "response_headers_too_large"
    assert answer.error["message"].startswith("retryd:") and "16 KiB" in answer.error["message"]
    assert "http_response_header_section_size" in answer.header("proxy-status")
    (told,) = wait_requests(d, 1)
    assert (told["end"], told["status"], told["reason"]) == ("failed", "502", "response_headers_too_large")
    assert d.metric('retryd_requests_ended_total{end="answered"}') == 0
    assert len(provider.record()) == 1
    # Beside a request of common size it fits, and the connection goes on after each.
    with Raw(d) as c:
        for large in (False, True, False):
            c.request("POST", PATH, body, headers=["X-Large: " + "r" * 9000] * large)
            assert c.answer().status == (502 if large else 200)


@pytest.mark.parametrize("cookie", ["", "a=b; " * 20], ids=["plain", "cookies"])
def test_no_size_of_both_heads_ends_in_a_bare_close(provider, retryd, cookie):
    """C24: A response, or an error that says why there is none: whatever is left of the connection's memory."""
    provider.answers({"preset": "ok", "headers": fields(8)})
    d = retryd()
    seen = set()
    for n in range(500, 9_000 if cookie else 16_000, 620):
        extra = [f"Cookie: {cookie}"] if cookie else []
        with Raw(d) as c:
            c.send(post("X-Large: " + "r" * n, *extra, path=PATH + "?" + "a=b&" * 20))
            answer = c.answer()
        seen.add(answer.status)  # 431 is libmicrohttpd's own where it could not even read the head
        assert answer.status in (200, 431, 502), n
        if (answer.header("content-type") or "").startswith("application/json") and answer.status != 200:
            assert answer.error["message"].startswith("retryd:")
    assert seen >= {200} if cookie else seen == {200, 431, 502}


def test_a_request_head_that_leaves_no_room(provider, retryd):
    """C24."""
    answer = sent(retryd(), post("X-Large: " + "r" * 15_000))
    assert answer.status == 431
    assert answer.error["code"] == "request_headers_too_large"
    assert "16 KiB" in answer.error["message"]
    assert provider.record() == []


def test_only_what_the_kernel_has_whole_is_logged_as_answered(provider, retryd):
    """C27: A whole response that its client never takes: the client is gone, whatever was meant for it."""
    provider.answers({"preset": "auto", "text": "x" * 12_000_000}, {"preset": "auto"})
    d = retryd(server={"hold_limit": "16M"})
    with Raw(d, receive_buffer=4096) as c:
        c.request("POST", PATH, CHAT)
        assert c.answer_head().status == 200
        assert d.requests() == []
        c.reset()
        (told,) = wait_requests(d, 1)
    assert (told["end"], told["reason"]) == ("client_gone", "client_gone")
    assert d.metric('retryd_requests_ended_total{end="client_gone"}') == 1
    assert d.metric('retryd_requests_ended_total{end="answered"}') == 0
    assert ask(d).status == 200
    assert wait_requests(d, 2)[1]["end"] == "answered"
