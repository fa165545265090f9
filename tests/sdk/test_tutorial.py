"""The programs of common tutorials without their retry loops: retryd rides out the failures for them."""

import ast
import asyncio
import pathlib
import subprocess
import sys

import openai
import pytest
import tutorial_async
import tutorial_sync
from conftest import ANSWER, GOOD, RESET, assert_no_sdk_retry, failing

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = ["tutorial_sync.py", "tutorial_async.py"]
ASK = {"sync": tutorial_sync.ask, "async": lambda *a: asyncio.run(tutorial_async.ask(*a))}

LAST_WORDS = failing(429, "rate_limit_exceeded", type="requests", message="Slow down, please.",
                     headers={"x-request-id": "req_the_last_one"})


def run(program):
    return subprocess.run([sys.executable, HERE / program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("program", PROGRAMS)
def test_prints_the_response_while_the_provider_fails_twice(program, provider, retryd, environment):
    environment(retryd())
    provider.answers(failing(503), RESET, GOOD)
    done = run(program)
    assert (done.stdout, done.stderr, done.returncode) == (f"Response: {ANSWER}\n", "", 0)
    record = provider.record()
    assert [r["answer"] for r in record] == [0, 1, 2]
    assert_no_sdk_retry(record)


@pytest.mark.parametrize("program", PROGRAMS)
def test_ends_with_the_original_error_once(program, provider, retryd, environment):
    environment(retryd())
    provider.answers(LAST_WORDS)
    done = run(program)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("openai.RateLimitError: Error code: 429") == 1
    assert done.stderr.count("Slow down, please.") == 1
    assert len(provider.record()) == 5


@pytest.mark.parametrize("kind", ASK)
def test_raises_what_the_provider_said(kind, provider, retryd, environment):
    environment(retryd())
    provider.answers(LAST_WORDS)
    with pytest.raises(openai.RateLimitError) as raised:
        ASK[kind]("hi")
    error = raised.value
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "requests")
    assert error.body["message"] == "Slow down, please."
    assert error.request_id == "req_the_last_one"
    assert len(provider.record()) == 5


@pytest.mark.parametrize("program", PROGRAMS)
def test_has_no_loop_and_no_exception_handling(program):
    retrying = (ast.For, ast.While, ast.Try, ast.AsyncFor, ast.comprehension)
    assert not any(isinstance(n, retrying) for n in ast.walk(ast.parse((HERE / program).read_text())))
