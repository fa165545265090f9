"""Attempts that go somewhere else: not back to a connection that gave a sick answer (C3)."""

import os
import subprocess
import sys

import pytest
from cases import error
from raw import CHAT, STREAM, Raw

FINE = {"preset": "auto"}
SICK = {
    "a 503": error(503),
    "a 500 that is no JSON": {"status": 500, "headers": {"Content-Type": "text/html"}, "body": "<html>"},
    "a 529": error(529),
    "a page where a completion was asked for": {"status": 200, "headers": {"Content-Type": "text/html"},
                                                "body": "<html>gateway</html>"},
    "no JSON": {"status": 200, "headers": {"Content-Type": "application/json"}, "body": '{"id": '},
    "nothing": {"status": 200, "headers": {"Content-Type": "application/json"}, "body": ""},
}
WELL = {
    "a 429": error(429),
    "a 409": error(409),
    "a 408": error(408),
}


def connections(provider):
    return [r["conn"] for r in sorted(provider.record(), key=lambda r: r["n"])]


def warm(c):
    c.request(body=CHAT)
    assert c.answer().status == 200


@pytest.mark.parametrize("name", SICK)
def test_c3_a_sick_connection_is_not_used_again(provider, retryd, name):
    """The next attempt has a new one; the requests after it stay on that."""
    d = retryd()
    with Raw(d) as c:
        warm(c)
        provider.answers(SICK[name], FINE)
        for _ in range(2):
            c.request(body=CHAT)
            assert c.answer().status == 200
    first, sick, again, later = connections(provider)
    assert first == sick != again == later
    provider.wait(open=1)


@pytest.mark.parametrize("name", WELL)
def test_c3_a_connection_that_said_no_is_kept(provider, retryd, name):
    d = retryd()
    with Raw(d) as c:
        warm(c)
        provider.answers(WELL[name], FINE)
        c.request(body=CHAT)
        assert c.answer().status == 200
    assert len(connections(provider)) == 3 and len(set(connections(provider))) == 1


def test_c3_only_the_connection_that_was_sick_goes(provider, retryd):
    """Those of others stay, and so does the new one: four sick answers in a row are four connections."""
    d = retryd()
    provider.answers({**FINE, "delay_ms": 300})
    clients = [Raw(d) for _ in range(5)]
    for c in clients:
        c.request(body=CHAT)
    for c in clients:
        assert c.answer().status == 200
    assert provider.stats()["connections"] == 5
    provider.answers(*[error(503)] * 4, FINE)
    clients[0].request(body=CHAT)
    assert clients[0].answer().status == 200
    assert provider.stats()["connections"] == 9
    provider.wait(open=5)
    provider.answers({**FINE, "delay_ms": 300})
    for c in clients:
        c.request(body=CHAT)
    for c in clients:
        assert c.answer().status == 200
        c.close()
    assert provider.stats()["connections"] == 9


def test_c3_a_stream_with_an_error_is_left(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        warm(c)
        provider.answers({"status": 200, "headers": {"Content-Type": "text/event-stream"},
                          "body": 'data: {"error":{"type":"server_error","message":"x"}}\n\n'}, FINE)
        c.request(body=STREAM)
        assert c.answer().body.endswith(b"data: [DONE]\n\n")
    first, sick, again = connections(provider)
    assert first == sick != again


def test_connection_lifetime(provider, retryd):
    """The second request ages the connection, and is not cut for that; the third one takes a new one."""
    d = retryd(upstream_settings={"connection_lifetime": "1s"})
    with Raw(d) as c:
        warm(c)
        provider.answers({**FINE, "delay_ms": 2200}, FINE)
        warm(c)
        warm(c)
    first, aged, after = connections(provider)
    assert first == aged != after


# --- on networks of their own ----------------------------------------------------------------------

NETWORK = """
import os, socket, subprocess, sys, threading
from daemon import Retryd
from raw import CHAT, Raw, ask, now_ms, pass_time

FOLDER = sys.argv[1]

def run(*words):
    subprocess.run(words, check=True)

def resolves(*lines):
    with open(FOLDER + "/hosts", "w") as f:
        f.write("".join(line + chr(10) for line in lines))

class Server:
    '''Answers each request with what `answer` says now, one connection after the other or at once.'''
    def __init__(self, ip, port=0, status=200):
        self.status, self.asked, self.silent = status, 0, False
        self.listening = socket.create_server((ip, port))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            s, _ = self.listening.accept()
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        data = b""
        while piece := s.recv(65536):
            data += piece
            if b"}]}" not in data:
                continue
            data = b""
            self.asked += 1
            body = (b'{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",'
                    b'"message":{"role":"assistant","content":"hi"}}]}')
            s.sendall(b"HTTP/1.1 %d X\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
                      % (self.status, len(body)) + body)

def daemon(port, **how):
    how.setdefault("retry", {"initial_delay": "20ms", "jitter": "none"})
    return Retryd(f"http://api.moving.example:{port}/v1", server={"listen": f"unix:{FOLDER}/retryd.sock"},
                  admin={"listen": "off"}, **how)

run("ip", "link", "set", "lo", "up")
resolves()
open(FOLDER + "/nsswitch.conf", "w").write("hosts: files" + chr(10))
for name in ("hosts", "nsswitch.conf"):
    run("mount", "--bind", FOLDER + "/" + name, "/etc/" + name)
"""


def on_own_network(script, folder, timeout=100):
    done = subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "-mn",
                           sys.executable, "-c", NETWORK + script, str(folder)],
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                          capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr


MOVED = """
resolves("127.0.0.2 api.moving.example")
old = Server("127.0.0.2")
new = Server("127.0.0.3", old.port)
with daemon(old.port) as d, Raw(d) as c:
    c.request(body=CHAT)
    assert c.answer().status == 200 and (old.asked, new.asked) == (1, 0)
    resolves("127.0.0.3 api.moving.example")
    old.status = 503
    c.request(body=CHAT)
    answer = c.answer()
    assert (answer.status, answer.header("x-retryd-attempts")) == (200, "2"), d.log
    assert (old.asked, new.asked) == (2, 1)
    c.request(body=CHAT)
    assert c.answer().status == 200 and (old.asked, new.asked) == (2, 2)
"""


def test_c3_the_attempt_after_a_sick_one_asks_dns_again(tmp_path):
    """The name has moved, and the old server, to which the kept connection leads, gives 503."""
    on_own_network(MOVED, tmp_path)
