"""Sockets that systemd passes: the meaning of their names, and C29, which applies to them as to retryd's own."""

import os
import signal
import subprocess
import sys

import pytest
from daemon import Retryd
from raw import ask

CONFIG = 3

# Arguments: NAME=ADDRESS for each socket, then -- and the program; a port of 0 is any that is free.
ACTIVATE = """
import fcntl, os, socket, sys
split = sys.argv.index("--")
held, names = [], []
for argument in sys.argv[1:split]:
    name, _, address = argument.partition("=")
    host, _, port = address.rpartition(":")
    names.append(name)
    if host == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
    elif host == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.bind("\\0" + port[1:] if port[0] == "@" else port)
        s.listen()
    else:
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.bind((host, int(port)))
        s.listen()
    held.append(fcntl.fcntl(s, fcntl.F_DUPFD, 100))
for n, fd in enumerate(held):
    os.dup2(fd, 3 + n)
os.environ.update(LISTEN_FDS=str(len(held)), LISTEN_PID=str(os.getpid()))
if any(names):
    os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.execv(sys.argv[split + 1], sys.argv[split + 1:])
"""


def passing(*sockets):
    return [sys.executable, "-c", ACTIVATE, *sockets, "--"]


def fails_to_start(tmp_path, sockets, config=""):
    """The one error line of a daemon that must not start."""
    path = tmp_path / "retryd.conf"
    path.write_text(config)
    done = subprocess.run([*passing(*sockets), os.environ["DAEMON_BIN"], "-c", path], capture_output=True, timeout=30,
                          text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == CONFIG, done.stderr
    errors = [line for line in done.stderr.splitlines() if "level=error" in line]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":::0"])
@pytest.mark.parametrize("name, other", [("api", "[admin]"), ("admin", "[server]")])
def test_one_that_others_can_reach_is_refused(tmp_path, address, name, other):
    """What allows it for the other listener is no reason to let it be, as little as with `listen`."""
    line = fails_to_start(tmp_path, [f"{name}={address}"], f"{other}\ninsecure_listen = yes\n")
    assert "insecure_listen" in line and ("0.0.0.0:" in line or "[::]:" in line)
    assert ("client_keys_file" in line) == (name == "api")


def test_client_tokens_allow_it(provider, retryd, tmp_path):
    (tmp_path / "tokens").write_text("a 0123456789abcdef\n")
    (tmp_path / "key").write_text("k\n")
    d = retryd(wrap=passing("api=0.0.0.0:0"), server={"client_keys_file": tmp_path / "tokens"},
               upstream_settings={"api_key_file": tmp_path / "key"})
    assert ask(("127.0.0.1", d.port)).status == 401
    assert ask(("127.0.0.1", d.port), headers=["x-api-key: 0123456789abcdef"]).status == 200


def test_insecure_listen_allows_it(provider, retryd):
    d = retryd(wrap=passing("api=0.0.0.0:0"), server={"insecure_listen": "yes"})
    assert d.listeners[0].startswith("0.0.0.0:")
    assert ask(("127.0.0.1", d.port)).status == 200


def test_a_reload_that_would_forbid_it_is_refused(provider, retryd):
    d = retryd(wrap=passing("api=0.0.0.0:0"), server={"insecure_listen": "yes"})
    d.write_config(Retryd.make_config(provider.base_url, None, "", {"server": {}}))
    d.signal(signal.SIGHUP)
    d.wait_line("level=error.*passed by systemd.*insecure_listen")
    d.wait_line("reload failed")
    assert ask(("127.0.0.1", d.port)).status == 200


def test_the_name_chooses_the_listener(provider, retryd, tmp_path):
    path = tmp_path / "admin.sock"
    d = retryd(wrap=passing("api=127.0.0.1:0", f"admin=unix:{path}", "retryd.socket=127.0.0.1:0"))
    assert len(d.listeners) == 2 and d.admin_address == f"unix:{path}"
    assert ask(d).status == 200
    assert ask(("127.0.0.1", int(d.listeners[1].rpartition(":")[2]))).status == 200
    assert ask(str(path), method="GET", path="/healthz", body=b"").status == 200
    assert ask(str(path)).status == 405
    assert provider.record() and all(r["target"] != "/healthz" for r in provider.record())


def test_only_the_admin_listener(provider, retryd):
    d = retryd(wrap=passing("admin=127.0.0.1:0"))
    assert len(d.listeners) == 1 and d.admin("/readyz")[0] == 200
    assert ask(d).status == 200


def test_an_abstract_one_is_this_machine_s(provider, retryd):
    name = f"@retryd-test-{os.getpid()}"
    d = retryd(wrap=passing(f"api=unix:{name}"))
    assert d.listeners == [f"unix:{name}"]


def test_what_listen_says_and_is_not_used_is_told(provider, retryd):
    d = retryd(wrap=passing("api=127.0.0.1:0"), server={"listen": "127.0.0.1:1, [::1]:2"},
               admin={"listen": "127.0.0.1:0"})
    unused = [line for line in d.lines if "is not used" in line]
    assert len(unused) == 2 and all("level=warn" in line and "[server] listen" in line for line in unused)
    assert "127.0.0.1:1 " in unused[0] and "[::1]:2 " in unused[1]


def test_what_admin_listen_says_and_is_not_used_is_told(retryd):
    d = retryd("http://127.0.0.1:1/v1", wrap=passing("admin=127.0.0.1:0"), admin={"listen": "127.0.0.1:3"})
    unused = [line for line in d.lines if "is not used" in line]
    assert len(unused) == 1 and "[admin] listen: 127.0.0.1:3 " in unused[0]


def test_nothing_is_told_where_both_say_the_same(provider, retryd, tmp_path):
    address = f"unix:{tmp_path}/api.sock"
    d = retryd(wrap=passing(f"api={address}"), server={"listen": address})
    assert "is not used" not in d.log


@pytest.mark.parametrize("sockets, words", [
    (["amdin=127.0.0.1:0"], ["amdin", "FileDescriptorName=admin"]), (["api=udp:0"], ["(api)", "ListenStream"]),
    (["api=127.0.0.1:0"] * 17, ["17", "at most 16"])], ids=["name", "datagram", "many"])
def test_what_is_not_ours_is_refused(tmp_path, sockets, words):
    line = fails_to_start(tmp_path, sockets)
    assert all(word in line for word in words)
