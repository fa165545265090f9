"""Runs a real retryd for a test, and reads its log while it writes it (standard library only).

    with Retryd(upstream=provider.base_url, retry={"initial_delay": "50ms"}) as d:
        ...                                   # talk to d.base_url
        line = d.wait_log("attempt 1 of 5")   # a dict of the line's fields
        assert d.metric("retryd_rescued_total") == 1

Each daemon listens on free ports, with one worker by default. The end of the block sends SIGTERM, and raises an
exception if the daemon did not end cleanly: a wrong exit code, a sanitizer's report, a leak.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

READY = re.compile(r"retryd \S+ is ready")
LISTENING = re.compile(r'msg"?[=:]"listening on (\S+?)( \(admin\))?"')
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
SANITIZER = re.compile(r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion)")


class DaemonError(Exception):
    """retryd did not do what a test relies on; the message ends with its log."""


def parse_logfmt(line):
    """The fields of one line: ts=... level=info msg="..." id=..."""
    fields = {}
    for key, value in FIELD.findall(line):
        fields[key] = json.loads(value) if value.startswith('"') else value
    return fields


class Retryd:
    """One running daemon.

    upstream: the url of the one upstream; settings of sections by keyword (server=, admin=, log=,
    retry=, timeout=, stream=, ... each a dict; upstream_settings= for the upstream's section);
    config: extra text, or (with raw=True) the whole file; env: added to the environment.
    """

    def __init__(self, upstream=None, *, upstream_settings=None, config="", raw=False, env=None,
                 args=(), start_timeout=30, expect_exit=0, preexec=None, wrap=(), **sections):
        self.expect_exit = expect_exit
        self.lines = []
        self._news = threading.Condition()
        self._ended = False
        self._folder = tempfile.TemporaryDirectory(prefix="retryd-test-")
        self.config_path = os.path.join(self._folder.name, "retryd.conf")
        self.write_config(config if raw else
                          self.make_config(upstream, upstream_settings, config, sections))
        environment = dict(os.environ)
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        environment.update(env or {})
        self.process = subprocess.Popen(
            [*wrap, os.environ["DAEMON_BIN"], "-c", self.config_path, *args], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, preexec_fn=preexec)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.listeners, self.admin_address = [], None
        self._start(start_timeout)

    @staticmethod
    def make_config(upstream, upstream_settings, extra, sections):
        sections = {k: dict(v) for k, v in sections.items()}
        server = sections.setdefault("server", {})
        server.setdefault("listen", "127.0.0.1:0")
        server.setdefault("workers", 1)
        sections.setdefault("admin", {}).setdefault("listen", "127.0.0.1:0")
        # Cases that fail share a daemon: what it makes of many failures is not to tie them together.
        # Tests of breakers and budgets set their own.
        breaker = sections.setdefault("breaker", {})
        breaker.setdefault("failures", 0)
        breaker.setdefault("failure_rate", "0%")
        sections.setdefault("retry", {}).setdefault("budget_min", 100000)
        sections["retry"].setdefault("repeat_window", 0)  # tests send the same request again and again
        if upstream is not None:
            sections["upstream test"] = {"url": upstream, **(upstream_settings or {})}
        text = ""
        for name, keys in sections.items():
            text += f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) + "\n"
        return text + extra

    def write_config(self, text):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(text)

    # --- the log ---------------------------------------------------------------------------------

    def _read(self):
        for raw in self.process.stderr:
            with self._news:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self):
        with self._news:
            return "\n".join(self.lines)

    def wait_line(self, pattern, *, count=1, timeout=20, start=0):
        """The count-th line that the regular expression is found in, once it is there."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                found = [line for line in self.lines[start:] if wanted.search(line)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise DaemonError(f"no line {count} with /{pattern}/ in\n" + "\n".join(self.lines))
                self._news.wait(left)

    def wait_log(self, pattern, **how):
        return parse_logfmt(self.wait_line(pattern, **how))

    def requests(self):
        """The fields of every request line so far."""
        return [parse_logfmt(line) for line in self.log.splitlines() if 'msg="request"' in line]

    # --- where it is -----------------------------------------------------------------------------

    def _start(self, timeout):
        self.wait_line(READY.pattern, timeout=timeout)
        for line in self.lines:
            found = LISTENING.search(line)
            if found and found[2]:
                self.admin_address = found[1]
            elif found:
                self.listeners.append(found[1])

    @property
    def pid(self):
        return self.process.pid

    @property
    def host(self):
        return self.listeners[0].rpartition(":")[0]

    @property
    def port(self):
        return int(self.listeners[0].rpartition(":")[2])

    @property
    def url(self):
        return f"http://{self.listeners[0]}"

    @property
    def base_url(self):
        return self.url + "/v1"

    # --- the admin pages -------------------------------------------------------------------------

    def admin(self, path):
        """(status, text) of an admin page."""
        host, _, port = self.admin_address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def let_finish(self):
        """Waits until none of its threads runs, or for a second: a worker counts a request after the client has read
        its response, and a busy machine may stop it in between."""
        deadline = time.monotonic() + 1
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        with contextlib.suppress(OSError):  # it has ended
            while time.monotonic() < deadline and any(
                    task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "R" for task in tasks.iterdir()):
                os.sched_yield()

    def metrics(self):
        """Every sample of /metrics: {"name{labels}": value}."""
        samples = {}
        self.let_finish()
        for line in self.admin("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def metric(self, name):
        """A sample's value; of a name without labels the sum of all its samples."""
        samples = self.metrics()
        return samples[name] if name in samples else sum(v for s, v in samples.items() if s.partition("{")[0] == name)

    # --- ending ----------------------------------------------------------------------------------

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=40):
        """The exit code, once it has ended and its log is whole."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self, timeout=40):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise DaemonError("it did not end after SIGTERM\n" + self.log) from None
        if SANITIZER.search(self.log):
            raise DaemonError("a sanitizer or an assertion spoke up\n" + self.log)
        if code != self.expect_exit:
            raise DaemonError(f"exit code {code} instead of {self.expect_exit}\n" + self.log)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.stop()
        finally:
            self._folder.cleanup()
