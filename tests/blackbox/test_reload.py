"""retryd reload: the command waits for the result; systemd's status and the metrics report it too."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest
from daemon import Retryd
from raw import CHAT, Raw, ask, wait_metric

OK, FAILED, USAGE, CONFIG, KEY_FILE, NO_UPSTREAM = 0, 1, 2, 3, 6, 7
SOCKETS = pathlib.Path("/proc/net/unix")


def verb(*words, wrap=()):
    """What `retryd reload` exits with and says."""
    done = subprocess.run([*wrap, os.environ["DAEMON_BIN"], "reload", *map(str, words)], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def rewrite(d, upstream, extra="", **sections):
    sections["server"] = {"listen": d.listeners[0], **sections.get("server", {})}
    sections["admin"] = {"listen": d.admin_address}
    d.write_config(Retryd.make_config(upstream, None, extra, sections))


def test_a_good_file_is_in_force_when_it_returns(provider, retryd):
    """On every worker, and for the connections that were there."""
    provider.answers({"preset": "error", "status": 503})
    d = retryd(server={"workers": 3}, retry={"max_attempts": 1})
    kept = [Raw(d) for _ in range(6)]
    for attempts in (2, 3, 4):
        rewrite(d, provider.base_url, server={"workers": 3}, retry={"max_attempts": attempts, "initial_delay": "1ms"})
        code, out, err = verb(d.pid)
        assert (code, err) == (OK, "") and f"configuration reloaded from {d.config_path}" in out
        for c in kept:
            c.request(body=CHAT)
            assert c.answer().header("x-retryd-attempts") == str(attempts)
    for c in kept:
        c.close()
    assert d.metric("retryd_config_last_reload_successful") == 1


@pytest.mark.parametrize("text, code, words", [
    ("[retry]\nmax_atempts = 3\n", CONFIG, "did you mean max_attempts"),
    ("[upstream u]\nurl = http://127.0.0.1:1/v1\napi_key_file = /nowhere\n", KEY_FILE, "/nowhere"),
    ("[route r]\nupstreams = v\n", NO_UPSTREAM, '"v"')], ids=["form", "key", "upstream"])
def test_a_bad_file_is_what_check_would_say(provider, retryd, text, code, words):
    provider.answers({"preset": "error", "status": 503})
    d = retryd(retry={"max_attempts": 2, "initial_delay": "1ms"})
    rewrite(d, provider.base_url, extra=text, retry={"max_attempts": 4})
    got, out, err = verb(d.pid)
    assert (got, out) == (code, "")
    assert words in err and re.search(rf"^{d.config_path}:\d+: \[", err, re.MULTILINE), err
    assert "reload failed: the previous configuration stays in force" in err
    checked = subprocess.run([os.environ["DAEMON_BIN"], "-c", d.config_path, "--check"], capture_output=True, text=True)
    assert checked.returncode == code
    assert set(checked.stderr.splitlines()) <= set(err.splitlines())
    assert ask(d).header("x-retryd-attempts") == "2"


def test_what_needs_a_restart_is_said(provider, retryd):
    d = retryd()
    rewrite(d, provider.base_url, server={"listen": "127.0.0.1:1"})
    code, out, err = verb(d.pid)
    assert (code, err) == (OK, "") and "restart" in out and "listen" in out


def test_the_metrics_tell(provider, retryd):
    d = retryd()
    first = d.metrics()
    assert first["retryd_config_last_reload_successful"] == 1 and first["retryd_config_changed_on_disk"] == 0
    assert abs(first["retryd_config_last_reload_timestamp_seconds"] - time.time()) < 60
    d.write_config("[nonsense]\n")
    wait_metric(d, "retryd_config_changed_on_disk", 1)
    assert verb(d.pid)[0] == CONFIG
    bad = d.metrics()
    assert bad["retryd_config_last_reload_successful"] == 0 and bad["retryd_config_changed_on_disk"] == 1
    assert bad["retryd_config_last_reload_success_timestamp_seconds"] == \
        first["retryd_config_last_reload_success_timestamp_seconds"]
    rewrite(d, provider.base_url)
    assert verb(d.pid)[0] == OK
    good = d.metrics()
    assert good["retryd_config_last_reload_successful"] == 1 and good["retryd_config_changed_on_disk"] == 0
    assert good["retryd_config_last_reload_success_timestamp_seconds"] == \
        good["retryd_config_last_reload_timestamp_seconds"]


@pytest.fixture
def notify(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify.sock"))
        s.settimeout(20)
        yield s


def status(s, *words):
    """Reads datagrams until one has a status with these words."""
    while True:
        for line in s.recv(8192).decode().splitlines():
            if line.startswith("STATUS=") and all(word in line for word in words):
                return line


def test_the_status_tells(provider, retryd, notify):
    d = retryd(env={"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "200000"})
    assert status(notify) == "STATUS=Serving"
    good = pathlib.Path(d.config_path).read_text()
    d.write_config(good + "\n# later\n")
    status(notify, d.config_path, "was changed after it was read")
    d.signal(signal.SIGHUP)
    assert status(notify) == "STATUS=Serving"
    os.rename(d.config_path, d.config_path + ".good")
    d.write_config(good + "\n[nonsense]\n")
    assert verb(d.pid)[0] == CONFIG
    status(notify, "the reload was refused", d.config_path, "nonsense")
    os.rename(d.config_path + ".good", d.config_path)  # what is in force is there again
    assert status(notify, "STATUS=Serving") == "STATUS=Serving"


def test_the_only_one_needs_no_name(retryd, tmp_path):
    """In a network of its own no other test's daemon is found."""
    own = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    first = retryd("http://127.0.0.1:1/v1", wrap=own, server={"listen": f"unix:{tmp_path}/a"}, admin={"listen": "off"})
    there = ["nsenter", f"--target={first.pid}", "--net", *([] if os.geteuid() == 0 else ["--user"])]
    code, out, err = verb(wrap=there)
    assert (code, err) == (OK, "") and f"configuration reloaded from {first.config_path}" in out
    second = retryd("http://127.0.0.1:1/v1", wrap=there, server={"listen": f"unix:{tmp_path}/b"}, admin={"listen": "off"})
    code, out, err = verb(wrap=there)
    assert (code, out) == (USAGE, "") and str(first.pid) in err and str(second.pid) in err and "retryd reload PID" in err
    assert verb(second.pid, wrap=there)[0] == OK


def test_nobody_there(provider, retryd):
    code, _, err = verb(os.getpid())
    assert code == FAILED and str(os.getpid()) in err


@pytest.mark.parametrize("words", [["x"], ["0"], ["1", "2"], ["-1"], ["--check"]])
def test_usage(words):
    assert verb(*words)[0] == USAGE


def names():
    return [line.split("@", 1)[1].split()[0] for line in SOCKETS.read_text().splitlines() if "@retryd-control/" in line]


def own_name(d):
    """The name on which that daemon answers."""
    for name in names():
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect("\0" + name)
            except OSError:
                continue  # another test's, which has ended
            if int.from_bytes(s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little") == d.pid:
                return name
    raise AssertionError("no socket is that daemon's")


def test_another_user_may_not_ask(provider, retryd):
    d = retryd()
    name = own_name(d)
    before = d.metric("retryd_config_last_reload_timestamp_seconds")
    if os.geteuid() != 0:  # nobody but root can be another user: at least the daemon's own may ask
        assert verb(d.pid)[0] == OK
        return
    script = ("import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect('\\0' + sys.argv[1])\n"
              "try:\n    s.sendall(b'reload\\n')\n    print(s.recv(100))\nexcept OSError:\n    print(b'')\n")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run([*nobody, "/usr/bin/python3", "-c", script, name], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "b''", done.stderr
    assert "reload" not in d.log and d.metric("retryd_config_last_reload_timestamp_seconds") == before


@pytest.mark.parametrize("sent", [b"", b"re", b"restart\n", b"reload now\n", b"x" * 5000])
def test_whoever_says_something_else_is_not_listened_to(provider, retryd, sent):
    d = retryd()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect("\0" + own_name(d))
        try:
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            assert s.recv(100) == b""
        except OSError:
            pass
    assert "reload" not in d.log
    assert verb(d.pid)[0] == OK


def test_many_that_only_connect_keep_nobody_out_for_long(provider, retryd):
    d = retryd()
    name = own_name(d)
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(30)]
    for s in crowd:
        s.connect("\0" + name)
    for s in crowd:
        s.close()
    assert verb(d.pid)[0] == OK


def test_it_ends_while_one_waits(provider, retryd):
    d = retryd()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect("\0" + own_name(d))
        d.signal(signal.SIGTERM)
        assert s.recv(100) == b""
    assert d.wait(timeout=20) == 0


@pytest.mark.parametrize("key", ["api_key_file", "proxy_password_file"])
def test_a_credential_is_that_of_the_start(provider, retryd, tmp_path, key):
    (tmp_path / "secret").write_text("sk-of-the-start\n")
    d = retryd(upstream_settings={"proxy": "http://u@127.0.0.1:1", key: "secret"},
               env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    code, out, _ = verb(d.pid)
    assert code == OK and "systemd credentials are read at the start only" in out
    d.wait_line("new ones need systemctl restart")


def test_keys_that_are_no_credentials_are_no_news(provider, retryd, tmp_path):
    (tmp_path / "key").write_text("sk-file\n")
    d = retryd(upstream_settings={"api_key_file": str(tmp_path / "key")})
    code, out, _ = verb(d.pid)
    assert code == OK and "credential" not in out
