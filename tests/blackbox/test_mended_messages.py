"""C13: Anthropic's messages continue in the block where they broke: thinking, text, and the input of tools."""

import json

import pytest
from cases import pair, run
from streams import assert_broken, assert_whole, case, read_messages, sse

THOUGHT, TEXT = "Let me see: \u00e9t\u00e9.", "I look it up. "
INPUT = '{"city": "Z\u00fcrich", "unit": "C"}'
FIRST, TRUE = 1, 2  # the number of the first response, and of the one that is whole


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "budget_min": 100000}) as running:
        yield running


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


def block(index, kind, key, text, size, *behind, **more):
    start = {"type": kind, **more} if kind == "tool_use" else {"type": kind, key: "", **more}
    name = {"tool_use": "input_json_delta"}.get(kind, f"{kind}_delta")
    deltas = [{"type": name, key: text[i:i + size]} for i in range(0, len(text), size)]
    return [event("content_block_start", index=index, content_block=start),
            *(event("content_block_delta", index=index, delta=delta) for delta in [*deltas, *behind]),
            event("content_block_stop", index=index)]


def message(size, number, text=TEXT, given=INPUT):
    """A message in pieces of a size, with the ids and counts of this response."""
    begun = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude", "content": [],
             "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": number}}
    return [event("message_start", message=begun), event("ping"),
            *block(0, "thinking", "thinking", THOUGHT, size, {"type": "signature_delta", "signature": f"s{number}"},
                   signature=""),
            *block(1, "text", "text", text, size),
            *block(2, "tool_use", "partial_json", given, size, id=f"toolu_{number}", name="weather", input={}),
            event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None},
                  usage={"output_tokens": 50 + number}),
            event("message_stop")]


def test_every_block_goes_on_wherever_it_broke(both):
    first = message(4, FIRST)
    cases = {f"{n}-{size}": case("messages", [sse(first, n), sse(message(size, TRUE))], "splice")
             for n in range(3, len(first)) for size in (1, 7, 100)}
    for name, seen in run(*both, cases).items():
        told = read_messages(seen.answer.body)
        assert_whole(told, "messages", TEXT)
        thought, text, call = told.blocks
        assert (thought["thinking"], text["text"], call["json"]) == (THOUGHT, TEXT, INPUT), name
        assert thought["signature"] in ("s1", "s2") and call["name"] == "weather", name
        n = int(name.split("-")[0])
        whole = n == len(first) - 1  # all but message_stop, which says nothing new
        assert told.finishes[0] == ["tool_use"] and len(seen.attempts) == (1 if whole else 2), name
        # What goes in was counted once; what came out is that of a whole response.
        assert told.usages == [{"input_tokens": 9, "output_tokens": 50 + (FIRST if whole else TRUE),
                                "total_tokens": 59 + (FIRST if n == len(first) - 1 else TRUE)}], name


def test_another_block_or_input_is_told(both):
    """C12."""
    first = message(4, FIRST)
    others = {"text": message(100, TRUE, text="I know it. "), "input": message(100, TRUE, given='{"town": "Bern"}'),
              "shorter": message(100, TRUE, text=TEXT[:4]),
              "name": [e.replace("weather", "forecast") for e in message(100, TRUE)],
              "kind": [e.replace('"text"', '"compaction"') for e in message(100, TRUE)]}
    cases = {name: case("messages", [sse(first, len(first) - 5), sse(other)], "splice")
             for name, other in others.items()}
    for name, seen in run(*both, cases).items():
        told = read_messages(seen.answer.body)
        assert_broken(told, TEXT)
        assert told.blocks[2]["json"] and INPUT.startswith(told.blocks[2]["json"]), name
        name, value = told.events[-1]
        assert name == "error" and json.loads(value)["type"] == "error", told.events[-1]
