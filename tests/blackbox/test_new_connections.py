"""After a broken response, the next attempt does not use the same connection (C3)."""

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
def test_a_sick_connection_is_not_used_again(provider, retryd, name):
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
def test_a_connection_that_said_no_is_kept(provider, retryd, name):
    d = retryd()
    with Raw(d) as c:
        warm(c)
        provider.answers(WELL[name], FINE)
        c.request(body=CHAT)
        assert c.answer().status == 200
    assert len(connections(provider)) == 3 and len(set(connections(provider))) == 1


def test_only_the_connection_that_was_sick_goes(provider, retryd):
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


def test_a_stream_with_an_error_is_left(provider, retryd):
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
import ctypes, os, socket, subprocess, sys, threading
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
        self.status, self.asked, self.heard, self.think, self.together = status, 0, None, 0, None
        self.listening = socket.create_server((ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)
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
            if self.together:
                self.together.wait()
            if self.heard:
                self.heard.set()
                pass_time(self.think)
            body = (b'{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",'
                    b'"message":{"role":"assistant","content":"hi"}}]}')
            s.sendall(b"HTTP/1.1 %d X\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
                      % (self.status, len(body)) + body)

def daemon(port, **how):
    how.setdefault("retry", {"initial_delay": "20ms", "jitter": "none"})
    return Retryd(f"http://api.moving.example:{port}/v1", server={"listen": f"unix:{FOLDER}/retryd.sock"},
                  admin={"listen": "off"}, **how)

def ip(words):
    run("ip", *words.split())

def reach(there, where="00:00:00:00:00:99"):
    '''Packets to it go to this hardware address: by default to nobody, and nobody says so.'''
    ip(f"neigh replace {there} lladdr {where} dev v0 nud permanent")

def cable():
    ip("link add v0 type veth peer name v1 address 02:00:00:00:00:01")
    for name in ("v0", "v1"):
        ip(f"link set {name} up")
    ip("addr add 10.9.9.2/24 dev v0")
    ip("addr add fd00::2/64 dev v0 nodad")

def elsewhere(work):
    '''Runs that in a network of its own, at the other end of the cable: 10.9.9.1.'''
    ready, go, done = threading.Event(), threading.Event(), []
    def body():
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
        ready.set()
        go.wait()
        ip("link set lo up")
        ip("link set v1 up")
        ip("addr add 10.9.9.1/24 dev v1")
        done.append(work())
        ready.set()
    threading.Thread(target=body, daemon=True).start()
    ready.wait()
    ready.clear()
    run("ip", "link", "set", "v1", "netns", str([t for t in os.listdir("/proc/self/task")
        if os.readlink(f"/proc/self/task/{t}/ns/net") != os.readlink("/proc/self/ns/net")][0]))
    go.set()
    ready.wait()
    return done[0]

ip("link set lo up")
resolves()
for name, text in (("nsswitch.conf", "hosts: files"), ("host.conf", "multi on"), ("gai.conf", '''
precedence fd00::/8 100
precedence ::ffff:10.9.9.0/120 90
precedence ::/0 40
precedence ::ffff:0:0/96 10''')):
    open(FOLDER + "/" + name, "w").write(text + chr(10))
for name in ("hosts", "nsswitch.conf", "host.conf", "gai.conf"):
    run("mount", "--bind", FOLDER + "/" + name, "/etc/" + name)
"""


def on_own_network(script, folder, *words, timeout=100):
    done = subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "-mn",
                           sys.executable, "-c", NETWORK + script, str(folder), *words],
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


def test_the_attempt_after_a_sick_one_asks_dns_again(tmp_path):
    """The name has moved, and the old server, to which the kept connection leads, gives 503."""
    on_own_network(MOVED, tmp_path)


DEAD_FIRST = """
cable()
names = sys.argv[2].split(",")
for name in names:
    reach(name)
live = Server("127.0.0.3")
resolves(*[f"{name} api.moving.example" for name in [*names, "127.0.0.3"]])
found = [a[4][0] for a in socket.getaddrinfo("api.moving.example", 80, type=socket.SOCK_STREAM)]
assert found == [*names, "127.0.0.3"], found
with daemon(live.port, timeout={"connect": "6s"}) as d:
    clients = [Raw(d) for _ in range(3)]
    for c in clients:
        c.request(body=CHAT)
    for c in clients:
        answer = c.answer()
        assert (answer.status, answer.header("x-retryd-attempts")) == (200, "1"), d.log
"""


@pytest.mark.parametrize("dead", ["10.9.9.3", "10.9.9.3,10.9.9.4", "fd00::3", "fd00::3,fd00::4"])
def test_a_dead_first_address_is_passed_by(tmp_path, dead):
    """Nobody answers there, not even with a refusal; the last address of the name is alive."""
    on_own_network(DEAD_FIRST, tmp_path, dead)


SILENT_PATH = """
PEER = "02:00:00:00:00:01"
cable()
reach("10.9.9.1", PEER)
dying = elsewhere(lambda: Server("10.9.9.1"))
resolves("10.9.9.1 api.moving.example")
with daemon(dying.port, log={"level": "debug"}) as d, Raw(d, timeout=80) as kept, Raw(d, timeout=80) as waiting:
    dying.together = threading.Barrier(2)  # on two connections, which are then kept
    for c in (kept, waiting):
        c.request(body=CHAT)
    for c in (kept, waiting):
        assert c.answer().status == 200
    dying.heard, dying.think, dying.together = threading.Event(), 600, None
    waiting.request(body=CHAT)
    dying.heard.wait()
    dying.heard = None
    reach("10.9.9.1")
    begin = now_ms()
    kept.request(body=CHAT)
    for n in (1, 2):
        line = d.wait_log("attempt 1 of 5 failed", count=n, timeout=60)
        assert line["reason"] == "connection_lost", line
    assert now_ms() - begin > 15_000
    reach("10.9.9.1", PEER)
    for c in (kept, waiting):
        answer = c.answer()
        assert answer.status == 200, d.log
"""


def test_a_path_that_died_silently_is_left(tmp_path):
    """A request on a kept connection, and one whose answer is waited for: after some 20 s both are made
    again on new ones."""
    on_own_network(SILENT_PATH, tmp_path)


SILENT_ANSWER = """
cable()
reach("10.9.9.1", "02:00:00:00:00:01")
slow = elsewhere(lambda: Server("10.9.9.1"))
resolves("10.9.9.1 api.moving.example")
slow.heard, slow.think = threading.Event(), 26
with daemon(slow.port) as d, Raw(d, timeout=80) as c:
    c.request(body=CHAT)
    answer = c.answer()
    assert (answer.status, answer.header("x-retryd-attempts"), slow.asked) == (200, "1", 1), d.log
"""


def test_a_response_may_be_silent_where_the_path_is_fine(tmp_path):
    on_own_network(SILENT_ANSWER, tmp_path)
