"""C12: what shows that a response is complete, what only seems to, and what may follow the end."""

import json
import signal

import pytest
from cases import Case, error, pair, run
from raw import Closed, Raw, ask
from streams import (DONE, MODES, PAUSE_MS, assert_broken, assert_whole, case, choice, chunk, data, read_chat, request_of,
                     sse, usage)


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "budget_min": 100000}) as running:
        yield running


def told_of(seen):
    assert seen.problem is None and seen.answer.status == 200, (seen.name, seen.problem, seen.answer)
    return read_chat(seen.answer.body)


# --- a finish_reason that says nothing ---

OPEN = {"empty": "", "null": None, "the-word-null": "null", "the-word-none": "None", "blank": " "}


def open_events(reason, *texts):
    """A stream whose chunks have this finish_reason until its last one."""
    said = [chunk(choice({"content": text}, reason)) for text in texts]
    return [chunk(choice({"role": "assistant", "content": ""}, reason)), *said]


@pytest.mark.parametrize("mode", MODES)
def test_a_finish_reason_that_says_nothing_ends_nothing(mode, both):
    """A cut or an orderly end behind it is a break; behind the role alone nothing has been said yet."""
    cases = {}
    for name, reason in OPEN.items():
        good = sse([*open_events(reason, "one ", "two ", "three"), chunk(choice({}, "stop")), usage(), DONE])
        part, role = open_events(reason, "one ", "two "), open_events(reason)
        bad = {"cut": sse(part, cut=3), "end": sse(part, stall={"after_events": 3, "for_ms": PAUSE_MS}),
               "cut-role": sse(role, cut=1), "end-role": sse(role)}
        for how, answer in bad.items():
            cases[f"{mode}-{name}-{how}"] = case("chat", [answer, good], mode, stream_options=None)
    for name, seen in run(*both, cases).items():
        told = told_of(seen)
        if mode == "live" and not name.endswith("role"):
            assert_broken(told, "one two ")
            assert len(seen.attempts) == 1, name
        else:
            assert_whole(told, "chat", "one two three")
            assert len(seen.attempts) == 2, name


@pytest.mark.parametrize("mode", MODES)
def test_servers_that_send_it_are_well(mode, both):
    """A stream of theirs that comes to its end passes as it is, in one attempt."""
    cases, bodies = {}, {}
    for name, reason in OPEN.items():
        events = [*open_events(reason, "one ", "two"), chunk(choice({}, "stop")), usage(), DONE]
        cases[f"well-{mode}-{name}"] = case("chat", [sse(events)], mode)
        bodies[f"well-{mode}-{name}"] = "".join(events).encode()
    for name, seen in run(*both, cases).items():
        assert seen.answer.body == bodies[name] and len(seen.attempts) == 1, name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reason", ["unknown", "undefined", "in_progress", "stop"])
def test_a_reason_that_comes_with_each_chunk_ends_nothing(reason, mode, both):
    """Whatever the word is. What such a server brings to an orderly end, with a mark or without, is whole."""
    events = open_events(reason, "one ", "two ", "three")
    cases = {f"{reason}-cut": case("chat", [sse(events, cut=3), sse([*events, DONE])], mode, stream_options=None),
             f"{reason}-done": case("chat", [sse([*events, DONE])], mode, stream_options=None),
             f"{reason}-end": case("chat", [sse(events)], mode, stream_options=None)}
    for name, seen in run(*both, cases).items():
        told = told_of(seen)
        if name.endswith("-cut") and mode != "hold":  # splice does not know where to go on
            assert (told.text, told.ends) == ("one two ", 0) and told.error is not None, name
        else:
            assert (told.text, told.error) == ("one two three", None), name
        assert len(seen.attempts) == 1 + (name.endswith("-cut") and mode != "live"), name


# --- what comes behind the end ---


def said(*texts):
    return [chunk(choice({"role": "assistant", "content": ""})), *(chunk(choice({"content": t})) for t in texts)]


FINISH = chunk(choice({}, "stop"))
PINGS = {"comment": ": ping\n\n", "blank": ":\n\n", "wrapped": "data: : PROCESSING\n\n", "empty-chunk": chunk()}


def for_ever(events, ping):
    """These events, then pings without end."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return {"wire": [{"send": head + "".join(events)},
                     {"repeat": {"count": 0, "ops": [{"delay_ms": 50}, {"send": ping}]}}]}


@pytest.mark.parametrize("mode", MODES)
def test_behind_the_last_finish_pings_do_not_go_on_for_ever(mode, both):
    """The usage and the mark have two seconds, then the stream is whole."""
    cases = {}
    for name, ping in PINGS.items():
        cases[f"{mode}-{name}"] = case("chat", [for_ever([*said("one ", "two"), FINISH], ping)], mode)
        cases[f"{mode}-{name}-usage"] = case("chat", [for_ever([*said("one ", "two"), FINISH, usage()], ping)], mode)
        if name != "empty-chunk":
            marked = [*said("one ", "two"), FINISH, usage(), DONE]
            cases[f"{mode}-{name}-done"] = case("chat", [for_ever(marked, ping)], mode)
    for name, seen in run(*both, cases).items():
        told = told_of(seen)
        assert (told.text, told.error, told.finishes[0]) == ("one two", None, ["stop"]), name
        assert told.ends == 1 and len(seen.attempts) == 1, name
        assert len(told.usages) == (not name.endswith(tuple(PINGS))), name


@pytest.mark.parametrize("mode", MODES)
def test_pings_alone_keep_no_response_alive_for_ever(mode):
    """Amid it, too: without content for first_content it counts as broken."""
    good = sse([*said("one ", "two ", "three"), FINISH, usage(), DONE])
    cases = {name: case("chat", [for_ever(said("one ", "two "), ping), good], mode) for name, ping in PINGS.items()}
    with pair(retry={"initial_delay": "20ms"}, timeout={"first_content": "1500ms"}) as running:
        for name, seen in run(*running, cases).items():
            told = told_of(seen)
            if mode != "hold":  # splice asks no target again that had nothing to say
                assert_broken(told, "one two ")
                assert told.error["code"] == "first_content_timeout", name
            else:
                assert_whole(told, "chat", "one two three")
                assert len(seen.attempts) == 2, name


@pytest.mark.parametrize("mode", MODES)
def test_the_usage_that_was_asked_for(mode, both):
    """Where only that is lost hold and splice ask again; live has the response, and the log tells."""
    events = [*said("one ", "two"), FINISH]
    answers = [sse(events, cut=len(events)), sse([*events, usage(), DONE])]
    name = f"usage-{mode}"
    seen = run(*both, {name: case("chat", answers, mode)})[name]
    assert_whole(told_of(seen), "chat", "one two")
    assert len(told_of(seen).usages) == (mode != "live")
    assert len(seen.attempts) == (1 if mode == "live" else 2)
    _, daemon = both
    if mode == "live":
        daemon.wait_line('msg="request" .*lacks=usage')


@pytest.mark.parametrize("mode", ["splice", "hold"])
def test_where_the_usage_comes_to_nothing_what_was_whole_is_delivered(mode, both):
    """It is asked for once, and a response that does not help, whatever it is, takes nothing away."""
    events = [*said("one ", "two"), FINISH]
    lacking = sse(events, cut=len(events))
    others = {"error": error(503), "final": error(400), "lost": {"cut": {"before_head": True}}, "again": lacking,
              "cut": sse(events, cut=2), "nothing": sse([chunk(choice({}, "stop")), usage(), DONE]),
              "differs": sse([*said("three"), FINISH, usage(), DONE])}
    cases = {f"{mode}-{name}": case("chat", [lacking, other], mode) for name, other in others.items()}
    seen = run(*both, cases)
    for name, c in seen.items():
        told = told_of(c)
        if name == "hold-differs":
            assert_whole(told, "chat", "three")
        elif name == "splice-nothing":  # all of it is there, and the usage is
            assert told.text == "one two" and told.error is None and told.ends == 1, name
        else:
            assert (told.text, told.error, told.ends, told.usages) == ("one two", None, 1, []), name
        assert len(c.attempts) == 2, name


WAITING = {f"{mode}-waited-for": mode for mode in MODES} | {f"{mode}-asked-for-again": mode for mode in MODES[1:]}


@pytest.mark.parametrize("how", WAITING)
def test_what_was_whole_is_delivered_at_the_end_of_retryd(how):
    """... while its usage is waited for, or asked for again."""
    mode, again = WAITING[how], how.endswith("again")
    events = [*said("one ", "two"), FINISH]
    waits = sse(events, stall={"after_events": len(events)})
    lacking = sse(events, cut=len(events))
    silent = {"stall": {"before_head": True}}
    answers = [lacking, silent] if again else [waits]
    # Nobody outside sees when held events have come; they have long come before this is over.
    held = mode == "hold" and not again
    with pair(server={"drain_timeout": "1s" if held else "0"}) as (provider, daemon):
        provider.answers(*answers)
        with Raw(daemon) as c:
            c.request(body=request_of("chat", "gpt-4o", stream_options={"include_usage": True}),
                      headers=[f"x-retryd-stream-mode: {mode}"])
            if again or held:
                provider.wait(requests=2 if again else 1)
            else:
                while FINISH.encode() not in c.data:
                    c.more()
            daemon.signal(signal.SIGTERM)
            told = read_chat(c.answer().body)
        assert (told.text, told.error, told.ends) == ("one two", None, 1)
        assert daemon.wait(timeout=20) == 0
        assert [(r["end"], r["lacks"]) for r in daemon.requests()] == [("answered", "usage")]


@pytest.mark.parametrize("mode", MODES)
def test_what_was_whole_is_delivered_at_the_deadline(mode, both):
    """... which comes while the usage, or the mark, is waited for."""
    events = [*said("one ", "two"), FINISH]
    waits = sse(events, stall={"after_events": len(events)})
    late = ["x-retryd-deadline: 2s"]
    seen = run(*both, {"usage": case("chat", [waits], mode, headers=late),
                       "mark": case("chat", [waits], mode, headers=late, stream_options={"include_usage": False})})
    for name, c in seen.items():
        told = told_of(c)
        assert (c.answer.status, told.text, told.error, told.ends) == (200, "one two", None, 1), name
        assert len(c.attempts) == 1, name


@pytest.mark.parametrize("mode", MODES)
def test_content_a_usage_chunk_and_an_orderly_end(mode, both):
    """Some servers give no reason: the usage comes last. One that every chunk has says nothing."""
    whole = [*said("one ", "two"), usage()]
    each = [chunk(choice({"content": t}), usage={"total_tokens": 1}) for t in ("one ", "two")]
    good = sse([*said("one ", "two"), FINISH, usage(), DONE])
    cases = {f"{mode}-whole": case("chat", [sse(whole), good], mode),
             f"{mode}-each": case("chat", [sse(each, stall={"after_events": 2, "for_ms": PAUSE_MS}), good], mode)}
    found = run(*both, cases)
    seen = found[f"{mode}-whole"]
    assert (told_of(seen).text, told_of(seen).error, len(seen.attempts)) == ("one two", None, 1)
    seen = found[f"{mode}-each"]
    assert len(seen.attempts) == (1 if mode == "live" else 2)
    assert (told_of(seen).error is not None) == (mode == "live")


def message(*events):
    return [f"event: {value['type']}\n{data(value)}" for value in events]


START = {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
                                              "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}
BLOCK = [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
         {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
         {"type": "content_block_stop", "index": 0}]
STOPS = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
MESSAGE_END = 'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@pytest.mark.parametrize("mode", MODES)
def test_a_message_with_a_stop_reason_is_whole(mode, provider, retryd):
    events = message(START, *BLOCK, STOPS)
    provider.answers(sse(events, cut=len(events)))
    answer = ask(retryd(), {"model": "m", "stream": True}, "/v1/messages", [f"x-retryd-stream-mode: {mode}"])
    assert answer.body.decode() == "".join(events) + MESSAGE_END
    assert len(provider.record()) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reason", ["", None])
def test_a_message_without_a_stop_reason_is_not(mode, reason, provider, retryd):
    events = message(START, *BLOCK, {**STOPS, "delta": {"stop_reason": reason}})
    provider.answers(sse(events, cut=len(events)), sse([*message(START, *BLOCK, STOPS), MESSAGE_END]))
    d = retryd(retry={"initial_delay": "20ms"})
    answer = ask(d, {"model": "m", "stream": True}, "/v1/messages", [f"x-retryd-stream-mode: {mode}"])
    whole = answer.body.endswith(MESSAGE_END.encode())
    assert whole == (mode != "live")
    assert len(provider.record()) == (1 if mode == "live" else 2)


KNOWN_ENDS = {"image_generation.completed": "/v1/images/generations", "image_edit.completed": "/v1/images/edits",
              "speech.audio.done": "/v1/audio/speech", "transcript.text.done": "/v1/audio/transcriptions"}


@pytest.mark.parametrize("mode", MODES)
def test_images_and_audio_say_when_they_are_whole(mode, both):
    cases, bodies = {}, {}
    for kind, path in KNOWN_ENDS.items():
        events = [data({"type": kind.split(".")[0] + ".part", "x": "y"}), data({"type": kind, "x": "z"})]
        for n, name in enumerate(("cut-before", "cut-behind")):
            key = f"{mode}-{kind}-{name}"
            cases[key] = Case([sse(events, cut=n + 1), sse(events)], [f"x-retryd-stream-mode: {mode}"],
                              json.dumps({"model": "m", "stream": True}).encode(), path=path)
            bodies[key] = "".join(events).encode()
    for key, seen in run(*both, cases).items():
        if key.endswith("behind") or mode == "hold":
            assert seen.problem is None and seen.answer.body == bodies[key], (key, seen.problem)
            assert len(seen.attempts) == (1 if key.endswith("behind") else 2), key
        else:
            assert isinstance(seen.problem, Closed), (key, seen.problem)


@pytest.mark.parametrize("mode", MODES)
def test_half_an_event_of_an_unknown_stream_is_never_completed(mode, provider, retryd):
    """WHATWG 9.2.6. A rest that says nothing, or that all has been said, is dropped."""
    whole, d = "data: one\n\n", retryd(retry={"initial_delay": "20ms", "max_attempts": 1})
    for rest, breaks in (("data: two\n", True), ("event: x\ndata: two\n", True), (": bye\n", False),
                         ("data: [DONE]\n", False), ("\n", False)):
        provider.answers(sse([whole, rest], stall={"after_events": 1, "for_ms": PAUSE_MS}))
        with Raw(d) as c:
            c.request("POST", "/v1/audio/speech", {"stream": True}, [f"x-retryd-stream-mode: {mode}"])
            if not breaks:
                assert c.answer().body.rstrip(b"\n") == whole.encode().rstrip(b"\n"), rest
            elif mode != "hold":
                with pytest.raises(Closed) as closed:
                    c.answer()
                assert b"two" not in closed.value.data, rest
            else:
                assert b"two" not in c.answer().body, rest


# --- announcements and content ---

STRANGE = {"codex": {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": 3}}},
           "metadata": {"type": "response.metadata", "metadata": {"a": "b"}}, "keepalive": {"type": "keepalive"},
           "next": {"type": "vendor.next_one", "text": "x"}}


def response_events():
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    told = [{"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
            {"type": "response.output_text.delta", "delta": "hello", **place},
            {"type": "response.completed", "response": {"id": "r", "status": "completed", "usage": {}, "output": []}}]
    return [{**event, "sequence_number": n} for n, event in enumerate(told)]


@pytest.mark.parametrize("mode", MODES)
def test_what_nobody_knows_is_no_content(mode, both):
    """C10: A break behind it is ridden out, whatever comes first; behind the response's own text it is as ever."""
    cases, bodies = {}, {}
    for name, strange in STRANGE.items():
        whole = message(strange, *response_events())
        for n in (1, 2):
            key = f"{mode}-responses-{name}-{n}"
            cases[key] = case("responses", [sse(whole, cut=n), sse(whole)], mode)
            bodies[key] = "".join(whole).encode()
        chat = [data(strange), *said("one"), FINISH, usage(), DONE]
        key = f"{mode}-chat-{name}"
        cases[key] = case("chat", [sse(chat, cut=1), sse(chat)], mode)
        bodies[key] = "".join(chat).encode()
    for key, seen in run(*both, cases).items():
        assert seen.problem is None and seen.answer.body == bodies[key], key
        assert len(seen.attempts) == 2, key


@pytest.mark.parametrize("mode", MODES)
def test_a_wrapped_comment_is_dropped_at_once(mode, both):
    """C11: Before the content and amid it, without an attempt."""
    wrapped = "data: : OPENROUTER PROCESSING\n\n"
    events = [*said("one ", "two"), FINISH, usage(), DONE]
    noisy = [wrapped, wrapped, events[0], wrapped, *events[1:2], wrapped, *events[2:]]
    name = f"wrapped-{mode}"
    seen = run(*both, {name: case("chat", [sse(noisy)], mode)})[name]
    assert seen.answer.body == "".join(events).encode() and len(seen.attempts) == 1


@pytest.mark.parametrize("mode", MODES)
def test_pings_that_are_no_json_are_dropped_at_once(mode, both):
    """C11: They come with each stream of such a server: in no mode is an attempt spent on them."""
    events = [*said("one ", "two"), FINISH, usage(), DONE]
    cases = {}
    for n, ping in enumerate(["event: ping\ndata: 2026-11-30 12:00:00.000\n\n", "event: heartbeat\ndata: x\n\n",
                              "data: ping\n\n", "data: [HEARTBEAT]\n\n", "data: <keep-alive/>\n\n"]):
        noisy = [ping, events[0], ping, events[1], ping, *events[2:]]
        cases[f"ping-{mode}-{n}"] = case("chat", [sse(noisy)], mode)
    for name, seen in run(*both, cases).items():
        assert seen.answer.body == "".join(events).encode() and len(seen.attempts) == 1, name


@pytest.mark.parametrize("mode", MODES)
def test_a_delta_without_anything_is_no_content(mode, both):
    """C10: A break behind it is ridden out: nothing has been said yet."""
    first, *rest = response_events()
    empty = {**rest[0], "delta": ""}
    answers = [sse(message(first, empty), cut=2), sse(message(first, *rest))]
    name = f"empty-delta-{mode}"
    seen = run(*both, {name: case("responses", answers, mode)})[name]
    assert seen.answer.body.decode() == "".join(message(first, *rest)) and len(seen.attempts) == 2


@pytest.mark.parametrize("mode", MODES)
def test_deltas_of_a_new_name_come_through(mode, both):
    """C10: In one attempt: all of them, and before the end where there are many."""
    few = [data({"text": f"w{n}"}) for n in range(5)] + [DONE]
    many = [data({"text": f"w{n}"}) for n in range(200)] + [DONE]
    cases = {f"few-{mode}": case("chat", [sse(few)], mode), f"many-{mode}": case("chat", [sse(many)], mode)}
    found = run(*both, cases)
    assert found[f"few-{mode}"].answer.body == "".join(few).encode()
    assert found[f"many-{mode}"].answer.body == "".join(many).encode()
    assert [len(seen.attempts) for seen in found.values()] == [1, 1]
