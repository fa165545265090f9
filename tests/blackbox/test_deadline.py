"""C7: the response begins before the caller gives up, and no wait extends beyond that. Most tests take the deadline from
the response, which names it; those that run alone measure when the response comes.
"""
import socket

import pytest
from cases import AUTO, Case, calm, error, pair, run
from raw import CHAT, Raw, ask, in_time, text_of

SILENT = {"stall": {"before_head": True}}
ROUTES = """
[route second]
model = configured*
retry.deadline = 1s
[route slow]
model = slow-*
retry.initial_delay = 5s
retry.jitter = none
[route patient]
model = patient*
retry.max_hint = 10m
retry.max_delay = 10m
[route patient-without-deadline]
model = endless*
retry.max_hint = 10m
retry.deadline = 0
"""
# name: (headers, the deadline in ms that the client declares, or None for the configured one)
KEPT = {
    "read-timeout": (["x-stainless-read-timeout: 1"], 1000),
    "read-timeout-upper-case": (["X-Stainless-Read-Timeout: 1"], 1000),
    "read-timeout-fraction": (["x-stainless-read-timeout: 1.25"], 1250),
    "timeout": (["X-Stainless-Timeout: 1"], 1000),
    "override-number": (["x-retryd-deadline: 1"], 1000),
    "override-fraction": (["x-retryd-deadline: 0.75"], 750),
    "override-ms": (["x-retryd-deadline: 500ms"], 500),
    "override-s": (["x-retryd-deadline: 1s"], 1000),
    "smallest-of-the-clients": (["x-stainless-read-timeout: 60", "x-stainless-timeout: 1",
                                 "x-retryd-deadline: 30"], 1000),
    "smallest-is-the-override": (["x-stainless-read-timeout: 60", "x-retryd-deadline: 1"], 1000),
    "configured": ([], None),
    "configured-is-smaller": (["x-stainless-read-timeout: 60"], None),
    "configured-is-larger": (["x-stainless-read-timeout: 0.8"], 800),
    "malformed": (["x-stainless-read-timeout: NaN", "x-stainless-timeout: 0"], 1000),
}


@pytest.fixture(scope="module")
def machine():
    with pair(config=ROUTES) as both:
        yield both


@pytest.fixture(scope="module")
def silent(machine):
    cases = {name: Case([SILENT], headers=headers) for name, (headers, _) in KEPT.items()
             if not name.startswith("malformed")}
    cases["configured-malformed"] = Case([SILENT], headers=KEPT["malformed"][0])
    return run(*machine, cases)


def assert_kept(case, declared):
    """The response leaves a twentieth of a declared deadline, and 100 ms at least, for its way to the client."""
    assert case.answer.status == 504
    assert (case.answer.error["code"], case.answer.error["type"]) == ("deadline_exceeded", "server_error")
    kept = 1000 if declared is None else declared - max(100, declared // 20)
    assert f"the deadline of {kept} ms has passed" in case.answer.error["message"]
    assert case.took_ms >= kept - 1


@pytest.mark.parametrize("name", [n for n in KEPT if not n.startswith("malformed")])
def test_is_kept(silent, name):
    assert_kept(silent[name], KEPT[name][1])


def test_malformed_is_ignored(silent):
    assert_kept(silent["configured-malformed"], None)


@pytest.mark.alone
def test_the_response_is_there_before_the_client_gives_up(machine):
    provider, daemon = machine
    provider.answers(SILENT)
    for declared, headers in ((500, ["x-retryd-deadline: 500ms"]), (1000, ["x-stainless-read-timeout: 1"])):
        one = calm(lambda: run(provider, daemon, {"one": Case([SILENT], headers=headers)})["one"],
                   lambda one: [(one.took_ms, 0, declared)])
        assert one.answer.status == 504
        in_time(one.took_ms, declared)


def test_the_message_says_what_and_who(silent):
    assert "the deadline of 900 ms has passed (declared by the client)" in \
        silent["read-timeout"].answer.error["message"]
    assert "the deadline of 1000 ms has passed." in silent["configured"].answer.error["message"]


def test_the_upstream_is_let_go(machine):
    provider, daemon = machine
    provider.answers(SILENT)
    provider.clear()
    assert ask(daemon, headers=["x-retryd-deadline: 300ms"]).status == 504
    assert provider.wait(closed=1)[0]["closed_early"]


# --- waits and attempts before it --------------------------------------------------------------------

@pytest.fixture(scope="module")
def fits(machine):
    second = ["x-retryd-deadline: 1"]
    cases = {
        "slow-backoff": Case([error(503), AUTO], headers=second),
        "hint": Case([{**error(503), "headers": {"retry-after": "1"}}, AUTO], headers=second),
        "hint-fits": Case([{**error(503), "headers": {"retry-after": "0.4"}}, AUTO], headers=["x-retryd-deadline: 5"]),
        "error-then-silence": Case([error(500, message="first"), SILENT], headers=second),
        "error-then-half": Case([error(503), {"preset": "auto", "stall": {"after_bytes": 9}}],
                                headers=second),
        "reset-then-silence": Case([{"cut": {"before_head": True}}, SILENT], headers=second),
        "late-errors": Case([{**error(503), "delay_ms": 400}], headers=second),
        "half-a-body": Case([{"preset": "auto", "stall": {"after_bytes": 9}}], headers=second),
        "silent-stream": Case([{"preset": "auto", "stall": {"after_head": True}}], headers=second,
                              more={"stream": True}),
        "live": Case([{"preset": "chat_stream", "events": 10, "interval_ms": 150}],
                     headers=["x-stainless-read-timeout: 1"], more={"stream": True}),
    }
    return run(*machine, cases)


@pytest.mark.parametrize("name", ["slow-backoff", "hint"])
def test_no_wait_past_it(fits, name):
    """The wait does not fit: the response comes at once, not when the time is up."""
    case = fits[name]
    assert case.answer.status == 503
    assert len(case.attempts) == 1
    assert int(case.request["duration_ms"]) < 900, "it waited until the time was up"
    assert "deadline" in case.failures[0]["cannot_retry"]


def test_what_fits_is_waited_for(fits):
    assert fits["hint-fits"].answer.status == 200


@pytest.mark.parametrize("name", ["error-then-silence", "error-then-half"])
def test_the_last_error_rather_than_our_own(fits, name):
    case = fits[name]
    assert case.answer.status == case.attempts[0]["status"]
    assert case.answer.json()["error"]["message"] == ("first" if name == "error-then-silence" else "x")
    assert case.fact("x-retryd-attempts") == "2"
    assert case.took_ms >= 899


@pytest.mark.parametrize("name", ["reset-then-silence", "half-a-body", "silent-stream"])
def test_before_the_response_is_whole(fits, name):
    case = fits[name]
    assert (case.answer.status, case.answer.error["code"]) == (504, "deadline_exceeded")
    assert case.took_ms >= 899


def test_slow_errors_end_with_the_last_of_them(fits):
    case = fits["late-errors"]
    assert case.answer.status == 503
    assert 2 <= len(case.attempts) <= 3
    assert case.took_ms < 5000


def test_a_live_stream_goes_on(fits):
    case = fits["live"]
    assert case.answer.status == 200
    assert case.answer.body.endswith(b"data: [DONE]\n\n")
    assert text_of(case.answer.body).split() == [f"w{i}" for i in range(1, 11)]
    record, = case.attempts
    assert record["t_answer_end"] - record["t_first"] > 1300


def test_while_connecting(retryd):
    """A listener whose queue is full answers no SYN: the attempt is given up while it connects."""
    with socket.socket() as s, socket.socket() as one, socket.socket() as two:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(s.getsockname())
        d = retryd(f"http://127.0.0.1:{s.getsockname()[1]}/v1")
        for _ in range(2):  # it is still there afterwards
            answer = ask(d, headers=["x-retryd-deadline: 200ms"])
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")


# --- Node ------------------------------------------------------------------------------------------

NODE = "X-Stainless-Runtime: node"
LONG = {**error(429), "headers": {"retry-after": "299.5"}}


def test_node_gives_up_after_300_seconds(machine):
    """What Node does not say is known all the same: a wait of 299.5 s is of no use to it."""
    seen = run(*machine, {"patient": Case([LONG, AUTO], headers=[NODE]),
                          "endless": Case([LONG, AUTO], headers=[NODE])})
    for case in seen.values():
        assert (case.answer.status, len(case.attempts)) == (429, 1)
        assert case.failures[0]["cannot_retry"] == "the upstream asks for a wait beyond the deadline"


@pytest.mark.parametrize("headers", [[], ["X-Stainless-Runtime: CPython"],
                                     [NODE, "X-Stainless-Timeout: 600"]])
def test_others_wait_longer(machine, headers):
    provider, daemon = machine
    provider.answers(LONG, AUTO)
    start = len(daemon.lines)
    with Raw(daemon) as c:
        c.request(body={**CHAT, "model": f"patient-{len(headers)}"}, headers=headers)
        line = daemon.wait_log("attempt 1 of 5 failed: 429 rate_limited; next in ", start=start)
        assert int(line["wait_ms"]) >= 299500
    daemon.wait_line("end=client_gone", start=start)


# --- a limit on silence ------------------------------------------------------------------------------

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n\r\n"
WHOLE = ('data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
         '"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')


def piece_by_piece(media, *pieces):
    """A response that says something every 700 ms."""
    steps = [{"send": HEAD.format(media) + pieces[0]}]
    for piece in pieces[1:]:
        steps += [{"delay_ms": 700}, {"send": piece}]
    return {"wire": [*steps, {"fin": True}]}


BLANKS = piece_by_piece("application/json", "  ", " ", " ", '{"id":1,"choices":[{"message":{"content":"hi"}}]}')
COMMENTS = piece_by_piece("text/event-stream", ": c\n\n", ": c\n\n", ": c\n\n", WHOLE)


def test_a_living_answer_outlasts_a_limit_on_silence(machine):
    """Blanks and comments reach the client before it would give up; a limit on all of it stays one."""
    silence, total = ["x-stainless-read-timeout: 1"], ["X-Stainless-Timeout: 1"]
    seen = run(*machine, {
        "blanks": Case([BLANKS], headers=silence),
        "comments": Case([COMMENTS], headers=silence, more={"stream": True}),
        "comments-held": Case([COMMENTS], headers=[*silence, "x-retryd-stream-mode: hold"],
                              more={"stream": True}),
        "blanks-total": Case([BLANKS], headers=total),
        "comments-total": Case([COMMENTS], headers=total, more={"stream": True}),
    })
    for name in ("blanks", "comments", "comments-held"):
        assert (seen[name].answer.status, len(seen[name].attempts)) == (200, 1), name
        assert seen[name].request["end"] == "answered", name
    assert seen["blanks"].answer.json()["id"] == 1
    for name in ("comments", "comments-held"):
        assert text_of(seen[name].answer.body) == "hi"
    assert b": retryd\n" in seen["comments-held"].answer.body
    for name in ("blanks-total", "comments-total"):
        assert (seen[name].answer.status, seen[name].answer.error["code"]) == (504, "deadline_exceeded"), name
