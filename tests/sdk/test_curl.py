"""curl as scripts use it: uploads of every kind, and disconnects before the response."""

import hashlib
import json
import random
import subprocess
import time

import pytest
from conftest import ANSWER, GOOD, KEY, RESET, failing
from late import in_time

BIG = json.dumps({"model": "gpt-4o", "messages": [
    {"role": "user", "content": random.Random(5).randbytes(1_200_000).hex()}]}).encode()


@pytest.fixture
def daemon(retryd):
    return retryd()


@pytest.fixture
def curl(daemon):
    """curl(path, arguments...): the finished process; --data @- sends `body`."""
    def run(path, *arguments, body=b""):
        return subprocess.run(
            ["curl", "-sS", "-q", "--noproxy", "*", "-H", f"Authorization: Bearer {KEY}",
             "-H", "Content-Type: application/json", *arguments, daemon.base_url + path],
            input=body, capture_output=True, timeout=60)
    return run


def text(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["choices"][0]["message"]["content"]


def assert_same_body(record, body):
    assert [r["body_sha256"] for r in record] == [hashlib.sha256(body).hexdigest()] * len(record)


@pytest.mark.parametrize("body", [b'{"model":"gpt-4o","messages":[]}', BIG], ids=["small", "2.4 MB"])
def test_chunked_upload(body, curl, provider):
    provider.answers(failing(503), RESET, GOOD)
    done = curl("/chat/completions", "-H", "Transfer-Encoding: chunked", "--data-binary", "@-",
                body=body)
    assert text(done) == ANSWER
    record = provider.record()
    assert len(record) == 3
    assert_same_body(record, body)


def test_expect_100_continue_with_a_large_body(curl, provider):
    provider.answers(RESET, failing(500), GOOD)
    done = curl("/chat/completions", "-v", "--expect100-timeout", "30", "-H", "Expect: 100-continue",
                "--data-binary", "@-", body=BIG)
    assert text(done) == ANSWER
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    record = provider.record()
    assert len(record) == 3
    assert_same_body(record, BIG)


def test_upload_from_a_file(curl, provider, tmp_path):
    (tmp_path / "body").write_bytes(BIG)
    provider.answers(failing(503), GOOD)
    assert text(curl("/chat/completions", "--data-binary", f"@{tmp_path}/body")) == ANSWER
    assert_same_body(provider.record(), BIG)


def test_compressed(curl, provider):
    provider.answers(failing(503, gzip=True), {**GOOD, "gzip": True})
    done = curl("/chat/completions", "-v", "--compressed", "-d", '{"model":"gpt-4o"}')
    assert text(done) == ANSWER
    assert b"content-encoding: gzip" in done.stderr.lower()
    assert len(provider.record()) == 2


def test_stream(curl, provider):
    provider.answers(failing(503), RESET, {**GOOD, "events": 5})
    done = curl("/chat/completions", "-N", "-d", '{"model":"gpt-4o","stream":true}')
    assert done.returncode == 0
    events = done.stdout.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    told = [json.loads(e[6:])["choices"][0]["delta"].get("content", "") for e in events[:-2]]
    assert "".join(told) == ANSWER


def test_head_and_get(curl, provider):
    provider.answers(failing(503), GOOD, RESET, GOOD)
    assert curl("/models", "-I").stdout.startswith(b"HTTP/1.1 200")
    assert json.loads(curl("/models").stdout)["object"] == "list"
    assert [r["method"] for r in provider.record()] == ["HEAD", "HEAD", "GET", "GET"]


@pytest.mark.parametrize("answer", [
    {"preset": "auto", "delay_ms": 60_000},
    {"preset": "chat_stream", "events": 1000, "interval_ms": 20},
], ids=["waiting", "streaming"])
def test_abort_closes_at_once(answer, curl, daemon, provider):
    provider.answers(answer)
    done = curl("/chat/completions", "-m", "0.5", "-d", '{"model":"gpt-4o"}')
    left = time.monotonic() * 1000
    assert done.returncode == 28
    in_time(provider.wait(closed=1)[0]["t_closed"] - left)
    assert daemon.wait_log('msg="request"')["end"] == "client_gone"


def test_abort_while_uploading_sends_nothing_upstream(curl, daemon, provider):
    done = curl("/chat/completions", "-m", "0.5", "--limit-rate", "50k", "--data-binary", "@-", body=BIG)
    assert done.returncode == 28
    assert daemon.wait_log('msg="request"')["end"] == "client_gone"
    assert provider.record() == []
