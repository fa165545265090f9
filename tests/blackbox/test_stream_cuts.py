"""C12 with bytes cut or split anywhere: an incomplete event does not count, and splits between reads do not matter."""

import pytest
from cases import pair
from streams import DONE, MODES, PAUSE_MS, case, data, read_chat, run_batches

# As short as a chat stream can be, so that every byte of it can be tried.
EVENTS = [data({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
          for delta, finish in (({"role": "assistant"}, None), ({"content": "ab"}, None),
                                ({"content": "c\u00e9"}, None), ({}, "stop"))] + [DONE]
BODY = "".join(EVENTS)
TEXT = "abc\u00e9"
SAID = ["", "", "ab", TEXT, TEXT, TEXT]  # the text in the first so many events
OFFSETS = range(len(BODY) + 1)
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "10ms", "budget_min": 100000}) as running:
        yield running


def asked(answers, mode):
    return case("chat", answers, mode, stream_options=None)


def whole_events(offset):
    """How many events are whole in the first so many bytes."""
    count = 0
    while count < len(EVENTS) and len("".join(EVENTS[:count + 1])) <= offset:
        count += 1
    return count


def cut_at(offset):
    place = {"after_bytes": offset} if offset else {"after_head": True}
    how = "reset" if offset % 2 else "fin"
    return {"sse": EVENTS, "chunked": True, "cut": {**place, "how": how, "delay_ms": PAUSE_MS}}


@pytest.mark.parametrize("mode", MODES)
def test_a_cut_at_any_byte_is_one_at_the_last_whole_event(mode, both):
    """Live tells of it from the first text to the finish; the rest, and the other modes, ride it out."""
    cases = {f"cut-{mode}-{n}": asked([cut_at(n), {"sse": EVENTS}], mode) for n in OFFSETS}
    for n, seen in zip(OFFSETS, run_batches(*both, cases).values()):
        assert seen.problem is None and seen.answer.status == 200, n
        told, count, attempts = read_chat(seen.answer.body), whole_events(n), len(seen.attempts)
        if mode == "live" and 2 <= count < 4:
            assert (told.text, told.ends, attempts) == (SAID[count], 0, 1), n
            assert told.error["type"] == "server_error", n
            assert seen.answer.body.startswith("".join(EVENTS[:count]).encode() + b"data: {\"error\""), n
        else:
            assert (told.text, told.ends, told.finishes[0], told.error) == (TEXT, 1, ["stop"], None), n
            assert attempts == (2 if count < 4 else 1), n
            assert told.roles == 1, n


def in_two(body, offset):
    """The body in two writes, some time apart."""
    head = f"{HEAD}content-length: {len(body)}\r\n\r\n"
    return {"wire": [{"send": head + body[:offset]}, {"delay_ms": 5}, {"send": body[offset:]}]}


@pytest.mark.parametrize("ending", ["\n\n", "\r\n\r\n", "\r\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("mode", MODES)
def test_a_split_at_any_byte_changes_nothing(mode, ending, both):
    """Each byte that the provider sent arrives, also where a line end is split."""
    body = BODY.replace("\n\n", ending)
    offsets = range(1, len(body))
    cases = {f"split-{mode}-{n}": asked([in_two(body, n)], mode) for n in offsets}
    for n, seen in zip(offsets, run_batches(*both, cases).values()):
        assert seen.problem is None, n
        assert seen.answer.body == body.encode(), n
        assert len(seen.attempts) == 1, n


@pytest.mark.parametrize("mode", MODES)
def test_bytes_one_by_one(mode, both):
    answer = {"sse": EVENTS, "chunked": True, "pace": {"bytes": 1, "every_ms": 1}}
    seen = run_batches(*both, {"slow": asked([answer], mode)})["slow"]
    assert seen.answer.body == BODY.encode()
    assert len(seen.attempts) == 1
