"""Event streams: retryd forwards each event once it is complete, never a part of one, and reports a break."""

import base64
import gzip
import json
import statistics

import pytest
from client import pattern
from raw import (CHAT, STREAM, Raw, ask, attempts_logged, events_of, in_time, memory_kib, now_ms, pass_time, text_of,
                 wait_idle, wait_requests, without_quarantine)
from streams import PAUSE_MS

SPEECH = "/v1/audio/speech"  # of whose streams only the framing is known
RESPONSES = {"model": "gpt-4o", "input": "hi", "stream": True}


def timed_chunks(c):
    """(time, data) of each chunk as it comes."""
    return [(now_ms(), data) for data in c.chunks()]


def test_each_event_passes_when_it_is_whole(provider, retryd):
    """C11: Each reaches the client before the provider has sent the next one."""
    interval = 150
    provider.answers({"preset": "chat_stream", "events": 8, "interval_ms": interval})
    d = retryd()
    with Raw(d) as c:
        c.request(body=STREAM)
        c.answer_head()
        got = timed_chunks(c)
    record = provider.wait(answered=1)[0]
    deltas = [at for at, data in got if b'"content":"w' in data.replace(b" ", b"")]
    assert len(deltas) == 8, got
    # Were one kept until the next has come, the first would be late; were several, they would come at once.
    assert deltas[0] - record["t_answer_start"] < interval * 0.7
    gaps = [after - before for before, after in zip(deltas, deltas[1:])]
    assert min(gaps) > interval * 0.5, gaps


@pytest.mark.parametrize("ending", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("pace", [1, 7, 0])
def test_bytes_are_identical_and_events_whole(provider, retryd, ending, pace):
    """C11: Comments, unknown fields and any line end pass as they are, however the bytes come."""
    line = ending[:len(ending) // 2]
    events = [": a comment", "event: x" + line + "id: 7" + line + 'data: {"n":1}', ": another", 'data: {"text":"é中"}',
              "retry: 10", 'data: {"a":' + line + "data: 1}", "unknown: field" + line + 'data:{"b":2}', "data: [DONE]"]
    body = "".join(e + ending for e in events).encode()
    answer = {"headers": {"content-type": "text/event-stream"}, "body": body.decode(), "chunked": True}
    if pace:
        answer["pace"] = {"bytes": pace, "every_ms": 1}
    provider.answers(answer)
    d = retryd()
    with Raw(d) as c:
        c.request(body=STREAM, path=SPEECH)
        assert c.answer_head().header("content-type") == "text/event-stream"
        pieces = list(c.chunks())
        assert c.is_open()
    assert b"".join(pieces) == body
    for piece in pieces:
        # A CR at the end of what has come so far ends an event; its LF may come by itself.
        assert piece.endswith((b"\n\n", b"\r\n\r\n", b"\r\n\r")) or piece == b"\n", pieces


@pytest.mark.parametrize("n", range(1, 60, 7))
def test_no_part_of_an_event_passes(provider, retryd, n):
    """C11: The stream stops within its second event: the client has the first, and then the break."""
    first, second = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 'data: {"n":2,"more":"' + "x" * 40 + '"}\n\n'
    provider.answers({"headers": {"content-type": "text/event-stream"}, "body": first + second, "chunked": True,
                      "cut": {"after_bytes": len(first) + n, "delay_ms": PAUSE_MS}})
    d = retryd()
    answer = ask(d, STREAM)
    assert answer.body.startswith(first.encode() + b"data: {\"error\""), answer.body
    assert b'"n":2' not in answer.body


@pytest.mark.parametrize("bad", [
    {"cut": {"before_head": True}}, {"cut": {"after_head": True}}, {"cut": {"after_bytes": 20}},
    {"cut": {"after_bytes": 20, "how": "fin"}}, {"preset": "error", "status": 503},
    {"sse": [{"error": {"message": "overloaded", "type": "server_error", "code": None, "param": None}}]},
    {"sse": []}, {"sse": [": only a comment\n\n"]}])
def test_retried_until_the_first_event(provider, retryd, bad):
    """C3."""
    provider.answers(bad if "sse" in bad else {"preset": "chat_stream", **bad}, {"preset": "chat_stream", "text": "whole again", "events": 2})
    d = retryd()
    answer = ask(d, STREAM)
    assert answer.status == 200
    assert text_of(answer.body) == "whole again"
    assert answer.header("x-retryd-attempts") == "2"
    wait_requests(d, 1)
    assert attempts_logged(d) == 2 == len(provider.record())


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_break_after_the_first_event_chat(provider, retryd, how):
    """C12."""
    provider.answers({"preset": "chat_stream", "events": 10,
                      "cut": {"after_deltas": 4, "how": how, "delay_ms": PAUSE_MS}})
    d = retryd()
    with Raw(d) as c:
        c.request(body=STREAM)
        answer = c.answer()
        assert c.is_open(), "a stream that is told to have broken needs no cut connection"
    last = json.loads(events_of(answer.body)[-1])
    assert set(last) == {"error"}
    assert last["error"]["message"].startswith("retryd:")
    assert set(last["error"]) >= {"message", "type", "param", "code"}
    assert b"[DONE]" not in answer.body
    assert answer.body.count(b'"content":"') + answer.body.count(b'"content": "') >= 4
    line = wait_requests(d, 1)[0]
    assert line["end"] == "broken" and line["attempts"] == "1"
    assert len(provider.record()) == 1, "after the first event there is no way back"


def test_break_after_the_first_event_responses(provider, retryd):
    """C12."""
    provider.answers({"preset": "responses_stream", "events": 10, "cut": {"after_events": 5, "delay_ms": PAUSE_MS}})
    d = retryd()
    answer = ask(d, RESPONSES, path="/v1/responses")
    last = answer.body.decode().rstrip("\n").split("\n\n")[-1].split("\n")
    assert last[0] == "event: error"
    told = json.loads(last[1].removeprefix("data: "))
    assert told["type"] == "error" and isinstance(told["sequence_number"], int)
    assert told["message"] and told["code"] and told["param"] is None
    assert told["error"]["message"].startswith("retryd:")
    assert "response.completed" not in answer.body.decode()


def test_idle_timeout_amid_a_stream(provider, retryd):
    provider.answers({"preset": "chat_stream", "events": 10, "stall": {"after_deltas": 3}})
    d = retryd(timeout={"idle": "300ms"})
    with Raw(d) as c:
        asked_ms = now_ms()
        c.request(body=STREAM)
        c.answer_head()
        got = timed_chunks(c)
        assert c.is_open()
    assert got[-1][0] - asked_ms >= 300
    in_time(got[-1][0] - got[-2][0], 5000)
    error = json.loads(events_of(got[-1][1])[-1])["error"]
    assert error["code"] == "idle_timeout"
    record = provider.wait(closed=1)
    in_time(record[0]["t_closed"] - got[-1][0])
    assert wait_requests(d, 1)[0]["reason"] == "idle_timeout"


def test_idle_timeout_is_not_the_streams_length(provider, retryd):
    """A stream may take longer than any timeout, as long as something comes."""
    provider.answers({"preset": "chat_stream", "events": 12, "interval_ms": 100})
    d = retryd(timeout={"idle": "400ms", "first_byte": "400ms"}, retry={"deadline": "600ms"})
    answer = ask(d, STREAM)
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_keep_alive_after_streams(provider, retryd):
    provider.answers({"preset": "chat_stream"}, {"preset": "chat_stream", "cut": {"after_deltas": 2}},
                     {"preset": "auto"}, then="cycle")
    d = retryd()
    with Raw(d) as c:
        for n in range(12):
            c.request(body=CHAT if n % 3 == 2 else STREAM)
            assert c.answer().status == 200
        assert c.is_open()


@pytest.mark.parametrize("size", [300_000, 1_500_000, 6_000_000])
def test_large_events_pass(provider, retryd, size):
    """One event may be larger than every buffer: an image in pieces, a completed response."""
    small = '{"n":1}'
    large = json.dumps({"image": "x" * size})
    whole = [f"data: {e}\n\n" for e in (small, large, small, "[DONE]")]
    provider.answers({"sse": whole}, {"sse": whole[1:2] + whole[3:]})
    d = retryd()
    assert [len(e) for e in events_of(ask(d, STREAM).body)] == [7, len(large), 7, 6]
    assert [len(e) for e in events_of(ask(d, STREAM).body)] == [len(large), 6]


# --- backpressure ------------------------------------------------------------------------------------

MIB = 1 << 20


def test_slow_client_slows_the_upstream(provider, retryd):
    """C16: 100 MB that nobody reads yet stay where they are: at the provider."""
    size = 100_000_000
    provider.answers({"body_bytes": size})
    d = retryd(env=without_quarantine())
    before = memory_kib(d.pid)
    with Raw(d, receive_buffer=65536) as c:
        c.request(body=CHAT)
        assert c.answer_head().header("content-length") == str(size)
        pass_time(0.5)
        held = provider.record()[-1]["sent"]
        assert held < 30 * MIB, "the provider could send all the same"
        expected = pattern(size)
        assert c.exactly(MIB) == expected[:MIB]
        at = MIB
        while at < size:
            view = c.data or c.sock.recv(MIB)
            c.data = b""
            assert expected[at:at + len(view)] == view
            at += len(view)
        assert c.is_open()
    peak = memory_kib(d.pid, "VmHWM")
    assert peak - before < 6 * 1024, f"memory grew by {peak - before} KiB"


def test_slow_reader_of_a_stream(provider, retryd):
    """C16."""
    event = 'data: {"x":"' + "y" * 4000 + '"}\n\n'
    count = 12_000
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    provider.answers({"wire": [{"send": head}, {"repeat": {"count": count, "ops": [{"send": event}]}}, {"fin": True}]})
    d = retryd(env=without_quarantine())
    before = memory_kib(d.pid)
    with Raw(d, receive_buffer=65536) as c:
        c.request(body=STREAM, path=SPEECH)
        c.answer_head()
        pass_time(0.5)
        assert provider.record()[-1]["sent"] < count * len(event) * 0.6
        total = sum(len(data) for data in c.chunks())
    assert total == count * len(event)
    grown = memory_kib(d.pid, "VmHWM") - before
    assert grown < 6 * 1024, f"memory grew by {grown} KiB"


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("size", [12_000_000, 60_000_000])
def test_a_client_that_takes_nothing_is_cut_off(provider, retryd, size, half_closed):
    """timeout.idle bounds the client, too: held responses and streams that nobody reads do not stay for ever."""
    provider.answers({"body_bytes": size})
    d = retryd(timeout={"idle": "400ms"}, server={"hold_limit": "16M"})
    with Raw(d, receive_buffer=16384) as c:
        c.request("GET", "/v1/files/f/content")
        c.answer_head()
        if half_closed:
            c.half_close()
        began = now_ms()
        while d.metric("retryd_client_connections") > 0:
            assert now_ms() - began < 15_000
        wait_idle(d)
        assert len(c.rest()) < size


def test_a_client_that_takes_a_little_now_and_then_stays(provider, retryd):
    size = 3_000_000
    provider.answers({"body_bytes": size})
    d = retryd(timeout={"idle": "400ms"}, server={"hold_limit": "4M"})
    with Raw(d, receive_buffer=16384) as c:
        c.request("GET", "/v1/files/f/content")
        c.answer_head()
        got = c.exactly(len(c.data))
        for _ in range(12):
            pass_time(0.2)
            got += c.data + c.sock.recv(100_000)
            c.data = b""
        got += c.exactly(size - len(got))
        assert got == pattern(size)
        assert c.is_open()


def test_a_client_that_waits_for_its_upstream_stays(provider, retryd):
    """Nothing comes, so there is nothing that the client could take."""
    provider.answers({"preset": "chat_stream", "events": 3, "interval_ms": 900}, {"preset": "auto", "delay_ms": 1500})
    d = retryd(timeout={"idle": "1s"})
    with Raw(d) as c:
        for body in (STREAM, CHAT):
            c.request(body=body)
            assert c.answer().status == 200


def test_a_stream_that_begins_with_an_error_in_its_last_attempt_has_failed(provider, retryd):
    """C27."""
    provider.answers({"sse": [{"error": {"message": "m", "type": "server_error", "code": None}}]})
    d = retryd(retry={"initial_delay": "5ms", "max_attempts": 3})
    with Raw(d) as c:
        c.request(body=STREAM)
        assert b'"server_error"' in c.answer().body
    line = d.wait_log('msg="request"')
    assert (line["end"], line["attempts"], line["reason"]) == ("failed", "3", "error_in_stream")
    assert d.metric("retryd_rescued_total") == 0


# --- compressed, though nobody asked for it -----------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_stream_is_undone_and_passes_event_by_event(provider, retryd, encoding):
    """C11."""
    interval = 150
    provider.answers({"preset": "chat_stream", "events": 6, "interval_ms": interval, "encoding": encoding})
    d = retryd()
    with Raw(d) as c:
        c.request(body=STREAM, headers=["Accept-Encoding: gzip, deflate"])
        head = c.answer_head()
        got = timed_chunks(c)
    assert head.header("content-encoding") is None
    assert {n.lower(): v for n, v in provider.record()[0]["headers"]}["accept-encoding"] == "identity"
    body = b"".join(data for _, data in got)
    assert text_of(body).split() == [f"w{n}" for n in range(1, 7)]
    deltas = [at for at, data in got if b'"content":"w' in data.replace(b" ", b"")]
    assert statistics.median(after - before for before, after in zip(deltas, deltas[1:])) > interval * 0.5


@pytest.mark.parametrize("mode", ["live", "splice", "hold"])
@pytest.mark.parametrize("bad", [{"cut": {"after_deltas": 3, "delay_ms": PAUSE_MS}}, {"finish": False, "done": False}],
                         ids=["cut", "ends-early"])
def test_a_compressed_stream_that_breaks(provider, retryd, mode, bad):
    """C12."""
    whole = {"preset": "chat_stream", "text": "one two three four five", "events": 5}
    # Without an end its text must be a part of the whole one, too.
    part = {**whole, **bad, **({} if "cut" in bad else {"text": "one two ", "events": 2, "interval_ms": 100})}
    provider.answers({**part, "encoding": "gzip"}, {**whole, "encoding": "gzip"})
    d = retryd()
    answer = ask(d, STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
    if mode == "live":
        assert set(json.loads(events_of(answer.body)[-1])) == {"error"}
        assert b"[DONE]" not in answer.body
    else:
        assert text_of(answer.body) == whole["text"]
        assert events_of(answer.body).count("[DONE]") == 1


def test_what_is_not_in_its_coding_is_asked_for_again(provider, retryd):
    """C11."""
    provider.answers({"headers": {"content-type": "text/event-stream", "content-encoding": "gzip"},
                      "body": "data: {\"choices\":[]}\n\n"}, {"preset": "chat_stream", "text": "good"})
    d = retryd()
    assert text_of(ask(d, STREAM).body) == "good"
    assert d.wait_log("attempt 1 of 5")["reason"] == "answer_unreadable"


@pytest.mark.parametrize("mode", ["live", "splice", "hold"])
def test_a_compressed_stream_goes_no_faster_than_its_client(provider, retryd, mode):
    """C16: Some KB of it are 20 MiB of events: undone as the client takes them, or into a file."""
    event = 'data: {"choices":[{"index":0,"delta":{"content":"' + "y" * 4000 + '"}}]}\n\n'
    end = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    plain = (event * 5000 + end).encode()
    provider.answers({"headers": {"content-type": "text/event-stream", "content-encoding": "gzip"},
                      "body_b64": base64.b64encode(gzip.compress(plain)).decode()})
    d = retryd(server={"hold_limit": "1M"})
    most = (4 if mode == "splice" else 3) * MIB  # what is spliced is remembered, up to hold_limit
    with Raw(d, receive_buffer=16384, timeout=60) as c:
        c.request(body=STREAM, headers=[f"x-retryd-stream-mode: {mode}"])
        c.answer_head()
        assert d.metric("retryd_buffered_max_bytes") < most
        assert b"".join(c.chunks()) == plain
    assert wait_requests(d, 1)[0]["end"] == "answered"
    assert d.metric("retryd_buffered_max_bytes") < most
