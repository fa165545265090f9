"""The README's table: what the SDK does alone with its default max_retries, and what it does through retryd.

A cell is "OUTCOME, N requests". The tests find both with the SDK for Python as its users have it.
"""

import os
import pathlib
import re

import pytest
from conftest import ANSWER, CHAT, GOOD, KEY, failing
from openai import OpenAI

README = (pathlib.Path(os.environ["SOURCE_DIR"]) / "README.md").read_text()
STREAM = {"preset": "auto", "text": ANSWER, "events": 4}
HOLD = {"extra_headers": {"x-retryd-stream-mode": "hold"}}


def whole(client):
    completion = client.chat.completions.create(**CHAT)
    return completion.choices[0].message.content if completion.choices else ""


def stream(client, **how):
    with client.chat.completions.create(**CHAT, stream=True, **how) as chunks:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def held(client):
    return stream(client, **HOLD)


# What the API does, the call, and the provider's responses for it.
CASES = {
    "breaks a stream before its first word": (stream, [{**STREAM, "cut": {"after_events": 1}}, GOOD]),
    "breaks a stream in the middle of the text": (held, [{**STREAM, "cut": {"after_events": 3, "delay_ms": 400}}, GOOD]),
    "ends a stream too early, without an error":
        (held, [{**STREAM, "text": ANSWER[:10], "finish": False, "done": False}, GOOD]),
    "returns 200 with an error object": (whole, [{"json": {"error": {"message": "overloaded", "code": 503}}}, GOOD]),
    "fails four times, then succeeds": (whole, [failing(503)] * 4 + [GOOD]),
    "reports that the quota is used up": (whole, [failing(429, "insufficient_quota")]),
}


def saw(call, client):
    try:
        text = call(client)
    except Exception:  # the API's, or one of the library below the SDK that nobody has translated
        return "an error"
    return "the response" if text == ANSWER else "half of the response" if text else "an empty response and no error"


def cell(call, client, provider):
    outcome = saw(call, client)
    requests = len(provider.record())
    return f"{outcome}, {requests} request{'s' * (requests > 1)}"


def rows():
    for line in re.findall(r"^\| .* requests? .*\|$", README, re.MULTILINE):
        what, alone, through = [text.strip().replace(" (`hold`)", "") for text in line.strip("|").split("|")]
        yield what, (alone, through)


def test_each_row_is_tried():
    assert [what for what, _ in rows()] == list(CASES)


@pytest.mark.parametrize("what", CASES)
def test_the_sdk_by_itself_and_through_retryd(what, provider, retryd, environment):
    call, answers = CASES[what]
    d = retryd()
    environment(d)
    provider.answers(*answers)
    with OpenAI(base_url=provider.base_url, api_key=KEY) as client:
        alone = cell(call, client, provider)
    provider.answers(*answers)
    provider.clear()
    with OpenAI() as client:
        through = cell(call, client, provider)
    assert (alone, through) == dict(rows())[what]
