"""Shows each feature of the misbehaving provider on the wire, with raw sockets.

PROVIDER_BIN is the path of the program. Nothing sleeps: a test waits for bytes or for /_/wait.
"""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import pathlib
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from client import Provider, ProviderError, ProviderTimeout, pattern  # noqa: E402

AT_ONCE_MS = 500  # far below any delay here, and enough for a busy machine
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def now_ms():
    return time.monotonic() * 1000


class Wire:
    """One raw connection."""

    def __init__(self, address, context=None, session=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(20)
        self.sock.connect(address)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost",
                                            session=session, suppress_ragged_eofs=False)
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def request(self, method="POST", target="/v1/chat/completions", body=CHAT, headers=()):
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1", "Host: provider", *headers]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def more(self):
        piece = self.sock.recv(65536)
        self.data += piece
        return len(piece) > 0

    def until(self, mark):
        while mark not in self.data:
            if not self.more():
                raise EOFError(self.data)
        end = self.data.index(mark) + len(mark)
        taken, self.data = self.data[:end], self.data[end:]
        return taken

    def exactly(self, n):
        while len(self.data) < n:
            if not self.more():
                raise EOFError(self.data)
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def end(self):
        """Reads to the end; tells how it came, and what came before it."""
        try:
            while self.more():
                pass
        except (ConnectionResetError, BrokenPipeError):
            return "reset", self.data
        except ssl.SSLError as e:  # an SSLEOFError in newer Pythons
            if "EOF" not in str(e):
                raise
            return "truncated", self.data
        return "fin", self.data

    def raw_end(self):
        """How the TCP connection under TLS ends."""
        with socket.socket(fileno=os.dup(self.sock.fileno())) as raw:
            raw.settimeout(20)
            try:
                while raw.recv(65536):
                    pass
            except ConnectionResetError:
                return "reset"
            return "fin"

    def head(self):
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return Answer(int(status), reason, [tuple(line.split(": ", 1)) for line in lines[1:-2]])

    def chunks(self):
        """Yields (arrival, chunk) and reads the trailers."""
        while True:
            size = int(self.until(b"\r\n"), 16)
            if size == 0:
                self.trailers = self.until(b"\r\n" if self.peek_crlf() else b"\r\n\r\n")
                return
            data = self.exactly(size)
            arrival = now_ms()
            assert self.exactly(2) == b"\r\n"
            yield arrival, data

    def peek_crlf(self):
        while len(self.data) < 2:
            assert self.more()
        return self.data.startswith(b"\r\n")

    def answer(self, bodiless=False):
        answer = self.head()
        if answer.get("transfer-encoding") == "chunked" and not bodiless:
            answer.body = b"".join(data for _, data in self.chunks())
        elif answer.get("content-length") is not None and not bodiless:
            answer.body = self.exactly(int(answer.get("content-length")))
        return answer


class Answer:
    def __init__(self, status, reason, headers):
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""

    def get(self, name):
        return next((v for n, v in self.headers if n.lower() == name), None)

    def json(self):
        return json.loads(self.body)

    def events(self):
        return [event for event in self.body.decode().split("\n\n") if event]


@pytest.fixture(scope="session")
def cert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def running(cert, tmp_path_factory):
    path = tmp_path_factory.mktemp("unix") / "provider.sock"
    with Provider(os.environ["PROVIDER_BIN"], tls=cert, unix=path) as provider:
        yield provider


@pytest.fixture
def provider(running):
    running.script({})
    running.wait(open=0)
    running.clear()
    return running


@pytest.fixture
def wire(provider):
    with Wire(("127.0.0.1", provider.port)) as connection:
        yield connection


def connect(provider):
    return Wire(("127.0.0.1", provider.port))


def ask(provider, answer, **request):
    """One request with one scripted answer."""
    provider.answers(answer)
    with connect(provider) as wire:
        wire.request(**request)
        return wire.answer()


# ---- the command line ----


def test_ready_line_and_clean_end():
    provider = Provider(os.environ["PROVIDER_BIN"])
    assert provider.port > 0 and provider.tls_port is None and provider.unix is None
    with connect(provider) as wire:
        wire.request()
        assert wire.answer().status == 200
        provider.stop()
        assert wire.end()[0] == "fin"
    provider.stop()


def test_sigint_ends_it_in_the_middle_of_everything():
    with Provider(os.environ["PROVIDER_BIN"]) as provider:
        provider.answers({"stall": {"before_head": True}}, {"body_bytes": 10**9},
                         {"delay_ms": 60000}, {"preset": "chat_stream", "interval_ms": 60000})
        wires = [connect(provider) for _ in range(4)]
        for wire in wires:
            wire.request()
        provider.wait(requests=4)
        os.kill(provider.pid, signal.SIGINT)
        for wire in wires:
            assert wire.end()[0] in ("fin", "reset")
            wire.sock.close()


def test_script_file_and_log():
    script = {"default": {"status": 418}}
    with Provider(os.environ["PROVIDER_BIN"], script=script) as provider:
        with connect(provider) as wire:
            wire.request()
            assert wire.answer().status == 418
        assert provider.log() == "provider: #1 POST /v1/chat/completions -> 418\n"


def test_quiet_and_no_record():
    with Provider(os.environ["PROVIDER_BIN"], quiet=True, record=False) as provider:
        with connect(provider) as wire:
            wire.request()
            assert wire.answer().json()["model"] == "gpt-4o"
        provider.wait(answered=1)
        assert provider.record() == []
        assert provider.log() == ""


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--nonsense"], ["--tls-port", "0"],
                                       ["--script", "/nonexistent"], ["stray"]])
def test_bad_arguments(arguments):
    done = subprocess.run([os.environ["PROVIDER_BIN"], *arguments], capture_output=True, timeout=20)
    assert done.returncode != 0
    assert done.stderr


def test_unix_socket(provider):
    provider.answers({"status": 503, "json": {"where": "unix"}})
    with Wire(provider.unix) as wire:
        wire.request()
        answer = wire.answer()
        assert (answer.status, answer.json()) == (503, {"where": "unix"})
    provider.answers({"wire": [{"send": "HTTP/1.1 200"}, {"reset": True}]})
    with Wire(provider.unix) as wire:
        wire.request()
        assert wire.end()[1] == b"HTTP/1.1 200"


# ---- presets ----


def test_auto_chat(provider, wire):
    for n in range(3):
        wire.request()
        answer = wire.answer()
        body = answer.json()
        assert answer.status == 200 and answer.get("content-type") == "application/json"
        assert body["object"] == "chat.completion" and body["model"] == "gpt-4o"
        assert body["choices"][0]["message"]["role"] == "assistant"
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["usage"]["total_tokens"] > 0
        assert answer.get("openai-processing-ms") is not None
        assert answer.get("x-request-id")[4:] == body["id"][9:]
    assert [r["conn_n"] for r in provider.record()] == [1, 2, 3]


def test_each_response_has_its_own_request_id(wire):
    ids = set()
    for _ in range(5):
        wire.request()
        ids.add(wire.answer().get("x-request-id"))
    assert len(ids) == 5


def test_events_tell_when_they_are_sent(provider, wire):
    provider.answers({"preset": "chat_stream", "events": 3, "interval_ms": 20, "clock": True})
    before = time.monotonic_ns() // 1000 % 10**12
    for _ in range(2):  # the bytes are kept from one response to the next
        wire.request()
        chunks = [json.loads(event[6:]) for event in wire.answer().events()[:-1]]
        times = [int(text) for c in chunks if (text := c["choices"][0]["delta"].get("content"))]
        assert len(times) == 3 and before <= times[0] <= times[1] - 18_000 <= times[2] - 36_000, chunks
        before = times[2]
    assert before <= time.monotonic_ns() // 1000 % 10**12


def test_auto_chat_stream(wire):
    wire.request(body={"messages": [{"content": "\"}],[{\\"}], "stream": True, "model": "m-1"})
    answer = wire.answer()
    assert answer.get("content-type").startswith("text/event-stream")
    assert answer.get("transfer-encoding") == "chunked"
    events = answer.events()
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert {c["model"] for c in chunks} == {"m-1"} and len({c["id"] for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text == "Hello! This is the provider speaking."


def test_stream_flag_of_a_nested_object_does_not_count(wire):
    wire.request(body={"x": {"stream": True, "model": "no"}, "y": [{"stream": True}],
                       "model": "yes", "stream": False})
    assert wire.answer().json()["model"] == "yes"


def test_auto_responses(wire):
    wire.request(target="/v1/responses", body={"model": "m", "input": "x"})
    body = wire.answer().json()
    assert body["object"] == "response" and body["status"] == "completed"
    assert body["output"][0]["content"][0]["type"] == "output_text"
    assert body["usage"]["input_tokens"] == 9


def test_auto_responses_stream(wire):
    wire.request(target="/v1/responses", body={"model": "m", "input": "x", "stream": True})
    events = [event.split("\n") for event in wire.answer().events()]
    data = [json.loads(lines[1][6:]) for lines in events]
    assert [lines[0] for lines in events] == [f"event: {d['type']}" for d in data]
    assert [d["sequence_number"] for d in data] == list(range(len(data)))
    types = [d["type"] for d in data]
    assert types[:4] == ["response.created", "response.in_progress",
                         "response.output_item.added", "response.content_part.added"]
    assert types[-4:] == ["response.output_text.done", "response.content_part.done",
                          "response.output_item.done", "response.completed"]
    text = "".join(d["delta"] for d in data if d["type"] == "response.output_text.delta")
    assert text == data[-4]["text"] == data[-1]["response"]["output"][0]["content"][0]["text"]


def test_auto_others(wire):
    wire.request(target="/v1/completions", body={"model": "m", "prompt": "x"})
    assert wire.answer().json()["object"] == "text_completion"
    wire.request(target="/v1/completions", body={"model": "m", "prompt": "x", "stream": True})
    assert wire.answer().events()[-1] == "data: [DONE]"
    wire.request(target="/v1/embeddings", body={"model": "m", "input": "x"})
    assert wire.answer().json()["data"][0]["embedding"] == [0.25, -0.5, 0.75, 1.0]
    wire.request(target="/v1/embeddings",
                 body={"model": "m", "input": "x", "encoding_format": "base64"})
    assert len(base64.b64decode(wire.answer().json()["data"][0]["embedding"])) == 16
    wire.request("GET", "/v1/models?x=1", None)
    assert wire.answer().json()["object"] == "list"
    wire.request("GET", "/v1/models/gpt-5", None)
    assert wire.answer().json()["id"] == "gpt-5"
    wire.request("GET", "/anything", None)
    assert wire.answer().json() == {"ok": True}


def test_preset_options(provider):
    answer = ask(provider, {"preset": "chat_stream", "text": "äöü€", "events": 2, "model": "other",
                            "usage": True, "done": False})
    chunks = [json.loads(event[6:]) for event in answer.events()]
    deltas = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert deltas == ["", "äö", "ü€", None]
    assert chunks[-1]["usage"]["completion_tokens"] == 2 and chunks[-1]["choices"] == []
    assert {c["model"] for c in chunks} == {"other"}
    answer = ask(provider, {"preset": "chat_stream", "events": 3, "finish": False, "done": False})
    assert len(answer.events()) == 4
    answer = ask(provider, {"preset": "chat", "text": "", "usage": False, "status": 201,
                            "headers": {"x-extra": "1"}})
    assert answer.status == 201 and answer.get("x-extra") == "1"
    assert "usage" not in answer.json()


def test_stream_timing(provider, wire):
    provider.answers({"preset": "chat_stream", "events": 3, "first_delay_ms": 120,
                      "interval_ms": 60, "head_delay_ms": 80, "delay_ms": 100})
    start = now_ms()
    wire.request()
    wire.head()
    head = now_ms()
    arrivals = [arrival for arrival, _ in wire.chunks()]
    assert head - start >= 99
    # Counted from the start: a late reader sees them close together, but none too early.
    for arrival, least in zip(arrivals, (180, 300, 360, 420)):
        assert arrival - start >= least - 2
    record = provider.wait(answered=1)[0]
    assert start <= record["t_first"] <= record["t_head"] <= record["t_body"]
    assert record["t_body"] + 99 <= record["t_answer_start"] <= head
    assert record["t_answer_start"] + 315 <= record["t_answer_end"] <= now_ms()


def test_error_preset(provider):
    answer = ask(provider, {"preset": "error", "status": 429, "code": "rate_limit_exceeded",
                            "message": "Please try again in 1.2s", "type": "tokens",
                            "headers": {"retry-after": "2", "x-request-id": "mine"}})
    assert answer.status == 429 and answer.reason == "Too Many Requests"
    assert answer.get("retry-after") == "2" and answer.get("x-request-id") == "mine"
    assert answer.json() == {"error": {"message": "Please try again in 1.2s", "type": "tokens",
                                       "param": None, "code": "rate_limit_exceeded"}}


# ---- explicit answers ----


def test_explicit_head(provider):
    answer = ask(provider, {"status": 503, "reason": "Gone Fishing", "body": "later",
                            "headers": [["Set-Cookie", "a"], ["Set-Cookie", "b"],
                                        ["x-request-id", None]]})
    assert (answer.status, answer.reason, answer.body) == (503, "Gone Fishing", b"later")
    assert [v for n, v in answer.headers if n == "Set-Cookie"] == ["a", "b"]
    assert answer.get("x-request-id") is None


def test_explicit_bodies(provider):
    assert ask(provider, {"json": {"a": [1, "ü"]}}).json() == {"a": [1, "ü"]}
    assert ask(provider, {"body": "text"}).body == b"text"
    assert ask(provider, {"body_b64": "AP8Q"}).body == b"\x00\xff\x10"
    assert ask(provider, {"body_b64": "AP8="}).body == b"\x00\xff"
    assert ask(provider, {}).body == b""
    answer = ask(provider, {"sse": ["event: ping\ndata: {}\n\n", ": hi\n", {"error": {"code": 1}}]})
    assert answer.body == b'event: ping\ndata: {}\n\n: hi\ndata: {"error":{"code":1}}\n\n'
    assert answer.get("content-type").startswith("text/event-stream")


@pytest.mark.parametrize("chunked", [False, True])
def test_big_generated_body(provider, chunked):
    size = 20_000_003
    answer = ask(provider, {"body_bytes": size, "chunked": chunked})
    assert answer.get("content-length") == (None if chunked else str(size))
    assert answer.body == pattern(size)


def test_a_slow_reader_slows_the_provider(provider, wire):
    provider.answers({"body_bytes": 300_000_000})
    wire.request()
    wire.head()
    wire.exactly(1_000_000)
    provider.wait(requests=1)
    record = provider.record()[0]
    assert record["t_answer_end"] is None and record["sent"] < 60_000_000


@pytest.mark.parametrize("status", [204, 304])
def test_no_body_where_there_can_be_none(provider, wire, status):
    provider.answers({"status": status, "body": "never"}, {"status": 200, "body": "next"})
    wire.request()
    answer = wire.head()
    assert answer.status == status and answer.get("content-length") is None
    wire.request()
    assert wire.answer().body == b"next"


def test_head_request(provider, wire):
    wire.request("HEAD", "/v1/models", None)
    answer = wire.answer(bodiless=True)
    assert int(answer.get("content-length")) > 0
    wire.request("GET", "/v1/models", None)
    assert wire.answer().get("content-length") == answer.get("content-length")


# ---- modifiers ----


@pytest.mark.parametrize("chunked", [True, False])
def test_gzip(provider, chunked):
    answer = ask(provider, {"preset": "chat", "gzip": True, "chunked": chunked})
    assert answer.get("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(answer.body))["object"] == "chat.completion"
    answer = ask(provider, {"json": {"a": 1}, "encoding": "deflate", "chunked": chunked})
    assert answer.get("content-encoding") == "deflate"
    assert json.loads(zlib.decompress(answer.body)) == {"a": 1}
    answer = ask(provider, {"body_bytes": 1_000_000, "gzip": True, "chunked": chunked})
    assert gzip.decompress(answer.body) == pattern(1_000_000)


def test_gzipped_stream_can_be_read_event_by_event(provider, wire):
    provider.answers({"preset": "chat_stream", "gzip": True, "stall": {"after_events": 2}})
    wire.request()
    wire.head()
    unzip = zlib.decompressobj(31)
    text = b""
    for _, chunk in wire.chunks():
        text += unzip.decompress(chunk)
        if text.count(b"\n\n") == 2:
            break
    assert b"Hello! " in text


def test_framing(provider, wire):
    provider.answers({"preset": "chat_stream", "chunked": False})
    wire.request()
    answer = wire.answer()
    assert int(answer.get("content-length")) == len(answer.body)
    assert answer.events()[-1] == "data: [DONE]"
    provider.answers({"body": "to the end", "framing": "close"})
    wire.request()
    head = wire.head()
    assert head.get("content-length") is None and head.get("connection") == "close"
    assert wire.end() == ("fin", b"to the end")


def test_close(provider, wire):
    provider.answers({"body": "x", "close": True})
    wire.request()
    assert wire.answer().get("connection") == "close"
    assert wire.end() == ("fin", b"")


def test_lying_content_length(provider, wire):
    provider.answers({"body": "short", "headers": {"content-length": "100"}, "close": True})
    wire.request()
    assert wire.head().get("content-length") == "100"
    assert wire.end() == ("fin", b"short")


def test_pace(provider, wire):
    provider.answers({"body": "abcdefghij", "chunked": True, "pace": {"bytes": 4, "every_ms": 50}})
    start = now_ms()
    wire.request()
    wire.head()
    chunks = list(wire.chunks())
    assert [data for _, data in chunks] == [b"abcd", b"efgh", b"ij"]
    assert chunks[2][0] - start >= 98
    provider.answers({"body_bytes": 300, "chunked": True, "pace": {"bytes": 100, "every_ms": 50}})
    start = now_ms()
    wire.request()
    wire.head()
    chunks = list(wire.chunks())
    assert b"".join(data for _, data in chunks) == pattern(300)
    assert len(chunks) == 3 and chunks[2][0] - start >= 98


def test_pace_splits_events(provider, wire):
    provider.answers({"preset": "chat_stream", "pace": {"bytes": 7, "every_ms": 0}})
    wire.request()
    answer = wire.answer()
    assert answer.events()[-1] == "data: [DONE]" and b"\x01" not in answer.body


@pytest.mark.parametrize("how,end", [("reset", "reset"), ("fin", "fin")])
@pytest.mark.parametrize("where,body", [
    ({"before_head": True}, None), ({"after_head": True}, b""), ({"after_bytes": 0}, b""),
    ({"after_bytes": 4}, b"0123"), ({"after_bytes": 99}, b"0123456789")])
def test_cut(provider, wire, how, end, where, body):
    provider.answers({"body": "0123456789", "cut": {**where, "how": how}})
    wire.request()
    if body is not None:
        assert wire.head().get("content-length") == "10"
    assert wire.end() == (end, body or b"")
    record = provider.wait(answered=1)[0]
    assert record["closed_early"] is False and record["t_answer_end"] is not None


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_cut_after_events(provider, wire, how):
    provider.answers({"preset": "chat_stream", "cut": {"after_events": 3, "how": how}})
    wire.request()
    wire.head()
    end, rest = wire.end()
    assert end == how
    assert rest.count(b"data: ") == 3 and rest.endswith(b"\n\n\r\n")
    provider.answers({"preset": "responses_stream", "cut": {"after_deltas": 2, "how": how}})
    with connect(provider) as other:
        other.request()
        other.head()
        assert other.end()[1].count(b"event: response.output_text.delta") == 2


def test_cut_within_a_chunk_and_within_an_id(provider, wire):
    provider.answers({"preset": "chat_stream", "cut": {"after_bytes": 25, "how": "fin"}})
    wire.request()
    wire.head()
    _, rest = wire.end()
    size, data = rest.split(b"\r\n", 1)
    assert int(size, 16) > 25 and data == b'data: {"id":"chatcmpl-000'


def test_a_reset_loses_nothing_that_was_to_be_sent(provider, wire):
    size = 8_000_000
    provider.answers({"body_bytes": size + 1, "cut": {"after_bytes": size, "how": "reset"}})
    wire.request()
    wire.head()
    end, rest = wire.end()
    assert end == "reset" and rest == pattern(size)


@pytest.mark.parametrize("where,received", [
    ({"before_head": True}, b""), ({"after_head": True}, b"\r\n\r\n"),
    ({"after_bytes": 3}, b"\r\n\r\n012")])
def test_stall_until_the_peer_leaves(provider, where, received):
    provider.answers({"body": "0123456789", "stall": where})
    with connect(provider) as wire:
        wire.request()
        if received:
            wire.until(received)
        provider.wait(requests=1)
        left = now_ms()
    record = provider.wait(closed=1)[0]
    assert record["closed_early"] is True and record["t_answer_end"] is None
    assert left <= record["t_closed"] < left + AT_ONCE_MS
    provider.wait(open=0)


def test_held_until_it_is_released(provider):
    """All of them, those that come later too, until the next script."""
    held = {"body": "x", "held": True}
    provider.answers(held)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(connect(provider)) for _ in range(3)]
        for w in wires[:2]:
            w.request()
        provider.wait(requests=2)
        assert provider.stats()["answered"] == 0 and provider.stats()["in_flight"] == 2
        assert not select.select([w.sock for w in wires], [], [], 0)[0]
        released = now_ms()
        provider.release()
        assert [w.answer().body for w in wires[:2]] == [b"x"] * 2
        wires[2].request()
        assert wires[2].answer().body == b"x"
        assert all(r["t_answer_start"] >= released for r in provider.record())
        provider.answers({**held, "delay_ms": 30})
        wires[2].request()
        provider.wait(requests=4)
        assert provider.stats()["answered"] == 3
        released = now_ms()
        provider.release()
        assert wires[2].answer().body == b"x" and now_ms() - released >= 29


def test_held_and_left(provider):
    provider.answers({"body": "x", "held": True})
    with connect(provider) as wire:
        wire.request()
        provider.wait(requests=1)
    provider.wait(closed=1)
    provider.release()
    provider.wait(open=0)


def test_stall_for_a_while(provider, wire):
    provider.answers({"preset": "chat_stream", "stall": {"after_events": 2, "for_ms": 150}})
    start = now_ms()
    wire.request()
    wire.head()
    chunks = list(wire.chunks())
    assert chunks[1][1].endswith(b"\n\n") and chunks[2][0] - start >= 148
    assert chunks[-1][1] == b"data: [DONE]\n\n"
    provider.answers({"body": "0123456789", "chunked": True,
                      "stall": {"after_bytes": 5, "for_ms": 50}})
    wire.request()
    assert wire.answer().body == b"0123456789"


@pytest.mark.parametrize("answer", [
    {"delay_ms": 60000}, {"head_delay_ms": 60000},
    {"preset": "chat_stream", "interval_ms": 60000},
    {"body_bytes": 1000, "pace": {"bytes": 1, "every_ms": 1000}},
    {"body_bytes": 10**10}, {"wire": [{"silence": True}]},
    {"wire": [{"repeat": {"count": 0, "ops": [{"send": "x"}, {"delay_ms": 1}]}}]}])
@pytest.mark.parametrize("reset", [False, True])
def test_the_peers_leaving_is_seen_at_once(provider, answer, reset):
    provider.answers(answer)
    with connect(provider) as wire:
        wire.request()
        provider.wait(requests=1)
        if reset:
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        left = now_ms()
    record = provider.wait(closed=1)[0]
    assert record["closed_early"] is True and left <= record["t_closed"] < left + AT_ONCE_MS


def test_leaving_in_the_middle_of_the_upload(provider):
    with connect(provider) as wire:
        wire.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        provider.wait(heads=1)
        assert provider.stats()["requests"] == 1
    record = provider.wait(closed=1)[0]
    assert record["t_body"] is None and record["closed_early"] is True
    assert record["body_len"] == 3 and record["body_sha256"] is None


def test_leaving_afterwards_is_not_early(provider):
    with connect(provider) as wire:
        wire.request()
        wire.answer()
    provider.wait(open=0)
    record = provider.record()[0]
    assert record["closed_early"] is False and record["t_closed"] >= record["t_answer_end"]


def test_answer_at_the_head(provider):
    provider.answers({"status": 413, "on": "head", "close": True}, {"status": 401, "on": "head"},
                     {"body": "fine"})
    with connect(provider) as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nfirst bytes")
        assert wire.answer().status == 413
        record = provider.wait(answered=1)[0]
        assert record["t_body"] is None
    with connect(provider) as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
        assert wire.answer().status == 401
        wire.send("56789")
        wire.request()
        assert wire.answer().body == b"fine"
    assert [r["status"] for r in provider.record()] == [413, 401, 200]


def test_leaving_while_the_body_is_not_read(provider):
    provider.answers({"on": "head", "stall": {"before_head": True}})
    with connect(provider) as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome")
        provider.wait(requests=1)
        left = now_ms()
    assert provider.wait(closed=1)[0]["t_closed"] < left + AT_ONCE_MS


def test_unread_body_holds_the_sender_back(provider):
    provider.answers({"on": "head", "stall": {"before_head": True}})
    with connect(provider) as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        provider.wait(requests=1)
        wire.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(1000):
                wire.sock.send(bytes(1_000_000))
        # A FIN would wait behind the bytes nobody reads; a reset gets through.
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    provider.wait(closed=1)


def test_unwanted_body_can_be_drained_meanwhile(provider):
    provider.answers({"on": "head", "drain": True, "stall": {"before_head": True}},
                     {"on": "head", "drain": True, "status": 401}, {"body": "fine"})
    with connect(provider) as wire:
        wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        provider.wait(requests=1)
        wire.send(bytes(20_000_000))
    assert provider.wait(closed=1)[0]["body_len"] == 20_000_000
    with connect(provider) as wire:
        for status in (401, 200):
            wire.request(body=pattern(1_000_000))
            assert wire.answer().status == status
    provider.wait(open=0)
    assert [r["body_len"] for r in provider.record()[1:]] == [1_000_000] * 2


def test_what_comes_after_the_response(provider, wire):
    provider.answers({"body": "x", "after": {"delay_ms": 30, "send": "HTTP/1.1 408 Unasked\r\n\r\n"}},
                     {"body": "y", "after": {"delay_ms": 30, "close": True}})
    wire.request()
    assert wire.answer().body == b"x"
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 408 Unasked\r\n\r\n"
    wire.request()
    assert wire.answer().body == b"y"
    assert wire.end() == ("fin", b"")


def test_the_next_request_cancels_what_would_come_after(provider, wire):
    provider.answers({"body": "x", "after": {"delay_ms": 60000, "close": True}}, {"body": "y"})
    for body in (b"x", b"y"):
        wire.request()
        assert wire.answer().body == body


def test_early_hints_and_trailers(provider, wire):
    provider.answers({"body": "x", "early_hints": True, "trailers": {"x-sum": "1"}})
    wire.request()
    assert wire.head().status == 103
    assert wire.answer().body == b"x"
    assert wire.trailers == b"x-sum: 1\r\n\r\n"


# ---- raw wire ----


def test_wire(provider, wire):
    provider.answers({"wire": [
        {"send": "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"}, {"send_b64": "AAEC"},
        {"delay_ms": 5}, {"repeat": {"count": 2, "ops": [
            {"repeat": {"count": 2, "ops": [{"send": "a"}]}}, {"send": "b"}]}}]}, {"body": "next"})
    wire.request()
    assert wire.answer().body == b"\0\1\2aabaab"
    wire.request()
    assert wire.answer().body == b"next"
    assert provider.record()[0]["status"] == 0


@pytest.mark.parametrize("step,end", [("reset", "reset"), ("fin", "fin"), ("close", "fin")])
def test_wire_ends(provider, wire, step, end):
    provider.answers({"wire": [{"send": "garbage"}, {step: True}]})
    wire.request()
    assert wire.end() == (end, b"garbage")


def test_endless_wire_does_not_starve_others(provider):
    provider.rules({"match": {"path": "/endless"}, "answers": [
        {"wire": [{"repeat": {"count": 0, "ops": [{"send": "x" * 1000}]}}]}]})
    with connect(provider) as endless, connect(provider) as wire:
        endless.request(target="/endless")
        endless.exactly(10_000_000)
        wire.request()
        assert wire.answer().status == 200


@pytest.mark.parametrize("how,end", [("reset", "reset"), ("fin", "fin")])
def test_on_accept(provider, how, end):
    provider.script({"on_accept": {"count": 2, "how": how}})
    for _ in range(2):
        try:
            with connect(provider) as wire:
                assert wire.end()[0] == end
        except ConnectionResetError:
            assert end == "reset"  # it came before connect() returned
    with connect(provider) as wire:
        wire.request()
        assert wire.answer().status == 200
    assert provider.stats()["connections"] == 3


def test_silence_on_accept(provider):
    provider.script({"on_accept": {"count": 1, "how": "silence"}})
    with connect(provider) as mute, connect(provider) as wire:
        mute.request()
        wire.request()
        assert wire.answer().status == 200
        provider.wait(open=2)
        assert len(provider.record()) == 1
    provider.wait(open=0)


# ---- TLS ----


@pytest.fixture
def tls_context(cert):
    context = ssl.create_default_context(cafile=cert[0])
    context.options &= ~0x80  # SSL_OP_IGNORE_UNEXPECTED_EOF, which some Pythons set: a cut must show
    return context


def test_tls_and_resumption(provider, tls_context):
    tls_context.maximum_version = ssl.TLSVersion.TLSv1_2
    session = None
    for _ in range(2):
        with Wire(("127.0.0.1", provider.tls_port), tls_context, session) as wire:
            wire.request()
            assert wire.answer().json()["object"] == "chat.completion"
            session = wire.sock.session
    assert [(r["tls"], r["tls_resumed"]) for r in provider.record()] == [(True, False), (True, True)]
    stats = provider.stats()
    assert (stats["tls_handshakes"], stats["tls_resumed"]) == (2, 1)


def test_tls_13_resumption_and_alpn(provider, tls_context):
    tls_context.set_alpn_protocols(["h2", "http/1.1"])
    session = None
    for _ in range(2):
        with Wire(("127.0.0.1", provider.tls_port), tls_context, session) as wire:
            wire.request()
            wire.answer()
            session = wire.sock.session
            assert wire.sock.selected_alpn_protocol() == "http/1.1"
            assert wire.sock.version() == "TLSv1.3"
    assert provider.stats()["tls_resumed"] == 1


def test_tls_big_body_and_gone_peer(provider, tls_context):
    provider.answers({"body_bytes": 3_000_001}, {"body_bytes": 10**10})
    with Wire(("127.0.0.1", provider.tls_port), tls_context) as wire:
        wire.request()
        assert wire.answer().body == pattern(3_000_001)
        wire.request()
        wire.head()
    assert provider.wait(closed=1)[1]["closed_early"] is True


def test_tls_cuts(provider, tls_context):
    address = ("127.0.0.1", provider.tls_port)
    for how in ("reset", "fin"):
        provider.answers({"body": "0123456789", "cut": {"after_bytes": 4, "how": how}})
        with Wire(address, tls_context) as wire:
            wire.request()
            wire.head()
            end, data = wire.end()
            # No close_notify either way; OpenSSL 3.5 lets the reset itself be seen.
            assert end == "truncated" or end == how == "reset"
            assert data == b"0123"
        with Wire(address, tls_context) as wire:
            wire.request()
            assert wire.raw_end() == how
    provider.answers({"body": "x", "close": True})
    with Wire(address, tls_context) as wire:
        wire.request()
        wire.answer()
        assert wire.end() == ("fin", b"")  # with a close_notify
    provider.script({"on_accept": {"count": 1, "how": "reset"}})
    with pytest.raises(OSError):
        Wire(address, tls_context)


def test_plain_text_on_the_tls_port(provider):
    with Wire(("127.0.0.1", provider.tls_port)) as wire:
        wire.request()
        assert wire.end()[0] in ("fin", "reset")
    provider.wait(open=0)


# ---- scripts ----


def test_rules_match(provider, wire):
    provider.rules(
        {"match": {"path": "/v1/chat/*", "model": "gpt-4o*", "header": {"x-test": "a*"}},
         "answers": [{"status": 501}]},
        {"match": {"path": "/v1/chat/*", "model": "gpt-4o*"}, "answers": [{"status": 502}]},
        {"match": {"method": "GET"}, "answers": [{"status": 503}]},
        default={"status": 504})
    wire.request(headers=["X-Test: abc"])
    assert wire.answer().status == 501
    wire.request(headers=["X-Test: b"])
    assert wire.answer().status == 502
    wire.request(body={"model": "o3"})
    assert wire.answer().status == 504
    wire.request("GET", "/v1/chat/completions?q", None)
    assert wire.answer().status == 503
    assert [(r["rule"], r["answer"]) for r in provider.record()] == [
        (0, 0), (1, 0), (None, None), (2, 0)]


def test_rules_match_the_model_as_it_was_sent(provider, wire):
    """A model that something on the way has put in another's place is the one that is matched."""
    provider.rules({"match": {"model": "small", "header": {"authorization": "Bearer k1"}},
                    "answers": [{"status": 501}]},
                   {"match": {"model": "small"}, "answers": [{"status": 502}]},
                   default={"status": 503})
    expected = [("k1", "small", 501), ("k2", "small", 502), ("k1", "large", 503)]
    for key, model, status in expected:
        wire.request(body={"messages": [{"model": "small"}], "model": model},
                     headers=[f"Authorization: Bearer {key}"])
        assert wire.answer().status == status


# The provider looks at its clock a moment after it has noted when the request was read.
LOOK_MS = 20


def test_between(provider, wire):
    """An outage, a while of something else, and then all is well; ages count from the first request."""
    provider.rules({"between": {"to_ms": 60}, "answers": [{"status": 503, "delay_ms": 3}]},
                   {"between": {"from_ms": 60, "to_ms": 120}, "answers": [{"status": 502, "delay_ms": 3}]},
                   {"between": {"from_ms": 200}, "answers": [{"status": 200}]},
                   default={"status": 504, "delay_ms": 3})
    statuses = []
    while 200 not in statuses:
        wire.request()
        statuses.append(wire.answer().status)
    assert statuses == sorted(statuses, key=[503, 502, 504, 200].index) and statuses[0] == 503
    record = provider.record()
    ages = {status: [r["t_body"] - record[0]["t_body"] for r in record if r["status"] == status]
            for status in (503, 502, 504, 200)}
    for status, least, most in [(503, 0, 60), (502, 60, 120), (504, 120, 200), (200, 200, 1e9)]:
        assert all(least - LOOK_MS <= age <= most for age in ages[status]), (status, ages)
    assert [r["rule"] for r in record if r["status"] == 504] == [None] * len(ages[504])


def rated(provider, wire, rate, spans_ms):
    """Requests one after the other for so long: [(when it was read, whether it was within the rate)]."""
    provider.rules({"answers": [{"status": 200}], "rate": {**rate, "else": {"status": 429, "delay_ms": 2}}})
    start = now_ms()
    while now_ms() < start + spans_ms:
        wire.request()
        wire.answer()
    seen = [(r["t_body"], r["status"] == 200) for r in provider.record()]
    assert {(r["rule"], r["answer"], r["status"]) for r in provider.record()} == {(0, 0, 200), (0, None, 429)}
    return seen


def test_rate_in_fixed_windows(provider, wire):
    seen = rated(provider, wire, {"per_second": 5}, 2100)
    window, used = None, 0
    for when, good in seen:
        if good and (window is None or when - window >= 1000 - LOOK_MS):
            window, used = when, 0
        assert when - window <= 1000 + LOOK_MS, "a new window begins with the first request after the old one"
        used += good
        assert used == 5 if not good else used <= 5
    assert 10 <= sum(good for _, good in seen) <= 15  # more than 10 where the third window began


def test_rate_of_a_bucket(provider, wire):
    seen = rated(provider, wire, {"per_second": 20, "window": "bucket"}, 1000)
    tokens, before = 20.0, seen[0][0]
    for when, good in seen:
        tokens, before = min(20.0, tokens + (when - before) * 20 / 1000), when
        assert tokens >= 1 - LOOK_MS * 20 / 1000 if good else tokens < 1 + LOOK_MS * 20 / 1000
        tokens -= good
    first = [good for _, good in seen[:20]]
    assert first == [True] * 20 and not all(good for _, good in seen)


def test_what_is_beyond_a_rate_takes_nothing_from_the_list(provider, wire):
    provider.rules({"answers": [{"status": 501}, {"status": 502}], "then": "next",
                    "rate": {"per_second": 1, "else": {"status": 429, "delay_ms": 2}}},
                   default={"status": 504})
    statuses = []
    while 504 not in statuses:
        wire.request()
        statuses.append(wire.answer().status)
    assert [s for s in statuses if s != 429] == [501, 502, 504]
    assert statuses[1] == 429, "the second one came more than a second later"


def test_rate_is_answered_at_the_head_too(provider, wire):
    provider.rules({"answers": [{"status": 200}],
                    "rate": {"per_second": 1, "else": {"status": 429, "on": "head", "drain": True}}})
    wire.request()
    assert wire.answer().status == 200
    wire.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    assert wire.head().status == 429


def test_a_new_script_starts_its_clock_anew(provider, wire):
    for _ in range(2):
        provider.rules({"between": {"to_ms": 20}, "answers": [{"status": 503, "delay_ms": 3}]})
        wire.request()
        assert wire.answer().status == 503
        provider.script({"rules": [{"between": {"to_ms": 20}, "answers": [{"status": 503}]}]})
        status = 503
        while status == 503:
            wire.request()
            status = wire.answer().status


def test_in_flight(provider):
    """Of all and of each rule, the most at a time too; cut, left and finished requests leave."""
    provider.rules({"match": {"path": "/slow"}, "answers": [{"stall": {"before_head": True}}]},
                   {"match": {"path": "/cut"}, "answers": [{"cut": {"after_head": True}}]})
    wires = [connect(provider) for _ in range(3)]
    for wire in wires:
        wire.request(target="/slow")
    provider.wait(in_flight=3)
    with connect(provider) as other:
        other.request()
        assert other.answer().status == 200
    with connect(provider) as other:
        other.request(target="/cut")
        other.end()
    stats = provider.stats()
    assert (stats["in_flight"], stats["max_in_flight"]) == (3, 4)
    assert stats["rules"] == [{"requests": 3, "in_flight": 3, "max_in_flight": 3},
                              {"requests": 1, "in_flight": 0, "max_in_flight": 1}]
    assert stats["default"] == {"requests": 1, "in_flight": 0, "max_in_flight": 1}
    wires.pop().sock.close()
    provider.wait(closed=1)
    assert provider.stats()["rules"][0] == {"requests": 3, "in_flight": 2, "max_in_flight": 3}
    provider.clear()
    assert provider.stats()["rules"][0] == {"requests": 0, "in_flight": 2, "max_in_flight": 2}
    provider.rules({"answers": [{"status": 200}]})
    for wire in wires:
        wire.sock.close()
    provider.wait(open=0)
    stats = provider.stats()
    assert (stats["in_flight"], stats["max_in_flight"]) == (0, 2)
    assert stats["rules"] == [{"requests": 0, "in_flight": 0, "max_in_flight": 0}]


@pytest.mark.parametrize("then,expected", [("repeat", [501, 502, 502, 502, 502]),
                                           ("cycle", [501, 502, 501, 502, 501]),
                                           ("next", [501, 502, 510, 510, 510])])
def test_then(provider, wire, then, expected):
    provider.rules({"answers": [{"status": 501}, {"status": 502}], "then": then},
                   {"answers": [{"status": 510}]})
    seen = []
    for _ in expected:
        wire.request()
        seen.append(wire.answer().status)
    assert seen == expected


def test_key(provider, wire):
    provider.answers({"status": 501}, {"status": 502}, key="x-test-id")
    seen = []
    for name in "aabba":
        wire.request(headers=[f"X-Test-Id: {name}"])
        seen.append(wire.answer().status)
    wire.request()
    assert seen == [501, 502, 501, 502, 502] and wire.answer().status == 501


def test_a_new_script_starts_its_counters_anew(provider, wire):
    for _ in range(2):
        provider.answers({"status": 501}, {"status": 502})
        wire.request()
        assert wire.answer().status == 501


def test_replacing_the_script_leaves_answers_under_way(provider, wire):
    provider.answers({"preset": "chat_stream", "events": 3, "interval_ms": 40})
    wire.request()
    wire.head()
    provider.script({})
    assert wire.exactly(1)
    wire.until(b"data: [DONE]\n\n")


@pytest.mark.parametrize("script,message", [
    ([], "must be a JSON object"), ({"rule": []}, "has rules, default and on_accept"),
    ({"rules": [{}]}, "needs answers"), ({"rules": [{"answers": []}]}, "at least one answer"),
    ({"rules": [{"answers": [{"statsu": 1}]}]}, '"statsu" is not a known key'),
    ({"rules": [{"match": {"modle": "x"}, "answers": [{}]}]}, "match has"),
    ({"rules": [{"answers": [{}], "then": "stop"}]}, "then must be"),
    ({"rules": [{"answers": [{}], "between": {}}]}, "between is"),
    ({"rules": [{"answers": [{}], "between": {"from_ms": 1, "until_ms": 2}}]}, "between is"),
    ({"rules": [{"answers": [{}], "between": {"from_ms": 5, "to_ms": 5}}]}, "before it begins"),
    ({"rules": [{"answers": [{}], "rate": {"per_second": 5}}]}, "rate is"),
    ({"rules": [{"answers": [{}], "rate": {"per_second": 0, "else": {}}}]}, "rate is"),
    ({"rules": [{"answers": [{}], "rate": {"per_second": 5, "window": "x", "else": {}}}]}, "rate is"),
    ({"rules": [{"answers": [{}], "rate": {"per_second": 5, "else": {"statsu": 1}}}]}, "statsu"),
    ({"rules": [{"answers": [{"body": "a", "json": 1}]}]}, "in one way only"),
    ({"rules": [{"answers": [{"body_b64": "!!!!"}]}]}, "is not base64"),
    ({"rules": [{"answers": [{"cut": {"how": "fin"}}]}]}, "does not say where"),
    ({"rules": [{"answers": [{"cut": {"after_head": True}, "stall": {"after_head": True}}]}]},
     "the only one"),
    ({"rules": [{"answers": [{"status": 100}]}]}, "from 200 to 999"),
    ({"rules": [{"answers": [{"preset": "chatt"}]}]}, "name of a preset"),
    ({"rules": [{"answers": [{"wire": [{"sned": "x"}]}]}]}, "each step is one of"),
    ({"rules": [{"answers": [{"wire": [{"repeat": {"count": 0, "ops": []}}]}]}]},
     "nothing to repeat"),
    ({"default": {"body_bytes": 10**12, "gzip": True}}, "too much to compress"),
    ({"rules": [{"answers": [{"delay_ms": "5"}]}]}, "must be a number"),
    ({"default": 5}, "must be an object"), ({"on_accept": {"count": 1}}, "on_accept is"),
    ({"rules": [{"answers": [{"headers": {"a": 1}}]}]}, "must have strings")])
def test_bad_scripts_are_refused_with_a_reason(provider, wire, script, message):
    provider.answers({"status": 555})
    with pytest.raises(ProviderError, match="400") as caught:
        provider.script(script)
    assert message in str(caught.value)
    wire.request()
    assert wire.answer().status == 555  # the old one is still in force


# ---- the request reader ----


def test_record(provider, wire):
    body = json.dumps({"model": "ü"}, ensure_ascii=False).encode()
    wire.request(target="/v1/chat/completions?a=1", body=body, headers=["X-RaW: \xfc  "])
    answer = wire.answer()
    record = provider.record()[0]
    assert record["method"] == "POST" and record["target"] == "/v1/chat/completions?a=1"
    assert record["version"] == "HTTP/1.1" and ["X-RaW", "Ã¼"] in record["headers"]
    assert record["body"] == body.decode() and record["body_len"] == len(body)
    assert record["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert (record["n"], record["conn_n"], record["tls"]) == (1, 1, False)
    assert record["sent"] > 0
    assert answer.get("x-request-id") == f"req_{record['serial']:012}"


@pytest.mark.parametrize("body", [b"\xff\xfe", pattern(65537), pattern(5_000_000), b""])
def test_record_of_bodies(provider, wire, body):
    wire.request(body=body)
    wire.answer()
    record = provider.record()[0]
    assert record["body_len"] == len(body)
    assert record["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert record["body"] == ("" if body == b"" else None)


def test_chunked_request(provider, wire):
    body = b'{"stream":true,"model":"chunky"}'
    wire.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(len(body)):
        wire.send(b"1;ext=1\r\n" + body[i:i + 1] + b"\r\n")
    wire.send("0\r\nX-Trailer: 1\r\n\r\n")
    assert b'"model":"chunky"' in wire.answer().body
    record = provider.record()[0]
    assert record["body"].encode() == body
    wire.request()
    assert wire.answer().json()["model"] == "gpt-4o"


def test_a_request_byte_by_byte(wire):
    body = json.dumps(CHAT)
    for byte in f"\r\nPOST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}":
        wire.send(byte)
    assert wire.answer().json()["model"] == "gpt-4o"


def test_pipelining(provider, wire):
    provider.answers({"body": "1", "delay_ms": 20}, {"body": "2"}, {"body": "3"})
    request = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    wire.send(request * 3)
    assert [wire.answer().body for _ in range(3)] == [b"1", b"2", b"3"]


def test_expect_continue(provider, wire):
    wire.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
              "Content-Length: 2\r\n\r\n")
    assert wire.head().status == 100
    wire.send("{}")
    assert wire.answer().status == 200
    provider.answers({"status": 413, "on": "head"})
    wire.send("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    answer = wire.answer()
    assert answer.status == 413 and answer.get("connection") == "close"
    assert wire.end()[0] == "fin"


def test_http_10(wire):
    wire.send("GET /v1/models HTTP/1.0\r\n\r\n")
    assert wire.answer().json()["object"] == "list"
    assert wire.end()[0] == "fin"


@pytest.mark.parametrize("request_text", [
    "nonsense\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nbroken\r\n\r\n",
    "GET / HTTP/1.1\r\na b: c\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "GET / HTTP/1.1\r\nx: " + "y" * 300_000, "GET /\0 HTTP/1.1\r\n\r\n"])
def test_malformed_requests(wire, request_text):
    wire.send(request_text)
    assert wire.answer().status == 400
    assert wire.end()[0] == "fin"


# ---- the control API ----


def test_wait_times_out_with_the_record(provider, wire):
    wire.request()
    wire.answer()
    with pytest.raises(ProviderTimeout) as caught:
        provider.wait(requests=2, timeout=0.05)
    assert len(caught.value.record) == 1


def test_wait_wakes_up(provider, wire):
    found = []
    waiter = threading.Thread(target=lambda: found.extend(provider.wait(answered=2)))
    waiter.start()
    for _ in range(2):
        wire.request()
        wire.answer()
    waiter.join()
    assert len(found) == 2


def test_clear(provider, wire):
    provider.answers({"stall": {"before_head": True}})
    wire.request()
    provider.wait(requests=1)
    provider.clear()
    assert provider.record() == []
    stats = provider.stats()
    assert stats["requests"] == 0 and stats["connections"] == 0 and stats["open"] == 1
    wire.sock.close()
    provider.wait(open=0)
    assert provider.stats()["closed"] == 0  # it belongs to what was cleared
    with connect(provider) as other:
        other.request()
        provider.wait(requests=1)
        assert provider.record()[0]["n"] == 1


def test_control_requests_leave_no_trace(provider):
    for _ in range(3):
        provider.stats()
    with Wire(("127.0.0.1", provider.port)) as wire:
        wire.request("GET", "/_/ping", None)
        assert wire.answer().json() == {"ok": True}
        wire.request("GET", "/_/wait?nothing=1", None)
        assert wire.answer().status == 400
        wire.request("GET", "/_/nonsense", None)
        assert wire.answer().status == 404
        wire.request("PUT", "/_/script", b"{not json")
        assert wire.answer().status == 400
        assert provider.stats()["connections"] == 0 and provider.stats()["open"] == 0
    assert provider.record() == []


def test_leaving_while_waiting(provider):
    with Wire(("127.0.0.1", provider.port)) as wire:
        wire.request("GET", "/_/wait?requests=5&timeout_ms=60000", None)
        wire.request("GET", "/_/ping", None)
    with connect(provider) as wire:
        wire.request()
        assert wire.answer().status == 200


def test_many_connections_at_once(provider):
    provider.answers({"preset": "chat_stream", "events": 5, "interval_ms": 5})
    wires = [connect(provider) for _ in range(200)]
    for wire in wires:
        wire.request()
    for wire in wires:
        assert wire.answer().events()[-1] == "data: [DONE]"
        wire.sock.close()
    assert len(provider.wait(answered=200)) == 200
