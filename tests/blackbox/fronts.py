"""Runs real HTTP/2 servers over TLS in front of the provider: nginx and nghttpx, from Debian's packages.

A test module that imports these fixtures runs its tests through each of them:

    from fronts import front, through_front  # noqa: F401
    from pki import pki  # noqa: F401

Neither server buffers: each forwards what the provider sends at once, and the end of a stream ends the connection to
the provider.
"""

import contextlib
import itertools
import os
import socket
import subprocess

import pytest
from raw import now_ms

KINDS = ["nginx", "nghttpx"]

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        http2 on;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        client_max_body_size 0;
        {more}
        location / {{
            proxy_pass http://127.0.0.1:{provider};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


_numbers = itertools.count()


def free_port():
    """One that the kernel gives to nobody, and no other process that runs tests: nghttpx would share it."""
    while True:
        port = 10000 + os.getpid() % 200 * 100 + next(_numbers) % 100
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Front:
    """One such server before `provider`; `more` is added to nginx's server block."""

    def __init__(self, kind, provider, cert, folder, more=""):
        self.port = free_port()
        self.base_url = f"https://127.0.0.1:{self.port}/v1"
        if kind == "nginx":
            config = folder / "nginx.conf"
            config.write_text(NGINX.format(folder=folder, port=self.port, cert=cert[0], key=cert[1],
                                           provider=provider.port, more=more))
            command = ["/usr/sbin/nginx", "-c", config, "-e", "stderr", "-p", folder]
        else:
            command = ["/usr/sbin/nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{self.port}",
                       f"--backend=127.0.0.1,{provider.port}", "--workers=1",
                       "--backend-read-timeout=1h", "--errorlog-file=/dev/stderr", str(cert[1]), str(cert[0])]
        self._log = open(folder / f"{kind}.log", "w+b")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = now_ms() + 20_000
        while not self._accepts():
            assert self._process.poll() is None and now_ms() < deadline, self.log()

    def _accepts(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._log.close()


@pytest.fixture(params=KINDS)
def front(request, provider, pki, tmp_path):
    with Front(request.param, provider, pki.good, tmp_path) as f:
        yield f


def over_http2(retryd, pki, url=None):
    """As `retryd`, but the upstream, at `url` unless told otherwise, is asked over HTTP/2."""
    def start(upstream=url, upstream_settings=None, **how):
        settings = {"ca_file": pki.ca, "http_version": "2", **(upstream_settings or {})}
        return retryd(upstream, upstream_settings=settings, **how)
    return start


@pytest.fixture(name="retryd")
def through_front(retryd, pki, front):
    return over_http2(retryd, pki, front.base_url)
