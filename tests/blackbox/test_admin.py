"""The admin listener: health, readiness, counters, and who may see them."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import raw

TOO_MANY = {"preset": "error", "status": 429, "headers": {"retry-after": "600"}}


def door(d):
    address, _, port = d.admin_address.rpartition(":")
    return address, int(port)


def ask(d, path, *, method="GET", host=None):
    address, _, port = d.admin_address.rpartition(":")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    try:
        connection.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


def test_health_and_readiness(retryd):
    d = retryd()
    assert ask(d, "/healthz")[::2] == (200, "ok\n")
    assert ask(d, "/readyz")[::2] == (200, "ready\n")
    assert ask(d, "/healthz", method="HEAD")[::2] == (200, "")
    assert ask(d, "/healthz", method="POST")[0] == 405
    assert ask(d, "/nosuch")[0] == 404


def test_not_ready_while_draining(provider, retryd):
    provider.answers({"stall": {"before_head": True}})
    d = retryd(server={"drain_timeout": "1s"})
    client = http.client.HTTPConnection(d.host, d.port, timeout=20)
    client.request("POST", "/v1/chat/completions", "{}")
    provider.wait(requests=1)
    d.signal(signal.SIGTERM)
    d.wait_line("shutting down: finishing")
    assert ask(d, "/readyz")[::2] == (503, "draining\n")
    assert ask(d, "/healthz")[0] == 200
    client.close()


def test_metrics_are_in_the_prometheus_text_format(provider, retryd):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    d = retryd()
    client = http.client.HTTPConnection(d.host, d.port, timeout=20)
    client.request("POST", "/v1/chat/completions", "{}")
    assert client.getresponse().read()
    client.close()
    raw.wait_metric(d, "retryd_rescued_total", 1)  # counted when the response is out
    status, kind, text = ask(d, "/metrics")
    assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
    declared = set()
    for line in text.splitlines():
        found = re.fullmatch(r"# (HELP|TYPE) (\w+) .+", line)
        if found:
            declared.add(found[2])
            continue
        name = re.fullmatch(r'(\w+?)(_bucket|_sum|_count)?(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+]+', line)
        assert name, line
        assert name[1] in declared or name[1] + (name[2] or "") in declared, line
    samples = d.metrics()
    assert samples["retryd_requests_total"] == 1
    assert samples['retryd_attempts_total{upstream="test"}'] == 2
    assert samples['retryd_attempts_failed_total{upstream="test",status="5xx",reason="overloaded"}'] == 1
    assert samples["retryd_rescued_total"] == 1
    assert samples['retryd_retries_total{reason="overloaded"}'] == 1
    for name in ("duration", "first_byte", "wait"):
        assert samples[f'retryd_request_{name}_seconds_count{{upstream="test",outcome="answered"}}'] == 1


def test_a_web_page_sees_nothing(retryd):
    """C30."""
    d = retryd()
    assert ask(d, "/metrics", host="evil.example:80")[0] == 403
    assert ask(d, "/metrics", host="localhost")[0] == 200


def test_a_scraper_of_another_machine_may_use_any_name_where_admin_is_open(retryd):
    d = retryd(admin={"listen": "0.0.0.0:0", "insecure_listen": "yes"})
    for path in ("/metrics", "/metrics?x=1", "/healthz", "/readyz"):
        assert ask(d, path, host="retryd.monitoring.svc:4291")[0] == 200


def test_the_other_pages_have_listed_names_and_addresses_where_admin_is_open(retryd):
    """C30: a page that has had its name point here is of the same origin, and its name is not listed."""
    d = retryd(server={"allowed_hosts": "gpu-box.lan"}, admin={"listen": "0.0.0.0:0", "insecure_listen": "yes"})
    for path in ("/", "/status.json", "/status.json?after=1", "/metrics/../status.json"):
        code, _, text = ask(d, path, host="evil.example:14891")
        assert code == 403 and "evil.example" in text and "is not in allowed_hosts" in text
    for host in ("10.1.2.3.evil.example", "[evil.example]", "10.1.2.3:x", "1"):
        assert ask(d, "/status.json", host=host)[0] == 403
    for host in ("gpu-box.lan:4291", "10.1.2.3:4291", "10.1.2.3", "[fe80::1]:4291", "localhost"):
        assert ask(d, "/status.json", host=host)[0] == 200


def test_a_scrape_leaves_the_lag_for_the_next_scraper(provider, retryd):
    """It is the most of the last minute, whoever has read it before."""
    d = retryd(upstream=provider.base_url)
    long = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "all at once " * 250_000},
                         "finish_reason": "stop"}]}
    provider.answers({"status": 200, "json": long, "encoding": "gzip"})  # a few KB that take a while to look at
    first = 0
    while first == 0:  # it counts whole milliseconds, and a fast machine may need fewer than one
        assert raw.ask(d, headers=["Accept-Encoding: gzip"]).status == 200
        first = d.metric("retryd_loop_lag_max_seconds")
    assert d.metric("retryd_loop_lag_max_seconds") >= first


def test_off_means_off(provider, retryd):
    d = retryd(admin={"listen": "off"})
    assert d.admin_address is None and len(d.listeners) == 1


def test_no_sample_stands_twice_whoever_brings_the_key(provider, retryd):
    """A client's own key has a gate of its own, and no label of its own."""
    provider.answers({"preset": "error", "status": 429, "headers": {"retry-after-ms": "10"}}, {"preset": "auto"},
                     key="authorization")
    d = retryd(retry={"initial_delay": "1ms", "max_delay": "1ms"})
    for key in ("sk-one", "sk-two", "sk-three"):
        client = http.client.HTTPConnection(d.host, d.port, timeout=20)
        client.request("POST", "/v1/chat/completions", '{"model":"gpt-4o"}', {"Authorization": f"Bearer {key}"})
        answer = client.getresponse()
        assert answer.status == 200 and answer.read()
        client.close()
    names = [line.rpartition(" ")[0] for line in ask(d, "/metrics")[2].splitlines() if not line.startswith("#")]
    assert len(names) == len(set(names))
    assert d.metrics()['retryd_gate_closed_total{upstream="test",model="gpt-4o",operation="generate",key="0"}'] == 3


# --- what fills it up ----------------------------------------------------------------------------


def test_a_large_head_is_answered(retryd):
    """8 KiB of fields, each small: more than libmicrohttpd reads at once."""
    d = retryd()
    fields = [f"X-Field-{i}: " + "a" * 100 for i in range(72)]
    with raw.Raw(door(d)) as c:
        c.request("GET", "/healthz", headers=[*fields, "X-Large: " + "b" * 500])
        assert c.answer("GET").status == 200


def test_requests_that_come_together_are_all_answered(retryd):
    d = retryd()
    with raw.Raw(door(d)) as c:
        c.send(raw.head_of("GET", "/healthz") * 200 + raw.head_of("GET", "/metrics"))
        for _ in range(200):
            assert c.answer("GET").body == b"ok\n"
        assert b"retryd_build_info" in c.answer("GET").body


def models_named(d, count):
    """Each has its gate closed by a 429: series of its own."""
    with raw.Raw(d) as c:
        for i in range(count):
            c.request(body=b'{"model":"model-%d"}' % i)
            assert c.answer().status == 429


def closings(d):
    return {name: value for name, value in d.metrics().items() if name.startswith("retryd_gate_closed_total")}


def test_models_beyond_the_cap_stand_together(provider, retryd):
    """Clients name any models, so that the number of series is theirs to choose; a scraper takes so many."""
    provider.answers(TOO_MANY)
    d = retryd(retry={"max_attempts": 1})
    models_named(d, 10)
    before = closings(d)
    assert len(before) == 10
    models_named(d, 10000)
    after = closings(d)
    assert len(after) == 501
    assert [name for name in after if 'model="other"' in name]
    assert all(after[name] >= before[name] for name in before)  # who has a label of its own keeps it
    with raw.Raw(door(d)) as c:
        c.request("GET", "/metrics")
        assert len(c.answer("GET").body) < 512 * 1024


def test_a_health_check_gets_through_a_crowd(provider, retryd, tmp_path):
    """Idle connections, heads that do not end, and scrapers that take nothing of a large response."""
    provider.answers(TOO_MANY)
    d = retryd(retry={"max_attempts": 1})
    models_named(d, 600)
    conf = tmp_path / "conf"
    conf.write_text(f"[admin]\nlisten = {d.admin_address}\n")
    with contextlib.ExitStack() as crowd:
        for piece in (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-", raw.head_of("GET", "/metrics")):
            crowd_of_64 = [crowd.enter_context(raw.Raw(door(d), receive_buffer=4096)) for _ in range(64)]
            for c in crowd_of_64:
                c.send(piece)
            if b"/metrics" in piece:  # to write so many takes seconds under a sanitizer; then they stand there
                for c in crowd_of_64:
                    c.more()
            health = subprocess.run([os.environ["DAEMON_BIN"], "-c", conf, "--health"], capture_output=True, text=True)
            assert health.returncode == 0, (piece, health.stderr)
            assert ask(d, "/healthz")[0] == 200


def test_a_scraper_that_takes_its_time_gets_it_all(provider, retryd):
    provider.answers(TOO_MANY)
    d = retryd(retry={"max_attempts": 1})
    models_named(d, 600)
    with raw.Raw(door(d), receive_buffer=4096) as slow:
        slow.request("GET", "/metrics")
        head = slow.answer_head()
        for _ in range(40):
            assert ask(d, "/healthz")[0] == 200
        assert len(slow.exactly(int(head.header("Content-Length")))) > 100000


HELD_UP = """
import ctypes, os, time
from daemon import Retryd
from test_admin import ask

SEIZE, INTERRUPT, DETACH, OF_A_THREAD = 0x4206, 0x4207, 17, 0x40000000  # ptrace(2), waitpid(2)
libc = ctypes.CDLL(None, use_errno=True)

def ptrace(what, thread):
    assert libc.ptrace(what, thread, None, None) == 0, os.strerror(ctypes.get_errno())

def wait_for(answer):
    deadline = time.monotonic() + 30
    while ask(d, "/healthz")[::2] != answer:
        assert time.monotonic() < deadline

with Retryd("http://127.0.0.1:1/v1", server={"workers": 2}) as d:
    wait_for((200, "ok\\n"))
    threads = sorted(int(t) for t in os.listdir(f"/proc/{d.pid}/task"))
    for thread in threads[1:]:
        ptrace(SEIZE, thread)
        ptrace(INTERRUPT, thread)
        os.waitpid(thread, OF_A_THREAD)
    wait_for((503, "a worker does not respond\\n"))
    for thread in threads[1:]:
        ptrace(DETACH, thread)
    wait_for((200, "ok\\n"))
"""


def test_health_fails_while_a_worker_does_not_answer(tmp_path):
    """All threads but the first are held up, as by a system call that does not return."""
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    done = subprocess.run([*as_root, sys.executable, "-c", HELD_UP], capture_output=True, text=True, timeout=100,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere"])
def test_requests_behind_each_other_are_all_answered(retryd, path):
    """They come in one piece, and nothing comes behind them that would wake the daemon again."""
    d = retryd("http://127.0.0.1:1/v1")
    host, _, port = d.admin_address.rpartition(":")
    for leaves in (False, True):
        with raw.Raw((host, int(port))) as c:
            c.send(raw.head_of("GET", path) * 20)
            if leaves:
                c.half_close()
                assert c.is_closed()
                continue
            assert {c.answer().status for _ in range(20)} == {404 if path == "/nowhere" else 200}
            assert c.is_open()
