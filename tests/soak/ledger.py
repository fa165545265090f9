"""Compares three records of one round: the clients' responses, the provider's record, the log."""

import gzip
import json
import re
from collections import Counter, defaultdict

from daemon import parse_logfmt
from plan import TEXT

PATH = re.compile(r"/v1/s(\d+)/")
NUMBERS = re.compile(rb"(?:chatcmpl|cmpl|resp|msg|req)[-_](\d{12})")


class Wrong(Exception):
    """The accounts differ; the message tells of the first requests where they do."""


def by_request(record):
    """{number: its attempts at the provider}, and {the number in an attempt's response: the request's}."""
    attempts, owner = defaultdict(list), {}
    for a in record:
        found = PATH.match(a["target"])
        if not found:
            raise Wrong(f"nobody asked for {a['target']}")
        n = int(found[1])
        if dict((k.lower(), v) for k, v in a["headers"]).get("x-soak-id") != str(n):
            raise Wrong(f"request {n} came with another one's headers: {a['headers']}")
        attempts[n].append(a)
        owner[a["serial"]] = n
    return attempts, owner


def by_line(lines):
    """{number: its lines}, and {number: its failed attempts' lines}."""
    requests, ids, failed = defaultdict(list), {}, defaultdict(list)
    for line in lines:
        if 'msg="request"' in line or "msg=request " in line:
            fields = parse_logfmt(line)
            n = int(PATH.match(fields["path"])[1])
            requests[n].append(fields)
            if fields["id"] in ids:
                raise Wrong(f"two requests are called {fields['id']}")
            ids[fields["id"]] = n
        elif 'msg="attempt ' in line:
            fields = parse_logfmt(line)
            failed[fields["id"]].append(fields)
    unknown = set(failed) - set(ids)
    if unknown:
        raise Wrong(f"attempts of requests that never ended: {sorted(unknown)[:5]}")
    return requests, {ids[name]: f for name, f in failed.items()}


# --- what a response says ---


def events_of(body):
    """The events' data. A body that ends amid an event, or has one that is no JSON, is none."""
    if body and not body.endswith(b"\n\n"):
        raise Wrong(f"ends amid an event: {body[-200:]!r}")
    found = []
    for event in body.decode().split("\n\n"):
        data = "\n".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))
        if data:
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def said_in(events):
    """(text, whether it came to its end, the error event or None)."""
    text, ended, error = "", False, None
    for e in events:
        if e == "[DONE]":
            ended = True
        elif e.get("error") or e.get("type") == "error":
            error = e
        elif "choices" in e:
            text += "".join((c["delta"].get("content") or "") for c in e["choices"])
        elif e.get("type") == "response.output_text.delta":
            text += e["delta"]
        elif e.get("type") == "response.completed":
            ended = True
    return text, ended, error


def text_of(path, value):
    if path == "responses":
        return "".join(c["text"] for item in value["output"] for c in item["content"])
    if path == "chat/completions":
        return value["choices"][0]["message"]["content"]
    if path == "completions":
        return value["choices"][0]["text"]
    if path == "embeddings":
        return TEXT if value["data"][0]["embedding"] else ""
    return TEXT if value["id"] == "m" else ""


class Round:
    """One round's accounts. check() raises Wrong."""

    def __init__(self, requests, answers, record, lines):
        self.requests, self.answers = requests, answers
        self.attempts, self.owner = by_request(record)
        self.lines, self.failed = by_line(lines)
        self.told = Counter()

    def check(self):
        known = {r.n for r in self.requests}
        for what, seen in (("the provider", set(self.attempts)), ("the log", set(self.lines))):
            if seen - known:
                raise Wrong(f"{what} knows of requests that nobody made: {sorted(seen - known)[:5]}")
        wrong = []
        for r in self.requests:
            try:
                self.check_one(r)
            except (AssertionError, Wrong, KeyError, ValueError, TypeError, IndexError) as problem:
                wrong.append(f"request {r.n} ({r.kind}, {r.fault}, {r.leaving}): {problem!r}\n"
                             f"  log {self.lines[r.n]}\n  failed {self.failed.get(r.n)}\n"
                             f"  attempts {[(a['n'], a['status'], a['sent']) for a in self.attempts[r.n]]}\n"
                             f"  answer {self.answers[r.n].ended} {self.answers[r.n].data[:1500]!r}")
        if wrong:
            raise Wrong(f"{len(wrong)} requests\n" + "\n".join(wrong[:5]))

    def check_one(self, r):
        answer, lines = self.answers[r.n], self.lines[r.n]
        seen = len(self.attempts[r.n])
        failed = self.failed.get(r.n, [])
        assert len(lines) <= 1, "it has more than one line"
        if r.leaving:
            logged = int(lines[0]["attempts"]) if lines else 0
            assert seen <= logged, "the provider saw attempts that are not logged"
            self.told["left"] += 1
            return
        line, = lines
        assert int(line["attempts"]) == seen, "attempts logged are not those that the provider saw"
        assert answer.whole, f"it is not whole: {answer.ended}"
        self.check_own(r, answer)
        self.told[line["end"]] += 1
        if line["end"] == "answered":
            assert len(failed) == seen - 1, "an attempt that failed has no line, or one that did not has"
            assert int(line["status"]) == answer.status == 200
        if r.spec.mode:
            self.check_stream(r, answer, line)
        else:
            self.check_plain(r, answer, line)

    def check_own(self, r, answer):
        """All numbers of attempts in a response are this request's own."""
        body = answer.body if not r.spec.gzip else b""
        numbers = {int(n) for n in NUMBERS.findall(body)} | {
            int(answer.headers.get("x-request-id", "req_0")[4:])} - {0}
        assert numbers, "it does not say whose it is"
        strangers = [n for n in numbers if self.owner.get(n) != r.n]
        assert not strangers, f"it belongs to {[self.owner.get(n) for n in strangers]}"

    def check_plain(self, r, answer, line):
        assert line["end"] == "answered", line
        encoded = answer.headers.get("content-encoding") == "gzip"
        value = json.loads(gzip.decompress(answer.body) if encoded else answer.body)
        assert text_of(r.spec.path, value) == TEXT, "its text is another one"

    def check_stream(self, r, answer, line):
        text, ended, error = said_in(events_of(answer.body))
        if line["end"] == "answered":
            assert text == TEXT and ended and error is None, (text, ended, error)
            return
        assert r.fault == "amid" and r.spec.mode == "live", "it broke, and need not have"
        assert error is not None and not ended and TEXT.startswith(text), (text, ended, error)
