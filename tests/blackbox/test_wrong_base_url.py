"""C24: a client with a wrong base URL gets the correct one in the error: paths, versions, hosts, TLS."""

import ssl

import pytest
from raw import CHAT, Closed, Raw, ask
from targets import house

ROUTES = {"openai": {"base": "/v1", "path": "/chat/*"}, "anthropic": {"base": "/anthropic", "path": "/v1/*"},
          "models": {"base": "/m/v1", "model": "small*"}}


def told(answer, status, code):
    assert (answer.status, answer.error["code"]) == (status, code)
    return answer.error["message"]


@pytest.fixture(scope="module")
def daemon():
    with house(routes={name: {"upstreams": "one", **keys} for name, keys in ROUTES.items()}) as (provider, daemon):
        yield daemon
        assert provider.record() == []


@pytest.mark.parametrize("path, words", [
    ("/chat/completions", ["serves /chat/completions;", "end in /v1 or /anthropic or /m/v1"]),
    ("/", ["serves /;", "/v1 or /anthropic"]),
    ("/v2/chat/completions?key=secret", ["serves /v2/chat/completions;"]),
    ("/anthropic/embeddings", ["serves /anthropic/embeddings;", "path in the [route]"]),
    ("/m/v1/chat/completions", ['for the model "gpt-4o"', "model in the [route]"]),
    ("/x/v1/messages", ["serves /x/v1/messages;", "end in the port or /anthropic or /m"]),
    ("/v1/v1/chat/completions", ["/v1 occurs twice", "base URL"]),
    ("/v1/v1/messages", ["/v1 occurs twice", "ANTHROPIC_BASE_URL"]),
    ("/anthropic/v1/v1/messages", ["/v1 occurs twice", "ANTHROPIC_BASE_URL"]),
    ("/v1beta/v1beta/models/g:generateContent", ["/v1beta occurs twice", "GOOGLE_GEMINI_BASE_URL"]),
    ("/%0a/%s%n\"x", ["serves /%0a/%s%n\"x;"]),
    ("/" + "a" * 4000, ["aaa...;"]),
])
def test_no_route_names_the_base(path, words, daemon):
    answer = ask(daemon, CHAT, path)
    if "messages" in path:
        assert answer.json()["type"] == "error"
    if "generateContent" in path:
        assert answer.status == 404
        message = answer.json()["error"]["message"]
    else:
        message = told(answer, 404, "no_route")
    for word in words:
        assert word in message, message
    assert "secret" not in message


def test_twice_elsewhere_passes(provider, retryd):
    """C1."""
    provider.answers({"status": 200, "json": {}})
    assert ask(retryd(), None, "/v1/v1/things", method="GET").status == 200


@pytest.mark.parametrize("host, shown", [("evil.example", '"evil.example"'), ("evil.example:80", '"evil.example"'),
                                         ("caf\u00e9", '"caf?"'), ("a" * 300, 'aaa..."')])
def test_a_refused_host_is_named_with_the_key(host, shown, retryd):
    """C30."""
    with Raw(retryd()) as c:
        c.request(body=CHAT, host=host)
        message = told(c.answer(), 403, "not_allowed")
    assert shown in message and "add it to that list ([server])" in message and "allowed_hosts" in message


def test_a_refused_origin_is_named_with_the_key(retryd):
    """C30."""
    message = told(ask(retryd(), headers=["Origin: https://evil.example"]), 403, "not_allowed")
    assert '"https://evil.example"' in message and "allowed_origins" in message


# --- TLS -----------------------------------------------------------------------------------------

HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(32)) * 6


def tls_lines(daemon):
    return [line for line in daemon.lines if "speaks TLS" in line]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
def test_a_client_that_speaks_tls_is_told(late, retryd):
    daemon = retryd()
    with Raw(daemon) as c:
        if late:  # the daemon has the connection, and has found nothing in it
            assert ask(daemon, None, "/v2", method="GET").status == 404
        c.send(HELLO)
        answer = c.answer()
        message = told(answer, 400, "plain_http_expected")
        assert "use http://" in message
        with pytest.raises(Closed):
            c.more()
    assert "level=warn" in daemon.wait_line("speaks TLS to this plain HTTP listener")


def test_a_real_handshake_ends_at_once_and_one_line_tells(retryd):
    daemon = retryd(server={"workers": "1"})
    context = ssl.create_default_context()
    for _ in range(5):
        with Raw(daemon) as c, pytest.raises(ssl.SSLError):
            context.wrap_socket(c.sock, server_hostname="localhost")
    assert ask(daemon, None, "/v2", method="GET").status == 404
    assert len(tls_lines(daemon)) == 1
    with Raw(daemon) as c:  # a kept connection is looked at but once
        for _ in range(3):
            c.request("GET", "/v2")
            assert c.answer().status == 404
