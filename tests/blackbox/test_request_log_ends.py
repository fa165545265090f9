"""C27: a client that closes as soon as it has read the last event was answered, or was told of the failure."""

import json

import pytest
from cases import pair
from raw import Raw
from streams import PATHS, PAUSE_MS, data, request_of

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def typed(kind, **more):
    return f"event: {kind}\n" + data({"type": kind, **more})


def chunk(delta, finish=None):
    return data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
DELTA = typed("response.output_text.delta", sequence_number=1, item_id="i", output_index=0, content_index=0,
              delta="hi")
STREAMS = {  # name: (api, the events, what the client reads last, how it ended)
    "responses": ("responses", DELTA + typed("response.completed", sequence_number=2, response=RESPONSE),
                  b"response.completed", "answered"),
    "responses-incomplete": ("responses", DELTA + typed("response.incomplete", sequence_number=2,
                                                        response={**RESPONSE, "status": "incomplete"}),
                             b"response.incomplete", "answered"),
    "chat": ("chat", chunk({"content": "hi"}) + chunk({}, "stop") + "data: [DONE]\n\n", b"[DONE]", "answered"),
    "chat-finish-reason": ("chat", chunk({"content": "hi"}) + chunk({}, "stop"), b'"stop"', "answered"),
    "responses-error": ("responses", DELTA + typed("error", sequence_number=2, code="x", message="m", param=None),
                        b"event: error", "broken"),
    "chat-amid": ("chat", chunk({"content": "hi"}), b'"hi"', "client_gone"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_c27_closing_behind_the_last_event_is_no_departure(name):
    api, events, last, end = STREAMS[name]
    first, _, rest = events.partition("\n\n")
    with pair() as (provider, daemon):
        provider.rules({"match": {}, "then": "repeat", "answers": [
            {"wire": [{"send": HEAD + first + "\n\n"}, {"delay_ms": PAUSE_MS}, {"send": rest}, {"delay_ms": 60000}]}]})
        with Raw(daemon) as c:
            c.request("POST", PATHS[api], json.dumps(request_of(api, "gpt-4o")).encode())
            c.until(last)
            c.until(b"\n\n")
        line = daemon.wait_log('msg="request"')
        assert line["end"] == end
        assert daemon.metric("retryd_client_connections") <= 1
