"""Puts load on a proxy with wrk, and watches one stream of its own beside it."""

import json
import os
import re
import socket
import subprocess
import threading

from proxies import BenchError

CHAT = "/v1/chat/completions"
# What may be asked for: a path, and a header field's line. The events are the same on each path.
CHAT_STREAM = (CHAT, "")
OTHER_STREAM = ("/v1/audio/speech", "")  # of its streams retryd knows the framing alone
SPLICED_STREAM = (CHAT, "x-retryd-stream-mode: splice")
EVENTS = 200  # paced ones in each stream; the role, the finish and [DONE] come on top
INTERVAL_MS = 5
BODY_BYTES = 1024
PAUSE_MS = 8  # of a connection before each request, on average, where requests are paced

# The provider's script: plain chat answers, and paced streams for those who ask for one.
SCRIPT = {
    "rules": [{"match": {"model": "bench-stream"},
               "answers": [{"preset": "chat_stream", "events": EVENTS, "interval_ms": INTERVAL_MS}],
               "then": "repeat"}],
    "default": {"preset": "chat"},
}


def chat_body(stream):
    body = {"model": "bench-stream" if stream else "bench", "stream": stream,
            "messages": [{"role": "user", "content": ""}]}
    padding = BODY_BYTES - len(json.dumps(body))
    body["messages"][0]["content"] = "word " * (padding // 5) + "." * (padding % 5)
    return json.dumps(body).encode()


class StreamReader(threading.Thread):
    """Reads whole streams, one after the other, as a client would: how many events does one read
    bring, and how many bytes does one stream have on the wire?"""

    def __init__(self, port, stream):
        super().__init__(daemon=True)
        self.port = port
        self.path, self.field = stream
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
        body = chat_body(True)
        head = (f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                + (self.field and self.field + "\r\n") +
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
        got = b""
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:
            s.sendall(head.encode() + body)
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
        for stream in (False, True):
            self.bodies[stream] = os.path.join(folder, f"body-{stream}.json")
            with open(self.bodies[stream], "wb") as f:
                f.write(chat_body(stream))

    def wrk(self, port, connections, seconds, stream, pause_ms=0):
        """`stream`: one of those above, None for a plain answer."""
        path, field = stream or (CHAT, "")
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load.lua")
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script,
             f"http://127.0.0.1:{port}{path}", "--", self.bodies[bool(stream)],
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

    def paced_requests(self, proxy, connections, seconds):
        """The same at a rate that all proxies reach with ease. At full speed each has a rate of its
        own, and the fastest one's peers never sleep, which spares it the cost of waking them."""
        return self.requests(proxy, connections, seconds, PAUSE_MS)

    def requests(self, proxy, connections, seconds, pause_ms=0):
        """CPU microseconds of one request."""
        before = proxy.cpu_ns()
        result = self.wrk(proxy.port, connections, seconds, None, pause_ms)
        if not result["requests"]:
            raise BenchError(f"{proxy.name} answered nothing in {seconds} s")
        return {"cpu_us": proxy.cpu_ns_since(before) / 1000 / result["requests"],
                "rate": result["requests"] / seconds}

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
