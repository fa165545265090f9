"""The environment that retryd inherits at its start: signals, descriptors and variables."""

import contextlib
import os
import signal
import socket
import subprocess

import pytest
from raw import CHAT, Raw


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_mean_nothing_do_nothing(provider, retryd, number):
    provider.answers({"preset": "auto"})
    d = retryd()
    d.signal(number)
    with Raw(d) as c:
        c.request(body=CHAT)
        assert c.answer().status == 200


def test_a_hangup_while_it_starts_is_a_reload(provider, retryd):
    """The signal is there before the first instruction: it was sent to itself, blocked."""
    def hang_up():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        os.kill(os.getpid(), signal.SIGHUP)

    d = retryd(preexec=hang_up)
    d.wait_line("configuration reloaded")


def test_descriptors_that_are_closed_are_opened(provider, tmp_path):
    """Else the first socket would be standard input, and the log's text would go into a connection."""
    provider.answers({"preset": "auto"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = tmp_path / "conf"
    conf.write_text(f"[server]\nlisten = 127.0.0.1:{port}\n[admin]\nlisten = off\n"
                    f"[upstream test]\nurl = {provider.base_url}\n")
    process = subprocess.Popen(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', os.environ["DAEMON_BIN"], conf])
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                with Raw(("127.0.0.1", port)) as c:
                    c.request(body=CHAT)
                    assert c.answer().status == 200
                break
            assert process.poll() is None
        for fd in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null"
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_variables_that_are_not_used_are_told(provider, retryd):
    env = {name: "" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
                                 "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                                 "NODE_EXTRA_CA_CERTS")}
    assert "not used" not in retryd(env=env).log
    env.update(HTTPS_PROXY="http://user:SECRET@proxy.example:3128", SSL_CERT_FILE="/etc/ca.pem")
    assert "not used" not in retryd(env=env).log  # http: neither would apply
    d = retryd("https://api.example/v1", env=env)
    told = [line for line in d.log.splitlines() if "not used" in line]
    assert len(told) == 1 and "SECRET" not in d.log
    assert "HTTPS_PROXY" in told[0] and "proxy" in told[0] and "SSL_CERT_FILE" in told[0] and "ca_file" in told[0]
    assert "not used" not in retryd("https://api.example/v1", env=env, upstream_settings={
        "proxy": "http://proxy.example:3128", "ca_file": "/etc/ssl/certs/ca-certificates.crt"}).log
