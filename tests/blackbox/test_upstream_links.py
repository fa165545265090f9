"""Connections to an upstream: plain, TLS, proxy, Unix socket; what is reused, and what errors say."""

import contextlib
import json
import os
import pwd
import re
import socket
import ssl
import struct
import subprocess
import threading

import pytest
from client import Provider
from pki import pki  # noqa: F401
from raw import CHAT, STREAM, Raw, ask, now_ms, pass_time, wait_metric, wait_requests
from targets import reload


def provider_with(cert):
    return Provider(os.environ["PROVIDER_BIN"], quiet=True, tls=cert)


@pytest.fixture
def secure(pki):  # noqa: F811
    with provider_with(pki.good) as p:
        yield p


def url_of(provider, host="127.0.0.1", scheme="https"):
    port = provider.tls_port if scheme == "https" else provider.port
    return f"{scheme}://{host}:{port}/v1"


# --- reuse -----------------------------------------------------------------------------------------


def test_plain_connections_are_reused(provider, retryd):
    d = retryd()
    with Raw(d) as c:
        for n in range(50):
            c.request(body=STREAM if n % 5 == 0 else CHAT)
            assert c.answer().status == 200
    assert provider.stats()["connections"] == 1
    assert wait_metric(d, "retryd_upstream_reused_total", 49) == 49
    assert d.metric("retryd_upstream_connections_total") == 1


def test_tls_connections_are_reused(secure, pki, retryd):  # noqa: F811
    d = retryd(url_of(secure), upstream_settings={"ca_file": pki.ca})
    with Raw(d) as c:
        for _ in range(50):
            c.request(body=CHAT)
            assert c.answer().status == 200
    stats = secure.stats()
    assert (stats["connections"], stats["tls_handshakes"], stats["requests"]) == (1, 1, 50)


def test_tls_sessions_are_resumed(secure, pki, retryd):  # noqa: F811
    """Each connection is new; only the first needs a full handshake."""
    secure.answers({"preset": "auto", "close": True})
    d = retryd(url_of(secure), upstream_settings={"ca_file": pki.ca})
    with Raw(d) as c:
        for _ in range(20):
            c.request(body=CHAT)
            assert c.answer().status == 200
    stats = secure.stats()
    assert stats["tls_handshakes"] == 20
    assert stats["tls_resumed"] == 19


def test_unix_connections_are_reused(retryd, tmp_path):
    with Provider(os.environ["PROVIDER_BIN"], quiet=True, unix=tmp_path / "p.sock") as p:
        d = retryd(f"unix:{tmp_path}/p.sock:/v1")
        with Raw(d) as c:
            for _ in range(50):
                c.request(body=CHAT)
                assert c.answer().status == 200
        assert p.stats()["connections"] == 1
        assert {r["target"] for r in p.record()} == {"/v1/chat/completions"}


def test_missing_unix_socket(retryd, tmp_path):
    d = retryd(f"unix:{tmp_path}/nobody.sock:/v1", retry={"max_attempts": 2, "initial_delay": "1ms"})
    answer = ask(d)
    assert answer.status == 502 and answer.header("x-retryd-attempts") == "2"
    assert answer.error["code"] == "connect_failed"


def test_concurrent_requests_have_connections_of_their_own(provider, retryd):
    provider.answers({"preset": "auto", "delay_ms": 200})
    d = retryd()
    for _ in range(2):
        clients = [Raw(d) for _ in range(40)]
        for c in clients:
            c.request(body=CHAT)
        for c in clients:
            assert c.answer().status == 200
            c.close()
    assert provider.stats()["connections"] == 40


@pytest.mark.parametrize("kept", [False, True])
def test_head_leaves_its_body_behind(provider, retryd, kept):
    """A body has no meaning there, and libcurl would wait for a response's."""
    provider.answers({"preset": "models"})
    d = retryd(retry={"max_attempts": 1}, timeout={"first_byte": "2s", "idle": "2s"})
    with Raw(d) as c:
        if kept:
            c.request(body=CHAT)
            assert c.answer().status == 200
        for body in (CHAT, None, CHAT):
            c.request("HEAD", "/v1/models", body)
            assert c.answer("HEAD").status == 200
        c.request(body=CHAT)
        assert c.answer().status == 200
    heads = [r for r in provider.record() if r["method"] == "HEAD"]
    assert [r["body_len"] for r in heads] == [0, 0, 0]
    assert not any(n.lower() in ("content-length", "transfer-encoding") for r in heads for n, _ in r["headers"])
    assert provider.record()[-1]["body"] == json.dumps(CHAT)
    assert provider.stats()["connections"] == 1


# --- certificates ----------------------------------------------------------------------------------


CERTIFICATES = {
    "unknown authority": ("good", "other_ca", "127.0.0.1", "unable to get local issuer"),
    "system authorities": ("good", None, "127.0.0.1", "unable to get local issuer"),
    "wrong name": ("wrong_name", "ca", "localhost", "localhost"),
    "wrong address": ("wrong_name", "ca", "127.0.0.1", "127.0.0.1"),
    "expired": ("expired", "ca", "localhost", "expired"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_rejected_certificates_are_verdicts(pki, retryd, name):  # noqa: F811
    """C4."""
    cert, ca, host, word = CERTIFICATES[name]
    with provider_with(getattr(pki, cert)) as p:
        d = retryd(url_of(p, host), upstream_settings={"ca_file": getattr(pki, ca)} if ca else {})
        answer = ask(d)
        assert answer.status == 502
        assert answer.error["code"] == "certificate_rejected"
        assert word in answer.error["message"], answer.error
        assert f"the certificate of {host} does not verify: SSL" in answer.error["message"], answer.error
        assert "ca_file" in answer.error["message"]
        assert answer.header("x-retryd-attempts") == "1", "a certificate does not get better"
        assert "error=tls_certificate_error" in answer.header("proxy-status")
        line = d.wait_log("attempt 1 of 5 failed")
        assert line["reason"] == "certificate_rejected" and word in line["detail"]
        assert p.record() == []


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_why_a_certificate_was_refused_outlives_the_connection(pki, retryd, version):  # noqa: F811
    """C4: The server has reset the connection by the time it is to be told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki.good)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    def serve(listening):
        while True:
            s, _ = listening.accept()
            come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(come, go, server_side=True)
            while not go.pending:
                come.write(s.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.sendall(go.read())
            s.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        d = retryd(f"https://127.0.0.1:{listening.getsockname()[1]}/v1",
                   upstream_settings={"ca_file": pki.other_ca}, retry={"max_attempts": 2})
        answer = ask(d)
    assert answer.error["code"] == "certificate_rejected", answer.error
    assert "unable to get local issuer" in answer.error["message"], answer.error


def test_right_name_and_chain(secure, pki, retryd):  # noqa: F811
    for host in ("127.0.0.1", "localhost"):
        d = retryd(url_of(secure, host), upstream_settings={"ca_file": pki.big_bundle})
        assert ask(d).status == 200
    assert all(r["tls"] for r in secure.record())


def test_a_new_authority_is_taken_with_a_reload(secure, pki, retryd, tmp_path):  # noqa: F811
    """The file has the same name; what it held before is trusted no more, not even over what is kept."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pki.other_ca.read_bytes())
    d = retryd(url_of(secure), upstream_settings={"ca_file": ca})
    for file, status in ((None, 502), (pki.ca, 200), (pki.other_ca, 502), (pki.ca, 200)):
        if file:
            ca.write_bytes(file.read_bytes())
            reload(d)
        answer = ask(d)
        assert answer.status == status, (file, answer.body)
        if status == 502:
            assert answer.error["code"] == "certificate_rejected"
    handshakes = secure.stats()["tls_handshakes"]
    reload(d)
    assert ask(d).status == 200
    assert secure.stats()["tls_handshakes"] == handshakes, "a reload that changes nothing keeps connections"


def test_missing_ca_file(secure, retryd, tmp_path):
    """Found at start, or told with the first request: never taken for the system's authorities."""
    try:
        d = retryd(url_of(secure), upstream_settings={"ca_file": tmp_path / "none.pem"})
    except Exception as e:
        assert "none.pem" in str(e)
        return
    answer = ask(d)
    assert answer.status == 502 and answer.header("x-retryd-attempts") == "1"


def test_tls_to_a_plain_port(provider, retryd):
    """One that answers in plain HTTP, and one that waits for more of what it takes for a request."""
    plain = retryd()
    d = retryd(f"https://127.0.0.1:{plain.port}/v1", retry={"max_attempts": 3, "initial_delay": "1ms"})
    answer = ask(d)
    assert answer.status == 502
    assert answer.error["code"] == "tls_failed"
    assert answer.header("x-retryd-attempts") == "3"
    d = retryd(f"https://127.0.0.1:{provider.port}/v1", retry={"max_attempts": 2, "initial_delay": "1ms"},
               timeout={"connect": "200ms"})
    answer = ask(d)
    assert (answer.status, answer.error["code"]) == (504, "connect_timeout")
    assert provider.record() == []


def test_plain_to_a_tls_port(secure, retryd):
    d = retryd(f"http://127.0.0.1:{secure.tls_port}/v1", retry={"max_attempts": 2, "initial_delay": "1ms"})
    answer = ask(d)
    assert answer.status == 502 and answer.error["message"]
    assert secure.record() == []


def test_handshakes_that_fail_are_retried(secure, pki, retryd):  # noqa: F811
    """C3."""
    d = retryd(url_of(secure), upstream_settings={"ca_file": pki.ca})
    secure.rules(on_accept={"count": 2, "how": "reset"})
    answer = ask(d)
    assert answer.status == 200
    assert answer.header("x-retryd-attempts") == "3"
    assert len(secure.record()) == 1
    wait_requests(d, 1)
    assert d.metric("retryd_possible_duplicates_total") == 0


def test_silent_handshake_is_a_connect_timeout(secure, pki, retryd):  # noqa: F811
    """C7."""
    d = retryd(url_of(secure), upstream_settings={"ca_file": pki.ca}, timeout={"connect": "300ms"})
    secure.rules(on_accept={"count": 1, "how": "silence"})
    began = now_ms()
    answer = ask(d)
    assert answer.status == 200 and answer.header("x-retryd-attempts") == "2"
    assert 300 <= now_ms() - began < 5000
    assert d.wait_log("attempt 1 of 5 failed")["reason"] == "connect_timeout"


@pytest.mark.parametrize("version", ["auto", "1.1", "2"])
def test_http_version(secure, pki, retryd, version):  # noqa: F811
    """The provider speaks 1.1: each setting gets there, over TLS and without."""
    for scheme in ("https", "http"):
        d = retryd(url_of(secure, scheme=scheme), upstream_settings={"ca_file": pki.ca, "http_version": version})
        assert ask(d).status == 200
        assert ask(d, STREAM).body.endswith(b"data: [DONE]\n\n")
    assert {r["version"] for r in secure.record()} == {"HTTP/1.1"}
    assert not any(n.lower() in ("upgrade", "http2-settings") for r in secure.record() for n, _ in r["headers"])


# --- proxies ---------------------------------------------------------------------------------------


class Tinyproxy:
    def __init__(self, folder, *settings):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.log = folder / "tinyproxy.log"
        config = folder / "tinyproxy.conf"
        config.write_text("\n".join([f"User {pwd.getpwuid(os.geteuid()).pw_name}", f"Port {self.port}",
                                     "Listen 127.0.0.1", "Timeout 60", f"LogFile \"{self.log}\"",
                                     "LogLevel Connect", "MaxClients 50", *settings]) + "\n")
        self.process = subprocess.Popen(["tinyproxy", "-d", "-c", config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = now_ms() + 10_000
        while not self._accepts():
            assert now_ms() < deadline and self.process.poll() is None, "tinyproxy did not start"
            pass_time(0.02)

    def _accepts(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def saw(self, pattern):
        return re.search(pattern, self.log.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


def test_http_through_a_proxy(provider, retryd, tmp_path):
    with Tinyproxy(tmp_path) as proxy:
        d = retryd(upstream_settings={"proxy": proxy.url})
        with Raw(d) as c:
            for body in (CHAT, STREAM, CHAT):
                c.request(body=body)
                assert c.answer().status == 200
        assert proxy.saw(r"Request .*POST http://127.0.0.1:\d+/v1/chat/completions")
        assert len(provider.record()) == 3
        assert all("via" in [n.lower() for n, _ in r["headers"]] for r in provider.record())
        assert {r["target"] for r in provider.record()} == {"/v1/chat/completions"}


def test_targets_through_a_proxy(provider, retryd, tmp_path):
    targets = ["/v1/a?", "/v1/a", "/v1/a?b=c?", "/v1/?", "/v1/?x"]
    with Tinyproxy(tmp_path) as proxy:
        d = retryd(upstream_settings={"proxy": proxy.url})
        with Raw(d) as c:
            for target in targets:
                c.request("GET", target)
                assert c.answer().status == 200
    assert [r["target"] for r in provider.record()] == targets


def test_https_through_a_proxy(secure, pki, retryd, tmp_path):  # noqa: F811
    with Tinyproxy(tmp_path) as proxy:
        d = retryd(url_of(secure), upstream_settings={"proxy": proxy.url, "ca_file": pki.ca})
        with Raw(d) as c:
            for body in (CHAT, STREAM) * 5:
                c.request(body=body)
                answer = c.answer()
                assert answer.status == 200
                assert "tinyproxy" not in str(answer.headers).lower(), "the proxy's own head came through"
        assert proxy.saw(rf"CONNECT 127.0.0.1:{secure.tls_port}")
        assert secure.stats()["tls_handshakes"] == 1
        assert all(v.startswith("1.1 retryd-")
                       for r in secure.record() for n, v in r["headers"] if n.lower() == "via")


def test_certificates_are_checked_behind_a_proxy(pki, retryd, tmp_path):  # noqa: F811
    with Tinyproxy(tmp_path) as proxy, provider_with(pki.wrong_name) as p:
        d = retryd(url_of(p), upstream_settings={"proxy": proxy.url, "ca_file": pki.ca})
        answer = ask(d)
        assert answer.error["code"] == "certificate_rejected"
        assert answer.header("x-retryd-attempts") == "1"


def test_certificates_of_proxies_are_told_as_theirs(secure, pki, retryd, provider):  # noqa: F811
    """The proxy's own certificate does not verify; the upstream is never asked."""
    for url in (url_of(secure), provider.base_url):
        d = retryd(url, upstream_settings={"proxy": f"https://127.0.0.1:{secure.tls_port}",
                                           "ca_file": pki.other_ca})
        answer = ask(d)
        assert answer.error["code"] == "certificate_rejected"
        assert "the certificate of the proxy does not verify" in answer.error["message"], answer.error
    assert secure.record() == [] == provider.record()


def test_proxy_refuses_the_tunnel(secure, pki, retryd, tmp_path):  # noqa: F811
    with Tinyproxy(tmp_path, "ConnectPort 1") as proxy:
        d = retryd(url_of(secure), upstream_settings={"proxy": proxy.url, "ca_file": pki.ca},
                   retry={"max_attempts": 2, "initial_delay": "1ms"})
        answer = ask(d)
    assert answer.status == 502
    assert answer.error["code"] == "proxy_failed"
    assert "proxy" in answer.error["message"] and "403" in answer.error["message"]
    assert secure.record() == []


def test_proxy_is_down(provider, secure, pki, retryd, tmp_path):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    for url in (provider.base_url, url_of(secure)):
        d = retryd(url, upstream_settings={"proxy": f"http://127.0.0.1:{port}", "ca_file": pki.ca},
                   retry={"max_attempts": 2, "initial_delay": "1ms"})
        answer = ask(d)
        assert answer.status == 502 and answer.header("x-retryd-attempts") == "2"
        assert str(port) in answer.error["message"]
    assert provider.record() == [] == secure.record()


def test_environment_names_no_proxy(provider, secure, pki, retryd):  # noqa: F811
    nowhere = "http://127.0.0.1:1"
    env = {name: nowhere for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
    assert ask(retryd(env=env)).status == 200
    assert ask(retryd(url_of(secure), upstream_settings={"ca_file": pki.ca}, env=env)).status == 200


def test_environment_excepts_nothing_from_the_proxy(provider, retryd, tmp_path):
    with Tinyproxy(tmp_path) as proxy:
        d = retryd(upstream_settings={"proxy": proxy.url}, env={"no_proxy": "*", "NO_PROXY": "*"})
        assert ask(d).status == 200
    assert "via" in [n.lower() for n, _ in provider.record()[0]["headers"]]


# --- answers that are none ---------------------------------------------------------------------------


def head_with(field, status="200 OK"):
    return f"HTTP/1.1 {status}\r\n{field}\r\ncontent-length: 2\r\n\r\n{{}}"


BAD_HEADS = {
    "an unasked switch": ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
                          "switched protocols"),
    "a field too large": (head_with("x: " + "y" * 120_000), "too large"),
    "a reason too large": (head_with("x: y", "200 " + "O" * 120_000), "too large"),
    "fields too large together": (head_with("\r\n".join(["x: " + "y" * 4000] * 100)), "too large"),
    "too many fields": (head_with("\r\n".join(["x: y"] * 200)), "too large"),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_heads_that_cannot_be_taken(provider, retryd, name):
    wire, words = BAD_HEADS[name]
    provider.answers({"wire": [{"send": wire}]})
    d = retryd(retry={"max_attempts": 1}, timeout={"first_byte": "2s"})
    answer = ask(d)
    assert answer.status == 502
    assert words in answer.error["message"], answer.error
    large = words == "too large" and name != "a reason too large"
    assert f"error={'http_response_header_section_size' if large else 'http_protocol_error'}" in answer.header("proxy-status")
    assert words in answer.header("proxy-status")


@pytest.mark.parametrize("name", ["a field too large", "fields too large together", "too many fields"])
def test_a_good_response_whose_head_is_too_large_is_not_bought_again(provider, retryd, name):
    """C3: It was made, and would come just so again; that of an error may be smaller the next time."""
    wire, words = BAD_HEADS[name]
    provider.answers({"wire": [{"send": wire}]})
    d = retryd(retry={"initial_delay": "1ms"})
    answer = ask(d)
    assert (answer.status, answer.error["code"]) == (502, "response_headers_too_large")
    assert words in answer.error["message"]
    assert len(provider.record()) == 1
    provider.answers({"wire": [{"send": wire.replace("200 OK", "503 Busy")}]}, {"preset": "auto"})
    assert ask(d).status == 200


# --- long silence ----------------------------------------------------------------------------------


def keepalive_timers(port):
    """(local port, peer port) of established connections at `port` whose keep-alive timer runs."""
    out = subprocess.run(["ss", "-Htno", "state", "established", f"( sport = :{port} or dport = :{port} )"],
                         capture_output=True, text=True, check=True, timeout=20).stdout
    return {(int(m[1]), int(m[2])): m[3] for m in re.finditer(
        r"127\.0\.0\.1:(\d+) +127\.0\.0\.1:(\d+) +timer:\(keepalive,(\d+)", out)}


def test_long_silence_keeps_both_sides_awake(provider, retryd):
    """TCP keep-alive runs on both of retryd's sides while a response is silent."""
    provider.answers({"preset": "auto", "stall": {"before_head": True, "for_ms": 400}})
    d = retryd()
    with Raw(d) as c:
        c.request(body=CHAT)
        provider.wait(requests=1)
        client_side = keepalive_timers(d.port)
        upstream_side = keepalive_timers(provider.port)
        assert c.answer().status == 200
    mine = [left for (local, _), left in client_side.items() if local == d.port]
    assert len(mine) == 1 and int(mine[0]) <= 30, client_side
    mine = [left for (_, peer), left in upstream_side.items() if peer == provider.port]
    assert mine and all(int(left) <= 30 for left in mine), upstream_side


def test_first_byte_zero_waits_on(provider, retryd):
    """idle is for pieces of a response, not for its head: 0 waits as long as it takes."""
    provider.answers({"preset": "auto", "delay_ms": 1200})
    d = retryd(timeout={"first_byte": 0, "idle": "200ms", "first_content": 0}, retry={"deadline": 0})
    answer = ask(d)
    assert answer.status == 200 and answer.header("x-retryd-attempts") == "1"


def test_first_byte_timeout(provider, retryd):
    provider.answers({"preset": "auto", "stall": {"before_head": True}}, {"preset": "auto"})
    d = retryd(timeout={"first_byte": "300ms"})
    began = now_ms()
    answer = ask(d)
    assert answer.status == 200 and answer.header("x-retryd-attempts") == "2"
    assert 300 <= now_ms() - began < 5000
    line = d.wait_log("attempt 1 of 5 failed")
    assert line["reason"] == "first_byte_timeout" and line["possible_duplicate"] == "yes"
    assert provider.wait(closed=1)[0]["closed_early"]


def test_connect_timeout(retryd):
    """A listener whose queue is full answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for s in fillers:
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        d = retryd(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout={"connect": "250ms"},
                   retry={"max_attempts": 2, "initial_delay": "1ms"})
        with Raw(d) as c:
            c.request(body=CHAT)
            assert pass_time(0.4, c.sock) == []
            answer = c.answer()
        for s in fillers:
            s.close()
    assert answer.status == 504
    assert answer.error["code"] == "connect_timeout"
    assert answer.header("x-retryd-attempts") == "2"
