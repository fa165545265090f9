"""An upstream that is retryd itself: retryd refuses it at the start if the configuration shows it, and otherwise
detects it by the Via header.
"""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
from raw import CHAT, Raw, ask, head_of

CONF = "[server]\nlisten = {listen}\n[admin]\nlisten = {admin}\n[upstream x]\nurl = {url}\n{more}"

OWN = [
    ("127.0.0.1:4290", "http://127.0.0.1:4290/v1"),
    ("127.0.0.1:4290", "http://localhost:4290/v1"),
    ("127.0.0.1:4290", "http://LOCALHOST.:4290/v1"),
    ("127.0.0.1:4290", "http://api.localhost:4290"),
    ("127.0.0.1:4290", "http://127.1:4290/v1"),
    ("127.0.0.1:4290", "http://2130706433:4290/v1"),
    ("127.0.0.1:4290", "http://0.0.0.0:4290/v1"),
    ("127.0.0.1:4290", "http://[::ffff:127.0.0.1]:4290/v1"),
    ("127.0.0.1:4290", "https://127.0.0.1:4290/v1"),
    ("localhost:4290", "http://127.0.0.1:4290/v1"),
    ("127.0.0.1:80", "http://127.0.0.1/v1"),
    ("127.0.0.1:443", "https://localhost/v1"),
    ("[::1]:4290", "http://[::1]:4290/v1"),
    ("[::1]:4290", "http://[0:0:0:0:0:0:0:1]:4290/v1"),
    ("[::1]:4290", "http://localhost:4290/v1"),
    ("127.0.0.1:1, 127.0.0.2:4290", "http://127.0.0.2:4290/v1"),
    ("0.0.0.0:4290", "http://127.9.9.9:4290/v1"),
    ("[::]:4290", "http://127.0.0.1:4290/v1"),
    ("0.0.0.0:4290", f"http://{socket.gethostname()}:4290/v1"),
    ("unix:/tmp/r.sock", "unix:/tmp/r.sock:/v1"),
    ("unix:/tmp/r.sock", "unix://tmp//r.sock"),
]
OTHERS = [
    ("127.0.0.1:4290", "http://127.0.0.1:4291/v1"),
    ("127.0.0.1:4290", "http://127.0.0.2:4290/v1"),
    ("127.0.0.1:4290", "http://[::1]:4290/v1"),
    ("127.0.0.1:4290", "http://api.example:4290/v1"),
    ("127.0.0.1:4290", "http://localhost.example:4290/v1"),
    ("0.0.0.0:4290", "http://api.example:4290/v1"),
    ("127.0.0.1:0", "http://127.0.0.1/v1"),
    ("unix:/tmp/r.sock", "unix:/tmp/r.sock2:/v1"),
    ("unix:/tmp/r.sock", "http://localhost/v1"),
]


def check(tmp_path, listen, url, admin="off", more=""):
    if "0.0.0.0:" in listen or "[::]:" in listen:
        more += "[server]\n"
    conf = CONF.format(listen=listen, admin=admin, url=url, more=more)
    conf = conf.replace("[server]\nlisten", "[server]\ninsecure_listen = yes\nlisten", 1).removesuffix("[server]\n")
    (tmp_path / "conf").write_text(conf)
    return subprocess.run([os.environ["DAEMON_BIN"], "-c", str(tmp_path / "conf"), "--check"], capture_output=True,
                          text=True, timeout=30)


@pytest.mark.parametrize("listen, url", OWN)
def test_check_refuses_an_upstream_that_is_retryd_itself(tmp_path, listen, url):
    done = check(tmp_path, listen, url)
    assert done.returncode == 3, done.stdout
    assert re.search(r"conf:\d+: \[upstream x\] url: leads back to retryd itself", done.stderr)


@pytest.mark.parametrize("listen, url", OTHERS)
def test_check_takes_an_upstream_beside_retryd(tmp_path, listen, url):
    done = check(tmp_path, listen, url)
    assert done.returncode == 0, done.stderr


def test_check_looks_at_the_admin_pages_and_at_proxies(tmp_path):
    assert check(tmp_path, "127.0.0.1:1", "http://127.0.0.1:4291/v1", admin="127.0.0.1:4291").returncode == 3
    done = check(tmp_path, "127.0.0.1:1", "https://api.example/v1", more="proxy = http://u:p@localhost:1\n")
    assert done.returncode == 3 and "proxy: leads back" in done.stderr
    # What a proxy makes of an address of ours is its own affair.
    assert check(tmp_path, "127.0.0.1:1", "http://127.0.0.1:1/v1", more="proxy = http://p.example:3128\n").returncode == 0


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_start_looks_at_the_sockets_that_are_there(tmp_path):
    """Those that systemd passes stand in no file."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        (tmp_path / "conf").write_text(f"[admin]\nlisten = off\n[upstream x]\nurl = http://localhost:{port}/v1\n")
        done = subprocess.run([sys.executable, "-c", ACTIVATE, str(s.fileno()), os.environ["DAEMON_BIN"], "-c",
                               str(tmp_path / "conf")],
                              pass_fds=[s.fileno()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "leads back to retryd itself" in done.stderr


def test_a_reload_that_would_loop_is_refused(provider, retryd):
    d = retryd()
    with open(d.config_path, encoding="utf-8") as f:
        text = f.read()
    d.write_config(text.replace(provider.base_url, d.base_url))
    d.signal(1)
    d.wait_line("leads back to retryd itself")
    d.wait_line("reload failed")
    assert ask(d).status == 200


def via(record):
    return [v for n, v in record["headers"] if n.lower() == "via"]


def test_via_names_each_daemon_once(provider, retryd):
    """C1: RFC 9110 7.6.3. Two daemons in a row, as a sidecar and a gateway are, are no loop."""
    inner = retryd()
    outer = retryd(inner.base_url)
    answer = ask(outer, headers=["Via: 1.0 somebody"])
    assert answer.status == 200
    assert answer.header("via") is None
    (record,) = provider.record()
    assert via(record)[0] == "1.0 somebody"
    names = [v.split() for v in via(record)[1:]]
    assert [n[0] for n in names] == ["1.1", "1.1"]
    assert all(n[1].startswith("retryd-") for n in names) and names[0][1] != names[1][1]
    provider.clear()
    assert ask(inner).status == 200
    assert via(provider.record()[0]) == [" ".join(names[1])]


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_is_found_at_once(provider, retryd, stream):
    """Through something that neither --check nor the start can see: here a relay of bytes."""
    relay = subprocess.Popen(["python3", "-c", RELAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = relay.stdout.readline().strip()
        d = retryd(f"http://127.0.0.1:{port}/v1", retry={"initial_delay": "10ms", "max_attempts": 5})
        relay.stdin.write(f"{d.port}\n")
        relay.stdin.flush()
        answer = ask(d, {**CHAT, "stream": stream})
        assert answer.status == 508
        assert (answer.error["code"], answer.error["type"]) == ("loop_detected", "server_error")
        assert answer.error["message"].startswith("retryd:")
        assert d.metric("retryd_attempts_total") == 1
        assert d.metric("retryd_requests_total") == 2
    finally:
        relay.kill()
        relay.wait()
        relay.stdin.close()
        relay.stdout.close()


RELAY = """
import select, socket, sys
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
target = int(sys.stdin.readline())
peers = {}
while True:
    for r in select.select([s, *peers], [], [])[0]:
        if r is s:
            a, b = s.accept()[0], socket.create_connection(("127.0.0.1", target))
            peers[a], peers[b] = b, a
        elif r in peers:
            data = r.recv(65536)
            if data:
                peers[r].sendall(data)
            else:
                other = peers.pop(r)
                peers.pop(other)
                other.close()
                r.close()
"""


def test_a_loop_is_told_in_json_whatever_was_asked(provider, retryd):
    d = retryd()
    ask(d)
    name = via(provider.record()[0])[0]
    provider.clear()
    for value in (name, f"1.1 a, {name}", f"1.1 a , {name} (comment)"):
        with Raw(d) as c:
            c.send(head_of("GET", "/v1/models", [f"Via: {value}"]))
            answer = c.answer()
        assert answer.status == 508
        assert json.loads(answer.body)["error"]["code"] == "loop_detected"
        assert answer.header("x-should-retry") == "false"
    assert provider.record() == []
