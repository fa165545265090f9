"""Streams for tests: requests for streams, complete responses as text, and a client's view of them.

    asked = case("chat", [{"preset": "auto", "cut": {"after_events": 3}}, {"preset": "auto"}], "splice")
    told = read_chat(seen.answer.body)
    assert told.text == "w1 w2 w3 " and told.error is None

The readers are strict: a body that ends within an event, or contains one that is not JSON, fails the test.
"""

import collections
import dataclasses
import json

from cases import Case, run

MODES = ["live", "splice", "hold"]
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "completions": "/v1/completions",
         "messages": "/v1/messages"}
KEEP_ALIVE = ": retryd\n"
# Before a cut: what came before it has then been passed on, also where the daemon has much to do. A stream
# whose end is known before any of it went out may be asked for again in every mode.
PAUSE_MS = 400

# --- requests ---


def request_of(api, model, **more):
    if api == "responses":
        return {"model": model, "input": "hi", "stream": True, **more}
    if api == "completions":
        return {"model": model, "prompt": "hi", "stream": True, **more}
    if api == "messages":
        more = {"max_tokens": 99, **more}
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}


def case(api, answers, mode=None, then="repeat", headers=(), **more):
    """A stream asked for in a mode (None: that of the configuration). A chat request asks for the usage."""
    if api == "chat":
        more = {"stream_options": {"include_usage": True}, **more}
    asked = [] if mode is None else [f"x-retryd-stream-mode: {mode}"]
    return Case(answers, [*asked, *headers], json.dumps(request_of(api, "gpt-4o", **more)).encode(),
                path=PATHS[api], then=then)


def run_batches(provider, daemon, cases, size=64):
    """As run does, but at most so many at a time."""
    found, names = {}, list(cases)
    for at in range(0, len(names), size):
        found.update(run(provider, daemon, {name: cases[name] for name in names[at:at + size]}))
    return found


# --- answers, event by event ---


def data(value):
    return f"data: {json.dumps(value)}\n\n"


def choice(delta, finish=None, index=0):
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def chunk(*choices, number=0, **more):
    return data({"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1700000000 + number,
                 "model": "gpt-4o", "choices": list(choices), **more})


def usage(number=0):
    return chunk(number=number, usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})


DONE = "data: [DONE]\n\n"
NO_REASONS = ("", "null", "none")  # what servers send instead of null


def chat_events(*deltas, finish="stop", number=0):
    """A chat stream of one choice: its role, these deltas (a string is content), its end."""
    said = [chunk(choice({"content": d} if isinstance(d, str) else d), number=number) for d in deltas]
    return [chunk(choice({"role": "assistant", "content": ""}), number=number), *said,
            chunk(choice({}, finish), number=number), usage(number), DONE]


def sse(events, cut=None, **how):
    """A response with these events, cut off after so many of them."""
    place = {} if cut is None else {"cut": {"after_events": cut, "delay_ms": PAUSE_MS}}
    return {"sse": events, **place, **how}


# --- what came ---


@dataclasses.dataclass
class Told:
    """What a client has of a stream: texts, tool calls and ends by choice, and everything to count."""
    events: list = dataclasses.field(default_factory=list)  # (name or None, data as text)
    texts: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(str))
    tools: dict = dataclasses.field(default_factory=dict)  # index: {"ids", "names", "arguments"}
    finishes: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    roles: int = 0
    ids: set = dataclasses.field(default_factory=set)
    blocks: list = dataclasses.field(default_factory=list)  # of a message
    items: set = dataclasses.field(default_factory=set)
    usages: list = dataclasses.field(default_factory=list)
    ends: int = 0  # [DONE], or response.completed
    numbers: list = dataclasses.field(default_factory=list)
    kinds: list = dataclasses.field(default_factory=list)
    error: dict = None

    @property
    def text(self):
        return self.texts[0]


def events_in(body):
    """[(name, data)] of a body that has to end with a whole event; comments are left out."""
    text = body.decode().replace("\r\n", "\n")
    lines = "".join(line for line in text.splitlines(True) if not line.startswith(":"))
    assert not lines.strip("\n") or lines.endswith("\n\n"), f"ends amid an event: {lines[-300:]!r}"
    events = []
    for block in filter(None, (b.strip("\n") for b in lines.split("\n\n"))):
        fields = [line.partition(":") for line in block.split("\n")]
        values = [(name, value.removeprefix(" ")) for name, _, value in fields]
        name = [value for field, value in values if field == "event"]
        events.append((name[-1] if name else None, "\n".join(v for f, v in values if f == "data")))
    return events


def note_error(told, error):
    assert told.error is None and told.ends == 0, told.events
    assert set(error) >= {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str) and error["message"], error
    told.error = error


def note_tool(told, call):
    tool = told.tools.setdefault(call["index"], {"ids": [], "names": [], "arguments": ""})
    tool["ids"] += [call["id"]] if call.get("id") else []
    tool["names"] += [call["function"]["name"]] if call["function"].get("name") else []
    tool["arguments"] += call["function"].get("arguments") or ""


def note_choice(told, c):
    delta = c.get("delta", {"content": c.get("text")})
    told.roles += bool(delta.get("role"))
    told.texts[c["index"]] += delta.get("content") or ""
    reason = c.get("finish_reason") or ""
    told.finishes[c["index"]] += [reason] if reason.strip().lower() not in NO_REASONS else []
    for call in delta.get("tool_calls") or []:
        note_tool(told, call)


def read_chat(body):
    """A stream of chat completions or completions."""
    told = Told(events_in(body))
    for _, text in told.events:
        assert told.error is None and told.ends == 0, f"more after the end: {told.events[-3:]}"
        if text == "[DONE]":
            told.ends += 1
            continue
        value = json.loads(text)
        if "error" in value:
            note_error(told, value["error"])
            continue
        told.ids.add(value["id"])
        told.usages += [value["usage"]] if value.get("usage") else []
        for c in value["choices"]:
            note_choice(told, c)
    return told


def note_response(told, value):
    kind = value["type"]
    if "response" in value:
        told.ids.add(value["response"]["id"])
    told.items |= {value[k] for k in ("item_id",) if k in value}
    told.items |= {value[k]["id"] for k in ("item",) if k in value}
    if kind == "response.output_text.delta":
        told.texts[value["output_index"]] += value["delta"]
    elif kind == "response.output_text.done":
        assert value["text"] == told.texts[value["output_index"]]
    elif kind == "response.completed":
        told.ends += 1
        told.usages.append(value["response"]["usage"])
        told.items |= {item["id"] for item in value["response"]["output"]}
        said = "".join(part["text"] for item in value["response"]["output"] for part in item["content"])
        assert said == told.text


def read_responses(body):
    """A stream of the Responses API."""
    told = Told(events_in(body))
    for name, text in told.events:
        value = json.loads(text)
        told.kinds.append(value["type"])
        told.numbers.append(value["sequence_number"])
        assert name == value["type"], (name, value)
        if name == "response.failed" and told.error and not told.ids:  # for who reads no error event
            assert value["response"]["id"] and told.kinds.count(name) == 1, value
            assert value["response"]["error"]["message"] == told.error["message"], value
            continue
        assert told.error is None and told.ends == 0, f"more after the end: {told.events[-3:]}"
        if name == "error":
            assert value["message"] and value["error"]["message"], value
            # Strings or null: @ai-sdk/openai reads nothing else.
            assert {type(v[k]) for v in (value, value["error"]) for k in ("code", "param")} <= {str, type(None)}, value
            note_error(told, value["error"])
        else:
            note_response(told, value)
    assert told.numbers == list(range(len(told.numbers))), told.numbers
    return told


def note_block(told, value):
    """Each block begins, grows and ends in its turn, as Anthropic's SDKs add them up."""
    kind, index = value["type"], value["index"]
    if kind == "content_block_start":
        assert index == len(told.blocks) and not (told.blocks and told.blocks[-1]["open"]), told.events[-3:]
        told.blocks.append({**value["content_block"], "open": True, "json": ""})
        return
    assert index == len(told.blocks) - 1 and told.blocks[index]["open"], told.events[-3:]
    if kind == "content_block_stop":
        told.blocks[index]["open"] = False
        return
    delta = value["delta"]
    for key in ("text", "thinking"):
        if key in delta:
            told.blocks[index][key] += delta[key]
    told.texts[0] += delta.get("text", "")
    told.blocks[index]["json"] += delta.get("partial_json", "")
    told.blocks[index]["signature"] = delta.get("signature", told.blocks[index].get("signature"))


def note_message(told, value):
    kind = value["type"]
    if kind == "message_start":
        told.ids.add(value["message"]["id"])
        told.roles += 1
        told.usages.append(dict(value["message"]["usage"]))
    elif kind == "message_delta":
        told.finishes[0].append(value["delta"]["stop_reason"])
        told.usages[0].update(value["usage"])
        told.usages[0]["total_tokens"] = told.usages[0]["input_tokens"] + told.usages[0]["output_tokens"]
    elif kind == "message_stop":
        told.ends += 1
    elif kind != "ping":
        note_block(told, value)


def read_messages(body):
    """A stream of Anthropic's messages."""
    told = Told(events_in(body))
    for name, text in told.events:
        assert told.error is None and told.ends == 0, f"more after the end: {told.events[-3:]}"
        value = json.loads(text)
        assert name == value["type"] and (name == "error" or bool(told.ids) != (name == "message_start")), told.events[-3:]
        if name == "error":
            note_error(told, value["error"])
        else:
            note_message(told, value)
    return told


READ = {"chat": read_chat, "completions": read_chat, "responses": read_responses, "messages": read_messages}


def assert_whole(told, api, text, choices=1):
    """One stream from its beginning to its end, as if nothing had happened."""
    assert told.error is None, told.error
    assert told.text == text
    assert told.ends == 1 and len(told.ids) == 1, (told.ends, told.ids)
    if api == "responses":
        assert len(told.items) == 1, told.items
        once = [kind for kind in told.kinds if not kind.endswith(".delta")]
        assert len(once) == len(set(once)), once
    else:
        assert all(len(ends) == 1 for ends in told.finishes.values()), told.finishes
        assert len(told.finishes) == choices
        assert told.roles == (choices if api in ("chat", "messages") else 0)


def assert_broken(told, text):
    """All that came before, then the error, and no sign of an end."""
    assert told.error is not None, told.events[-3:]
    assert told.text == text
    assert told.ends == 0 and not any(told.finishes.values())
