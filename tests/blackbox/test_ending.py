"""The time that a shutdown takes: drain_linger, and what retryd requests from systemd meanwhile."""

import signal
import socket

import pytest
from raw import CHAT, Closed, Raw, ask


@pytest.fixture
def notify(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify.sock"))
        s.settimeout(20)
        yield s


def told(s, wanted):
    """Reads datagrams until one has a line that starts so."""
    while True:
        for line in s.recv(4096).decode().splitlines():
            if line.startswith(wanted):
                return line


def test_linger_takes_new_connections(provider, retryd):
    """An application that stops at the same time may still begin to ask; who spreads load is told at once."""
    d = retryd(server={"drain_linger": "60s"})
    d.signal(signal.SIGTERM)
    d.wait_line("shutting down: accepting connections for another 60000 ms")
    assert d.admin("/readyz")[0] == 503
    assert d.admin("/healthz")[0] == 200
    for _ in range(3):
        assert ask(d).status == 200
    assert "finishing running requests" not in d.log
    d.signal(signal.SIGTERM)  # the second one ends it at once
    assert d.wait(timeout=20) == 0


def test_after_linger_comes_the_drain(provider, retryd):
    provider.answers({"preset": "auto", "delay_ms": 1500})
    d = retryd(server={"drain_linger": "300ms", "drain_timeout": "30s"})
    with Raw(d) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
        d.signal(signal.SIGTERM)
        d.wait_line("shutting down: finishing running requests for at most 30000 ms")
        with pytest.raises((OSError, Closed)):
            ask(d)
        assert c.answer().status == 200
    assert d.wait(timeout=20) == 0


def test_a_reload_comes_too_late(provider, retryd):
    d = retryd(server={"drain_linger": "60s"})
    d.signal(signal.SIGTERM)
    d.wait_line("shutting down: accepting")
    d.signal(signal.SIGHUP)
    d.wait_line("reload: retryd is shutting down")
    assert ask(d).status == 200
    d.signal(signal.SIGTERM)
    assert d.wait(timeout=20) == 0


@pytest.mark.parametrize("linger", ["0", "60s"])
def test_systemd_is_asked_for_time(provider, retryd, notify, linger):
    """Again and again, so that TimeoutStopSec does not count while retryd ends as it was told to."""
    provider.answers({"preset": "auto", "stall": {"before_head": True}})
    d = retryd(server={"drain_linger": linger, "drain_timeout": "60s"},
               env={"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "400000"})
    told(notify, "WATCHDOG=1")
    with Raw(d) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
        d.signal(signal.SIGTERM)
        told(notify, "STOPPING=1")
        for _ in range(4):
            assert int(told(notify, "EXTEND_TIMEOUT_USEC=").partition("=")[2]) >= 5_000_000
        d.signal(signal.SIGTERM)
        assert d.wait(timeout=20) == 0


def test_systemd_is_not_asked_before(retryd, notify):
    """Before it ends, that would be a response to no question."""
    d = retryd("http://127.0.0.1:1/v1", env={"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "100000"})
    heard = b""
    while heard.count(b"WATCHDOG=1") < 5:
        heard += notify.recv(4096)
    assert b"EXTEND" not in heard
    d.stop()
