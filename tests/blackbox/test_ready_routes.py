"""The ready-made routes in conf/retryd.conf as a user enables them, by removing the # from their lines."""

import os
import re
import subprocess

import pytest
from client import Provider
from daemon import Retryd
from raw import ask
from ready import page, ready_config, sample, uncommented
from targets import value

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
GEMINI = "/models/gemini-2.5-flash:generateContent"

# what a client says: its base URL's path, what it puts behind it, its key; then where that arrives
CLIENTS = {
    "openai": ("/v1", "/chat/completions", CHAT, "Authorization: Bearer sk-1", "/openai/v1/chat/completions"),
    "anthropic": ("/anthropic", "/v1/messages", MESSAGE, "x-api-key: sk-ant-1", "/anthropic/v1/messages"),
    "claude": ("/anthropic", "/v1/messages?beta=true", MESSAGE, "Authorization: Bearer sk-ant-oat-1",
               "/anthropic/v1/messages?beta=true"),
    "with-v1": ("/anthropic/v1", "/messages", MESSAGE, "x-api-key: sk-ant-1", "/anthropic/v1/messages"),
    "gemini": ("/google", "/v1beta" + GEMINI, CONTENTS, "x-goog-api-key: AIza1", "/google/v1beta" + GEMINI),
    "gemini-as-openai": ("/google/v1beta/openai", "/chat/completions", CHAT, "Authorization: Bearer AIza1",
                         "/google/v1beta/openai/chat/completions"),
}


@pytest.fixture(scope="module")
def machine():
    """The sample so edited, in front of a provider that plays all three APIs."""
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        text, n = re.subn(r"^#listen = 127.0.0.1:\d+$", "listen = 127.0.0.1:0", ready_config(provider), flags=re.MULTILINE)
        assert n == 2
        with Retryd(config=text, raw=True) as daemon:
            yield provider, daemon


def test_the_sample_with_ready_routes_is_right(tmp_path):
    path = tmp_path / "retryd.conf"
    path.write_text(uncommented(sample()), encoding="utf-8")
    check = subprocess.run([os.environ["DAEMON_BIN"], "-c", path, "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr + check.stdout


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_reaches_its_api_with_its_own_key(client, machine):
    """C1."""
    provider, daemon = machine
    base, path, body, key, arrives = CLIENTS[client]
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto", "text": "hello"})
    provider.clear()
    answer = ask(daemon, body, base + path, [key])
    assert answer.status == 200 and b"hello" in answer.body
    first, second = provider.record()
    name, _, said = key.partition(": ")
    for attempt in (first, second):
        assert (attempt["target"], value(attempt, name.lower())) == (arrives, said)


def test_an_error_of_our_own_is_in_each_apis_shape(machine):
    """C24."""
    provider, daemon = machine
    provider.answers({"cut": {"before_head": True}})
    shapes = {}
    for client in ("openai", "anthropic", "gemini"):
        base, path, body, key, _ = CLIENTS[client]
        answer = ask(daemon, body, base + path, [key])
        assert answer.status == 502
        shapes[client] = answer.json()
    assert shapes["openai"]["error"]["code"] == "connection_lost"
    assert shapes["anthropic"]["type"] == "error"
    assert shapes["gemini"]["error"]["status"] == "UNAVAILABLE"


def test_every_base_url_of_the_page_leads_somewhere(machine):
    """docs/clients.md names no base that a daemon with the ready routes does not serve."""
    provider, daemon = machine
    provider.answers({"preset": "auto"})
    bases = set(re.findall(r"http://127\.0\.0\.1:4290(/[a-z0-9/]*)", page()))
    assert bases >= {base for base, *_ in CLIENTS.values()}
    for base in bases:
        provider.clear()
        assert ask(daemon, CHAT, base + "/probe").status == 200, base
        assert provider.record()[0]["target"].endswith("/probe")
