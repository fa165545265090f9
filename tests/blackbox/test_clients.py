"""Replays what agents and frameworks do on the wire: their headers, bodies, retries and closes (docs/clients.md).

The daemons have the ready-made routes for Anthropic and Google beside OpenAI's.
"""

import contextlib
import hashlib
import json
import os

import pytest
from cases import AUTO, error
from client import Provider
from daemon import Retryd
from raw import Raw, ask
from streams import PAUSE_MS, read_responses
from targets import Asked, value

ROUTES = """
[upstream openai]
url = {origin}/openai/v1
[upstream anthropic]
url = {origin}/anthropic
[upstream google]
url = {origin}/google
[route anthropic]
base = /anthropic
upstreams = anthropic
[route google]
base = /google
upstreams = google
"""
ATTEMPTS = 5
DOWN = {"match": {}, "answers": [error(503)], "then": "repeat"}


@contextlib.contextmanager
def machine(**how):
    how.setdefault("retry", {"initial_delay": "2ms", "max_attempts": ATTEMPTS, "repeat_window": "10m"})
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        config = ROUTES.format(origin=f"http://127.0.0.1:{provider.port}")
        with Retryd(config=config, **how) as daemon:
            yield provider, daemon


@pytest.fixture
def both():
    with machine() as pair:
        yield pair


# --- the clients ------------------------------------------------------------------------------------

# Codex 0.171: its instructions and tools make each turn some 40 KB; a workspace's state rides in a field.
TURN = json.dumps({"session_id": "s", "turn_id": "TURN", "sandbox": "none",
                   "workspaces": {f"/home/u/project-{n}": {"latest_git_commit_hash": f"{n:040x}",
                                                           "has_changes": True} for n in range(40)}})
CODEX = {"model": "gpt-5.2-codex", "instructions": "You are Codex. " * 2500, "stream": True, "store": False,
         "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
         "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {"effort": "medium"},
         "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199"}


def codex(n=0):
    """The fields that change from one request of a turn to the next are among them."""
    return ["Authorization: Bearer sk-codex", "Accept: text/event-stream", "Accept-Encoding: zstd,gzip",
            "originator: codex_exec", "session_id: 0199", f"x-client-request-id: {n}",
            f"x-codex-turn-metadata: {TURN.replace('TURN', str(n))}",
            "User-Agent: codex_exec/0.171.0 (Debian 12.0.0; x86_64) unknown"]


# What a hash map holds is written in another order for each of its five reconnects.
METADATA = {"session_id": "0199", "thread_id": "0199", "turn_id": "t", "x-codex-window-id": "0199:0",
            "x-codex-installation-id": "83ea", "x-codex-turn-metadata": TURN}


def codex_reconnects(n=0):
    names = sorted(METADATA, key=lambda name: hashlib.sha256(f"{n // 5} {name}".encode()).digest())
    return {**CODEX, "client_metadata": {name: METADATA[name] for name in names}}


CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 32000, "stream": True, "metadata": {"user_id": "user_1"},
          "system": [{"type": "text", "text": "S" * 20000}], "messages": [{"role": "user", "content": "hi"}]}


def claude(n=0):
    return ["x-api-key: sk-ant-1", "anthropic-version: 2023-06-01", "anthropic-beta: claude-code-20250219",
            "anthropic-dangerous-direct-browser-access: true", "x-app: cli", "X-Stainless-Lang: js",
            "X-Stainless-Runtime: node", "X-Stainless-Timeout: 600", f"X-Stainless-Retry-Count: {n}",
            "Accept: application/json", "Accept-Encoding: gzip, deflate, br, zstd",
            "User-Agent: claude-cli/2.1.0 (external, cli)"]


CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"temperature": 0}}
GEMINI = "/google/v1beta/models/{model}:streamGenerateContent?alt=sse"


def gemini(n=0):
    return ["x-goog-api-key: AIza1", "x-goog-api-client: google-genai-sdk/1.30.0 gl-node/v22",
            f"x-gemini-api-privileged-user-id: {n}", "User-Agent: GeminiCLI/0.40.0/gemini-2.5-pro (linux; x64)"]


def sdk(lang, agent):
    """Frameworks on the SDKs: the count of these repeats, which are not the SDK's, stays 0."""
    return lambda n=0: ["Authorization: Bearer sk-1", f"X-Stainless-Lang: {lang}", "X-Stainless-Retry-Count: 0",
                        f"User-Agent: {agent}", f"traceparent: 00-{n:032x}-{n:016x}-01"]


CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
# client: its path, body (or what makes that of each request) and fields, and how many requests it makes of one
# that fails and fails
AGENTS = {
    "codex": ("/v1/responses", CODEX, codex, 5),
    "codex-reconnects": ("/v1/responses", codex_reconnects, codex, 30),
    "aider": ("/v1/chat/completions", {**CHAT, "stream": True}, sdk("python", "litellm/1.80"), 8),
    "opencode": ("/v1/responses", {**CODEX, "instructions": "o"}, sdk("js", "opencode/1.18 ai-sdk/openai"), 20),
    "qwen": ("/v1/chat/completions", {**CHAT, "stream": True}, sdk("js", "QwenCode/0.5"), 5),
    "pi": ("/anthropic/v1/messages", CLAUDE, claude, 4),
    "gemini": (GEMINI.format(model="gemini-2.5-pro"), CONTENTS, gemini, 10),
    "langchain.js": ("/v1/chat/completions", CHAT, sdk("js", "langchainjs-openai"), 7),
    "vercel": ("/v1/responses", {"model": "gpt-4o", "input": "hi"}, sdk("js", "ai/6.0"), 3),
    "llamaindex": ("/v1/chat/completions", CHAT, sdk("python", "llama"), 3),
    "dspy": ("/v1/chat/completions", CHAT, sdk("python", "litellm"), 4),
    "async-openai": ("/v1/chat/completions", CHAT, sdk("rust", "async-openai"), 4),
}


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "anew"])
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agents_repeats_add_up(agent, kept, both):
    """C8: Under a persistent 503 it costs max_attempts, and one more for each time that it starts over, on a
    connection that it keeps or on new ones."""
    provider, daemon = both
    provider.rules(DOWN)
    path, body, fields, requests = AGENTS[agent]
    c = Raw(daemon)
    for n in range(requests):
        if not kept and n > 0:
            c.close()
            c = Raw(daemon)
        c.request("POST", path, body(n) if callable(body) else body, fields(n))
        answer = c.answer()
        assert (answer.status, answer.header("x-retryd-attempts")) == (503, "1" if n else str(ATTEMPTS))
        assert answer.header("x-should-retry") == "false"
    c.close()
    record = provider.record()
    assert len(record) == ATTEMPTS + requests - 1
    assert len({r["body_sha256"] for r in record}) == (requests // 5 if callable(body) else 1)


def test_a_second_generation_beside_it_has_its_own_attempts(both):
    """C8: opencode and Qwen Code ask for a title at the same time; the Gemini CLI turns to another model, with the
    same body."""
    provider, daemon = both
    provider.rules(DOWN)
    title = {**CHAT, "messages": [{"role": "user", "content": "a title for: hi"}]}
    others = [("/v1/chat/completions", CHAT, sdk("js", "x")), ("/v1/chat/completions", title, sdk("js", "x")),
              (GEMINI.format(model="gemini-2.5-pro"), CONTENTS, gemini),
              (GEMINI.format(model="gemini-2.5-flash"), CONTENTS, gemini)]
    for attempts in (str(ATTEMPTS), "1"):
        for path, body, fields in others:
            assert ask(daemon, body, path, fields()).header("x-retryd-attempts") == attempts


@pytest.mark.parametrize("agent", ["codex", "aider", "gemini", "pi"])
def test_an_outage_that_ends_is_over_for_its_repeat(agent, both):
    """C8."""
    provider, daemon = both
    provider.rules({"match": {}, "answers": [error(503)] * (ATTEMPTS + 2) + [{**AUTO, "text": "hello"}],
                    "then": "repeat"})
    path, body, fields, _ = AGENTS[agent]
    answers = [ask(daemon, body, path, fields(n)) for n in range(4)]
    assert [a.status for a in answers] == [503, 503, 503, 200]
    assert answers[-1].whole and b"hello" in answers[-1].body


@pytest.mark.parametrize("mode", ["live", "splice", "hold"])
def test_streams_that_break_each_time_are_not_multiplied_by_reconnects(mode):
    """C8: Codex connects anew five times behind a stream that broke."""
    with machine(stream={"mode": mode, "mend_timeout": "10s"}) as (provider, daemon):
        cut = {"after_deltas": 2, "delay_ms": 0 if mode == "hold" else PAUSE_MS}
        provider.answers({**AUTO, "text": "abcd", "events": 4, "cut": cut})
        answers = [ask(daemon, CODEX, "/v1/responses", codex(n)) for n in range(6)]
        for answer in answers:
            if mode == "hold":
                assert answer.status >= 500 and answer.error["message"]
            else:  # response.failed is what Codex shows
                assert answer.whole and "response.failed" in answer.body.decode()
        assert len(provider.record()) <= ATTEMPTS + 5


# --- Codex ------------------------------------------------------------------------------------------


def test_codex_is_told_426_at_its_first_handshake_and_goes_on_over_http(both):
    """C1."""
    provider, daemon = both
    provider.answers({**AUTO, "text": "hello"})
    answer = ask(daemon, None, "/v1/responses", [
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate",
        "OpenAI-Beta: responses_websockets=2026-02-06", *codex()], method="GET")
    assert answer.status == 426 and "WebSocket" in answer.error["message"]
    assert provider.record() == []
    again = ask(daemon, CODEX, "/v1/responses", codex(1))
    assert again.status == 200 and read_responses(again.body).text == "hello"
    assert len(provider.record()) == 1


def test_codexs_turn_arrives_as_it_was_sent(both):
    """C1."""
    provider, daemon = both
    provider.answers(error(503), {**AUTO, "text": "hello"})
    body = json.dumps(CODEX).encode()
    assert len(body) > 35_000 and len(TURN) > 3_000
    answer = ask(daemon, body, "/v1/responses", ["Content-Type: application/json", *codex()])
    assert answer.whole and read_responses(answer.body).text == "hello"
    for attempt in provider.record():
        assert attempt["body_sha256"] == hashlib.sha256(body).hexdigest()
        for name, said in (line.split(": ", 1) for line in codex()):
            if name != "Accept-Encoding":  # a stream is asked for as it is
                assert value(attempt, name.lower()) == said


def test_codex_closes_at_response_completed_and_was_answered(both):
    """C27: The provider has said nothing yet of an end, and keeps the connection."""
    provider, daemon = both
    provider.answers({**AUTO, "text": "hello", "chunked": True, "stall": {"after_events": 9999}})
    with Raw(daemon) as c:
        c.request("POST", "/v1/responses", CODEX, codex())
        c.until(b"event: response.completed")
        c.until(b"\n\n")
    line = daemon.wait_log('msg="request"')
    assert (line["end"], line["attempts"]) == ("answered", "1")
    with Raw(daemon) as c:  # and the same turn sent again is a new request
        provider.rules(DOWN)
        c.request("POST", "/v1/responses", CODEX, codex())
        assert c.answer().header("x-retryd-attempts") == str(ATTEMPTS)


# --- Claude Code ------------------------------------------------------------------------------------

COUNT = "/anthropic/v1/messages/count_tokens?beta=true"
MESSAGES = "/anthropic/v1/messages?beta=true"
OVERLOADED = {"status": 529,
              "json": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}}


def test_twenty_five_counts_at_once_hold_up_no_message(both):
    """C19: /context counts the tokens of each tool; the provider has had enough of that."""
    provider, daemon = both
    limited = {**error(429), "headers": {"retry-after": "100"}}
    provider.rules({"match": {"path": "/anthropic/v1/messages/count_tokens"}, "answers": [limited]},
                   {"match": {}, "answers": [{**AUTO, "text": "hello"}]})
    tools = [{**CLAUDE, "tools": [{"name": f"t{n}"}]} for n in range(25)]
    counts = [Asked(daemon, tool, [*claude(), "x-retryd-deadline: 300s"], COUNT) for tool in tools]
    daemon.wait_line("429")
    for _ in range(3):
        answer = ask(daemon, CLAUDE, MESSAGES, claude())
        assert answer.whole and answer.header("x-retryd-attempts") == "1"
        assert answer.header("x-retryd-wait-ms") == "0"
    for count in counts:
        count.leave()


def test_twenty_five_counts_at_once_are_answered(both):
    """C1."""
    provider, daemon = both
    provider.rules({"match": {"path": "*/count_tokens"}, "answers": [{"json": {"input_tokens": 7}}]})
    counts = [Asked(daemon, {**CLAUDE, "n": n}, claude(), COUNT) for n in range(25)]
    assert [c.answer().json() for c in counts] == [{"input_tokens": 7}] * 25
    assert {r["target"] for r in provider.record()} == {"/anthropic/v1/messages/count_tokens?beta=true"}
    assert len(provider.record()) == 25


@pytest.mark.parametrize("path", ["/anthropic/api/hello", "/anthropic"])
@pytest.mark.parametrize("status", [200, 404])
def test_claudes_look_at_its_start_costs_one_request(status, path, both):
    """C1."""
    provider, daemon = both
    provider.answers({"status": status, "body": "hello"})
    answer = ask(daemon, None, path, claude(), method="HEAD")
    assert answer.status == status
    record, = provider.record()
    assert (record["method"], record["target"]) == ("HEAD", path)


def test_claude_declares_ten_minutes_in_all(both):
    """C7: What it declares goes on, and the response is there long before; a 529 is ridden out meanwhile."""
    provider, daemon = both
    provider.answers(OVERLOADED, OVERLOADED, {**AUTO, "text": "hello"})
    answer = ask(daemon, CLAUDE, MESSAGES, claude())
    assert answer.whole and b"hello" in answer.body and b"message_stop" in answer.body
    record = provider.record()
    assert [value(r, "x-stainless-timeout") for r in record] == ["600"] * 3
    assert [r["target"] for r in record] == ["/anthropic/v1/messages?beta=true"] * 3


def test_claude_gets_the_last_529_as_it_is(both):
    """C24."""
    provider, daemon = both
    provider.answers(OVERLOADED)
    answer = ask(daemon, CLAUDE, MESSAGES, claude())
    assert (answer.status, answer.json()) == (529, OVERLOADED["json"])
    assert answer.header("x-should-retry") == "false"  # which it obeys
    assert len(provider.record()) == ATTEMPTS


# --- Gemini CLI -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "query"])
def test_geminis_key_and_model_arrive_where_they_stood(how, both):
    """C1."""
    provider, daemon = both
    provider.answers(error(503), {**AUTO, "text": "hello"})
    path, fields = GEMINI.format(model="gemini-2.5-pro"), gemini()
    if how == "query":
        path, fields = path + "&key=AIzaQuery", fields[1:]
    answer = ask(daemon, CONTENTS, path, fields)
    assert answer.whole and b"hello" in answer.body
    for attempt in provider.record():
        assert attempt["target"] == path
        assert value(attempt, "x-goog-api-key") == ("AIza1" if how == "header" else None)
    line = daemon.wait_log('msg="request"')
    assert line["model"] == "gemini-2.5-pro" and line["attempts"] == "2"
    assert "AIza" not in daemon.log


def test_codex_claude_and_gemini_share_a_daemon(both):
    """C18: Where one API is down the others are served, each with its own key."""
    provider, daemon = both
    provider.rules({**DOWN, "match": {"path": "/openai/*"}}, {"match": {}, "answers": [AUTO]})
    for _ in range(3):
        assert ask(daemon, CODEX, "/v1/responses", codex()).status == 503
        assert ask(daemon, CLAUDE, MESSAGES, claude()).status == 200
        assert ask(daemon, CONTENTS, GEMINI.format(model="gemini-2.5-pro"), gemini()).status == 200
    keys = {(r["target"].split("/")[1], name.lower(), said) for r in provider.record() for name, said in r["headers"]
            if name.lower() in ("authorization", "x-api-key", "x-goog-api-key")}
    assert keys == {("openai", "authorization", "Bearer sk-codex"), ("anthropic", "x-api-key", "sk-ant-1"),
                    ("google", "x-goog-api-key", "AIza1")}
