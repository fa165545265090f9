"""Starts retryd, nginx and HAProxy, each as a reverse proxy in front of one upstream, and reads the
CPU time that they have used.

They do the same work: one worker on one core, connections to the upstream kept alive, no access
log; a request is read whole and kept so that it can be made again, up to four more times, on the
failures that each can see; four header fields tell the client about it. Each runs in the foreground
as the current user, on free loopback ports, out of a folder that goes with it.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

START_TIMEOUT = 20


class BenchError(Exception):
    """The figures cannot be had, or would be wrong."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode("utf-8", "replace")


def version_in(text, pattern):
    found = re.search(pattern, text)
    return found[1] if found else "?"


def children(pid):
    """The processes that pid has started and that still run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                if int(f.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(name))
    return found


def thread_cpu_ns(pid, tid):
    """Nanoseconds on a CPU, user and system. The scheduler's own account is exact; utime + stime, for
    kernels without it, count in ticks."""
    try:
        with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0])
    except FileNotFoundError:
        with open(f"/proc/{pid}/task/{tid}/stat", encoding="latin-1") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")


class Proxy:
    """One running proxy; a context manager. `port` serves requests, `stream_port` streams."""

    name = ""
    program = ""

    def __init__(self, folder, core, upstream_port):
        self.folder = os.path.join(folder, self.name)
        os.mkdir(self.folder)
        self.core = core
        self.upstream_port = upstream_port
        self.port = free_port()
        self.stream_port = self.port
        self.process = None
        self.log = os.path.join(self.folder, "log")

    def command(self):
        """Writes the configuration; the command to run."""
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def write(self, text):
        path = os.path.join(self.folder, "conf")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        return path

    def __enter__(self):
        command = self.command()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                preexec_fn=lambda: os.sched_setaffinity(0, {self.core}))
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_ready(self):
        deadline = time.monotonic() + START_TIMEOUT
        for port in {self.port, self.stream_port}:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        raise BenchError(f"{self.name} does not listen:\n{self.read_log()}") from None
                    time.sleep(0.02)

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def threads(self):
        for pid in [self.process.pid, *children(self.process.pid)]:
            for tid in os.listdir(f"/proc/{pid}/task"):
                yield pid, int(tid)

    def cpu_ns(self):
        """{thread: nanoseconds}, over all its processes."""
        times = {}
        for pid, tid in self.threads():
            with contextlib.suppress(OSError):
                times[tid] = thread_cpu_ns(pid, tid)
        return times

    def cpu_ns_since(self, before):
        return sum(ns - before.get(tid, 0) for tid, ns in self.cpu_ns().items())


class Retryd(Proxy):
    name = "retryd"

    def command(self):
        path = self.write(f"""
[server]
listen = 127.0.0.1:{self.port}
workers = 1
[admin]
listen = off
[log]
level = warn
access = off
[upstream bench]
url = http://127.0.0.1:{self.upstream_port}/v1
""")
        return [os.environ["RETRYD_BIN"], "-c", path]

    def version(self):
        text = output_of(os.environ["RETRYD_BIN"], "--version")
        number, mhd, curl = (version_in(text, name + r"[/ ]([^\s,)]+)")
                             for name in ("retryd", "libmicrohttpd", "libcurl"))
        return f"retryd {number} (libmicrohttpd {mhd}, libcurl {curl})"


class Nginx(Proxy):
    name = "nginx"

    def command(self):
        self.stream_port = free_port()
        temp = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root root;" if os.geteuid() == 0 else ""
        path = self.write(f"""
daemon off; worker_processes 1; pid {self.folder}/pid; error_log stderr crit; {user}
events {{ worker_connections 4096; }}
http {{
    access_log off; {temp}
    keepalive_requests 1000000000;
    upstream bench {{
        server 127.0.0.1:{self.upstream_port} max_fails=0;
        server 127.0.0.1:{self.upstream_port} max_fails=0 backup;
        server 127.0.0.1:{self.upstream_port} max_fails=0 backup;
        server 127.0.0.1:{self.upstream_port} max_fails=0 backup;
        server 127.0.0.1:{self.upstream_port} max_fails=0 backup;
        keepalive 1024; keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_429 non_idempotent;
    proxy_next_upstream_tries 5;
    add_header x-proxy-attempts $upstream_status always;
    add_header x-proxy-wait $upstream_connect_time always;
    add_header x-proxy-target bench always;
    add_header Proxy-Status "nginx; received-status=$upstream_status; next-hop=bench" always;
    server {{
        listen 127.0.0.1:{self.port};
        location /v1/ {{ proxy_pass http://bench; }}
    }}
    server {{
        listen 127.0.0.1:{self.stream_port};
        location /v1/ {{ proxy_pass http://bench; proxy_buffering off; }}
    }}
}}
""")
        return ["nginx", "-e", "stderr", "-p", self.folder, "-c", path]

    def wait_ready(self):
        super().wait_ready()
        deadline = time.monotonic() + START_TIMEOUT
        while not children(self.process.pid):
            if time.monotonic() > deadline:
                raise BenchError(f"nginx has no worker:\n{self.read_log()}")
            time.sleep(0.02)

    def version(self):
        return "nginx " + version_in(output_of("nginx", "-v"), r"nginx/(\S+)")


class HAProxy(Proxy):
    name = "HAProxy"

    def command(self):
        path = self.write(f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    option http-keep-alive
    option http-no-delay
    http-reuse always
    option http-buffer-request
    retries 4
    retry-on all-retryable-errors
frontend in
    bind 127.0.0.1:{self.port}
    default_backend bench
backend bench
    http-response set-header x-proxy-attempts %rc
    http-response set-header x-proxy-wait %Tw
    http-response set-header x-proxy-target bench
    http-response set-header Proxy-Status "haproxy; received-status=%[status]; next-hop=bench"
    server one 127.0.0.1:{self.upstream_port}
""")
        return ["haproxy", "-db", "-q", "-f", path]

    def version(self):
        return "HAProxy " + version_in(output_of("haproxy", "-v"), r"version (\S+)")


ALL = (Retryd, Nginx, HAProxy)
