"""Draws the requests of a soak run: mixed kinds, faults of first attempts, clients that disconnect.

Everything is drawn from one seed, so that a run can be repeated. Each request has its number in its path
(/v1/s17/chat/completions), which the daemon logs and the provider records. The provider writes the number of
each attempt into its response, so each response shows which request it belongs to.
"""

import dataclasses
import json
import random

TEXT = "one two three four five six seven eight"
PIECES = [word + " " for word in TEXT.split()[:-1]] + [TEXT.split()[-1]]

# --- answers ---

ERROR = {"error": {"message": "soak", "type": "server_error", "param": None, "code": "soak"}}


def chunk(delta, finish=None):
    return {"id": "chatcmpl-soak", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}


GOOD = {"preset": "auto", "text": TEXT, "events": len(PIECES), "usage": True}
BAD_EVENT = {"sse": [chunk({"role": "assistant", "content": ""}), chunk({"content": PIECES[0]}),
                     "data: {\"id\":\"chatcmpl-\n\n", *[chunk({"content": p}) for p in PIECES[1:]],
                     chunk({}, "stop"), "data: [DONE]\n\n"]}

# What the first attempt meets, by name.
ANY_FAULTS = {
    "503": {"preset": "error", "status": 503},
    "500": {"preset": "error", "status": 500, "close": True},
    "429": {"preset": "error", "status": 429, "code": "rate_limit_exceeded", "headers": {"retry-after-ms": "5"}},
    "reset": {"cut": {"before_head": True}},
    "fin": {"cut": {"before_head": True, "how": "fin"}},
    "slow": {"stall": {"before_head": True}},
}
PLAIN_FAULTS = {
    "body": {**GOOD, "cut": {"after_bytes": 40, "how": "fin"}},
    "json": {"body": '{"id":"chatcmpl-1","object":"chat.completion","choi',
             "headers": {"content-type": "application/json"}},
    "error200": {"status": 200, "json": ERROR},
}
STREAM_FAULTS = {
    "first": {"sse": ["data: " + json.dumps(ERROR) + "\n\n"]},
    "begun": {**GOOD, "cut": {"after_events": 1}},
    "amid": {**GOOD, "interval_ms": 2, "cut": {"after_deltas": 4, "how": "fin", "delay_ms": 5}},
    "event": BAD_EVENT,
}
FAULTS = {**ANY_FAULTS, **PLAIN_FAULTS, **STREAM_FAULTS}
# A 429 holds up all that goes to its target for a moment (which is why there is one for that alone), and
# what is silent holds up its client.
RARE = {"429": 0.1, "slow": 0.1}

# --- kinds ---


@dataclasses.dataclass(frozen=True)
class Kind:
    weight: int
    path: str
    faults: tuple
    mode: str = None  # of a stream
    method: str = "POST"
    size: int = 0  # of an upload
    version: str = "1.1"
    gzip: bool = False


PLAIN = (*ANY_FAULTS, *PLAIN_FAULTS)
STREAM = (*ANY_FAULTS, *(f for f in STREAM_FAULTS))
KINDS = {
    "chat": Kind(28, "chat/completions", PLAIN),
    "live": Kind(18, "chat/completions", STREAM, "live"),
    "splice": Kind(9, "chat/completions", STREAM, "splice"),
    "hold": Kind(6, "chat/completions", STREAM, "hold"),
    "responses": Kind(7, "responses", PLAIN),
    "responses-live": Kind(5, "responses", tuple(ANY_FAULTS), "live"),
    "completions": Kind(3, "completions", PLAIN),
    "embeddings": Kind(8, "embeddings", tuple(ANY_FAULTS)),
    "models": Kind(7, "models/m", tuple(f for f in ANY_FAULTS if f != "429"), method="GET"),
    "upload": Kind(2, "chat/completions", PLAIN, size=300_000),
    "http10": Kind(2, "chat/completions", PLAIN, version="1.0"),
    "gzip": Kind(5, "chat/completions", PLAIN, gzip=True),
}

# --- leaving ---

# The name of the provider's rule, and when the client leaves: after so many milliseconds, at most; or
# with its first byte; or amid its request.
LEAVINGS = {
    "waiting": ("delayed", 60),
    "backoff": ("always503", 60),
    "streaming": ("paced", "bytes"),
    "uploading": ("good", "amid"),
    "at once": ("delayed", 0),
    "half": ("delayed", "half"),
}


@dataclasses.dataclass
class Request:
    n: int
    kind: str
    fault: str  # None: none
    leaving: str  # None: stays
    leaves: object = None
    how: str = "fin"
    rule: str = "good"
    payload: bytes = b""
    keeps: bool = True  # the connection

    @property
    def spec(self):
        return KINDS[self.kind]


def body_of(request, rng):
    spec = request.spec
    body = {"model": "limited" if request.fault == "429" else "m"}
    if spec.path == "chat/completions":
        content = "x" * (rng.randrange(spec.size) + 1) if spec.size else "hi"
        body["messages"] = [{"role": "user", "content": content}]
    elif spec.path == "completions":
        body["prompt"] = "hi"
    else:
        body["input"] = "hi"
    if spec.mode:
        body["stream"] = True
        if spec.path == "chat/completions":
            body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def payload_of(request, rng):
    spec = request.spec
    lines = [f"{spec.method} /v1/s{request.n}/{spec.path} HTTP/{spec.version}", "Host: localhost",
             f"x-soak: {request.rule}{'-gzip' if spec.gzip else ''}", f"x-soak-id: {request.n}"]
    if spec.mode:
        lines.append(f"x-retryd-stream-mode: {spec.mode}")
    if spec.gzip:
        lines.append("Accept-Encoding: gzip")
    if not request.keeps and spec.version == "1.1":
        lines.append("Connection: close")
    body = b""
    if spec.method == "POST":
        body = body_of(request, rng)
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def draw(n, rng):
    kind = rng.choices(list(KINDS), [k.weight for k in KINDS.values()])[0]
    request = Request(n, kind, None, None, keeps=rng.random() < 0.8)
    dice = rng.random()
    if dice < 0.04:
        request.leaving = rng.choice(list(LEAVINGS))
        if request.leaving == "streaming" and request.spec.mode is None:
            request.kind = "live"
        if request.leaving == "uploading":
            request.kind = "upload"
        request.rule, when = LEAVINGS[request.leaving]
        request.leaves = rng.randrange(when + 1) if isinstance(when, int) else when
        request.how = rng.choice(["fin", "reset"])
        request.keeps = False
    elif dice < 0.04 + 0.96 / 3:
        faults = request.spec.faults
        request.fault = request.rule = rng.choices(faults, [RARE.get(f, 1) for f in faults])[0]
    request.payload = payload_of(request, rng)
    return request


def requests(seed, first, count):
    """So many requests from number `first` on, the same for the same seed."""
    rng = random.Random(f"{seed}/{first}")
    return [draw(n, rng) for n in range(first, first + count)]


# --- the provider's script ---


def script():
    def rule(name, *answers):
        return [{"match": {"header": {"x-soak": name}}, "key": "x-soak-id", "answers": list(answers)},
                {"match": {"header": {"x-soak": name + "-gzip"}}, "key": "x-soak-id",
                 "answers": [a if "sse" in a or "body" in a else {**a, "gzip": True} for a in answers]}]

    rules = [r for name, fault in FAULTS.items() for r in rule(name, fault, GOOD)]
    rules += rule("good", GOOD)
    rules += rule("delayed", {**GOOD, "delay_ms": 300})
    rules += rule("always503", {"preset": "error", "status": 503})
    rules += rule("paced", {**GOOD, "interval_ms": 20})
    return {"rules": rules, "default": GOOD}


# --- the daemon's configuration ---

SECTIONS = {
    "server": {"memory_body": "64K"},
    "retry": {"max_attempts": 6, "initial_delay": "10ms", "max_delay": "50ms", "attempts_per_tier": 6},
    "timeout": {"first_byte": "700ms"},
}


def extra(url):
    """The part of the file that names sections twice. The streams of a peak may be slow to begin on a busy machine."""
    return (f"[upstream limited]\nurl = {url}\n\n[route limited]\nmodel = limited\nupstreams = limited\n\n"
            "[route many]\nmodel = many\nupstreams = test\ntimeout.first_byte = 1m\n")


def changed(number, url):
    """(sections, extra) of the number-th reload of a run: longer limits, another upstream for some of the requests,
    many routes more; and from there back to the first."""
    sections = {name: dict(keys) for name, keys in SECTIONS.items()}
    more = extra(url)
    if number % 4 == 1:
        sections["retry"].update(max_attempts=8, attempts_per_tier=8)
        sections["timeout"]["first_byte"] = "800ms"
    elif number % 4 == 2:
        more = more.replace("upstreams = limited", "upstreams = limited, other") + f"\n[upstream other]\nurl = {url}\n"
    elif number % 4 == 3:
        more += "".join(f"\n[upstream u{n}]\nurl = {url}\n\n[route r{n}]\nmodel = r{n}\nupstreams = u{n}\n"
                        for n in range(40))
    return sections, more
