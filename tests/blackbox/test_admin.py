"""The admin listener: health, readiness, counters, and who may see them."""

import http.client
import re
import signal



def ask(d, path, *, method="GET", host=None):
    address, _, port = d.admin_address.rpartition(":")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    try:
        connection.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


def test_health_and_readiness(retryd):
    d = retryd()
    assert ask(d, "/healthz")[::2] == (200, "ok\n")
    assert ask(d, "/readyz")[::2] == (200, "ready\n")
    assert ask(d, "/healthz", method="HEAD")[::2] == (200, "")
    assert ask(d, "/healthz", method="POST")[0] == 405
    assert ask(d, "/nosuch")[0] == 404


def test_not_ready_while_draining(provider, retryd):
    provider.answers({"stall": {"before_head": True}})
    d = retryd(server={"drain_timeout": "1s"})
    client = http.client.HTTPConnection(d.host, d.port, timeout=20)
    client.request("POST", "/v1/chat/completions", "{}")
    provider.wait(requests=1)
    d.signal(signal.SIGTERM)
    d.wait_line("ending: finishing")
    assert ask(d, "/readyz")[::2] == (503, "draining\n")
    assert ask(d, "/healthz")[0] == 200
    client.close()


def test_metrics_are_in_the_prometheus_text_format(provider, retryd):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    d = retryd()
    client = http.client.HTTPConnection(d.host, d.port, timeout=20)
    client.request("POST", "/v1/chat/completions", "{}")
    assert client.getresponse().read()
    client.close()
    status, kind, text = ask(d, "/metrics")
    assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
    declared = set()
    for line in text.splitlines():
        found = re.fullmatch(r"# (HELP|TYPE) (\w+) .+", line)
        if found:
            declared.add(found[2])
            continue
        name = re.fullmatch(r'(\w+?)(_bucket|_sum|_count)?(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+]+', line)
        assert name, line
        assert name[1] in declared or name[1] + (name[2] or "") in declared, line
    samples = d.metrics()
    assert samples["retryd_requests_total"] == 1
    assert samples["retryd_attempts_total"] == 2
    assert samples["retryd_rescued_total"] == 1
    assert samples['retryd_retries_total{reason="overloaded"}'] == 1
    assert samples['retryd_request_duration_seconds_bucket{le="+Inf"}'] == 1


def test_c30_a_web_page_sees_nothing(retryd):
    d = retryd()
    assert ask(d, "/metrics", host="evil.example:80")[0] == 403
    assert ask(d, "/metrics", host="localhost")[0] == 200


def test_a_scraper_of_another_machine_may_use_any_name_where_admin_is_open(retryd):
    d = retryd(admin={"listen": "0.0.0.0:0"}, server={"insecure_listen": "yes"})
    assert ask(d, "/metrics", host="10.1.2.3:4291")[0] == 200


def test_off_means_off(provider, retryd):
    d = retryd(admin={"listen": "off"})
    assert d.admin_address is None and len(d.listeners) == 1


def test_no_sample_stands_twice_whoever_brings_the_key(provider, retryd):
    """A client's own key has a gate of its own, and no label of its own."""
    provider.answers({"preset": "error", "status": 429, "headers": {"retry-after-ms": "10"}}, {"preset": "auto"},
                     key="authorization")
    d = retryd(retry={"initial_delay": "1ms", "max_delay": "1ms"})
    for key in ("sk-one", "sk-two", "sk-three"):
        client = http.client.HTTPConnection(d.host, d.port, timeout=20)
        client.request("POST", "/v1/chat/completions", '{"model":"gpt-4o"}', {"Authorization": f"Bearer {key}"})
        answer = client.getresponse()
        assert answer.status == 200 and answer.read()
        client.close()
    names = [line.rpartition(" ")[0] for line in ask(d, "/metrics")[2].splitlines() if not line.startswith("#")]
    assert len(names) == len(set(names))
    assert d.metrics()['retryd_gate_closed_total{target="test",model="gpt-4o",operation="generate",key="0"}'] == 3
