"""Starts the misbehaving provider and talks to its control API (standard library only).

    with Provider("build/provider") as p:
        p.answers({"preset": "error", "status": 503}, {"preset": "auto"})
        ...            # point the program under test at p.base_url
        p.wait(requests=2)
        assert p.record()[1]["closed_early"] is False
"""

import contextlib
import http.client
import json
import os
import select
import subprocess
import tempfile
import threading

PATTERN_PERIOD = 65521


class ProviderError(Exception):
    """The provider could not be started, refused a request, or ended badly."""


class ProviderTimeout(ProviderError):
    """A wait ran out; .record holds what had been seen by then."""

    def __init__(self, message, record):
        super().__init__(message)
        self.record = record


def pattern(length, start=0):
    """The bytes that {"body_bytes": length} sends."""
    period = bytes(33 + ((j * j) >> 5) % 94 for j in range(PATTERN_PERIOD))
    offset = start % PATTERN_PERIOD
    times = (offset + length) // PATTERN_PERIOD + 1
    return (period * times)[offset:offset + length]


class Provider:
    """One running provider. Thread-safe: each call takes a control connection of its own."""

    def __init__(self, binary, *, port=0, tls=None, tls_port=0, unix=None, script=None,
                 record=True, quiet=False, start_timeout=20):
        """tls is a pair (certificate file, key file); script a dict."""
        self._idle = []
        self._lock = threading.Lock()
        self._stderr = tempfile.TemporaryFile()
        self._process = None
        self._script_file = None
        command = [str(binary), "--port", str(port)]
        if tls is not None:
            command += ["--tls-port", str(tls_port), "--cert", str(tls[0]), "--key", str(tls[1])]
        if unix is not None:
            command += ["--unix", str(unix)]
        if script is not None:
            self._script_file = tempfile.NamedTemporaryFile("w", suffix=".json")
            json.dump(script, self._script_file)
            self._script_file.flush()
            command += ["--script", self._script_file.name]
        if not record:
            command.append("--no-record")
        if quiet:
            command.append("--quiet")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._stderr)
        ready = self._read_ready(start_timeout)
        self.port = ready["port"]
        self.tls_port = ready["tls_port"]
        self.unix = ready["unix"]
        self.pid = ready["pid"]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.stop()
        else:
            with contextlib.suppress(ProviderError):
                self.stop()

    # ---- where it is ----

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def tls_base_url(self):
        if self.tls_port is None:
            raise ProviderError("the provider was started without TLS")
        return f"https://127.0.0.1:{self.tls_port}/v1"

    # ---- what it does ----

    def script(self, script):
        """Replaces the script, and with it the positions in its lists."""
        self._call("PUT", "/_/script", json.dumps(script))

    def rules(self, *rules, default=None, on_accept=None):
        script = {"rules": list(rules)}
        if default is not None:
            script["default"] = default
        if on_accept is not None:
            script["on_accept"] = on_accept
        self.script(script)

    def answers(self, *answers, then="repeat", **rule):
        """One rule for every request: these responses, in turn."""
        self.rules({"answers": list(answers), "then": then, **rule})

    # ---- what it saw ----

    def record(self):
        return self._call("GET", "/_/record")

    def release(self):
        """Lets go what the script holds, now and until the next script."""
        self._call("POST", "/_/release")

    def clear(self):
        """Forgets the record and the counters; the script stays where it is."""
        self._call("DELETE", "/_/record")

    def stats(self):
        return self._call("GET", "/_/stats")

    def wait(self, *, timeout=10, **condition):
        """Waits for one of requests, heads, answered, closed, in_flight, connections,
        tls_handshakes (at least so many) or open (exactly). Returns the record; raises ProviderTimeout."""
        if len(condition) != 1:
            raise TypeError("wait takes exactly one condition")
        (name, count), = condition.items()
        path = f"/_/wait?{name}={count}&timeout_ms={int(timeout * 1000)}"
        status, answer = self._exchange("GET", path, None, timeout + 30)
        if status == 408:
            raise ProviderTimeout(f"waited {timeout} s in vain for {name}={count}; "
                                  f"stats: {self.stats()}", answer)
        if status != 200:
            raise ProviderError(f"GET {path}: {status}: {answer}")
        return answer

    def log(self):
        """What it has written to stderr so far."""
        return os.pread(self._stderr.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def stop(self):
        """Ends it with SIGTERM; raises unless it ended cleanly. Calling it again does nothing."""
        if self._process is None:
            return
        process, self._process = self._process, None
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        log = self.log()
        self._stderr.close()
        if self._script_file is not None:
            self._script_file.close()
        if "Sanitizer" in log or "runtime error:" in log:
            raise ProviderError("a sanitizer complained:\n" + log[-8000:])
        if process.returncode != 0:
            raise ProviderError(f"the provider ended with {process.returncode}:\n" + log[-8000:])

    # ---- inside ----

    def _read_ready(self, timeout):
        line = b""
        fd = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], timeout)
            piece = os.read(fd, 4096) if readable else b""
            if not piece:
                self._process.kill()
                self._process.wait()
                self._process.stdout.close()
                raise ProviderError("the provider did not start:\n" + self.log())
            line += piece
        return json.loads(line)

    def _call(self, method, path, body=None):
        status, answer = self._exchange(method, path, body, 60)
        if status != 200:
            message = answer.get("error", answer) if isinstance(answer, dict) else answer
            raise ProviderError(f"{method} {path}: {status}: {message}")
        return answer

    def _exchange(self, method, path, body, timeout):
        """Connections are kept and used again, so that on_accept does not hit them."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        elif connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            state = self._process.poll() if self._process else "stopped"
            raise ProviderError(f"{method} {path}: {error!r} (exit status: {state})\n"
                                + ("" if self._process is None else self.log()[-4000:])) from error
        with self._lock:
            self._idle.append(connection)
        return response.status, answer
