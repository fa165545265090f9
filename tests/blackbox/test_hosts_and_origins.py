"""C30: who may connect, by the host name that the client used and by the origin of the page."""

import pytest
from cases import AUTO, pair
from raw import CHAT, Raw


@pytest.fixture(scope="module")
def machine():
    with pair() as both:
        both[0].answers(AUTO)
        yield both


@pytest.fixture(scope="module")
def listed():
    with pair(server={"allowed_hosts": "api.example, [fd00::1]:99, 10.0.0.1",
                      "allowed_origins": "https://app.example, http://localhost:3000"}) as both:
        both[0].answers(AUTO)
        yield both


def call(machine, method="POST", **how):
    with Raw(machine[1]) as c:
        c.request(method, body=CHAT if method == "POST" else None, **how)
        return c.answer(method)


def assert_refused(machine, words, **how):
    provider, daemon = machine
    provider.clear()
    before = daemon.metric("retryd_refused_total")
    answer = call(machine, **how)
    assert answer.status == 403
    assert (answer.error["code"], answer.error["type"]) == ("not_allowed", "invalid_request_error")
    assert words in answer.error["message"]
    assert answer.header("access-control-allow-origin") is None
    assert provider.record() == []
    assert daemon.metric("retryd_refused_total") == before + 1


HOSTS = ["localhost", "localhost:4290", "LOCALHOST", "LocalHost:1", "127.0.0.1", "127.0.0.1:4290", "[::1]",
         "[::1]:4290"]
FOREIGN = ["evil.example", "evil.example:4290", "localhost.evil.example", "evil.localhost", "127.0.0.2",
           "127.0.0.1.evil.example", "[::2]", "::1", "[::1", "localhost@evil.example", "", ":4290", "0",
           "localhost.", "2130706433", "x" * 1000]


@pytest.mark.parametrize("host", HOSTS)
def test_host(machine, host):
    assert call(machine, host=host).status == 200


@pytest.mark.parametrize("host", FOREIGN, ids=lambda h: h[:30] or "empty")
def test_foreign_host(machine, host):
    assert_refused(machine, "allowed_hosts", host=host)


def test_listed_hosts(listed):
    for host, status in (("api.example", 200), ("API.example:8080", 200), ("[fd00::1]:99", 200),
                         ("10.0.0.1:1", 200), ("[fd00::1]", 403), ("[fd00::1]:98", 403), ("localhost", 403),
                         ("127.0.0.1", 403)):
        assert call(listed, host=host).status == status, host


ORIGINS = ["https://evil.example", "http://localhost", "http://localhost:4290", "http://127.0.0.1:4290", "null",
           "", "file://", "chrome-extension://abc"]


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda o: o or "empty")
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_origin(machine, method, origin):
    assert_refused(machine, "allowed_origins", method=method,
                   headers=[f"Origin: {origin}", "Access-Control-Request-Method: POST"])


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_fetch_from_another_site(machine, site):
    assert_refused(machine, "other sites", headers=[f"Sec-Fetch-Site: {site}"])


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_fetch_from_here(machine, site):
    """A page cannot be of this origin, since retryd serves none here; an address typed in is no page."""
    assert call(machine, headers=[f"Sec-Fetch-Site: {site}"]).status == 200


def test_listed_origins(listed):
    for origin, status in (("https://app.example", 200), ("http://localhost:3000", 200),
                           ("https://app.example:8443", 403), ("http://app.example", 403),
                           ("https://app.example.evil.example", 403), ("null", 403)):
        headers = [f"Origin: {origin}", "Sec-Fetch-Site: cross-site"]
        assert call(listed, host="api.example", headers=headers).status == status, origin


def test_two_hosts_or_none(machine):
    """Who is called must be clear."""
    assert call(machine, headers=["Host: localhost"]).status == 400
    assert call(machine, host=None).status == 400


def test_two_origins(listed):
    """A second one does not come in behind a listed first."""
    for first, second in (("app", "evil"), ("evil", "app")):
        headers = [f"Origin: https://{first}.example", f"Origin: https://{second}.example"]
        assert call(listed, host="api.example", headers=headers).status == 403


ODD = [('evil".example', 'evil".example'), ("a\\b", "a\\b"), ("caf\u00e9".encode().decode("latin-1"), "caf??"),
       ("x" * 300, "x" * 116 + "...")]


@pytest.mark.parametrize("name, shown", [("evil.example", "evil.example"), *ODD], ids=range(len(ODD) + 1))
@pytest.mark.parametrize("field", ["Host", "Origin"])
def test_who_was_refused_is_named(machine, field, name, shown):
    """In the response and in the log, which it can break in no way."""
    daemon = machine[1]
    start = len(daemon.lines)
    how = {"host": name} if field == "Host" else {"headers": [f"Origin: {name}"]}
    answer = call(machine, **how)
    assert answer.status == 403
    words = f'the {field} "{shown}" is not in allowed_'
    assert words in answer.error["message"]
    assert words in daemon.wait_log("request refused", start=start)["why"]


@pytest.mark.parametrize("headers, words", [
    (["Host: evil.example"], 'the Host "evil.example" is not in allowed_hosts'),
    (["Host: localhost", "Origin: https://evil.example"], 'the Origin "https://evil.example" is refused')])
def test_the_admin_listener_names_it_too(machine, headers, words):
    daemon = machine[1]
    address, _, port = daemon.admin_address.rpartition(":")
    start = len(daemon.lines)
    with Raw((address, int(port))) as c:
        c.request("GET", "/metrics", host=None, headers=headers)
        answer = c.answer()
    assert answer.status == 403 and words in answer.error["message"]
    assert words in daemon.wait_log("admin request refused", start=start)["why"]


@pytest.mark.parametrize("host, status", [("localhost", 200), ("127.0.0.1:1", 200), ("evil.example", 403)])
def test_admin_pages(machine, host, status):
    """A page that rebinds its name must not read what passes here, either."""
    address, _, port = machine[1].admin_address.rpartition(":")
    with Raw((address, int(port))) as c:
        c.request("GET", "/metrics", host=host)
        assert c.answer().status == status
