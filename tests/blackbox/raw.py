"""A client that sends exactly the bytes of a test, and reads exactly the bytes that come back.

    with Raw(daemon) as c:
        c.request("POST", "/v1/chat/completions", CHAT)
        answer = c.answer()
        assert answer.status == 200

Nothing here sleeps. A test that has to let time pass waits for data on a socket with a timeout.
"""

import datetime
import json
import os
import re
import select
import socket
import struct
import time

from late import in_time  # noqa: F401

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}


def now_ms():
    return time.monotonic() * 1000


class Closed(Exception):
    """The daemon closed the connection; .data is what had come and was not read yet."""

    def __init__(self, data):
        super().__init__(repr(data[:2000]))
        self.data = data


class Answer:
    def __init__(self, version, status, reason, headers):
        self.version, self.status, self.reason, self.headers = version, status, reason, headers
        self.body = b""
        self.whole = False

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error object, checked to be one that every SDK can read."""
        assert self.header("content-type").startswith("application/json"), self.headers
        error = self.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str) and error["message"], error
        assert self.header("x-should-retry") == "false", self.headers
        return error


def address_of(target):
    """A daemon, a (host, port), or the path of a Unix socket."""
    if hasattr(target, "listeners"):
        first = target.listeners[0]
        return first[5:] if first.startswith("unix:") else (target.host.strip("[]"), target.port)
    return target


def head_of(method, path, headers=(), *, version="1.1", host="localhost"):
    lines = [f"{method} {path} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    return ("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode("latin-1")


class Raw:
    def __init__(self, target, timeout=20, receive_buffer=None):
        address = address_of(target)
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, (str, os.PathLike))
                                  else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- sending ---------------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method="POST", path="/v1/chat/completions", body=None, headers=(), **how):
        """body: None, bytes, or something to be written as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = ["Content-Type: application/json", *headers]
        if body is not None:
            headers = [*headers, f"Content-Length: {len(body)}"]
        self.send(head_of(method, path, headers, **how) + (body or b""))

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    # --- receiving -------------------------------------------------------------------------------

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise Closed(self.data)
        self.data += piece

    def until(self, mark):
        while mark not in self.data:
            self.more()
        end = self.data.index(mark) + len(mark)
        taken, self.data = self.data[:end], self.data[end:]
        return taken

    def exactly(self, n):
        while len(self.data) < n:
            self.more()
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def answer_head(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = (lines[0] + " ").split(" ", 2)
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        return Answer(version, int(status), reason.strip(), headers)

    def next_chunk(self):
        """The data of the next chunk; b"" for the last one."""
        n = int(self.until(b"\r\n").split(b";")[0], 16)
        data = self.exactly(n)
        if n == 0:
            self.until(b"\r\n")
        else:
            assert self.exactly(2) == b"\r\n"
        return data

    def chunks(self):
        while data := self.next_chunk():
            yield data

    def answer(self, method="POST"):
        """A whole response; Closed if it breaks off."""
        answer = self.answer_head()
        while 100 <= answer.status < 200:
            answer = self.answer_head()
        length = answer.header("content-length")
        if method == "HEAD" or answer.status in (204, 304):
            pass
        elif (answer.header("transfer-encoding") or "").lower() == "chunked":
            answer.body = b"".join(self.chunks())
        elif length is not None:
            answer.body = self.exactly(int(length))
        else:
            answer.body = self.rest()
        answer.whole = True
        return answer

    def rest(self):
        """All that comes until the daemon closes, however it does."""
        try:
            while True:
                self.more()
        except Closed as end:
            self.data = b""
            return end.data
        except ConnectionResetError:
            taken, self.data = self.data, b""
            return taken

    def is_closed(self, within=10):
        """Waits until the daemon has closed the connection, and drops what came before."""
        self.sock.settimeout(within)
        try:
            self.rest()
        except TimeoutError:
            return False
        return True

    def is_open(self):
        """Nothing has come, and no end either."""
        if self.data:
            return False
        readable, _, _ = select.select([self.sock], [], [], 0)
        return not readable

    # --- leaving ---------------------------------------------------------------------------------

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def ask(target, body=CHAT, path="/v1/chat/completions", headers=(), method="POST", **how):
    """One request on a connection of its own."""
    with Raw(target, **how) as c:
        c.request(method, path, body, headers)
        return c.answer(method)


def events_of(body):
    """The data of each event, comments left out."""
    text = body.decode().replace("\r\n", "\n")
    datas = []
    for event in text.split("\n\n"):
        data = [line[5:].strip() for line in event.split("\n") if line.startswith("data:")]
        if data:
            datas.append("\n".join(data))
    return datas


def text_of(body):
    """What the deltas of a chat stream say together."""
    text = ""
    for data in events_of(body):
        if data != "[DONE]":
            for choice in json.loads(data).get("choices", []):
                text += choice["delta"].get("content") or ""
    return text


def cpu_ms(pid):
    """User and system time that a process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def wanted_ms(pid):
    """Time that a process's threads have spent on a CPU or waiting for one, as far as the kernel says."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += sum(map(int, f.read().split()[:2])) / 1e6
        except FileNotFoundError:  # the thread has ended, or the kernel keeps no account
            pass
    return total or cpu_ms(pid)


def comes_to_rest(pid, within=10):
    """Whether it sleeps for most of some quarter of a second. What spins never does: however busy the
    machine is, it has a CPU or wants one. What only has much to do is through with it some time."""
    deadline = now_ms() + within * 1000
    while now_ms() < deadline:
        start, before = now_ms(), wanted_ms(pid)
        pass_time(0.25)
        if wanted_ms(pid) - before < (now_ms() - start) / 2:
            return True
    return False


def without_quarantine():
    """The environment of a daemon whose memory is measured: AddressSanitizer keeps what was freed for a
    while, megabytes that are none of the daemon's."""
    options = os.environ.get("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    return {"ASAN_OPTIONS": options + ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
                            ":detect_stack_use_after_return=0"}


def memory_kib(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith(what + ":"):
                return int(line.split()[1])
    raise KeyError(what)


def time_of(line):
    """When a line of the log, given as a dict, was written: in milliseconds, for differences."""
    return datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).timestamp() * 1000


def held_up_ms(daemon):
    """The longest time that one of its event loops stood still; 0 where that is below 100 ms, which it does not log."""
    return max(map(int, re.findall(r'the event loop was held up" lag_ms=(\d+)', daemon.log)), default=0)


def attempts_logged(daemon):
    """All attempts that the daemon's log tells of, by its request lines."""
    return sum(int(r["attempts"]) for r in daemon.requests())


def wait_requests(daemon, count, timeout=20):
    """Waits until so many requests have their line, and returns their fields."""
    daemon.wait_line('msg="?request"? ', count=count, timeout=timeout)
    return daemon.requests()


def wait_metric(daemon, name, at_least, timeout=20):
    """Reads the metrics again and again until the sample is there."""
    deadline = now_ms() + timeout * 1000
    while (value := daemon.metric(name)) < at_least:
        assert now_ms() < deadline, f"{name} is {value}, not {at_least}"
    return value


def pass_time(seconds, *socks):
    """Waits for one of the sockets to become readable; the ones that did."""
    return select.select(socks, [], [], seconds)[0]


def wait_idle(daemon, timeout=20):
    """Waits until no request is in progress; the samples then."""
    deadline = now_ms() + timeout * 1000
    while (samples := daemon.metrics())["retryd_requests_active"] > 0:
        assert now_ms() < deadline, f"{samples['retryd_requests_active']} requests do not end"
    return samples


def wait_connections(daemon, count, timeout=20):
    """Waits until so many clients are connected: a worker tells its counts at the end of a turn."""
    deadline = now_ms() + timeout * 1000
    while (value := daemon.metric("retryd_client_connections")) != count:
        assert now_ms() < deadline, f"{value} connections, not {count}"
