"""Starts retryd, nginx and HAProxy, each as a reverse proxy in front of one upstream, and reads the CPU time
and memory that they have used. Beside them stands the floor (floor.c): retryd's libraries without retryd.

The first three do the same work. Each has one worker on one core, keeps connections to the upstream alive and writes
no access log. Each reads a request completely and keeps it, so that it can retry it up to four times after
the failures that it can detect, and reports this to the client in four headers. Each runs in the foreground
as the current user, with loopback sockets that it inherits, and in a temporary folder.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

START_TIMEOUT = 20
CONNECTIONS = 8192  # each proxy may have


class BenchError(Exception):
    """The figures cannot be had, or would be wrong."""


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
    ports = 1

    def __init__(self, folder, core, upstream_port, authority=None):
        """`authority`: the file with the certificate that a TLS upstream shows; None for a plain upstream."""
        self.folder = tempfile.mkdtemp(prefix=self.name, dir=folder)
        self.core = core
        self.upstream_port = upstream_port
        self.authority = authority
        self.scheme = "https" if authority else "http"
        # It is handed them, listening: who connects before it runs waits, and needs not try again.
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(self.ports)]
        self.port = self.sockets[0].getsockname()[1]
        self.stream_port = self.sockets[-1].getsockname()[1]
        self.process = None
        self.log = os.path.join(self.folder, "log")

    def fds(self):
        return [s.fileno() for s in self.sockets]

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
                pass_fds=self.fds(), preexec_fn=lambda: os.sched_setaffinity(0, {self.core}))
        for s in self.sockets:
            s.close()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_ready(self):
        """It is once it answers, whatever it says."""
        for port in {self.port, self.stream_port}:
            head = f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            try:
                with socket.create_connection(("127.0.0.1", port), START_TIMEOUT) as s:
                    s.sendall(head.encode())
                    answer = s.recv(65536)
            except OSError as e:
                answer = str(e).encode()
            if not answer.startswith(b"HTTP/1.1 "):
                raise BenchError(f"{self.name} does not answer ({answer!r}):\n{self.read_log()}")

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

    def memory_kib(self):
        """Of all its processes; what they share counts once."""
        total = 0
        for pid in {pid for pid, _ in self.threads()}:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                total += int(re.search(r"^Pss:\s+(\d+) kB$", f.read(), re.MULTILINE)[1])
        return total

    def cpu_ns(self):
        """{thread: nanoseconds}, over all its processes."""
        times = {}
        for pid, tid in self.threads():
            with contextlib.suppress(OSError):
                times[tid] = thread_cpu_ns(pid, tid)
        return times

    def cpu_ns_since(self, before):
        return sum(ns - before.get(tid, 0) for tid, ns in self.cpu_ns().items())


# Puts a socket where systemd would, and becomes the program.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Retryd(Proxy):
    name = "retryd"

    def command(self):
        path = self.write(f"""
[server]
workers = 1
max_connections = {CONNECTIONS}
[admin]
listen = off
[log]
level = warn
access = off
[upstream bench]
url = {self.scheme}://127.0.0.1:{self.upstream_port}/v1
{f"ca_file = {self.authority}" if self.authority else ""}
""")
        return [sys.executable, "-c", HAND_OVER, str(self.fds()[0]), os.environ["DAEMON_BIN"], "-c", path]

    def version(self):
        text = output_of(os.environ["DAEMON_BIN"], "--version")
        number, mhd, curl = (version_in(text, name + r"[/ ]([^\s,)]+)")
                             for name in ("retryd", "libmicrohttpd", "libcurl"))
        return f"retryd {number} (libmicrohttpd {mhd}, libcurl {curl})"


class Nginx(Proxy):
    name = "nginx"
    ports = 2

    def command(self):
        temp = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        trust = (f"proxy_ssl_trusted_certificate {self.authority}; proxy_ssl_verify on; proxy_ssl_name 127.0.0.1;"
                 if self.authority else "")
        user = "user root root;" if os.geteuid() == 0 else ""
        path = self.write(f"""
daemon off; worker_processes 1; pid {self.folder}/pid; error_log stderr crit; {user}
events {{ worker_connections {2 * CONNECTIONS}; }}
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
    proxy_http_version 1.1; {trust}
    proxy_set_header Connection "";
    proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_429 non_idempotent;
    proxy_next_upstream_tries 5;
    add_header x-proxy-attempts $upstream_status always;
    add_header x-proxy-wait $upstream_connect_time always;
    add_header x-proxy-target bench always;
    add_header Proxy-Status "nginx; received-status=$upstream_status; next-hop=bench" always;
    server {{
        listen 127.0.0.1:{self.port};
        location /v1/ {{ proxy_pass {self.scheme}://bench; }}
    }}
    server {{
        listen 127.0.0.1:{self.stream_port};
        location /v1/ {{ proxy_pass {self.scheme}://bench; proxy_buffering off; }}
    }}
}}
""")
        # As when a running nginx hands its sockets to a new one.
        inherited = "NGINX=" + "".join(f"{fd};" for fd in self.fds())
        return ["env", inherited, "nginx", "-e", "stderr", "-p", self.folder, "-c", path]

    def version(self):
        return "nginx " + version_in(output_of("nginx", "-v"), r"nginx/(\S+)")


class HAProxy(Proxy):
    name = "HAProxy"

    def command(self):
        trust = f"ssl verify required ca-file {self.authority}" if self.authority else ""
        path = self.write(f"""
global
    nbthread 1
    maxconn {CONNECTIONS}
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
    bind fd@{self.fds()[0]}
    default_backend bench
backend bench
    http-response set-header x-proxy-attempts %rc
    http-response set-header x-proxy-wait %Tw
    http-response set-header x-proxy-target bench
    http-response set-header Proxy-Status "haproxy; received-status=%[status]; next-hop=bench"
    server one 127.0.0.1:{self.upstream_port} {trust}
""")
        return ["haproxy", "-db", "-q", "-f", path]

    def version(self):
        return "HAProxy " + version_in(output_of("haproxy", "-v"), r"version (\S+)")


class Floor(Proxy):
    name = "floor"

    def command(self):
        return [os.environ["FLOOR_BIN"], str(self.fds()[0]), f"{self.scheme}://127.0.0.1:{self.upstream_port}",
                *([self.authority] if self.authority else [])]

    def version(self):
        return "floor"


ALL = (Retryd, Floor, Nginx, HAProxy)
