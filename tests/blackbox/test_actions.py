"""Actions on the admin listener: only with a token, and not by a page of another origin."""

import http.client
import signal

import pytest
import raw
from test_status import DOWN, LIMITED, begun, post, status, target

TOKEN = "admin-token-0123456789"


@pytest.fixture
def acting(retryd, tmp_path):
    """Daemons that take the token: acting(...)."""
    path = tmp_path / "tokens"
    path.write_text(f"ops {TOKEN}\n")

    def start(**how):
        return retryd(admin={"listen": "127.0.0.1:0", "token_file": path}, **how)

    return start


def act(d, name, token=TOKEN, method="POST", **headers):
    host, _, port = d.admin_address.rpartition(":")
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        if token is not None:
            headers["Authorization"] = "Bearer " + token
        c.request(method, "/actions/" + name, headers=headers)
        answer = c.getresponse()
        return answer.status, answer.read().decode()
    finally:
        c.close()


def test_reset_lets_those_through_who_wait(provider, acting):
    provider.answers(LIMITED, {"preset": "auto"})
    d = acting(retry={"max_attempts": 1})
    assert post(d) == 429
    d.wait_line("gate closed")
    waiting = begun(d, "gpt-4o")
    raw.wait_metric(d, "retryd_queue_waiting", 1)
    assert status(d)["actions"]["allowed"] is True
    assert act(d, "reset?upstream=nosuch") == (404, 'there is no upstream "nosuch"; there is test\n')
    assert act(d, "reset?upstream=test&model=gpt%2D4o") == (200, "1 gates, breakers and keys were reset\n")
    assert waiting.getresponse().status == 200
    waiting.close()
    assert target(status(d))["gate"]["state"] == "open"
    d.wait_line("gate open")


def test_reset_closes_breakers(provider, acting):
    provider.answers(DOWN, {"preset": "auto"})
    d = acting(breaker={"failures": 1, "open_for": "60s"}, retry={"max_attempts": 1})
    post(d)
    d.wait_line("breaker open")
    assert status(d)["health"]["state"] == "down"
    assert act(d, "reset")[0] == 200
    assert status(d)["health"]["state"] == "well" and post(d) == 200


def test_reload(acting):
    d = acting()
    code, text = act(d, "reload")
    assert code == 200 and "configuration reloaded from" in text
    with open(d.config_path, "a", encoding="utf-8") as f:
        f.write("[server]\nnosuch = 1\n")
    code, text = act(d, "reload")
    assert code == 409 and "nosuch" in text and "the previous configuration stays in force" in text


def test_drain_ends_it(acting):
    d = acting()
    assert act(d, "drain")[0] == 200
    assert d.wait() == 0


@pytest.mark.parametrize("token", [None, "", "wrong-token-0123456789", TOKEN[:-1], TOKEN + "x"])
def test_only_with_a_token(token, acting):
    d = acting()
    for name in ("reset", "reload", "drain", "nosuch"):
        assert act(d, name, token)[0] == 401
    assert d.process.poll() is None and "reloaded" not in d.log


def test_without_tokens_there_are_no_actions(retryd):
    d = retryd()
    assert act(d, "reset") == (403, "actions are off: no [admin] token_file is configured\n")
    assert status(d)["actions"]["allowed"] is False and "token_file" in d.admin("/")[1]


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://evil.example", "Host": "evil.example"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}], ids=str)
def test_not_by_another_page(headers, acting):
    """C30: not even one that knows the token; nor one that has had its name point here (DNS rebinding)."""
    d = acting()
    code, text = act(d, "drain", **headers)
    assert code == 403 and "actions" not in text
    assert d.process.poll() is None


def test_the_pages_own_origin_may(acting):
    d = acting()
    assert act(d, "reset", Origin=f"http://{d.admin_address}")[0] == 200


def test_without_javascript_no_button_is_shown(acting):
    page = acting().admin("/")[1]
    assert '<form id="actions" hidden>' in page and "<noscript>" in page and "form:not([hidden])" in page


def test_no_other_way(acting):
    d = acting()
    assert act(d, "reset", method="GET")[0] == 404
    assert act(d, "reset", method="PUT")[0] == 405
    assert act(d, "nosuch")[0] == 404


def test_tokens_are_read_again_and_never_shown(provider, acting, tmp_path):
    """C31."""
    d = acting()
    (tmp_path / "tokens").write_text("other-token-0123456789\n")
    d.signal(signal.SIGHUP)
    d.wait_line("configuration reloaded")
    assert act(d, "reset")[0] == 401 and act(d, "reset", "other-token-0123456789")[0] == 200
    shown = d.admin("/")[1] + d.admin("/status.json")[1] + d.log
    assert TOKEN not in shown and "other-token" not in shown
