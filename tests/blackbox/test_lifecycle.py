"""Start, reload, drain and end; lost system resources; messages to systemd."""

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest
from client import pattern
from daemon import READY, DaemonError, Retryd
from raw import (CHAT, STREAM, Closed, Raw, ask, comes_to_rest, in_time, memory_kib, now_ms, pass_time, time_of,
                 wait_metric, wait_requests)

OK, FAILED, USAGE, CONFIG, IN_USE, PERMISSION, KEY_FILE, NO_UPSTREAM = range(8)
# For an end that waits for nobody: far below drain_timeout's 30 s and the other ends that it could wait for,
# and enough for a sanitizer that looks for leaks on a busy machine.
SOON_S = 12


def refused(d):
    try:
        Raw(d).close()
    except OSError:
        return True
    return False


# --- reload ----------------------------------------------------------------------------------------


def reconfigure(d, upstream, extra="", **sections):
    """The daemon's file anew, listening where it does."""
    sections.setdefault("retry", {"initial_delay": "20ms"})
    sections["server"] = {"listen": d.listeners[0], **sections.get("server", {})}
    sections["admin"] = {"listen": d.admin_address}
    d.write_config(Retryd.make_config(upstream, None, extra, sections))


def reload(d):
    start = len(d.lines)
    d.signal(signal.SIGHUP)
    d.wait_line("configuration reloaded|reload failed", start=start)
    return d.lines[start:]


def test_reload_under_load_loses_nothing(provider, retryd):
    """Requests and streams that run, and those that come, over 20 reloads."""
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto", "interval_ms": 5, "delay_ms": 5},
                     {"preset": "auto", "interval_ms": 5}, then="cycle")
    patient = {"initial_delay": "5ms", "max_delay": "20ms", "max_attempts": 50}
    d = retryd(server={"workers": 2}, retry=patient)
    stop, results, lock = threading.Event(), [], threading.Lock()

    def client(n):
        with Raw(d) as c:
            while not stop.is_set():
                c.request(body=STREAM if n % 2 else CHAT)
                answer = c.answer()
                with lock:
                    results.append((answer.status, answer.whole and (not n % 2 or b"[DONE]" in answer.body)))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    try:
        for n in range(20):
            reconfigure(d, provider.base_url, retry=patient, timeout={"idle": f"{20 + n}s"})
            assert "configuration reloaded" in "\n".join(reload(d))
            d.wait_line('msg="?request"? ', count=10 * (n + 1))
    finally:
        stop.set()
        for t in threads:
            t.join(20)
    assert len(results) >= 200
    assert all(r == (200, True) for r in results), [r for r in results if r != (200, True)]
    requests = wait_requests(d, len(results))
    assert sum(int(r["attempts"]) for r in requests) == len(provider.record())


@pytest.mark.parametrize("text,complaint", [
    ("[retry]\nmax_atempts = 3\n", "max_attempts"), ("[timeout]\nidle = later\n", "later"),
    ("[retri]\n", "retri"), ("[timeout]\nidle = -1s\n", "idle"), ("[route x]\nupstreams = elsewhere\n", "elsewhere")])
def test_bad_file_leaves_the_old_one(provider, retryd, text, complaint):
    provider.answers({"preset": "error", "status": 503})
    d = retryd(retry={"max_attempts": 2, "initial_delay": "1ms"})
    reconfigure(d, provider.base_url, extra=text, retry={"max_attempts": 4})
    with open(d.config_path, encoding="utf-8") as f:
        number = f.read().splitlines().index(text.splitlines()[-1]) + 1
    told = "\n".join(reload(d))
    assert f"{d.config_path}:{number}" in told
    assert complaint in told
    assert "reload failed" in told
    assert ask(d).header("x-retryd-attempts") == "2"


def test_missing_file_leaves_the_old_one(provider, retryd):
    d = retryd()
    os.rename(d.config_path, d.config_path + ".away")
    told = "\n".join(reload(d))
    assert "reload failed" in told and d.config_path in told
    os.rename(d.config_path + ".away", d.config_path)
    assert ask(d).status == 200


def test_changes_take_effect_and_running_requests_keep_theirs(provider, retryd, tmp_path):
    provider.rules({"match": {"path": "/one/*"}, "answers": [{"preset": "ok", "text": "old", "delay_ms": 600}]},
                   {"match": {"path": "/two/*"}, "answers": [{"preset": "error", "status": 503}]})
    base = provider.base_url[:-3]
    d = retryd(base + "/one")
    with Raw(d) as running, Raw(d) as kept:
        running.request(body=CHAT)
        provider.wait(requests=1)
        reconfigure(d, base + "/two", retry={"max_attempts": 3, "initial_delay": "1ms"})
        reload(d)
        kept.request(body=CHAT)  # on a connection that was there before
        answer = kept.answer()
        assert (answer.status, answer.header("x-retryd-attempts")) == (503, "3")
        assert running.answer().status == 200
    paths = [r["target"].split("/")[1] for r in provider.record()]
    assert paths == ["one", "two", "two", "two"]


def test_reload_names_what_needs_a_restart(provider, retryd):
    d = retryd()
    reconfigure(d, provider.base_url, server={"listen": "127.0.0.1:1"})
    told = "\n".join(reload(d))
    assert "restart" in told and "listen" in told
    assert ask(d).status == 200


# --- ending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_drains(provider, retryd, number):
    """What runs is finished, what is idle is closed, what is new is refused."""
    provider.answers({"preset": "auto", "delay_ms": 500, "interval_ms": 200})
    d = retryd()
    with Raw(d) as request, Raw(d) as stream, Raw(d) as idle:
        request.request(body=CHAT)
        stream.request(body=STREAM)
        idle.request("GET", "/elsewhere")
        assert idle.answer().status == 404
        provider.wait(requests=2)
        d.signal(number)
        d.wait_line("shutting down: finishing")
        assert idle.is_closed()
        assert refused(d)
        assert d.admin("/readyz")[0] == 503
        answer = request.answer()
        assert answer.status == 200 and answer.header("connection").lower() == "close"
        answer = stream.answer()
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert request.is_closed() and stream.is_closed()
        assert d.wait(timeout=SOON_S) == 0
    assert [r["end"] for r in d.requests()].count("answered") == 2


@pytest.mark.parametrize("pipelined", ["", "before", "after"])
def test_term_ends_with_the_streams_that_had_begun(provider, retryd, pipelined):
    """Their heads promise a kept connection: it is closed all the same, once every byte is out."""
    size = 3_000_000
    answer = {"body_bytes": size, "chunked": True, "pace": {"bytes": 250_000, "every_ms": 40}}
    provider.answers(answer, {"preset": "auto"})
    d = retryd(server={"drain_timeout": "30s", "hold_limit": "64K"})
    with Raw(d, receive_buffer=16384) as c:
        c.request(body=CHAT)
        if pipelined == "before":
            c.request(body=CHAT)
        head = c.answer_head()
        assert (head.header("connection") or "keep-alive").lower() != "close"
        d.signal(signal.SIGTERM)
        d.wait_line("shutting down: finishing")
        if pipelined == "after":
            c.request(body=CHAT)
        assert b"".join(c.chunks()) == pattern(size)
        if pipelined:
            again = c.answer()
            assert again.status == 200 and again.header("connection").lower() == "close"
        assert c.is_closed(within=SOON_S)
        assert d.wait(timeout=SOON_S) == 0


def test_term_does_not_wait_for_half_a_head(provider, retryd):
    d = retryd(server={"drain_timeout": "30s"})
    with Raw(d) as c:
        c.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: local")
        assert ask(d).status == 200  # by now the half has been read
        d.signal(signal.SIGTERM)
        assert c.is_closed(within=SOON_S), "a head may take 15 s otherwise"
        assert d.wait(timeout=SOON_S) == 0


def test_term_drains_a_request_that_backs_off(provider, retryd):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    d = retryd(retry={"initial_delay": "400ms", "jitter": "none"})
    with Raw(d) as c:
        c.request(body=CHAT)
        d.wait_line("attempt 1 of 5 failed")
        d.signal(signal.SIGTERM)
        assert c.answer().status == 200
    assert d.wait(timeout=SOON_S) == 0


def test_second_term_ends_at_once(provider, retryd):
    provider.answers({"preset": "auto", "stall": {"before_head": True}})
    d = retryd()
    with Raw(d) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
        d.signal(signal.SIGTERM)
        d.wait_line("shutting down: finishing")
        assert not c.is_closed(within=0.3), "the first one was not waited for"
        d.signal(signal.SIGTERM)
        assert d.wait(timeout=SOON_S) == 0
        assert c.answer().status == 503
        assert c.rest() == b""
    provider.wait(closed=1)


AMID_AN_ANSWER = {"body_bytes": 1000, "stall": {"after_bytes": 500}}


def test_signals_that_come_as_it_ends_do_not_kill_it(retryd):
    """All the time until it is gone: the last of them find it without handlers."""
    for _ in range(10):
        d = retryd(server={"workers": 4})
        while d.process.poll() is None:
            d.process.send_signal(signal.SIGTERM)
        assert d.process.returncode == 0


@pytest.mark.parametrize("answer, seen, body", [
    ({"stall": {"before_head": True}}, None, CHAT), ({"preset": "error", "status": 503}, "next in", CHAT),
    (AMID_AN_ANSWER, None, CHAT), ({"preset": "chat_stream", "stall": {"after_events": 1}}, None, STREAM)],
    ids=["attempting", "backoff", "held", "held-stream"])
def test_what_has_no_response_when_drain_timeout_has_passed(provider, retryd, answer, seen, body):
    """It is told so, in words that an SDK can read, and that it may come again: to the daemon's next life."""
    provider.answers(answer)
    d = retryd(server={"drain_timeout": "0"}, retry={"initial_delay": "60s"})
    with Raw(d) as c:
        c.request(body=body)
        provider.wait(requests=1)
        if seen:
            d.wait_line(seen)
        d.signal(signal.SIGTERM)
        told = c.answer()
        assert c.rest() == b""
    assert d.wait(timeout=SOON_S) == 0
    assert told.status == 503 and told.header("x-should-retry") == "true"
    assert told.header("x-retryd-attempts") == "1"
    error = told.json()["error"]
    assert error["code"] == "shutting_down" and error["type"] == "server_error" and error["param"] is None
    line = d.wait_log('msg="?request"? ')
    assert (line["reason"], line["end"], line["status"]) == ("shutting_down", "failed", "503")


@pytest.mark.parametrize("settings, headers, under_way, again", [
    ({"retry_ambiguous": "no"}, [], True, "false"), ({"retry_ambiguous": "no"}, [], False, "true"),
    ({}, ["x-retryd-no-retry: yes"], True, "false")], ids=["under-way", "between", "no-retry"])
def test_drain_timeout_bids_nobody_repeat_what_may_not_be(provider, retryd, settings, headers, under_way, again):
    provider.answers({"stall": {"before_head": True}} if under_way else {"preset": "error", "status": 503})
    d = retryd(server={"drain_timeout": "0"}, retry={"initial_delay": "60s", **settings})
    with Raw(d) as c:
        c.request(body=CHAT, headers=headers)
        provider.wait(requests=1)
        if not under_way:
            d.wait_line("next in")
        d.signal(signal.SIGTERM)
        told = c.answer()
    assert (told.status, told.header("x-should-retry")) == (503, again)


def test_half_a_request_when_drain_timeout_has_passed(retryd, provider):
    d = retryd(server={"drain_timeout": "0"})
    with Raw(d) as c:
        c.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        wait_metric(d, "retryd_buffered_bytes", 1)
        d.signal(signal.SIGTERM)
        assert c.rest() == b""
    assert d.wait(timeout=SOON_S) == 0
    assert provider.record() == []


@pytest.mark.parametrize("mode", ["live", "splice", "hold"])
def test_a_stream_that_drain_timeout_ends_is_told(provider, retryd, mode):
    """C12."""
    provider.answers({"preset": "chat_stream", "events": 100, "interval_ms": 50})
    d = retryd(server={"drain_timeout": "300ms"}, stream={"heartbeat": "100ms"})
    with Raw(d) as c:
        c.request(body=STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
        c.until(b": retryd" if mode == "hold" else b'"w1 ')
        d.signal(signal.SIGTERM)
        rest = c.rest()
    assert b'"code":"shutting_down"' in rest and b"[DONE]" not in rest
    assert rest.endswith(b"\n0\r\n\r\n"), "the stream ends as one that was told to have failed"
    assert d.wait_log('msg="?request"? ')["reason"] == "shutting_down"


BROKEN = {"preset": "chat_stream", "events": 8, "cut": {"after_deltas": 3, "delay_ms": 100}}


@pytest.mark.parametrize("answers, seen, settings", [
    ([BROKEN], "next in", {"retry": {"initial_delay": "60s"}, "stream": {"mend_timeout": "0"}}),
    ([BROKEN, {"stall": {"before_head": True}}], "next in", {"retry": {"initial_delay": "10ms"}}),
    ([{"stall": {"before_head": True}}], "is ready", {"stream": {"heartbeat": "50ms"}}),
    ([{"preset": "error", "status": 503}], "next in",
     {"stream": {"heartbeat": "50ms"}, "retry": {"initial_delay": "60s"}})],
    ids=["backoff", "attempting", "heartbeat", "heartbeat-backoff"])
def test_a_stream_that_waits_when_retryd_ends_is_told(provider, retryd, answers, seen, settings):
    """C12."""
    provider.answers(*answers)
    d = retryd(server={"drain_timeout": "300ms"}, **settings)
    with Raw(d) as c:
        c.request(body=STREAM, headers=["x-retryd-stream-mode: splice"])
        d.wait_line(seen)
        c.answer_head()
        provider.wait(requests=len(answers))
        d.signal(signal.SIGTERM)
        rest = c.rest()
    assert d.wait(timeout=SOON_S) == 0
    assert b'data: {"error":' in rest and rest.endswith(b"\n0\r\n\r\n")
    assert d.wait_log('msg="?request"? ')["reason"] == "shutting_down"


def test_drain_timeout_cuts(provider, retryd):
    provider.answers({"preset": "auto", "stall": {"after_deltas": 1}})
    d = retryd(server={"drain_timeout": "400ms"})
    with Raw(d) as c, Raw(d) as s:
        c.request(body=CHAT)
        s.request(body=STREAM)
        s.answer_head()
        s.next_chunk()
        provider.wait(requests=2)
        d.signal(signal.SIGTERM)
        assert d.wait(timeout=SOON_S) == 0
        assert b'data: {"error":' in s.rest(), "a cut stream must not look whole"
    began, over = d.wait_log("shutting down: finishing .* at most 400 ms"), d.wait_log("drain_timeout has passed")
    assert time_of(over) - time_of(began) >= 300, "it was cut before its time"


def test_hangup_while_draining_and_term_while_idle(provider, retryd):
    provider.answers({"preset": "auto", "delay_ms": 300})
    d = retryd()
    with Raw(d) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
        d.signal(signal.SIGTERM)
        d.signal(signal.SIGHUP)
        assert c.answer().status == 200
    assert d.wait(timeout=SOON_S) == 0


# --- what keeps it from starting --------------------------------------------------------------------


def fails_to_start(tmp_path, config, env=None, args=(), wrap=()):
    """(exit code, its lines) of a daemon that must not start."""
    path = tmp_path / "retryd.conf"
    path.write_text(config)
    done = subprocess.run([*wrap, os.environ["DAEMON_BIN"], "-c", path, *args], capture_output=True, timeout=30,
                          env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL)
    return done.returncode, [line for line in done.stderr.decode().splitlines() if line]


def problem(lines, *words):
    """Exactly one line tells what is wrong, and has all the words."""
    told = [line for line in lines if all(w in line for w in words)]
    assert len(told) == 1, lines
    errors = [line for line in lines if "level=error" in line or "level=" not in line]
    assert errors == told, lines


ADMIN_OFF = "[admin]\nlisten = off\n"


def test_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = f"127.0.0.1:{s.getsockname()[1]}"
        code, lines = fails_to_start(tmp_path, f"[server]\nlisten = {address}\n" + ADMIN_OFF)
        assert code == IN_USE
        problem(lines, address, "in use")
        code, lines = fails_to_start(tmp_path, f"[server]\nlisten = 127.0.0.1:0\n[admin]\nlisten = {address}\n")
        assert code == IN_USE
        problem(lines, address, "in use")


def test_socket_file_in_use(tmp_path):
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        code, lines = fails_to_start(tmp_path, f"[server]\nlisten = unix:{path}\n" + ADMIN_OFF)
    assert code == IN_USE
    problem(lines, str(path), "in use")
    assert path.exists()


def test_no_permission(tmp_path):
    """In a folder that nobody may write to; root would be let in, so root becomes nobody."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    wrap = []
    if os.geteuid() == 0:
        for parent in tmp_path.parents:
            if parent.stat().st_uid == os.geteuid() and str(parent) not in ("/", "/tmp"):
                parent.chmod(0o755)
        tmp_path.chmod(0o755)
        wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    code, lines = fails_to_start(tmp_path, f"[server]\nlisten = unix:{folder}/x.sock\n" + ADMIN_OFF, wrap=wrap)
    assert code == PERMISSION
    problem(lines, f"{folder}/x.sock", "ermission denied")


def test_bad_key_files(tmp_path):
    url = "[upstream u]\nurl = http://127.0.0.1:1/v1\n"
    (tmp_path / "empty").write_text("\n\n")
    for key, word in ((f"api_key_file = {tmp_path}/missing", "missing"), (f"api_key_file = {tmp_path}/empty", "empty"),
                      ("api_key_env = TEST_UNSET", "TEST_UNSET")):
        code, lines = fails_to_start(tmp_path, url + key + "\n" + ADMIN_OFF)
        assert code == KEY_FILE, lines
        assert any(word in line for line in lines), lines


def test_no_such_upstream(tmp_path):
    code, lines = fails_to_start(tmp_path, "[upstream u]\nurl = http://127.0.0.1:1/v1\n[route r]\nupstreams = v\n")
    assert code == NO_UPSTREAM
    problem(lines, f"{tmp_path}/retryd.conf:4", "v")


def test_bad_configuration_and_usage(tmp_path):
    code, lines = fails_to_start(tmp_path, "[server]\nlisten = 127.0.0.1\n")
    assert code == CONFIG
    problem(lines, f"{tmp_path}/retryd.conf:2", "listen")
    code, lines = fails_to_start(tmp_path, "", args=["--frobnicate"])
    assert code == USAGE and len(lines) <= 2


def test_files_are_read_from_the_right_place(tmp_path):
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", tmp_path / "absent.conf"], capture_output=True, timeout=30)
    assert done.returncode == CONFIG
    assert b"absent.conf" in done.stderr and done.stderr.count(b"\n") == 1


# --- Unix sockets ----------------------------------------------------------------------------------


def test_unix_listener(provider, retryd, tmp_path):
    path = tmp_path / "retryd.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # never listened on: what a crash leaves behind
    d = retryd(server={"listen": f"unix:{path}, 127.0.0.1:0"})
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660
    assert ask(str(path)).status == 200
    with Raw(str(path)) as c:
        for body in (CHAT, STREAM, CHAT):
            c.request(body=body)
            assert c.answer().status == 200
    assert ask(("127.0.0.1", int(d.listeners[1].rpartition(":")[2]))).status == 200
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    assert not path.exists()


def test_unix_client_gone(provider, retryd, tmp_path):
    provider.answers({"preset": "auto", "stall": {"before_head": True}})
    retryd(server={"listen": f"unix:{tmp_path}/retryd.sock"})
    c = Raw(str(tmp_path / "retryd.sock"))
    c.request(body=CHAT)
    provider.wait(requests=1)
    at = now_ms()
    c.close()
    in_time(provider.wait(closed=1)[0]["t_closed"] - at)


def test_other_files_are_not_removed(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    code, lines = fails_to_start(tmp_path, f"[server]\nlisten = unix:{path}\n" + ADMIN_OFF)
    assert code != OK
    assert path.read_text() == "data"


# --- systemd ---------------------------------------------------------------------------------------

ACTIVATE = """
import os, socket, sys
s = socket.create_server(("127.0.0.1", 0))
u = socket.socket(socket.AF_UNIX)
u.bind(sys.argv[1])
u.listen()
a, b = os.dup(s.fileno()), os.dup(u.fileno())
os.dup2(a, 3)
os.dup2(b, 4)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_activation(provider, retryd, tmp_path):
    """Passed sockets stand for [server] listen, and a socket's file stays."""
    path = tmp_path / "passed.sock"
    d = retryd(wrap=[sys.executable, "-c", ACTIVATE, str(path)], server={"listen": "127.0.0.1:1"})
    assert len(d.listeners) == 2
    assert ask(d).status == 200
    assert ask(str(path)).status == 200
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    assert path.exists()


def test_socket_activation_of_another_process(provider, retryd):
    """Variables that were meant for another process are left alone."""
    d = retryd(env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert ask(d).status == 200


@pytest.fixture
def notify(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify.sock"))
        s.settimeout(10)
        yield s


def told(s, wanted):
    """Reads datagrams until one has the wanted assignment."""
    for _ in range(200):
        lines = s.recv(4096).decode().splitlines()
        if wanted in lines:
            return lines
    raise AssertionError(f"{wanted} was never told")


def test_notify(provider, retryd, notify):
    d = retryd(env={"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "400000"})
    told(notify, "READY=1")
    told(notify, "WATCHDOG=1")
    d.signal(signal.SIGHUP)
    lines = told(notify, "RELOADING=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in lines) or "READY=1" not in lines
    told(notify, "READY=1")
    first = now_ms()
    for _ in range(4):
        told(notify, "WATCHDOG=1")
    in_time(now_ms() - first, 4 * 400)  # systemd would have ended it
    d.signal(signal.SIGTERM)
    told(notify, "STOPPING=1")


def test_watchdog_goes_silent_with_a_stuck_worker(provider, retryd, notify):
    """A worker's thread that hangs takes the whole service's pings away."""
    d = retryd(env={"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "300000"}, server={"workers": 2})
    told(notify, "WATCHDOG=1")
    d.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, d.pid, os.WSTOPPED)
    notify.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            notify.recv(4096)
    notify.settimeout(0.4)
    with pytest.raises(TimeoutError):
        notify.recv(4096)
    d.signal(signal.SIGCONT)
    notify.settimeout(10)
    told(notify, "WATCHDOG=1")


# --- what runs out ---------------------------------------------------------------------------------


def test_max_connections_wait_and_are_served(provider, retryd):
    provider.answers({"preset": "auto", "delay_ms": 100})
    d = retryd(server={"max_connections": 4, "workers": 2})
    holders = [Raw(d) for _ in range(4)]
    for c in holders:
        c.request(body=CHAT)
    for c in holders:
        assert c.answer().status == 200
    waiting = [Raw(d) for _ in range(6)]
    for c in waiting:
        c.request(body=CHAT)
    d.wait_line("max_connections")
    assert pass_time(0.4, *(c.sock for c in waiting)) == []
    assert comes_to_rest(d.pid), "it spins while it is full"
    assert len(provider.record()) == 4
    for c in holders:
        c.close()
    for c in waiting:
        assert c.answer().status == 200
        c.close()
    assert len(provider.record()) == 10
    assert ask(d).status == 200


def comes_in(d):
    try:
        return ask(d).status == 200
    except (Closed, OSError):
        return False


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_few_descriptors_make_clients_wait(provider, retryd):
    """Fewer than max_connections would need: said at the start, and all are served in their turn."""
    provider.answers({"preset": "auto", "delay_ms": 50})
    d = retryd(preexec=few_files, retry={"max_attempts": 1})
    assert "max_connections" in d.wait_line("the limit of 64 file descriptors")
    clients = [Raw(d) for _ in range(150)]
    for c in clients:
        c.request(body=CHAT, headers=["Connection: close"])
    for c in clients:
        assert c.answer().status == 200
        c.close()
    assert len(provider.record()) == 150
    assert "out of file descriptors" not in d.log


def test_without_even_a_spare_descriptor(provider, retryd):
    """It pauses, and serves who waits as soon as there are descriptors again."""
    d = retryd(retry={"max_attempts": 1})
    before = resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Raw(d) as c:
        d.wait_line("out of file descriptors")
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, before)
        c.request(body=CHAT)
        assert c.answer().status == 200


def test_out_of_descriptors(provider, retryd):
    """Taken away while it runs: whom it cannot serve it turns away; it neither spins nor ends."""
    provider.answers({"preset": "auto", "delay_ms": 3000})
    d = retryd(retry={"max_attempts": 1})
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (64, 64))
    clients = [Raw(d) for _ in range(150)]
    for c in clients:
        try:
            c.request(body=CHAT)
        except OSError:
            pass
    d.wait_line("out of file descriptors")
    assert comes_to_rest(d.pid, within=2.5), "it spins"  # before the first response frees anything
    served = 0
    for c in clients:
        try:
            served += c.answer().status in (200, 502, 503)
        except (Closed, OSError):
            pass
        c.close()
    assert 5 <= served < 150
    provider.answers({"preset": "auto"})
    deadline = now_ms() + 10_000
    while not comes_in(d):  # it has yet to notice that they left
        assert now_ms() < deadline
    for _ in range(20):
        assert ask(d).status == 200


def test_max_connections_stays_until_a_restart(provider, retryd):
    d = retryd(server={"max_connections": 80})
    reconfigure(d, provider.base_url, server={"max_connections": 400})
    assert "max_connections" in "\n".join(reload(d))
    clients = [Raw(d) for _ in range(200)]
    for c in clients:
        c.request(body=CHAT, headers=["Connection: close"])
    for c in clients:
        assert c.answer().status == 200
        c.close()


class Deaf(Retryd):
    """Reads the log up to the line that says it is ready, and the rest only when told to."""

    def __init__(self, *args, **how):
        self.hearing = threading.Event()
        super().__init__(*args, **how)

    def _read(self):
        for raw in self.process.stderr:
            with self._news:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
            if READY.search(self.lines[-1]):
                break
        self.hearing.wait(60)
        if not self.process.stderr.closed:
            super()._read()


def test_nobody_reads_the_log(provider):
    """A full pipe on stderr costs lines, which are counted, and never a request."""
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"}, then="cycle")
    with Deaf(provider.base_url, retry={"initial_delay": "1ms"}, server={"workers": 2}) as d:
        slowest = 0
        with Raw(d) as c:
            for n in range(1500):
                before = now_ms()
                c.request("POST", "/v1/chat/completions?" + "x" * 100, CHAT)
                assert c.answer().status == 200
                slowest = max(slowest, now_ms() - before)
        in_time(slowest, 5000)
        dropped = d.metric("retryd_log_lines_dropped_total")
        d.hearing.set()
        deadline = now_ms() + 15_000
        while "path=/v1/after" not in d.log:  # the first ones may be dropped like those before
            assert now_ms() < deadline, "the log does not come back"
            ask(d, path="/v1/after")
        if dropped == 0:  # then all of it was kept, in bounded memory
            d.wait_line('msg="?request"? ', count=1501)
            assert memory_kib(d.pid) < 400 * 1024


def test_closed_stderr(provider, tmp_path):
    """Whoever read the log has left: no SIGPIPE, no spin."""
    with Deaf(provider.base_url, retry={"initial_delay": "1ms"}) as d:
        d.process.stderr.close()
        with Raw(d) as c:
            for _ in range(50):
                c.request(body=CHAT)
                assert c.answer().status == 200
        assert comes_to_rest(d.pid), "it spins"
        d.hearing.set()
        d.signal(signal.SIGTERM)
        assert d.process.wait(10) == 0


def test_a_core_dump_has_no_keys(provider, retryd):
    """C31: no core file, and no reading of its memory by others of the same user."""
    d = retryd()
    with open(f"/proc/{d.pid}/limits", encoding="utf-8") as f:
        line = next(line for line in f if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]
    assert os.stat(f"/proc/{d.pid}/mem").st_uid == 0  # not dumpable: the kernel owns it


def test_start_and_end_without_a_client(retryd):
    d = retryd("http://127.0.0.1:1/v1", server={"workers": 4})
    d.signal(signal.SIGTERM)
    assert d.wait(timeout=SOON_S) == 0
    with pytest.raises(DaemonError):
        d.wait_line("never", timeout=0.1)


@pytest.mark.parametrize("wrong", ["[server]\nworkers = many\n[upstream x]\n", "[server]\nlisten = 203.0.113.1:1\n",
                                   "[upstream a]\nurl = http://127.0.0.1:1\nmax_concurrency = x\n"])
def test_every_line_of_a_json_log_is_json(tmp_path, wrong):
    """What is wrong with the configuration too, and what --check would note."""
    (tmp_path / "conf").write_text(f"{wrong}[log]\nformat = json\n[admin]\nlisten = off\n")
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", str(tmp_path / "conf")], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines and all(line["level"] == "error" for line in lines)
    assert any("conf:" in line["msg"] for line in lines)


def test_notes_of_a_json_log_are_json(provider, retryd):
    d = retryd(log={"format": "json"}, shared={"redis_user": "x"}, server={"spool_dir": "/nowhere"})
    assert any("spool_dir" in json.loads(line)["msg"] for line in d.lines)
    d.stop()
    for line in d.lines:
        json.loads(line)


def test_pool_threads_that_cannot_be_had_are_found_at_the_start(tmp_path):
    """libuv would end the process at the first large body instead."""
    (tmp_path / "conf").write_text("[server]\nlisten = 127.0.0.1:0\nworkers = 1\n[admin]\nlisten = off\n"
                                   "[upstream x]\nurl = http://127.0.0.1:1/v1\n")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)

    def few_threads():
        os.setgroups([])
        os.setgid(54321)
        os.setuid(54321)
        resource.setrlimit(resource.RLIMIT_NPROC, (4, 4))

    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", str(tmp_path / "conf")], capture_output=True, text=True,
                          preexec_fn=few_threads, timeout=60,
                          env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 1, done.stderr
    assert "threads that read and write large bodies" in done.stderr


@pytest.mark.parametrize("most,workers", [*((n, 1) for n in range(7, 19)), (20, 2), (22, 2), (24, 2), (25, 2), (34, 4)])
def test_too_few_descriptors_are_an_error_at_the_start(tmp_path, most, workers):
    """No crash, no abort of libuv's, no exit without a word, and no word of memory."""
    (tmp_path / "conf").write_text("[log]\nformat = json\n[server]\nlisten = 127.0.0.1:0\n"
                                   f"workers = {workers}\n[admin]\nlisten = off\n")
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", str(tmp_path / "conf")], capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)), timeout=60)
    told = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, told["level"]) == (1, "error"), done.stderr
    if workers > 1:
        assert "too few file descriptors" in told["msg"] and "ulimit -n" in told["msg"]
