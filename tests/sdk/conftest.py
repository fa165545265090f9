"""Shared by the tests with real clients: the failures of the provider, and its record.

The clients run as their users have them, with all their own retries on, unless a test says otherwise.
"""

import os

import pytest

pytest.register_assert_rewrite("node_sdk")

KEY = "sk-test-0123456789"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = "The answer is 42."

GOOD = {"preset": "auto", "text": ANSWER}


def failing(status, code=None, **more):
    """An error response of the API's own shape."""
    return {"preset": "error", "status": status, **({"code": code} if code else {}), **more}


RESET = {"cut": {"before_head": True}}
TRUNCATED = {"preset": "auto", "cut": {"after_bytes": 60}}

# Ways to fail that are worth another attempt, by name.
TRANSIENT = {
    "429": failing(429, "rate_limit_exceeded"),
    "500": failing(500),
    "503": failing(503),
    "reset": RESET,
    "truncated": TRUNCATED,
    "error-in-200": {"json": {"error": {"message": "overloaded", "code": 503}}},
}


def header(record, name):
    """The values of a header in each recorded request; None where it is absent."""
    return [{k.lower(): v for k, v in r["headers"]}.get(name) for r in record]


def assert_no_sdk_retry(record):
    """Every repeat was retryd's: the SDK called each of its requests the first."""
    assert set(header(record, "x-stainless-retry-count")) <= {"0"}


@pytest.fixture
def environment(monkeypatch):
    """Points the SDKs of this process and its children at a daemon: environment(d)."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

    def point(d):
        monkeypatch.setenv("OPENAI_BASE_URL", d.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    return point
