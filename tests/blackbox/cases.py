"""Sends many requests at once to one provider; each has a script of its own.

    CASES = {"reset": Case([{"cut": {"before_head": True}}, {"preset": "auto"}])}
    with pair(retry={"initial_delay": "20ms"}) as (provider, daemon):
        seen = run(provider, daemon, CASES)
    assert seen["reset"].answer.status == 200 and len(seen["reset"].attempts) == 2

The name of a case goes into the header x-case, which selects its responses, and into the body's model, which appears in
the log. The times are the provider's own (tests/provider/README.md).
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import time

from client import Provider
from daemon import Retryd, parse_logfmt
from raw import Raw

AUTO = {"preset": "auto"}


def error(status, **how):
    """An error object that says nothing more than its status does."""
    return {"preset": "error", "status": status, "code": "x", "type": "x", "message": "x", **how}


@dataclasses.dataclass
class Case:
    answers: list
    headers: list = dataclasses.field(default_factory=list)
    body: object = None  # None: a chat request
    more: dict = dataclasses.field(default_factory=dict)  # into that chat request
    method: str = "POST"
    path: str = "/v1/chat/completions"
    host: str = "localhost"
    then: str = "repeat"


class Seen:
    """What came of a case: the client's response, the provider's record, the daemon's lines."""

    def __init__(self, name):
        self.name, self.answer, self.problem = name, None, None
        self.attempts, self.lines = [], []
        self.sent_ms = self.answered_ms = self.ended_ms = None

    @property
    def took_ms(self):
        return self.answered_ms - self.sent_ms

    @property
    def ended_after_ms(self):
        return self.ended_ms - self.sent_ms

    @property
    def gaps(self):
        """From the end of each response to the first byte of the next attempt. The provider notes the
        end when all is written; the daemon may have read it a moment before."""
        return [b["t_first"] - a["t_answer_end"] for a, b in zip(self.attempts, self.attempts[1:])]

    @property
    def waits(self):
        """The same from each response's first byte: what no wait that keeps to a hint falls short of."""
        return [b["t_first"] - (a["t_answer_start"] or a["t_answer_end"])
                for a, b in zip(self.attempts, self.attempts[1:])]

    @property
    def failures(self):
        return [line for line in self.lines if line["msg"].startswith("attempt ")]

    @property
    def request(self):
        last, = [line for line in self.lines if line["msg"] == "request"]
        return last

    def fact(self, name):
        values = self.answer.all(name)
        assert len(values) == 1, (name, self.answer.headers)
        return values[0]


@contextlib.contextmanager
def pair(upstream=None, **how):
    """A provider and a daemon in front of it, for as many tests as like to share them."""
    how.setdefault("retry", {"initial_delay": "20ms"})
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        with Retryd(upstream or provider.base_url, **how) as daemon:
            yield provider, daemon


def rule(name, case):
    return {"match": {"header": {"x-case": name}}, "answers": case.answers, "then": case.then}


def body_of(name, case):
    if case.body is not None:
        return case.body
    message = {"role": "user", "content": "hi"}
    return json.dumps({"model": name, "messages": [message], **case.more}).encode()


def send(daemon, name, case):
    """One case's request, answered. The response's head tells the time."""
    seen = Seen(name)
    body = body_of(name, case)
    with Raw(daemon) as c:
        seen.sent_ms = time.monotonic() * 1000
        try:
            c.request(case.method, case.path, body, [f"x-case: {name}", *case.headers],
                      host=case.host)
            c.more()
            seen.answered_ms = time.monotonic() * 1000
            seen.answer = c.answer(case.method)
            seen.ended_ms = time.monotonic() * 1000
        except Exception as problem:  # told by the test that looks at this case
            seen.problem = problem
    return seen


def collect(provider, lines, found):
    """Gives each case its part of the record and of the log."""
    for attempt in provider.record():
        name = {n.lower(): v for n, v in attempt["headers"]}.get("x-case")
        if name in found:
            found[name].attempts.append(attempt)
    for line in lines:
        if " model=" in line:
            fields = parse_logfmt(line)
            if fields["model"] in found:
                found[fields["model"]].lines.append(fields)


def run(provider, daemon, cases):
    """{name: Seen} of all of them, sent at the same time."""
    provider.rules(*(rule(name, case) for name, case in cases.items()))
    provider.clear()
    start = len(daemon.lines)
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(cases)) as pool:
        found = dict(zip(cases, pool.map(lambda item: send(daemon, *item), cases.items())))
    for name, case in cases.items():
        if case.body is None:
            daemon.wait_line(f'msg="request" .*model={name} ', start=start)
    collect(provider, daemon.lines[start:], found)
    return found


def calm(once, bounds, rounds=3):
    """Runs `once` again when something in it came late, and nothing too early: a machine that is
    busy stops a program for some time now and then, a defect is late each time. `bounds` gives
    (value, least, most) for all that is measured in what `once` returned."""
    for _ in range(rounds):
        seen = once()
        measured = list(bounds(seen))
        if any(v < least for v, least, _ in measured) or all(v <= most for v, _, most in measured):
            break
    return seen
