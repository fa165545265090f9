"""Puts a daemon into the states that the status page is looked at in; test_status_page.py and status_pictures.py use it."""

import contextlib
import http.client
import json
import os
import signal
import time

from client import Provider
from daemon import Retryd

LIMITED = {"preset": "error", "status": 429, "code": "rate_limit_exceeded", "headers": {"retry-after": "45"}}
DOWN = {"preset": "error", "status": 503}
LOST = {"cut": {"before_head": True}}
BAD = {"preset": "error", "status": 400, "code": "invalid_value"}
HELD = {"preset": "chat_stream", "held": True}
SLOW = {"preset": "auto", "delay_ms": 120}
GOOD = {"preset": "auto", "delay_ms": 15}
SCRIPT = '<script>document.title="broken"</script>'

STATES = ["idle", "busy", "gate", "breaker", "down", "reload"]


class State:
    """A daemon with two upstreams, and its requests."""

    def __init__(self, stack):
        self.one, self.two = (stack.enter_context(Provider(os.environ["PROVIDER_BIN"], quiet=True)) for _ in range(2))
        self.stack = stack
        self.settings = {
            "breaker": {"failures": 3, "failure_rate": "0%", "open_for": "40s"},
            "retry": {"initial_delay": "40ms", "max_attempts": 4, "budget_min": 10, "repeat_window": 0},
            "server": {"workers": 2, "drain_timeout": "0"},
            "upstream openai": {"url": self.one.base_url, "max_concurrency": 20},
            "upstream azure": {"url": self.two.base_url, "requests_per_minute": 600},
            "route fallback": {"model": "gpt-4o*", "upstreams": "openai, azure", "retry.attempts_per_tier": 4},
        }
        self.daemon = stack.enter_context(Retryd(**self.settings))
        self.url = f"http://{self.daemon.admin_address}/"

    def begin(self, model, **more):
        c = http.client.HTTPConnection(self.daemon.host, self.daemon.port, timeout=60)
        self.stack.callback(c.close)
        c.request("POST", "/v1/chat/completions", json.dumps({"model": model, "messages": [], **more}),
                  {"Authorization": "Bearer sk-client-0123456789abcdef"})
        return c

    def ask(self, model, **more):
        c = self.begin(model, **more)
        c.getresponse().read()
        c.close()

    def some(self):
        """A little of everything, over by now."""
        self.one.answers(GOOD, SLOW, GOOD, DOWN, GOOD, LOST, DOWN, SLOW, GOOD, {"preset": "error", "status": 500}, GOOD, BAD,
                         GOOD, GOOD)
        for model in ["gpt-4o", "gpt-4o-mini", "o3", "gpt-4o", "gpt-4o", SCRIPT, "gpt-4o", "gpt-4o", "o3", "gpt-4o-mini"]:
            self.ask(model)
        self.daemon.wait_line('msg="request"', count=10)

    def idle(self):
        self.ask("gpt-4o")
        self.daemon.wait_line('msg="request"')

    def busy(self):
        self.some()
        self.one.rules({"match": {"model": "o3"}, "answers": [DOWN, HELD]}, default=HELD)
        for model in ["gpt-4o", "gpt-4o", "gpt-4o-mini", "gpt-4o", "o3", "gpt-4o"]:
            self.begin(model, stream=True)
        self.one.wait(in_flight=6)

    def gate(self):
        self.some()
        self.one.answers(LIMITED)
        self.begin("o3")
        self.daemon.wait_line("gate closed")
        for _ in range(3):
            self.begin("o3")
        self.wait(lambda now: now["waiting"] == 3)

    def breaker(self):
        self.some()
        self.one.answers(DOWN)
        self.two.answers(GOOD)
        for _ in range(4):
            self.ask("gpt-4o")
        self.daemon.wait_line("breaker open")
        self.daemon.wait_line('msg="request"', count=14)

    def down(self):
        self.some()
        self.one.answers(DOWN)
        self.two.answers(DOWN)
        for model in ["gpt-4o", "gpt-4o", "gpt-4o-mini", "gpt-4o-mini", "o3", SCRIPT]:
            self.begin(model)
        self.daemon.wait_line("breaker open", count=6)
        self.wait(lambda now: all(s["phase"] == "queued" for s in now["stories"]))

    def reload(self):
        self.some()
        with open(self.daemon.config_path, "a", encoding="utf-8") as f:
            f.write("\n[retry]\nmax_atempts = 7\n")
        self.daemon.signal(signal.SIGHUP)
        self.daemon.wait_line("reload failed")

    def wait(self, is_so):
        deadline = time.monotonic() + 30
        while not is_so(self.status()["now"]):
            assert time.monotonic() < deadline, self.daemon.log

    def status(self):
        return json.loads(self.daemon.admin("/status.json")[1])


@contextlib.contextmanager
def state(name):
    with contextlib.ExitStack() as stack:
        s = State(stack)
        getattr(s, name)()
        yield s
