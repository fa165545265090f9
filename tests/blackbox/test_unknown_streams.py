"""C12 for streams that retryd does not know: a failed one never ends cleanly, and retryd adds nothing to it."""

import json
import signal

import pytest
from raw import STREAM, Closed, Raw, ask, head_of
from streams import MODES, PAUSE_MS

PATHS = ["/v1/audio/speech", "/v1/threads/thread_1/runs", "/v1/some/new/endpoint"]
EVENTS = [f'data: {{"piece":{n}}}\n\n' for n in range(4)]
TWO = "".join(EVENTS[:2]).encode()
FAST = {"initial_delay": "10ms", "max_attempts": 2}

BREAKS = {
    "reset": {"sse": EVENTS, "cut": {"after_events": 2, "delay_ms": PAUSE_MS}},
    "fin": {"sse": EVENTS, "chunked": True, "cut": {"after_events": 2, "how": "fin", "delay_ms": PAUSE_MS}},
    "half-an-event": {"sse": [*EVENTS[:2], 'data: {"pie'], "stall": {"after_events": 2, "for_ms": PAUSE_MS}},
    "silence": {"sse": EVENTS, "stall": {"after_events": 2}},
}


def broken_body(c):
    """What came of a response in chunks before its connection broke: no last chunk came."""
    got = b""
    with pytest.raises((Closed, ConnectionResetError)):
        while True:
            piece = c.next_chunk()
            assert piece, "it ended in good order"
            got += piece
    return got


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_stream_of_unknown_kind_breaks(how, path, provider, retryd):
    provider.answers(BREAKS[how])
    d = retryd(timeout={"idle": "1s"}, retry=FAST)
    with Raw(d) as c:
        c.request(path=path, body=STREAM)
        assert c.answer_head().status == 200
        assert broken_body(c) == TWO
    assert len(provider.record()) == 1
    assert d.wait_log('msg="request"')["end"] == "broken"


@pytest.mark.parametrize("how", BREAKS)
def test_hold_rides_it_out(how, provider, retryd):
    provider.answers(BREAKS[how], {"sse": EVENTS})
    d = retryd(timeout={"idle": "1s"}, retry=FAST, stream={"mode": "hold"})
    answer = ask(d, STREAM, PATHS[0])
    assert answer.whole and answer.body == "".join(EVENTS).encode()
    assert len(provider.record()) == 2


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_heartbeat_it_breaks_as_well(mode, provider, retryd):
    """The head has gone out, a response never came."""
    provider.answers({"sse": [": thinking\n\n"], "stall": {"after_events": 1, "for_ms": 300}})
    d = retryd(retry=FAST, stream={"heartbeat": "50ms"})
    with Raw(d) as c:
        c.request(path=PATHS[0], body=STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
        assert c.answer_head().status == 200
        assert set(broken_body(c).splitlines()) <= {b": retryd", b": thinking", b""}
    assert len(provider.record()) == 2


def test_no_heartbeat_for_what_may_be_no_event_stream(provider, retryd):
    """C14: Lines of JSON, for example: a head sent ahead of them would spoil a good response."""
    lines = b'{"a":1}\n{"done":true}\n'
    provider.answers({"body": lines.decode(), "delay_ms": 400, "headers": {"content-type": "application/x-ndjson"}})
    answer = ask(retryd(stream={"heartbeat": "50ms"}), STREAM, "/v1/api/chat")
    assert (answer.status, answer.header("content-type"), answer.body) == (200, "application/x-ndjson", lines)


def test_what_retryd_ends_breaks(provider, retryd):
    """SIGTERM, and drain_timeout has passed amid the stream."""
    provider.answers({"sse": EVENTS, "stall": {"after_events": 2}})
    d = retryd(server={"drain_timeout": "100ms"})
    with Raw(d) as c:
        c.request(path=PATHS[0], body=STREAM)
        c.answer_head()
        got = c.next_chunk()
        d.signal(signal.SIGTERM)
        assert got + broken_body(c) == TWO
    assert d.wait_log('msg="?request"? ')["reason"] == "shutting_down"


def test_http_1_0_is_never_told_that_half_is_all(provider, retryd):
    """Held whole there: where no attempt brings one, an error."""
    provider.answers(BREAKS["reset"])
    body = json.dumps(STREAM).encode()
    with Raw(retryd(retry=FAST)) as c:
        c.send(head_of("POST", PATHS[0], [f"Content-Length: {len(body)}"], version="1.0") + body)
        answer = c.answer()
    assert answer.status == 502 and answer.error["code"] == "answer_truncated"


@pytest.mark.parametrize("place", ["first", "amid"])
def test_an_error_event_of_the_upstream_passes_as_it_is(place, provider, retryd):
    """Whatever stands in it, nothing of ours is put beside it."""
    said = 'data: {"error":{"code":503,"message":"boom"}}\n\n'
    events = [said] if place == "first" else [*EVENTS[:2], said]
    provider.answers({"sse": events, "stall": {"after_events": min(len(events), 2), "for_ms": PAUSE_MS}})
    with Raw(retryd(retry={"max_attempts": 1})) as c:
        c.request(path=PATHS[0], body=STREAM)
        c.answer_head()
        if place == "first":
            assert broken_body(c) == said.encode()
        else:
            assert b"".join(c.chunks()) == TWO + said.encode()
