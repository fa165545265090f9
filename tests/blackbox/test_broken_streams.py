"""C13: how each mode handles a stream that breaks, at any place."""

import json

import pytest
from cases import error, pair, run
from raw import events_of
from raw import text_of as spoken
from streams import (DONE, MODES, PAUSE_MS, READ, assert_broken, assert_whole, case, chat_events, choice, chunk,
                     read_chat, request_of, sse, usage)
from targets import ask, house, on, where

# Each API's stream of 60 events: how many come before the first text, and after the last.
SIZE = 60
LEAD = {"chat": 1, "responses": 4, "messages": 3}
TAIL = {"chat": 3, "responses": 4, "messages": 3}
WORDS = {api: SIZE - LEAD[api] - TAIL[api] for api in LEAD}
# The stream is whole after this many: what [DONE] and message_stop say has then been said.
ENOUGH = {"chat": SIZE - 1, "responses": SIZE, "messages": SIZE - 1}


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "budget_min": 100000}) as running:
        yield running


def words(count, start=1):
    return "".join(f"w{i} " for i in range(start, start + count))


def text_of(api):
    return words(WORDS[api]).strip()


def said(api, events):
    """The text in the first so many events of the stream."""
    count = min(max(events - LEAD[api], 0), WORDS[api])
    return text_of(api) if count == WORDS[api] else words(count)


def answer(api, **how):
    return {"preset": f"{api}_stream", "events": WORDS[api], "usage": True, **how}


def cut(api, events, how="reset", **more):
    place = {"after_events": events} if events else {"after_head": True}
    return answer(api, cut={**place, "how": how, "delay_ms": PAUSE_MS}, **more)


def outcome(seen, api):
    """(what the client was told, attempts made) of a stream that was answered."""
    assert seen.problem is None, repr(seen.problem)
    assert seen.answer.status == 200, seen.answer.body
    assert seen.answer.header("content-type").startswith("text/event-stream")
    return READ[api](seen.answer.body), len(seen.attempts)


# --- every place where a stream of 60 events can break ---


@pytest.fixture(scope="module")
def cut_everywhere(both):
    """What came of each cut: cut_everywhere(api, mode) gives [(events before the cut, told, attempts)]."""
    def cut_all(api, mode):
        cases = {f"{api}-{mode}-{n}": case(api, [cut(api, n, "reset" if n % 4 else "fin"), answer(api)], mode)
                 for n in range(SIZE + 1)}
        found = run(*both, cases)
        return [(n, *outcome(seen, api)) for n, seen in enumerate(found.values())]
    return cut_all


@pytest.mark.parametrize("api", LEAD)
@pytest.mark.parametrize("mode", ["splice", "hold"])
def test_a_cut_after_any_event_is_mended(mode, api, cut_everywhere):
    for n, told, attempts in cut_everywhere(api, mode):
        assert_whole(told, api, text_of(api))
        assert attempts == (1 if n >= ENOUGH[api] else 2), n
        counted, = told.usages
        assert counted["total_tokens"] == WORDS[api] + 9, n


@pytest.mark.parametrize("api", LEAD)
def test_a_cut_after_any_event_is_told(api, cut_everywhere):
    """C12."""
    for n, told, attempts in cut_everywhere(api, "live"):
        if n <= LEAD[api]:
            assert_whole(told, api, text_of(api))
            assert attempts == 2, n
            continue
        assert attempts == 1, n
        if n >= ENOUGH[api] - (api == "chat"):  # one that lacks the usage is whole all the same
            assert_whole(told, api, text_of(api))
        else:
            assert told.error is not None and told.ends == 0, n
            assert told.text == said(api, n)


def test_without_a_promise_of_usage_the_finish_is_enough(both):
    """C12: A client that did not ask for the usage misses nothing when the stream breaks before it."""
    n = LEAD["chat"] + WORDS["chat"] + 1
    asked = {mode: case("chat", [cut("chat", n, usage=False)], mode, stream_options=None) for mode in MODES}
    for seen in run(*both, asked).values():
        told, attempts = outcome(seen, "chat")
        assert_whole(told, "chat", text_of("chat"))
        assert attempts == 1


def test_the_legacy_completions(both):
    """C12: They are told of, and mended, as chat completions are."""
    bad = {"preset": "completions_stream", "events": 9, "cut": {"after_deltas": 4, "delay_ms": PAUSE_MS}}
    good = {"preset": "completions_stream", "events": 9}
    seen = run(*both, {mode: case("completions", [bad, good], mode) for mode in MODES})
    assert_broken(outcome(seen["live"], "completions")[0], words(4))
    for mode in ("splice", "hold"):
        assert_whole(outcome(seen[mode], "completions")[0], "completions", words(9).strip())


# --- what may differ in the repeated answer, and what may not ---


@pytest.mark.parametrize("api", LEAD)
def test_other_pieces_of_the_same_text(api, both):
    cases = {f"{pieces}-{n}": case(api, [cut(api, n), answer(api, text=text_of(api), events=pieces)], "splice")
             for pieces in (1, 2, 7, 55, 150) for n in (5, 6, 31, 54, 57)}
    for name, seen in run(*both, cases).items():
        told, attempts = outcome(seen, api)
        assert_whole(told, api, text_of(api))
        assert attempts == 2, name


@pytest.mark.parametrize("api", LEAD)
def test_at_a_difference_the_break_is_told(api, both):
    """The client has 20 words. What does not begin with them cannot continue them."""
    given = words(20)
    others = {"first": "x" + given[1:] + "and more", "last": given[:-2] + "x and more", "amid": words(9) + "x more",
              "shorter": words(9), "nothing": " "}
    cases = {name: case(api, [cut(api, LEAD[api] + 20), answer(api, text=text, events=9)], "splice")
             for name, text in others.items()}
    for seen in run(*both, cases).values():
        told, _ = outcome(seen, api)
        assert_broken(told, given)


@pytest.mark.parametrize("api", LEAD)
def test_what_follows_may_differ(api, both):
    """There is nothing yet that it could contradict."""
    text = words(20) + "and now for something else"
    asked = case(api, [cut(api, LEAD[api] + 20), answer(api, text=text, events=9)], "splice")
    told, attempts = outcome(run(*both, {"a": asked})["a"], api)
    assert_whole(told, api, text)
    assert attempts == 2


@pytest.mark.parametrize("api", LEAD)
def test_held_responses_may_differ(api, both):
    """The client has had nothing: it gets the second response alone."""
    asked = case(api, [cut(api, LEAD[api] + 20), answer(api, text="something else", events=2)], "hold")
    told, _ = outcome(run(*both, {"a": asked})["a"], api)
    assert_whole(told, api, "something else")


@pytest.mark.parametrize("mode", ["splice", "hold"])
@pytest.mark.parametrize("api", LEAD)
def test_mended_more_than_once(api, mode, both):
    """The second response breaks, too: later than the first, sooner, before its text, or not with a break."""
    lead = LEAD[api]
    firsts = {"later": [10, 20], "sooner": [20, 10], "same": [10, 10], "lead": [10, lead], "head": [10, 0],
              "thrice": [10, 20, 30], "up-and-down": [30, 12, 40, 20]}
    cases = {name: case(api, [*(cut(api, n) for n in ns), answer(api)], mode) for name, ns in firsts.items()}
    cases["status"] = case(api, [cut(api, 10), error(503), cut(api, 20), error(429), answer(api)], mode)
    for name, seen in run(*both, cases).items():
        told, attempts = outcome(seen, api)
        assert_whole(told, api, text_of(api))
        assert attempts == len(cases[name].answers), name


@pytest.mark.parametrize("api", LEAD)
def test_when_every_attempt_breaks(api, both):
    """Splice tells it in the stream that has begun, after the most that any attempt said; hold by a status."""
    cuts = [cut(api, LEAD[api] + n) for n in (5, 12, 8, 3, 9)]
    seen = run(*both, {mode: case(api, cuts, mode) for mode in ("splice", "hold")})
    told, attempts = outcome(seen["splice"], api)
    assert_broken(told, words(12))
    assert attempts == 5 == len(seen["hold"].attempts)
    assert seen["hold"].answer.status in (502, 504)
    assert seen["hold"].answer.error["type"] == "server_error"


# --- more than one text ---


def call(index, arguments="", **more):
    function = {"arguments": arguments, **({"name": more["name"]} if "name" in more else {})}
    extra = {"id": more["id"], "type": "function"} if "id" in more else {}
    return {"tool_calls": [{"index": index, **extra, "function": function}]}


ARGUMENTS = ['{"city": "Z\u00fcrich", "unit": "C"}', '{"zone": "Europe/Z\u00fcrich"}']


def pieces(text, size):
    return [text[i:i + size] for i in range(0, len(text), size)]


def tool_events(size, number):
    """Two calls, their arguments in pieces of a size, with ids of this response."""
    deltas = []
    for index, arguments in enumerate(ARGUMENTS):
        deltas.append(call(index, id=f"call_{number}_{index}", name=f"tool{index}"))
        deltas += [call(index, piece) for piece in pieces(arguments, size)]
    return chat_events(*deltas, finish="tool_calls", number=number)


@pytest.mark.parametrize("mode", ["splice", "hold"])
def test_tool_calls(mode, both):
    """Arguments in other pieces; each call is begun once, and keeps the id that it began with."""
    first = tool_events(5, 1)
    cases = {f"{n}-{size}": case("chat", [sse(first, n), sse(tool_events(size, 2))], mode)
             for n in range(1, len(first)) for size in (2, 7, 100)}
    for name, seen in run(*both, cases).items():
        told, _ = outcome(seen, "chat")
        assert_whole(told, "chat", "")
        assert told.finishes[0] == ["tool_calls"]
        for index, arguments in enumerate(ARGUMENTS):
            tool = told.tools[index]
            assert tool["arguments"] == arguments, name
            assert tool["names"] == [f"tool{index}"] and len(tool["ids"]) == 1, name


def test_other_arguments_are_a_difference(both):
    first = tool_events(5, 1)
    other = [event.replace("unit", "tinu") for event in tool_events(100, 2)]
    told, _ = outcome(run(*both, {"a": case("chat", [sse(first, 7), sse(other)], "splice")})["a"], "chat")
    assert_broken(told, "")
    assert told.tools[0]["arguments"] == ARGUMENTS[0][:25]


def two_choices(order, number):
    """Two texts of six words each, one word after the other in this order of choices."""
    texts = [[f"a{i} " for i in range(6)], [f"b{i} " for i in range(6)]]
    events = [chunk(choice({"role": "assistant", "content": ""}, index=i), number=number) for i in (0, 1)]
    for index in order:
        if texts[index]:
            events.append(chunk(choice({"content": texts[index].pop(0)}, index=index), number=number))
        if not texts[index]:
            events.append(chunk(choice({}, "stop", index), number=number))
    return [*events, usage(number), DONE]


@pytest.mark.parametrize("mode", ["splice", "hold"])
def test_two_choices(mode, both):
    """Whichever of the two is ahead, also where one has ended: a finish_reason of one is not the whole."""
    orders = {"turns": [0, 1] * 6, "first": [0] * 6 + [1] * 6, "second": [1] * 6 + [0] * 6}
    cases = {}
    for a, first in orders.items():
        for b, second in orders.items():
            for n in range(2, 17):
                answers = [sse(two_choices(first, 1), n), sse(two_choices(second, 2))]
                cases[f"{a}-{b}-{n}"] = case("chat", answers, mode, n=2)
    for name, seen in run(*both, cases).items():
        told, attempts = outcome(seen, "chat")
        assert_whole(told, "chat", "a0 a1 a2 a3 a4 a5 ", choices=2)
        assert told.texts[1] == "b0 b1 b2 b3 b4 b5 ", name
        assert len(told.usages) == 1 and attempts == 2, name


def test_two_choices_of_which_one_has_ended_is_a_break(both):
    """C12."""
    events = two_choices([0] * 6 + [1] * 6, 1)
    told, _ = outcome(run(*both, {"a": case("chat", [sse(events, 12)], "live", n=2)})["a"], "chat")
    assert told.error is not None
    assert (told.texts[0], told.texts[1]) == ("a0 a1 a2 a3 a4 a5 ", "b0 b1 b2 ")


# --- fields that have another type in the repeated answer ---

TYPES = {"text": "chatcmpl-9", "escaped": 'a"\\\n\u00e9', "number": 3, "float": 17.5, "null": None, "true": True,
         "empty": "", "object": {"a": [1]}, "missing": ...}


def renamed(event, **fields):
    """The event with some of its fields, or those of its response, set to other values; ...: left out."""
    if event == DONE:
        return event
    head, _, text = event.rpartition("data: ")
    value = json.loads(text)
    target = value.get("response", value)
    for name, given in fields.items():
        if name in target or name not in ("item_id", "sequence_number"):
            target[name] = given
        if given is ...:
            del target[name]
    return f"{head}data: {json.dumps(value)}\n\n"


def values(body, name):
    """What the client read in the field, in all events that have it: (type, value)."""
    found = [json.loads(data) for data in events_of(body) if data != "[DONE]"]
    return {(type(value[name]), str(value[name])) for value in found if name in value}


@pytest.mark.parametrize("field", ["id", "created", "model", "system_fingerprint"])
def test_a_name_of_another_type_keeps_the_first_responses_form(field, both):
    """Whatever the two say, each event is JSON, and the client reads one value in one type."""
    cases = {}
    for a, first in TYPES.items():
        for b, second in TYPES.items():
            answers = [sse([renamed(e, **{field: first}) for e in chat_events("He", "l", number=1)], 3),
                       sse([renamed(e, **{field: second}) for e in chat_events("Hello", "!", number=2)])]
            cases[f"{a}-{b}"] = case("chat", answers, "splice")
    for name, seen in run(*both, cases).items():
        body = seen.answer.body
        assert spoken(body) == "Hello!" and events_of(body)[-1] == "[DONE]", name
        assert len(seen.attempts) == 2, name
        first, second = (TYPES[part] for part in name.split("-"))
        if first not in (None, "", ...) and not isinstance(first, dict) and second not in ("", ...):
            assert values(body, field) == {(type(first), str(first))}, name


def said_again(number, item, sequence, created):
    """A Responses stream of two words whose ids and numbers have these values."""
    begun = {"response": {"id": f"resp_{number}", "created_at": created, "status": "in_progress", "output": []}}
    place = {"item_id": item, "output_index": 0, "content_index": 0}
    events = [{"type": "response.created", **begun}, {"type": "response.in_progress", **begun},
              {"type": "response.output_text.delta", "delta": "He", **place},
              {"type": "response.output_text.delta", "delta": "llo", **place},
              {"type": "response.output_text.done", "text": "Hello", **place},
              {"type": "response.completed", "response": {**begun["response"], "status": "completed"}}]
    return [f"event: {e['type']}\ndata: {json.dumps({**e, 'sequence_number': sequence(n)})}\n\n"
            for n, e in enumerate(events)]


def test_ids_and_numbers_of_a_response_keep_the_first_responses_form(both):
    first = sse(said_again(1, "msg_1", lambda n: n, 5), 3)
    others = {"strings": said_again(2, 7, str, "5"), "others": said_again(3, None, lambda n: n + 0.5, None)}
    seen = run(*both, {name: case("responses", [first, sse(other)], "splice") for name, other in others.items()})
    for name, found in seen.items():
        assert found.answer.status == 200, name
        datas = [json.loads(d) for d in events_of(found.answer.body)]
        assert [d["sequence_number"] for d in datas] == list(range(len(datas))), name
        assert "".join(d.get("delta", "") for d in datas) == "Hello", name
        assert {d["item_id"] for d in datas if "item_id" in d} == {"msg_1"}, name
        assert {(d["response"]["id"], d["response"]["created_at"]) for d in datas if "response" in d} == {
            ("resp_1", 5)}, name
        assert datas[-1]["type"] == "response.completed", name


def test_text_or_an_index_of_another_type_is_a_difference(both):
    """It cannot be what the client has, nor go on with it."""
    first = chat_events("He", "llo", number=1)
    others = {"list": {"delta": {"content": [{"type": "text", "text": "Hello!"}]}}, "number": {"delta": {"content": 5}},
              "index": {"index": "0", "delta": {"content": "Hello!"}}}
    cases = {name: case("chat", [sse(first, 2), sse([chunk({"index": 0, "finish_reason": None, **other}, number=2),
                                                     *chat_events("!", number=2)[2:]])], "splice")
             for name, other in others.items()}
    for name, seen in run(*both, cases).items():
        told, _ = outcome(seen, "chat")
        assert told.error is not None and told.text == "He", name


# --- characters and lines ---


@pytest.mark.parametrize("mode", MODES)
def test_characters_split_over_reads_and_written_otherwise(mode, both):
    """Bytes come three by three. The first response writes characters as they are, the second escapes them."""
    deltas = ["Gr\u00fc\u00dfe ", "\u4e2d\u6587", " \U0001f642", "\u00e9t\u00e9", ' "quoted\\" /', "\n\tend"]

    def spell(deltas, number, ascii_only):
        def written(event):
            value = json.loads(event[6:])
            return "data: " + json.dumps(value, ensure_ascii=ascii_only) + "\n\n"
        return [event if event == DONE else written(event) for event in chat_events(*deltas, number=number)]

    whole = "".join(deltas)
    first = spell(deltas, 1, False)
    cases = {f"{n}-{size}": case("chat", [sse(first, n, pace={"bytes": 3, "every_ms": 1}, chunked=True),
                                          sse(spell(pieces(whole, size), 2, True))], mode)
             for n in range(1, len(first)) for size in (1, 5, 99)}
    for name, seen in run(*both, cases).items():
        told, attempts = outcome(seen, "chat")
        n = int(name.split("-")[0])
        if mode == "live" and 1 < n < len(first) - 2:
            assert told.error is not None and told.text == "".join(deltas[:n - 1])
        else:
            assert_whole(told, "chat", whole)
            lacks_usage = mode == "live" and n == len(first) - 2
            assert attempts == (2 if n < len(first) - 1 and not lacks_usage else 1), name


# --- where a mode comes from ---


def test_the_mode_of_the_configuration_and_of_the_request():
    """The request's header goes over it, and does not reach the upstream."""
    with pair(retry={"initial_delay": "20ms"}, stream={"mode": "splice"}) as running:
        bad = [cut("chat", 10), answer("chat")]
        seen = run(*running, {"configured": case("chat", bad), "live": case("chat", bad, "live")})
        assert_whole(outcome(seen["configured"], "chat")[0], "chat", text_of("chat"))
        assert_broken(outcome(seen["live"], "chat")[0], said("chat", 10))
        names = {name.lower() for attempt in seen["live"].attempts for name, _ in attempt["headers"]}
        assert "x-retryd-stream-mode" not in names


def test_a_held_stream_comes_as_one(both):
    """Nothing of it is there before it is whole, and no retry shows but in the facts."""
    asked = case("chat", [sse(chat_events("a", "b", "c"), 3), sse(chat_events("x", "y", number=2))], "hold")
    seen = run(*both, {"a": asked})["a"]
    told = read_chat(seen.answer.body)
    assert_whole(told, "chat", "xy")
    assert told.ids == {"chatcmpl-2"}
    assert seen.fact("x-retryd-attempts") == "2"


# --- mending ends ---


STALL = answer("chat", stall={"after_events": 10})
BAD = "data: {\"choices\":[\n\n"
SILENT_WHY = "a target that was silent is not asked for the same response again"


def test_a_silent_upstream_is_not_asked_for_the_same_response_again():
    """With nobody else the break is told at once; held, the client has nothing of it, and it is made again."""
    with pair(timeout={"idle": "1s"}) as running:
        seen = run(*running, {mode: case("chat", [STALL, answer("chat")], mode) for mode in ("splice", "hold")})
        assert_broken(outcome(seen["splice"], "chat")[0], said("chat", 10))
        assert len(seen["splice"].attempts) == 1
        assert running[1].wait_log("attempt .*idle_timeout.*" + SILENT_WHY)
        told, attempts = outcome(seen["hold"], "chat")
        assert_whole(told, "chat", text_of("chat"))
        assert attempts == 2


def test_a_silent_upstream_is_mended_by_another():
    """The next attempt goes elsewhere at once, and so does the one behind it."""
    stalls, cut_early = on("one", STALL), cut("chat", 4)
    with house({"one": {}, "two": {}}, timeout={"idle": "1s"}, stream={"mode": "splice"}) as (provider, daemon):
        provider.rules(stalls, on("two", cut_early, answer("chat")))
        body = request_of("chat", "gpt-4o", stream_options={"include_usage": True})
        told = read_chat(ask(daemon, body).body)
        assert_whole(told, "chat", text_of("chat"))
        assert where(provider.record()) == ["one", "two", "two"]


def test_mending_takes_no_longer_than_mend_timeout():
    """What is to mend the response is slow, repeats without end, or waits: the break is told in time."""
    slow = answer("chat", delay_ms=60_000)
    repeats = answer("chat", interval_ms=100, text=words(10) * 30, events=300)
    with pair(stream={"mode": "splice", "mend_timeout": "900ms"}) as running:
        waits = error(503, headers={"retry-after-ms": "2000"})
        first = answer("chat", text=words(10) * 30, events=300, cut={"after_events": 299, "delay_ms": PAUSE_MS})
        cases = {"slow": case("chat", [cut("chat", 10), slow]), "repeats": case("chat", [first, repeats]),
                 "waits": case("chat", [cut("chat", 10), waits, answer("chat")])}
        for name, seen in run(*running, cases).items():
            told, attempts = outcome(seen, "chat")
            assert told.error is not None and told.ends == 0, name
            assert attempts == 2, name
        assert running[1].wait_log("attempt .*beyond mend_timeout")
        assert running[1].wait_log("attempt .*could not be mended within 900 ms")


def test_an_event_that_is_always_garbled_costs_one_attempt(both):
    """The response is that way. Splice goes on without the event, as live does; what is held has to be whole."""
    events = chat_events("a", "b", "c")
    garbled = sse([*events[:2], BAD, *events[2:]], pace={"bytes": 40, "every_ms": 1})
    seen = run(*both, {mode: case("chat", [garbled], mode) for mode in MODES})
    for mode, attempts in (("live", 1), ("splice", 2)):
        told, made = outcome(seen[mode], "chat")
        assert_whole(told, "chat", "abc")
        assert made == attempts, mode
    assert seen["hold"].answer.status == 502
    assert seen["hold"].answer.error["code"] == "answer_malformed"
    assert len(seen["hold"].attempts) == 2
