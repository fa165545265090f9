"""The OpenAI SDK for Node, with its own two retries on. Each of its majors has a module that takes over these tests.

Each call is one run of driver.mjs beside the SDK's node_modules.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import ANSWER, GOOD, RESET, TRANSIENT, assert_no_sdk_retry, failing, header
from late import in_time

HERE = pathlib.Path(__file__).resolve().parent
SDK = pathlib.Path(os.environ["SDK_DIR"])
CALLS = ["chat", "chat-stream", "responses", "responses-stream"]


@pytest.fixture(scope="module")
def driver(request):
    major = request.module.MAJOR
    folder = SDK / f"node{major}"
    shutil.copy2(HERE / "driver.mjs", folder)
    installed = json.loads((folder / "node_modules/openai/package.json").read_text())
    assert installed["version"].split(".")[0] == str(major)
    return [os.environ["NODE"], folder / "driver.mjs"]


@pytest.fixture
def node(driver):
    """node(op, ...): what came of the call."""
    def run(op, **job):
        done = subprocess.run([*driver, json.dumps({"op": op, **job})], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)
    return run


@pytest.fixture
def daemon(retryd, environment):
    d = retryd()
    environment(d)
    return d


# --- failures that are not seen ---


@pytest.mark.parametrize("failure", TRANSIENT)
@pytest.mark.parametrize("call", CALLS)
def test_rides_out(call, failure, daemon, provider, node):
    provider.answers(TRANSIENT[failure], GOOD)
    assert node(call)["text"] == ANSWER
    record = provider.record()
    assert len(record) == 2
    assert_no_sdk_retry(record)
    assert record[0]["body_sha256"] == record[1]["body_sha256"]


def test_embeddings_and_models(daemon, provider, node):
    provider.answers(failing(503), GOOD, failing(500), GOOD)
    assert node("embeddings")["text"] == [0.25, -0.5, 0.75, 1.0]
    assert node("models")["text"] == ["gpt-4o", "gpt-4o-mini"]
    assert len(provider.record()) == 4


def test_gzipped_answers_arrive_and_gzipped_errors_are_understood(daemon, provider, node):
    provider.answers(failing(503, gzip=True),
                     {"gzip": True, "json": {"error": {"message": "busy", "code": 503}}},
                     {**GOOD, "gzip": True})
    assert node("chat")["text"] == ANSWER
    record = provider.record()
    assert len(record) == 3
    assert all("gzip" in asked for asked in header(record, "accept-encoding"))


def test_stream_whose_first_event_is_an_error_is_retried(daemon, provider, node):
    provider.answers({"sse": [{"error": {"message": "overloaded", "type": "server_error"}}]}, GOOD)
    assert node("chat-stream")["text"] == ANSWER
    assert len(provider.record()) == 2


# --- failures that are ---

ALWAYS = {"429": (failing(429, "rate_limit_exceeded"), "RateLimitError", 429),
          "500": (failing(500), "InternalServerError", 500),
          "503": (failing(503), "InternalServerError", 503),
          "reset": (RESET, "InternalServerError", 502)}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", ALWAYS)
def test_default_sdk_makes_5_attempts_in_all(failure, call, daemon, provider, node):
    answer, name, status = ALWAYS[failure]
    provider.answers(answer)
    error = node(call)["error"]
    assert (error["name"], error["status"], error["attempts"]) == (name, status, "5")
    assert len(provider.record()) == 5
    daemon.wait_line('msg="request"')
    assert len(daemon.requests()) == 1


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_insufficient_quota_makes_1_attempt(gzip, daemon, provider, node):
    provider.answers(failing(429, "insufficient_quota", gzip=gzip, message="No money."))
    error = node("chat")["error"]
    assert (error["name"], error["code"]) == ("RateLimitError", "insufficient_quota")
    assert "No money." in error["message"]
    assert len(provider.record()) == 1


def test_the_error_is_the_original_one(daemon, provider, node):
    provider.answers(failing(400, "context_length_exceeded", headers={"x-request-id": "req_no"}))
    error = node("chat")["error"]
    assert (error["name"], error["status"], error["code"], error["requestID"]) == (
        "BadRequestError", 400, "context_length_exceeded", "req_no")
    assert len(provider.record()) == 1


def test_the_timeout_of_a_call_is_kept(daemon, provider, node):
    """retryd answers a twentieth of it earlier: enough for the way on a machine that has much to do."""
    provider.answers({"preset": "auto", "delay_ms": 60_000})
    error = node("chat", call={"timeout": 6000})["error"]
    assert (error["status"], error["code"]) == (504, "deadline_exceeded")
    record = provider.wait(closed=1)
    assert len(record) == 1
    in_time(record[0]["t_closed"] - record[0]["t_head"], 6000)


@pytest.mark.parametrize("call", ["chat-stream", "responses-stream"])
def test_stream_broken_after_its_first_event_throws(call, daemon, provider, node):
    provider.answers({"preset": "auto", "text": "aabbccdd", "events": 4,
                      "cut": {"after_deltas": 2, "delay_ms": 400}})
    result = node(call)
    assert result["text"] == "aabb"
    assert result["error"]["isAPIError"]
    assert result["error"]["code"] == "answer_truncated"
    assert len(provider.record()) == 1


# --- leaving ---


class Abortable:
    """A call that is under way until abort()."""

    def __init__(self, driver, op):
        self.process = subprocess.Popen([*driver, json.dumps({"op": op, "abort": True})], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def line(self):
        return json.loads(self.process.stdout.readline())

    def abort(self):
        """When it gave up. A stream then just ends; the other calls throw."""
        self.process.stdin.write("now\n")
        self.process.stdin.flush()
        result = self.line()
        assert result.get("error", {"name": "APIUserAbortError"})["name"] == "APIUserAbortError"
        assert len(result["text"]) < 1000
        return result["aborted_at"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=60)


def test_abort_while_waiting_closes_at_once(daemon, provider, driver):
    provider.answers({"preset": "auto", "delay_ms": 60_000})
    with Abortable(driver, "chat") as call:
        provider.wait(requests=1)
        left = call.abort()
    in_time(provider.wait(closed=1)[0]["t_closed"] - left)
    assert daemon.wait_log('msg="request"')["end"] == "client_gone"


def test_abort_while_streaming_closes_at_once(daemon, provider, driver):
    provider.answers({"preset": "chat_stream", "text": "first" * 1000, "events": 1000,
                      "interval_ms": 30})
    with Abortable(driver, "chat-stream") as call:
        assert call.line() == {"first": "first"}
        left = call.abort()
    in_time(provider.wait(closed=1)[0]["t_closed"] - left)
    assert daemon.wait_log('msg="request"')["end"] == "client_gone"


def test_abort_while_backing_off_makes_no_more_attempts(retryd, environment, provider, driver):
    d = retryd(retry={"initial_delay": "60s"})
    environment(d)
    provider.answers(failing(503))
    with Abortable(driver, "chat") as call:
        d.wait_line("attempt 1 of 5 failed")
        call.abort()
    line = d.wait_log('msg="request"')
    assert (line["end"], line["attempts"]) == ("client_gone", "1")
    assert len(provider.record()) == 1
