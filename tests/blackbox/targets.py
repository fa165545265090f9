"""Several upstreams behind one daemon, all played by one provider, and many requests at once.

    with house({"one": {}, "two": {"auth_header": "api-key"}}) as (provider, daemon):
        provider.rules(on("one", error(503)))
        assert ask(daemon).header("x-retryd-target") == "two"
        assert where(provider.record()) == ["one", "two"]

Each upstream has its own path at the provider: /NAME/v1.
"""

import contextlib
import json
import os
import selectors
import signal
import socket

from cases import error
from client import Provider
from daemon import Retryd
from raw import Closed, Raw, head_of, now_ms
from raw import ask as ask_raw

FAST = {"initial_delay": "20ms", "jitter": "none"}


# --- a house of upstreams --------------------------------------------------------------------------


def section(kind, name, keys):
    return f"[{kind} {name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) + "\n"


@contextlib.contextmanager
def house(upstreams=None, route=None, routes=None, config="", **how):
    """A provider that plays these upstreams ({name: settings}; one alone: "one"), and a daemon with one
    route over all of them in this order. route: more of its keys. routes: {name: keys} instead.
    PROVIDER in an upstream's url is the provider's origin."""
    upstreams = upstreams or {"one": {}}
    routes = routes or {"all": {"upstreams": ", ".join(upstreams), **(route or {})}}
    how.setdefault("retry", dict(FAST))
    how.setdefault("log", {"level": "debug"})  # tells who waits for a turn
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        origin = f"http://127.0.0.1:{provider.port}"
        text = "".join(section("upstream", name, {"url": f"PROVIDER/{name}/v1", **settings})
                       for name, settings in upstreams.items()).replace("PROVIDER", origin)
        text += "".join(section("route", name, keys) for name, keys in routes.items())
        with Retryd(config=text + config, **how) as daemon:
            yield provider, daemon


def on(name="*", *answers, key=None, model=None, then="repeat", key_header=None, **rule):
    """A rule for what goes to this upstream, with this key, for this model. key_header: each value of
    that header has its own place in the list."""
    match = {"path": f"/{name}/*"}
    if key is not None:
        match["header"] = {"authorization": f"Bearer {key}"}
    if model is not None:
        match["model"] = model
    if key_header is not None:
        rule["key"] = key_header
    return {"match": match, "answers": list(answers), "then": then, **rule}


def where(record):
    """The upstreams that the requests went to, in their order."""
    return [r["target"].split("/")[1] for r in in_order(record)]


def in_order(record):
    return sorted(record, key=lambda r: r["t_first"])


def value(attempt, name):
    """The one value of a header at the provider; None without it."""
    values = [v for n, v in attempt["headers"] if n.lower() == name]
    assert len(values) <= 1, values
    return values[0] if values else None


def key_of(attempt):
    return (value(attempt, "authorization") or "").removeprefix("Bearer ")


def model_of(attempt):
    return json.loads(attempt["body"]).get("model")


def chat(model="big", **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def limited(ms, **how):
    """A 429 that says how long to wait."""
    return {**error(429, code="rate_limit_exceeded"), "headers": {"retry-after-ms": str(ms)}, **how}


def verdict(code, status=429):
    return {"status": status, "json": {"error": {"message": f"it is {code}", "type": code, "param": None,
                                                 "code": code}}}


def default_body(body, method):
    return chat() if body is None and method == "POST" else body


def ask(daemon, body=None, path="/v1/chat/completions", headers=(), method="POST"):
    """One request on a connection of its own, of the model "big" unless it says otherwise."""
    return ask_raw(daemon, default_body(body, method), path, headers, method)


def refusal(answer):
    """The error object of a response that retryd gave by itself."""
    body = answer.json()["error"]
    assert set(body) >= {"message", "type", "param", "code"} and body["message"], body
    return body


def reload(daemon):
    with open(daemon.config_path, encoding="utf-8") as f:
        text = f.read()
    daemon.write_config(text + "; once more\n")
    start = len(daemon.lines)
    daemon.signal(signal.SIGHUP)
    assert "configuration reloaded" in daemon.wait_line("configuration reloaded|reload failed", start=start)


def total(daemon, name, **labels):
    """The sum of all samples of a metric that have these labels, among others."""
    wanted = [f'{label}="{text}"' for label, text in labels.items()]
    return sum(v for sample, v in daemon.metrics().items()
               if sample.partition("{")[0] == name and all(w in sample for w in wanted))


def wait_queued(daemon, count):
    """Waits until so many requests have begun to wait for a turn, those that have had it included. One
    that waits for its own repeat does not: it joins the queue after its backoff."""
    return daemon.wait_log('msg="waiting for a turn"', count=count)


def wait_gone(daemon, count):
    """Waits until so many clients have been found to be gone; they wait for no turn then."""
    return daemon.wait_log("end=client_gone", count=count)


# --- one client that is not waited for -------------------------------------------------------------


class Asked:
    """A request that is under way; .answer() waits for the rest."""

    def __init__(self, daemon, body=None, headers=(), path="/v1/chat/completions", method="POST"):
        self.c, self.method, self.sent_ms = Raw(daemon, timeout=60), method, now_ms()
        self.c.request(method, path, default_body(body, method), headers)

    def answer(self):
        with self.c:
            self.c.more()
            self.answered_ms = now_ms()
            return self.c.answer(self.method)

    def leave(self):
        self.c.close()


# --- many clients ----------------------------------------------------------------------------------


class Heard(Raw):
    """A response that has come to its end already."""

    def __init__(self, data):
        self.data = data

    def more(self):
        raise Closed(self.data)


class Shot:
    """One request of a flood."""

    def __init__(self, n):
        self.n, self.sent_ms, self.answered_ms, self.data = n, now_ms(), None, b""

    @property
    def took_ms(self):
        return self.answered_ms - self.sent_ms

    @property
    def answer(self):
        return Heard(self.data).answer()


def payload(body=None, headers=(), path="/v1/chat/completions", method="POST"):
    data = json.dumps(default_body(body, method)).encode()
    lines = ["Connection: close", *headers]
    if method != "POST":
        return head_of(method, path, lines)
    return head_of(method, path, [*lines, "Content-Type: application/json",
                                  f"Content-Length: {len(data)}"]) + data


def flood(daemon, count, every_ms=0, request=lambda n: payload(), timeout=90, meanwhile=None):
    """So many requests, each on a connection of its own, one every so often whether or not the others
    are answered. `meanwhile` is called once when all have been sent. Returns all their Shots."""
    selector, shots, left = selectors.DefaultSelector(), [], 0
    start = now_ms()
    while len(shots) < count or left > 0:
        while len(shots) < count and now_ms() >= start + len(shots) * every_ms:
            shot = Shot(len(shots))
            s = socket.create_connection((daemon.host, daemon.port), timeout=30)
            s.sendall(request(shot.n))
            s.setblocking(False)
            selector.register(s, selectors.EVENT_READ, shot)
            shots.append(shot)
            left += 1
        if len(shots) == count and meanwhile is not None:
            meanwhile()
            meanwhile = None
        due = start + len(shots) * every_ms if len(shots) < count else now_ms() + 1000
        for key, _ in selector.select(max(0, due - now_ms()) / 1000):
            shot = key.data
            try:
                piece = key.fileobj.recv(65536)
            except ConnectionResetError:
                piece = b""
            if piece:
                shot.answered_ms = now_ms()
                shot.data += piece
                continue
            selector.unregister(key.fileobj)
            key.fileobj.close()
            left -= 1
        assert now_ms() < start + timeout * 1000, f"{left} of {count} are not answered"
    return shots
