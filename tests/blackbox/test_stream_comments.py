"""C14: keep-alive comments while a stream waits, and how a failure after the first comment is reported."""

import json

import pytest
from cases import error
from raw import CHAT, Raw, head_of, in_time, now_ms, pass_time
from streams import (DONE, KEEP_ALIVE, MODES, PATHS, PAUSE_MS, READ, assert_broken, assert_whole, chat_events, data,
                     read_chat, request_of, sse)

BEAT = 60  # ms between two comments
LONG = 8 * BEAT  # several comments, even on a busy machine
TEXT = "w1 w2 w3"
GOOD = {"preset": "auto", "events": 3}
LATE = {**GOOD, "delay_ms": LONG + 50}
COMMENT = KEEP_ALIVE.encode()


@pytest.fixture
def daemon(retryd):
    return retryd(stream={"heartbeat": f"{BEAT}ms"}, retry={"initial_delay": f"{LONG}ms", "jitter": "none"})


class Heard:
    """A response with the time at which each piece of it came."""

    def __init__(self, head, pieces, asked_ms):
        self.head, self.pieces, self.asked_ms = head, pieces, asked_ms
        self.body = b"".join(piece for _, piece in pieces)

    @property
    def comments(self):
        return self.body.count(COMMENT)

    @property
    def rest(self):
        return self.body.replace(COMMENT, b"")

    def first(self, mark):
        """When the first piece with this came."""
        return next(at for at, piece in self.pieces if mark in piece)

    def check(self):
        """Comments of ours stand where one event has ended and no other begun, come not more often than they
        should, and are all there is."""
        for before in self.body.split(COMMENT)[:-1]:
            assert before == b"" or before.endswith((b"\n\n", b"\r\n\r\n")), before[-200:]
        assert self.comments <= (now_ms() - self.asked_ms) / BEAT + 1
        assert b"\n:" not in self.rest and not self.rest.startswith(b":")


def listen(daemon, api="chat", mode=None, headers=(), **more):
    asked = [*headers, *([] if mode is None else [f"x-retryd-stream-mode: {mode}"])]
    with Raw(daemon) as c:
        asked_ms = now_ms()
        c.request(path=PATHS[api], body=request_of(api, "gpt-4o", **more), headers=asked)
        head = c.answer_head()
        assert head.status == 200
        assert head.header("content-type").startswith("text/event-stream")
        heard = Heard(head, [(now_ms(), piece) for piece in c.chunks()], asked_ms)
    heard.check()
    return heard


# --- when it beats ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("api", READ)
def test_while_the_head_is_waited_for(api, mode, provider, daemon):
    provider.answers(LATE)
    heard = listen(daemon, api, mode)
    assert heard.comments >= 2
    assert heard.body.startswith(COMMENT * 2)
    assert heard.first(COMMENT) < heard.first(b"data:") - BEAT
    assert_whole(READ[api](heard.body), api, TEXT)


@pytest.mark.parametrize("mode", MODES)
def test_during_the_backoff(mode, provider, daemon):
    provider.answers(error(503), GOOD)
    heard = listen(daemon, mode=mode)
    assert heard.comments >= 2
    assert heard.body.startswith(COMMENT * 2)
    assert_whole(read_chat(heard.body), "chat", TEXT)
    assert len(provider.record()) == 2


@pytest.mark.parametrize("mode", ["live", "splice"])
def test_between_events_after_the_first_content(mode, provider, daemon):
    provider.answers({**GOOD, "interval_ms": LONG + 50})
    heard = listen(daemon, mode=mode)
    parts = [part.count(COMMENT) for part in heard.body.split(b'"content":"w')]
    assert all(count >= 2 for count in parts[1:3]), parts
    assert parts[3] <= 1, "it ended, there was nothing to wait for"  # its end may come late on a busy machine
    assert_whole(read_chat(heard.body), "chat", TEXT)


def test_none_while_events_come(provider, retryd):
    """A stream in which something comes often enough needs none, though it takes more than two beats."""
    provider.answers({**GOOD, "events": 12, "interval_ms": 150})
    heard = listen(retryd(stream={"heartbeat": "750ms"}))
    assert heard.comments <= 1  # on a busy machine something may come late
    assert_whole(read_chat(heard.body), "chat", " ".join(f"w{i}" for i in range(1, 13)))


@pytest.mark.parametrize("mode", MODES)
def test_never_amid_an_event(mode, provider, daemon):
    """Each event takes several beats to come."""
    events = [data({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
              for text in ("a", "b")]
    last = data({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    provider.answers(sse([*events, last, DONE], pace={"bytes": 30, "every_ms": BEAT + 20}, chunked=True))
    heard = listen(daemon, mode=mode)
    assert heard.comments >= 3
    assert heard.rest == "".join([*events, last, DONE]).encode()


def test_never_amid_an_event_that_the_client_takes_slowly(provider, daemon):
    """It has been let go whole, but most of it waits for the client."""
    large = data({"id": "c", "choices": [{"index": 0, "delta": {"content": "x" * 4_000_000}, "finish_reason": None}]})
    provider.answers(sse([large, *chat_events("y")[2:]]))
    with Raw(daemon, receive_buffer=16384) as c:
        asked_ms = now_ms()
        c.request(body=request_of("chat", "gpt-4o"))
        head = c.answer_head()
        provider.wait(answered=1)
        pass_time(4 * BEAT / 1000)
        heard = Heard(head, [(now_ms(), piece) for piece in c.chunks()], asked_ms)
    heard.check()
    assert len(read_chat(heard.body).text) == 4_000_000


# --- when it does not ---


@pytest.mark.parametrize("mode", MODES)
def test_off_unless_configured(mode, provider, retryd):
    provider.answers({**LATE, "interval_ms": 2 * BEAT})
    heard = listen(retryd(), mode=mode)
    assert heard.comments == 0
    assert heard.body.startswith(b"data:")


@pytest.mark.parametrize("body", [CHAT, {**CHAT, "stream": False}])
def test_only_for_streams(body, provider, daemon):
    provider.answers(LATE)
    with Raw(daemon) as c:
        c.request(body=body)
        answer = c.answer()
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.json()["choices"]


def test_not_for_http_1_0(provider, daemon):
    provider.answers(LATE)
    body = json.dumps(request_of("chat", "gpt-4o")).encode()
    with Raw(daemon) as c:
        lines = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        c.send(head_of("POST", PATHS["chat"], lines, version="1.0") + body)
        answer = c.answer()
    assert answer.header("content-length") == str(len(answer.body))
    assert_whole(read_chat(answer.body), "chat", TEXT)
    assert COMMENT not in answer.body


def test_what_fails_before_the_first_beat_keeps_its_status(provider, retryd):
    provider.answers(error(401, code="invalid_api_key"))
    with Raw(retryd(stream={"heartbeat": "10s"})) as c:
        c.request(body=request_of("chat", "gpt-4o"))
        answer = c.answer()
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


# --- failures after it ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("api", READ)
def test_a_verdict_after_a_beat_is_an_event(api, mode, provider, daemon):
    """The status has gone out: the error comes in the form that every SDK raises, with the upstream's words."""
    provider.answers({**error(429, code="insufficient_quota", type="insufficient_quota", message="No money."),
                      "delay_ms": LONG})
    heard = listen(daemon, api, mode)
    assert heard.comments >= 1
    told = READ[api](heard.body)
    assert_broken(told, "")
    assert (told.error["code"], told.error["message"]) == ("insufficient_quota", "No money.")
    assert [json.loads(text).get("type") for _, text in told.events] == {
        "responses": ["error", "response.failed"], "messages": ["error"]}.get(api, [None])
    assert len(provider.record()) == 1
    line = daemon.wait_log('msg="request"')
    assert line["end"] == "failed"


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_last_of_many_failures_is_an_event(api, provider, retryd):
    d = retryd(stream={"heartbeat": f"{BEAT}ms"}, retry={"initial_delay": f"{LONG}ms", "max_attempts": 3})
    provider.answers(error(503, code="a", message="first"), error(503, code="b", message="second"),
                     error(500, code="c", message="third"))
    told = READ[api](listen(d, api).body)
    assert_broken(told, "")
    assert (told.error["code"], told.error["message"]) == ("c", "third")
    assert len(provider.record()) == 3


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_where_no_upstream_answered_the_event_is_ours(api, provider, retryd):
    d = retryd(stream={"heartbeat": f"{BEAT}ms"}, retry={"initial_delay": f"{LONG}ms", "max_attempts": 2})
    provider.answers({"cut": {"before_head": True}})
    told = READ[api](listen(d, api).body)
    assert_broken(told, "")
    assert told.error["code"] == "connection_lost"
    assert len(provider.record()) == 2


# --- the other modes ---


def breaking(deltas):
    return {"preset": "auto", "events": 6, "cut": {"after_deltas": deltas, "delay_ms": PAUSE_MS}}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_hold_beats_until_the_stream_is_whole(api, provider, daemon):
    provider.answers(breaking(3), {**GOOD, "interval_ms": 2 * BEAT})
    heard = listen(daemon, api, "hold")
    assert heard.comments >= 5
    assert heard.body == COMMENT * heard.comments + heard.rest, "the stream came before it was whole"
    assert_whole(READ[api](heard.body), api, TEXT)
    assert len(provider.record()) == 2


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_hold_that_fails_after_a_beat_tells_it_in_the_stream(api, provider, retryd):
    d = retryd(stream={"heartbeat": f"{BEAT}ms"}, retry={"initial_delay": f"{LONG}ms", "max_attempts": 2})
    provider.answers(breaking(3))
    told = READ[api](listen(d, api, "hold").body)
    assert_broken(told, "")
    assert told.error["code"] == "answer_truncated"
    assert len(provider.record()) == 2


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_splice_beats_while_it_mends(api, provider, daemon):
    """The client has three words, waits for the backoff, and then has the rest."""
    provider.answers(breaking(3), {"preset": "auto", "events": 6})
    heard = listen(daemon, api, "splice")
    third, fourth = heard.body.index(b'"w3'), heard.body.index(b'"w4')
    assert heard.body[third:fourth].count(COMMENT) >= 2
    assert_whole(READ[api](heard.body), api, "w1 w2 w3 w4 w5 w6")


def test_a_client_that_leaves_between_two_beats(provider, daemon):
    """C17."""
    provider.answers({**GOOD, "delay_ms": 60_000})
    with Raw(daemon) as c:
        c.request(body=request_of("chat", "gpt-4o"))
        c.until(COMMENT)
        left = now_ms()
        c.reset()
    in_time(provider.wait(closed=1)[0]["t_closed"] - left)
    assert daemon.wait_log('msg="request"')["end"] == "client_gone"
