"""Holds many streams open at once, on one thread, and notes how long each event was on its way.

The provider writes the time of its send into each event (its option `clock`). The client looks at the same clock when
it has read the event.
"""

import json
import math
import re
import select
import socket
import time

CLOCK = re.compile(rb'"content":"(\d{12})"')
WRAP = 10**12  # the provider's clock has twelve digits of microseconds
LAST = b"data: [DONE]\n\n"
OPEN_PER_SECOND = 1000
AT_ONCE = 64  # connections that are made before what has come is read
PATIENCE_S = 60  # for the next byte of any stream

BODY = json.dumps({"model": "many", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
REQUEST = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))


class StreamsError(Exception):
    """The streams were not what was asked for."""


def hold(provider, addresses, count, seconds, interval_ms, look=lambda: None):
    """The tries to have all the streams open at once for so long; the last one did. On a busy machine opening may take
    several times as long as it should."""
    tries = []
    for longer in (2, 6, 18):
        events = math.ceil((longer * count / OPEN_PER_SECOND + seconds) * 1000 / interval_ms)
        provider.answers({"preset": "chat_stream", "events": events, "interval_ms": interval_ms, "clock": True})
        tries.append(Streams(addresses, count, events, look).run())
        if tries[-1].delays:
            return tries
    raise StreamsError(f"the first of {count} streams had ended when the last one began")


class Stream:
    """One of them."""

    __slots__ = ("sock", "rest", "events", "began")

    def __init__(self, address):
        try:
            self.sock = socket.create_connection(address, PATIENCE_S)
            self.sock.sendall(REQUEST)
        except OSError as problem:
            raise StreamsError(f"a stream finds no way in: {problem}") from problem
        self.sock.setblocking(False)
        self.rest, self.events, self.began = b"", 0, False


class Streams:
    """So many streams of so many events each. The addresses take them in turn.

    look: called when all of them are open, and again when the first one ends. What it returns is kept in `looks`, its
    time in `times`, and the delays of the events between the two in `delays`, in microseconds."""

    def __init__(self, addresses, count, events, look=lambda: None):
        self.addresses, self.count, self.events, self.look = addresses, count, events, look
        self.open = {}  # by descriptor
        self.epoll = select.epoll()
        self.begun = self.ended = 0
        self.looks, self.times, self.delays = [], [], []

    def take_look(self):
        self.looks.append(self.look())
        self.times.append(time.monotonic())

    def run(self):
        """Opens them one by one, and reads each to its end."""
        started = heard = time.monotonic()
        made = 0
        while self.ended < self.count:
            due = min(self.count, int((time.monotonic() - started) * OPEN_PER_SECOND) + 1)
            for _ in range(min(due - made, AT_ONCE)):
                self.add(Stream(self.addresses[made % len(self.addresses)]))
                made += 1
            ready = self.epoll.poll(1 if made == self.count else 1 / OPEN_PER_SECOND, 1024)
            for fd, _ in ready:
                self.read(self.open[fd])
            heard = time.monotonic() if ready else heard
            if time.monotonic() - heard > PATIENCE_S:
                raise StreamsError(f"{len(self.open)} of {self.count} streams say nothing")
        self.epoll.close()
        return self

    def add(self, stream):
        self.open[stream.sock.fileno()] = stream
        self.epoll.register(stream.sock.fileno(), select.EPOLLIN)

    def read(self, stream):
        try:
            data = stream.sock.recv(65536)
        except OSError as problem:
            raise StreamsError(f"a stream broke after {stream.events} of {self.events} events: {problem}") from problem
        now = time.monotonic_ns() // 1000
        if not stream.began:
            self.begin(stream, data)
        text = stream.rest + data
        for found in CLOCK.finditer(text):
            stream.events += 1
            if len(self.looks) == 1:
                self.delays.append((now - int(found[1])) % WRAP)
        stream.rest = text[text.rfind(b"\n\n") + 2:] if b"\n\n" in text else text
        if LAST in text or not data:
            self.end(stream, text)

    def begin(self, stream, data):
        if not data.startswith(b"HTTP/1.1 200 "):
            raise StreamsError(f"a stream is answered with {data[:400]!r}")
        stream.began = True
        self.begun += 1
        if self.begun == self.count and self.ended == 0:
            self.take_look()

    def end(self, stream, text):
        if LAST not in text or stream.events != self.events:
            raise StreamsError(f"a stream ended after {stream.events} of {self.events} events: {text[-400:]!r}")
        if len(self.looks) == 1:
            self.take_look()
        self.ended += 1
        del self.open[stream.sock.fileno()]
        stream.sock.close()
