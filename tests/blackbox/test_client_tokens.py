"""C29: tokens that clients must send. Who has one is served, and no token leaves retryd."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from cases import AUTO, error, pair
from daemon import Retryd
from raw import CHAT, Raw, ask
from test_rotation import IN_FORCE, UNUSABLE, replace

ALICE = "CANARY-alice-0123456789"
BOB = "CANARY-bob-0123456789abc"
OLD = "CANARY-old-0123456789abc"
KEY = "sk-upstreams-own"
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "gemini": GEMINI}
ROUTE = "[route google]\nbase = /v1beta\n"


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    replace(path, f"alice {ALICE}\n# an old one\n{BOB}\n")
    return path


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "key"
    replace(path, KEY + "\n")
    return {"api_key_file": path}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    replace(folder / "tokens", f"alice {ALICE}\n{BOB}\n")
    replace(folder / "key", KEY + "\n")
    with pair(server={"client_keys_file": folder / "tokens", "allowed_origins": "https://app.example"},
              upstream_settings={"api_key_file": folder / "key"}, config=ROUTE, log={"level": "debug"}) as both:
        both[0].answers(AUTO)
        yield both


WAYS = {
    "bearer": ([f"Authorization: Bearer {ALICE}"], ""),
    "bearer in any case": ([f"AUTHORIZATION: bearer   {ALICE}"], ""),
    "x-api-key": ([f"x-api-key: {ALICE}"], ""),
    "api-key": ([f"Api-Key: {ALICE}"], ""),
    "x-goog-api-key": ([f"X-Goog-Api-Key: {ALICE}"], ""),
    "query": ([], f"?key={ALICE}"),
    "query among others": ([], f"?alt=json&key={ALICE}&x=1"),
    "beside a key": (["x-api-key: sk-own", f"Authorization: Bearer {ALICE}"], ""),
    "twice": ([f"x-api-key: {OLD}", f"x-api-key: {ALICE}"], f"?key={BOB}"),
}


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_lets_in_and_goes_no_further(machine, api, way):
    provider, daemon = machine
    provider.clear()
    headers, query = WAYS[way]
    before = len(daemon.lines)
    assert ask(daemon, path=PATHS[api] + query, headers=[*headers, "X-Mine: stays"]).status == 200
    sent = provider.record()[0]
    names = {n.lower(): v for n, v in sent["headers"]}
    assert names["authorization"] == f"Bearer {KEY}" and names["x-mine"] == "stays"
    assert not {"x-api-key", "api-key", "x-goog-api-key"} & set(names)
    assert "CANARY" not in json.dumps(sent) and "sk-own" not in json.dumps(sent)
    assert sent["target"] == PATHS[api].replace("/v1beta", "/v1") + {"query among others": "?alt=json&x=1"}.get(way, "")
    daemon.wait_line('msg="request".* client=alice', start=before)


def test_the_second_token_has_no_name(machine):
    provider, daemon = machine
    before = len(daemon.lines)
    assert ask(daemon, headers=[f"Authorization: Bearer {BOB}"]).status == 200
    assert daemon.metric('retryd_client_requests_total{client="unnamed"}') == 1
    assert daemon.metric('retryd_client_requests_total{client="alice"}') >= 1
    assert " client=unnamed" in daemon.wait_line('msg="request".*client=', start=before)


REFUSED = {
    "none": [],
    "unknown": ["Authorization: Bearer sk-CANARY-unknown-0123456789"],
    "longer": [f"Authorization: Bearer {ALICE}x"],
    "shorter": [f"Authorization: Bearer {ALICE[:-1]}"],
    "other scheme": [f"Authorization: Basic {ALICE}"],
    "empty": ["Authorization: Bearer"],
    "the name": ["Authorization: Bearer alice"],
    "elsewhere": [f"X-Token: {ALICE}", f"Cookie: key={ALICE}"],
}


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("case", REFUSED)
def test_others_get_401_in_their_api_s_form(machine, api, case):
    provider, daemon = machine
    provider.clear()
    before = daemon.metric("retryd_refused_total")
    answer = ask(daemon, path=PATHS[api], headers=REFUSED[case])
    assert answer.status == 401
    assert answer.header("www-authenticate") == 'Bearer realm="retryd"'
    assert answer.header("x-should-retry") == "false"
    body = answer.json()
    if api == "gemini":
        assert (body["error"]["code"], body["error"]["status"]) == (401, "UNAUTHENTICATED")
    else:
        assert body["error"]["code"] == "invalid_api_key"
        assert body["error"]["type"] == {"openai": "invalid_request_error", "anthropic": "authentication_error"}[api]
        assert body.get("type") == {"openai": None, "anthropic": "error"}[api]
    assert "client_keys_file" in body["error"]["message"]
    assert provider.record() == []
    assert daemon.metric("retryd_refused_total") == before + 1
    assert daemon.metric("retryd_unauthorized_total") > 0


def test_the_body_need_not_come(machine):
    """The head decides: a client that asks first is told before it sends anything."""
    provider, daemon = machine
    provider.clear()
    with Raw(daemon) as c:
        c.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
               b"Expect: 100-continue\r\n\r\n")
        assert c.answer().status == 401
    assert provider.record() == []


def test_a_preflight_needs_none_and_a_page_can_read_the_refusal(machine):
    _, daemon = machine
    page = ["Origin: https://app.example"]
    asked = ask(daemon, method="OPTIONS", body=b"",
                headers=[*page, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"])
    assert asked.status == 204
    refused = ask(daemon, headers=page)
    assert (refused.status, refused.header("access-control-allow-origin")) == (401, "https://app.example")
    assert ask(daemon, headers=[*page, f"Authorization: Bearer {ALICE}"]).status == 200
    assert ask(daemon, method="OPTIONS", body=b"").status == 401


def test_a_foreign_host_or_page_is_refused_all_the_same(machine):
    _, daemon = machine
    token = f"Authorization: Bearer {ALICE}"
    with Raw(daemon) as c:
        c.request(body=CHAT, headers=[token], host="evil.example")
        assert c.answer().status == 403
    assert ask(daemon, headers=[token, "Origin: https://evil.example"]).status == 403


def test_the_admin_pages_need_none(machine):
    _, daemon = machine
    assert daemon.admin("/healthz")[0] == daemon.admin("/metrics")[0] == 200


def test_no_token_is_anywhere(machine):
    """Runs last of those that share the daemon: its log, at level = debug, and its metrics."""
    _, daemon = machine
    assert "CANARY" not in daemon.log and "CANARY" not in daemon.admin("/metrics")[1]


def test_an_error_of_the_upstream_that_quotes_the_head(provider, retryd, tokens, keys):
    d = retryd(server={"client_keys_file": tokens}, upstream_settings=keys, retry={"max_attempts": 1})
    provider.answers(error(400, message=f"bad header Bearer {KEY}"))
    assert ask(d, headers=[f"Authorization: Bearer {ALICE}"]).status == 400
    d.wait_line('msg="request"')
    assert "CANARY" not in d.log and KEY not in d.log


# --- the file ---------------------------------------------------------------------------------------


def status(d, token):
    return ask(d, headers=[f"Authorization: Bearer {token}"]).status


def test_a_change_is_taken_at_once(provider, retryd, tokens, keys):
    d = retryd(server={"client_keys_file": tokens, "workers": 2}, upstream_settings=keys)
    assert [status(d, t) for t in (ALICE, BOB, OLD)] == [200, 200, 401]
    replace(tokens, f"{OLD}\n")
    d.wait_line(IN_FORCE)
    wait_for(lambda: [status(d, t) for t in (ALICE, BOB, OLD) * 4] == [401, 401, 200] * 4)


def wait_for(what, timeout=20):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end


def test_requests_in_progress_continue(provider, retryd, tokens, keys):
    d = retryd(server={"client_keys_file": tokens}, upstream_settings=keys)
    with Raw(d) as c:
        c.send(head(len(json.dumps(CHAT))))
        wait_for(lambda: d.metric("retryd_requests_active") == 1)
        replace(tokens, f"{OLD}\n")
        d.wait_line(IN_FORCE)
        wait_for(lambda: status(d, ALICE) == 401)
        provider.clear()
        c.send(json.dumps(CHAT).encode())
        assert c.answer().status == 200
    assert "CANARY" not in json.dumps(provider.record())


def head(n):
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {ALICE}\r\nContent-Length: {n}\r\n\r\n").encode()


@pytest.mark.parametrize("bad", ["short\n", "", f"{OLD}\nalice: {ALICE}\n"])
def test_a_bad_file_changes_nothing(provider, retryd, tokens, keys, bad):
    d = retryd(server={"client_keys_file": tokens}, upstream_settings=keys)
    replace(tokens, bad)
    line = d.wait_line(UNUSABLE)
    assert "[server] client_keys_file" in line and "level=warn" in line
    assert [status(d, t) for t in (ALICE, BOB, OLD)] == [200, 200, 401]
    d.signal(signal.SIGHUP)
    d.wait_line("reload failed")
    assert [status(d, t) for t in (ALICE, BOB, OLD)] == [200, 200, 401]
    assert "CANARY" not in d.log


def test_a_reload_turns_it_on_and_off(provider, retryd, tokens, keys):
    d = retryd(upstream_settings=keys)
    assert status(d, "anything") == 200
    for server, expected in (({"client_keys_file": tokens}, 401), ({}, 200)):
        d.write_config(Retryd.make_config(provider.base_url, keys, "", {"server": server}))
        before = len(d.lines)
        d.signal(signal.SIGHUP)
        d.wait_line("configuration reloaded", start=before)
        wait_for(lambda want=expected: status(d, "anything") == want)


# --- who else may come in ------------------------------------------------------------------------------


def test_an_address_that_others_reach_needs_no_other_word(provider, retryd, tokens, keys):
    d = retryd(server={"listen": "0.0.0.0:0", "client_keys_file": tokens, "allowed_hosts": "localhost"},
               upstream_settings=keys)
    assert ask(("127.0.0.1", d.port)).status == 401
    assert ask(("127.0.0.1", d.port), headers=[f"x-api-key: {ALICE}"]).status == 200


def test_an_upstream_without_a_key_gets_none(provider, retryd, tokens):
    d = retryd(server={"client_keys_file": tokens})
    assert re.search(r"\[upstream test\] api_key_file: .*gets no key", d.log)
    assert status(d, ALICE) == 200
    names = {n.lower() for n, _ in provider.record()[0]["headers"]}
    assert "authorization" not in names


def test_a_client_s_own_retry_is_told_by_its_token(provider, retryd, tokens, keys):
    """C8: the same request of another client is a new one."""
    d = retryd(server={"client_keys_file": tokens}, upstream_settings=keys,
               retry={"repeat_window": "1m", "max_attempts": 2, "initial_delay": "1ms"})
    provider.answers(*[error(500)] * 5)
    for token, attempts in ((ALICE, "2"), (ALICE, "1"), (BOB, "2")):
        answer = ask(d, headers=[f"Authorization: Bearer {token}"])
        assert (answer.status, answer.header("x-retryd-attempts")) == (500, attempts)


def test_the_missing_file_is_an_error_of_its_own(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text(f"[server]\nclient_keys_file = {tmp_path}/none\n")
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", conf, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 6
    assert f"{conf}:2: [server] client_keys_file: \"{tmp_path}/none\" cannot be read" in done.stderr
