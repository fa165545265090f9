"""Puts load on a proxy with wrk, and watches one stream of its own beside it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import typing

from proxies import BenchError

CHAT = "/v1/chat/completions"
EVENTS = 200  # paced ones in each stream; the role, the finish and [DONE] come on top
BODY_BYTES = 1024
PAUSE_MS = 8  # of a connection before each request, on average, where requests are paced


class Stream(typing.NamedTuple):
    """A kind of stream to ask for. The events are the same on each path."""

    interval_ms: int = 5  # between two events
    path: str = CHAT
    field: str = ""  # a header field's line


CHAT_STREAM = Stream()
OTHER_STREAM = Stream(path="/v1/audio/speech")  # of its streams retryd knows the framing alone
SPLICED_STREAM = Stream(field="x-retryd-stream-mode: splice")
SLOW_STREAM = Stream(interval_ms=20)
OPEN_STREAM = Stream(interval_ms=1000)  # to be looked at while it is open
STREAMS = (CHAT_STREAM, SLOW_STREAM, OPEN_STREAM)


def model_of(stream):
    return f"bench-stream-{stream.interval_ms}" if stream else "bench"


# The provider's script: plain chat answers, and paced streams for those who ask for one.
SCRIPT = {
    "rules": [{"match": {"model": model_of(stream)},
               "answers": [{"preset": "chat_stream", "events": EVENTS, "interval_ms": stream.interval_ms}],
               "then": "repeat"} for stream in STREAMS],
    "default": {"preset": "chat"},
}


def chat_body(stream):
    """`stream`: one of those above, None for a plain request."""
    body = {"model": model_of(stream), "stream": bool(stream),
            "messages": [{"role": "user", "content": ""}]}
    padding = BODY_BYTES - len(json.dumps(body))
    body["messages"][0]["content"] = "word " * (padding // 5) + "." * (padding % 5)
    return json.dumps(body).encode()


def request_bytes(port, stream):
    body = chat_body(stream)
    path, field = (stream.path, stream.field) if stream else (CHAT, "")
    head = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n" + (field and field + "\r\n") +
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


class StreamReader(threading.Thread):
    """Reads whole streams, one after the other, as a client would: how many events does one read
    bring, and how many bytes does one stream have on the wire?"""

    def __init__(self, port, stream):
        super().__init__(daemon=True)
        self.port = port
        self.stream = stream
        self.over = threading.Event()
        self.reads = self.events = self.bytes = self.streams = 0
        self.problem = None

    def run(self):
        try:
            while not (self.over.is_set() and self.streams):
                self.one_stream()
        except (OSError, BenchError) as e:
            self.problem = e

    def one_stream(self):
        got = b""
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:
            s.sendall(request_bytes(self.port, self.stream))
            while not got.endswith(b"\r\n0\r\n\r\n"):
                piece = s.recv(65536)
                if not piece:
                    raise BenchError(f"a stream broke after {len(got)} bytes: {got[:300]!r}")
                got += piece
                self.reads += b"data: " in piece
        if not got.startswith(b"HTTP/1.1 200") or b"data: [DONE]" not in got:
            raise BenchError(f"a stream was not answered well: {got[:300]!r}")
        self.streams += 1
        self.bytes += len(got)
        self.events += got.count(b"data: ")

    def finish(self):
        self.over.set()
        self.join(60)
        if self.problem or not self.streams:
            raise BenchError(f"the stream beside the load failed: {self.problem}")


class Load:
    """What wrk sends to a proxy. Runs on the core that the calling process is pinned to."""

    def __init__(self, folder):
        self.bodies = {}
        for stream in (None, *STREAMS):
            self.bodies[model_of(stream)] = path = os.path.join(folder, f"{model_of(stream)}.json")
            with open(path, "wb") as f:
                f.write(chat_body(stream))

    def wrk(self, port, connections, seconds, stream=None, pause_ms=0):
        path, field = (stream.path, stream.field) if stream else (CHAT, "")
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load.lua")
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script,
             f"http://127.0.0.1:{port}{path}", "--", self.bodies[model_of(stream)],
             str(pause_ms), field],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=seconds + 60)
        text = done.stdout.decode("utf-8", "replace")
        told = re.findall(r"^\{.*\}$", text, re.MULTILINE)
        if done.returncode != 0 or not told:
            raise BenchError(f"wrk failed:\n{text}")
        result = json.loads(told[-1])
        if result["errors"]:
            raise BenchError(f"{result['errors']} of {result['requests']} requests failed:\n{text}")
        return result

    def requests(self, proxy, connections, seconds, pause_ms=0):
        """CPU microseconds of one request, and the time until it is answered.

        With a pause the rate is one that all proxies reach with ease. At full speed each has a rate of its own, and
        the fastest one's peers never sleep, which spares it the cost of waking them."""
        before = proxy.cpu_ns()
        result = self.wrk(proxy.port, connections, seconds, None, pause_ms)
        if not result["requests"]:
            raise BenchError(f"{proxy.name} answered nothing in {seconds} s")
        return {"cpu_us": proxy.cpu_ns_since(before) / 1000 / result["requests"],
                "rate": result["requests"] / seconds, "p50_us": result["p50_us"], "p99_us": result["p99_us"]}

    def events(self, proxy, connections, seconds, stream=CHAT_STREAM):
        """CPU microseconds of one event. wrk counts bytes, those of unfinished streams too; the reader
        beside it tells how many bytes an event has behind this proxy."""
        reader = StreamReader(proxy.stream_port, stream)
        before = proxy.cpu_ns()
        reader.start()
        try:
            result = self.wrk(proxy.stream_port, connections, seconds, stream)
        finally:
            reader.over.set()
        reader.finish()
        events = (result["bytes"] + reader.bytes) * reader.events / reader.bytes
        return {"cpu_us": proxy.cpu_ns_since(before) / 1000 / events, "rate": events / seconds,
                "events_per_read": reader.events / reader.reads}

    def memory(self, proxy, connections, stream):
        """KiB of one connection: with an open stream, or idle after a request if `stream` is None."""
        port = proxy.stream_port if stream else proxy.port
        with contextlib.ExitStack() as stack:
            before = proxy.memory_kib()
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
                       for _ in range(connections)]
            for client in clients:
                client.sendall(request_bytes(port, stream))
            for client in clients:
                read_until(client, b"data: " if stream else b'"usage"')
            return (proxy.memory_kib() - before) / connections


def read_until(client, wanted):
    got = b""
    while wanted not in got:
        piece = client.recv(65536)
        if not piece:
            raise BenchError(f"a connection ended after {got[:300]!r}")
        got += piece
