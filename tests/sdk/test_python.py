"""The OpenAI SDK for Python, with its own two retries on."""

import asyncio
import hashlib
import random
import socket
import time

import openai
import pytest
from conftest import ANSWER, CHAT, GOOD, RESET, TRANSIENT, assert_no_sdk_retry, failing, header
from late import in_time
from openai import AsyncOpenAI, OpenAI

RESPONSE = {"model": "gpt-4o", "input": "hi"}


@pytest.fixture
def client(provider, retryd, environment):
    """A client of a fresh daemon, which is client.retryd."""
    d = retryd()
    environment(d)
    with OpenAI() as c:
        c.retryd = d
        yield c


def chat_stream(client):
    with client.chat.completions.create(**CHAT, stream=True) as chunks:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def responses_stream(client):
    with client.responses.create(**RESPONSE, stream=True) as events:
        return "".join(e.delta for e in events if e.type == "response.output_text.delta")


CALLS = {
    "chat": lambda c: c.chat.completions.create(**CHAT).choices[0].message.content,
    "chat-stream": chat_stream,
    "responses": lambda c: c.responses.create(**RESPONSE).output_text,
    "responses-stream": responses_stream,
}

# --- failures that are not seen ---


@pytest.mark.parametrize("failure", TRANSIENT)
@pytest.mark.parametrize("call", CALLS)
def test_rides_out(call, failure, client, provider):
    provider.answers(TRANSIENT[failure], GOOD)
    assert CALLS[call](client) == ANSWER
    record = provider.record()
    assert len(record) == 2
    assert_no_sdk_retry(record)
    assert record[0]["body_sha256"] == record[1]["body_sha256"]


def test_embeddings(client, provider):
    provider.answers(failing(503), GOOD)
    vector = client.embeddings.create(model="text-embedding-3-small", input="hi").data[0].embedding
    assert vector == [0.25, -0.5, 0.75, 1.0]
    assert len(provider.record()) == 2


def test_models_list(client, provider):
    provider.answers(RESET, GOOD)
    assert [m.id for m in client.models.list()] == ["gpt-4o", "gpt-4o-mini"]
    assert [(r["method"], r["target"]) for r in provider.record()] == [("GET", "/v1/models")] * 2


def test_async_stream(client, provider):
    async def ask():
        async with AsyncOpenAI() as c:
            chunks = await c.chat.completions.create(**CHAT, stream=True)
            return "".join([k.choices[0].delta.content or "" async for k in chunks if k.choices])

    provider.answers(failing(503), RESET, GOOD)
    assert asyncio.run(ask()) == ANSWER
    assert_no_sdk_retry(provider.record())


@pytest.mark.parametrize("first", [
    {"sse": [{"error": {"message": "overloaded", "type": "server_error", "code": None}}]},
    {"sse": ["event: error\ndata: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n"]},
    {"sse": []},
], ids=["data-error", "event-error", "nothing"])
def test_stream_whose_first_event_is_an_error_is_retried(first, client, provider):
    provider.answers(first, GOOD)
    assert chat_stream(client) == ANSWER
    assert len(provider.record()) == 2


def test_50_at_once(provider, retryd, environment):
    d = retryd()
    environment(d)
    failures = list(TRANSIENT.values())
    provider.rules(*({"match": {"header": {"x-test-kind": str(i)}}, "key": "x-test-id",
                      "answers": [failure, GOOD]} for i, failure in enumerate(failures)))

    async def ask_all():
        async with AsyncOpenAI() as c:
            return await asyncio.gather(*(c.chat.completions.create(**CHAT, extra_headers={
                "x-test-id": str(n), "x-test-kind": str(n % len(failures))}) for n in range(50)))

    answers = asyncio.run(ask_all())
    assert [a.choices[0].message.content for a in answers] == [ANSWER] * 50
    record = provider.record()
    assert len(record) == 100
    assert_no_sdk_retry(record)
    ids = header(record, "x-test-id")
    assert all(ids.count(str(n)) == 2 for n in range(50))
    d.wait_line('msg="request"', count=50)
    assert {(r["end"], r["attempts"]) for r in d.requests()} == {("answered", "2")}


def test_upload_is_repeated_byte_for_byte(client, provider):
    sent = []

    def note(request):
        sent.append(hashlib.sha256(request.read()).hexdigest())

    sound = random.Random(7).randbytes(3 * 1024 * 1024 + 11)
    provider.answers(failing(503), RESET, {"json": {"text": ANSWER}})
    with openai.DefaultHttpx2Client(event_hooks={"request": [note]}) as http:
        told = OpenAI(http_client=http).audio.transcriptions.create(
            model="whisper-1", file=("sound.wav", sound))
    assert told.text == ANSWER
    record = provider.record()
    assert len(sent) == 1
    assert [r["body_sha256"] for r in record] == sent * 3
    assert all(r["body_len"] > len(sound) for r in record)
    assert len(set(header(record, "content-type"))) == 1


@pytest.mark.parametrize("size", [1000, 3 * 1024 * 1024])
def test_transcription_by_a_fallback_model(provider, retryd, environment, size):
    """The SDK's own form, in memory or in a file: only the model in it changes."""
    environment(retryd(config="[route all]\nfallback_models = gpt-4o-transcribe\n"))
    provider.answers(failing(404, "model_not_found"), {"json": {"text": ANSWER}})
    with OpenAI() as client:
        answer = client.audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=("sound.wav", b"x" * size))
    assert answer.parse().text == ANSWER
    assert answer.headers["x-retryd-model"] == "gpt-4o-transcribe"
    first, second = provider.record()
    assert second["body_len"] - first["body_len"] == len("gpt-4o-transcribe") - len("whisper-1")
    assert_no_sdk_retry([first, second])


def test_file_upload(client, provider):
    file = {"id": "file-1", "object": "file", "bytes": 5, "created_at": 1, "filename": "a.jsonl",
            "purpose": "batch", "status": "processed"}
    provider.answers(failing(500), {"json": file})
    assert client.files.create(file=("a.jsonl", b'{}\n{}'), purpose="batch").id == "file-1"
    assert len({r["body_sha256"] for r in provider.record()}) == 1


# --- failures that are ---

ALWAYS = {"429": (failing(429, "rate_limit_exceeded"), openai.RateLimitError, 429),
          "500": (failing(500), openai.InternalServerError, 500),
          "503": (failing(503), openai.InternalServerError, 503),
          "reset": (RESET, openai.InternalServerError, 502)}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", ALWAYS)
def test_default_sdk_makes_5_attempts_in_all(failure, call, client, provider):
    answer, kind, status = ALWAYS[failure]
    provider.answers(answer)
    with pytest.raises(openai.APIStatusError) as raised:
        CALLS[call](client)
    assert (type(raised.value), raised.value.status_code) == (kind, status)
    assert raised.value.response.headers["x-retryd-attempts"] == "5"
    assert len(provider.record()) == 5
    client.retryd.wait_line('msg="request"')
    assert len(client.retryd.requests()) == 1


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_insufficient_quota_makes_1_attempt(gzip, client, provider):
    provider.answers(failing(429, "insufficient_quota", gzip=gzip))
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(**CHAT)
    assert raised.value.code == "insufficient_quota"
    assert len(provider.record()) == 1


@pytest.mark.parametrize("status, code, kind", [
    (400, "context_length_exceeded", openai.BadRequestError),
    (401, "invalid_api_key", openai.AuthenticationError),
    (403, "unsupported_country_region_territory", openai.PermissionDeniedError),
    (404, "model_not_found", openai.NotFoundError),
    (422, None, openai.UnprocessableEntityError),
])
def test_verdicts_are_told_at_once(status, code, kind, client, provider):
    provider.answers(failing(status, code, message="No.", headers={"x-request-id": "req_no"}))
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**CHAT)
    error = raised.value
    assert (error.status_code, error.code, error.request_id) == (status, code, "req_no")
    assert error.body["message"] == "No."
    assert len(provider.record()) == 1


def test_unreachable_upstream_is_a_502_that_says_so(retryd, environment):
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        d = retryd(upstream=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        environment(d)
        with OpenAI() as client, pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(**CHAT)
    assert raised.value.status_code == 502
    assert raised.value.code == "connect_failed"
    assert "can reach it" in raised.value.body["message"]
    d.wait_line('msg="request"')
    assert [r["attempts"] for r in d.requests()] == ["5"]


# --- time ---


def test_the_timeout_of_a_call_is_kept(client, provider):
    """retryd answers a twentieth of it earlier: enough for the way on a machine that has much to do."""
    provider.answers({"preset": "auto", "delay_ms": 60_000})
    with pytest.raises(openai.APIStatusError) as raised:
        client.with_options(timeout=6).chat.completions.create(**CHAT)
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")
    record = provider.wait(closed=1)
    assert len(record) == 1
    in_time(record[0]["t_closed"] - record[0]["t_head"], 6000)


def test_timeout_of_1_s_forbids_a_longer_backoff(provider, retryd, environment):
    environment(retryd(retry={"initial_delay": "60s"}))
    provider.answers(failing(503))
    with OpenAI() as client, pytest.raises(openai.APIStatusError) as raised:
        client.with_options(timeout=1).chat.completions.create(**CHAT)
    assert raised.value.status_code == 503
    assert len(provider.record()) == 1


def test_client_that_leaves_ends_the_attempt(provider, retryd, environment):
    d = retryd()
    environment(d)
    provider.answers({"preset": "chat_stream", "events": 1000, "interval_ms": 20})
    with OpenAI() as client:
        chunks = client.chat.completions.create(**CHAT, stream=True)
        next(iter(chunks))
        left = time.monotonic() * 1000
        chunks.close()
    record = provider.wait(closed=1)
    in_time(record[0]["t_closed"] - left)
    assert d.wait_log('msg="request"')["end"] == "client_gone"


def test_cancelled_task_ends_the_attempt(provider, retryd, environment):
    d = retryd()
    environment(d)
    provider.answers({"preset": "auto", "delay_ms": 60_000})

    async def ask_and_cancel():
        async with AsyncOpenAI() as c:
            task = asyncio.create_task(c.chat.completions.create(**CHAT))
            await asyncio.to_thread(provider.wait, requests=1)
            left = time.monotonic() * 1000
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return left

    left = asyncio.run(ask_and_cancel())
    in_time(provider.wait(closed=1)[0]["t_closed"] - left)
    assert d.wait_log('msg="request"')["end"] == "client_gone"


# --- streams that break ---


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_chat_stream_broken_after_its_first_event_raises(how, client, provider):
    provider.answers({"preset": "chat_stream", "text": "aabbccdd", "events": 4,
                      "cut": {"after_deltas": 2, "how": how, "delay_ms": 400}})
    told = []
    with pytest.raises(openai.APIError) as raised:
        for chunk in client.chat.completions.create(**CHAT, stream=True):
            told.append(chunk.choices[0].delta.content)
    assert raised.value.code == "answer_truncated"
    assert "".join(t or "" for t in told) == "aabb"
    assert len(provider.record()) == 1


def test_responses_stream_broken_after_its_first_event_raises(client, provider):
    provider.answers({"preset": "responses_stream", "text": ANSWER,
                      "cut": {"after_deltas": 2, "delay_ms": 400}})
    with pytest.raises(openai.APIError, match="broke"):
        list(client.responses.create(**RESPONSE, stream=True))
    assert len(provider.record()) == 1
