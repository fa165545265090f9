"""The causes in the table of streams: what an upstream may do to a stream, as scripts for the provider.

Each response is for one API, "chat" or "responses". A complete stream has TEXT in four pieces and its usage, and ends as
the API documents it. A bad stream begins the same and fails after two pieces.
"""

import json

PIECES = ["aa", "bb", "cc", "dd"]
TEXT = "".join(PIECES)
HALF = "".join(PIECES[:2])
WHOLE = {"preset": "auto", "text": TEXT, "events": len(PIECES), "usage": True}
APIS = ["chat", "responses"]

# How long it is silent before it goes wrong: all that came before has then been passed on, also where
# the daemon has much to do. A stream whose end is known before any of it went out may be asked for again.
PAUSE_MS = 1500

# How many events come before the first piece of text, and how many there are in all.
LEAD = {"chat": 1, "responses": 4}
ALL = {"chat": 8, "responses": 12}  # chat: finish_reason, usage, [DONE]; responses: four that finish


def cut(after_events, how="reset"):
    """The connection ends there."""
    return {**WHOLE, "cut": {"after_events": after_events, "how": how, "delay_ms": PAUSE_MS}}


# --- events written out ---


def typed(kind, number, **fields):
    return f"event: {kind}\ndata: " + json.dumps({"type": kind, "sequence_number": number, **fields}) + "\n\n"


def choice(delta, finish=None):
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]


def chunk(choices, **more):
    return {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o",
            "choices": choices, **more}


def chat_events(**more):
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    return [chunk(choice({"role": "assistant", "content": ""}), **more),
            *(chunk(choice({"content": piece}), **more) for piece in PIECES),
            chunk(choice({}, "stop"), **more), chunk([], usage=usage, **more), "data: [DONE]\n\n"]


def response(status, text=None, **more):
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": "msg_0", "type": "message", "status": status, "role": "assistant", "content": [part]}
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 4,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13}
    return {"id": "resp_0", "object": "response", "created_at": 1700000000, "status": status, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "model": "gpt-4o",
            "output": [] if text is None else [item], "parallel_tool_calls": True, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": None if text is None else usage, **more}


def responses_events():
    place = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
    message = {"id": "msg_0", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    full = {**part, "text": TEXT}
    n = LEAD["responses"] + len(PIECES)
    return [typed("response.created", 0, response=response("in_progress")),
            typed("response.in_progress", 1, response=response("in_progress")),
            typed("response.output_item.added", 2, output_index=0,
                  item={**message, "status": "in_progress", "content": []}),
            typed("response.content_part.added", 3, part={**part, "text": ""}, **place),
            *(typed("response.output_text.delta", 4 + i, delta=piece, logprobs=[], **place)
              for i, piece in enumerate(PIECES)),
            typed("response.output_text.done", n, text=TEXT, logprobs=[], **place),
            typed("response.content_part.done", n + 1, part=full, **place),
            typed("response.output_item.done", n + 2, output_index=0,
                  item={**message, "status": "completed", "content": [full]}),
            typed("response.completed", n + 3, response=response("completed", TEXT))]


EVENTS = {"chat": chat_events, "responses": responses_events}


# --- whole streams with something in them ---


def amid(api, *strange):
    """A whole stream with these events after its second piece."""
    events = EVENTS[api]()
    at = LEAD[api] + 2
    return {"sse": [*events[:at], *strange, *events[at:]]}


def before(api, *strange):
    """A whole stream with these before anything of its own."""
    return {"sse": [*strange, *EVENTS[api]()]}


def as_text(event):
    return event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"


def identified(api):
    """A whole stream with an event that has an id, and a comment some time after it."""
    events = EVENTS[api]()
    at = LEAD[api] + 1
    return {"sse": [*events[:at], "id: 7\n" + as_text(events[at]), ": comment\n\n", *events[at + 1:]]}


def crlf(api):
    """A whole stream whose lines end with CR LF, and with too many empty ones between events."""
    return {"sse": [(as_text(event) + "\n\n").replace("\n", "\r\n") for event in EVENTS[api]()]}


def called(label, answer):
    """The same response under another Content-Type."""
    return {**answer, "headers": {"content-type": label}}


def open_events():
    """A chat stream whose finish_reason is "" until it ends."""
    return [{**event, "choices": [{**c, "finish_reason": c["finish_reason"] or ""} for c in event["choices"]]}
            if isinstance(event, dict) else event for event in chat_events()]


def hasty():
    """A chat stream with a reason to finish in each of its chunks, as some servers have it."""
    return [{**event, "choices": [{**c, "finish_reason": "stop"} for c in event["choices"]]}
            if isinstance(event, dict) else event for event in chat_events()]


def announced(api, strange):
    """This and nothing more: the connection is reset behind it."""
    return {"sse": [strange, *EVENTS[api]()], "cut": cut(1)["cut"]}


def open_behind(events):
    """So many events of a whole stream; the connection stays as it is."""
    return {**WHOLE, "stall": {"after_events": events}}


# --- streams that stop ---


def pausing(api, events):
    """These events, with the pause after the second piece."""
    return {"sse": events, "stall": {"after_events": LEAD[api] + 2, "for_ms": PAUSE_MS}}


def stops(api, *last):
    """Two pieces, these, and the end of the response in good order."""
    return pausing(api, [*EVENTS[api]()[:LEAD[api] + 2], *last])


def unfinished(api):
    """All pieces and the end of the response in good order, but nothing that says so."""
    return pausing(api, EVENTS[api]()[:LEAD[api] + len(PIECES)])


def but_completed():
    """A Responses stream that lacks its last event only."""
    return pausing("responses", responses_events()[:-1])


def breaks(api, *last):
    """Two pieces, these, and the connection is reset."""
    return {"sse": stops(api, *last)["sse"], "cut": cut(LEAD[api] + 2 + len(last))["cut"]}


def says_nothing(api):
    """A stream that ends as it should and holds no response."""
    if api == "chat":
        events = chat_events()
        return {"sse": [events[0], *events[-3:]]}
    return {"sse": [*responses_events()[:2], typed("response.completed", 2, response=response("completed"))]}


def only(*events):
    return {"sse": list(events)}


# --- errors as events ---


def nested(code="server_is_overloaded", kind="server_error", message="boom", **more):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}, **more}


def named(data):
    """The same with the name of an event."""
    return f"event: error\ndata: {json.dumps(data)}\n\n"


FLAT = {"type": "error", "sequence_number": 6, "code": "server_error", "message": "boom", "param": None}
# The type goes along in the data of what the Responses API calls an error.
RESPONSES_NESTED = nested(type="error", sequence_number=6)
FAILED = typed("response.failed", 6, response=response(
    "failed", error={"code": "server_error", "message": "boom"}))
INCOMPLETE = typed("response.incomplete", 6, response=response(
    "incomplete", HALF, incomplete_details={"reason": "max_output_tokens"}))
OPENROUTER = chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}],
                   provider="x", error={"code": 502, "message": "boom"})
IN_CHOICE = chunk([{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "boom"}}])
PAGE = {"headers": {"content-type": "text/html"}, "body": "<!doctype html><title>Just a moment...</title>"}
VLLM = {"error": {"object": "error", "message": "boom", "type": "InternalServerError", "param": None, "code": 500}}
LLAMA = "error: " + json.dumps({"code": 500, "message": "boom", "type": "server_error"}) + "\n\n"
# An error's answer as FastAPI writes it, and MiniMax's, which has the status of a good one.
DETAIL = {"detail": "boom"}
BASE_RESP = {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "boom"}}
PINGS = ["event: ping\ndata: ping\n\n", "data: [HEARTBEAT]\n\n", "event: ping\ndata: 2026-11-30 12:00:00\n\n"]
ANTHROPIC = named({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}})
# It takes long, and heartbeats go out meanwhile where they are on.
DOWN_LATE = {"status": 503, "json": {"error": {"message": "boom", "type": "server_error", "code": "down"}},
             "delay_ms": 300}
QUOTA = nested("insufficient_quota", "insufficient_quota")
HALF_EVENT = 'data: {"id":"chatcmpl-0","cho'
NO_JSON = 'data: {"id":"chatcmpl-0","cho\n\n'
DONE = "data: [DONE]\n\n"
