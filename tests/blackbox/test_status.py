"""/status.json: what is ridden out, what has happened, and what may not be seen."""

import http.client
import json
import threading

import pytest
import raw

LIMITED = {"preset": "error", "status": 429, "code": "rate_limit_exceeded", "headers": {"retry-after": "60"}}
DOWN = {"preset": "error", "status": 503}


def status(d, query=""):
    code, text = d.admin("/status.json" + query)
    assert code == 200
    return json.loads(text)


def post(d, model="gpt-4o", path="/v1/chat/completions", **headers):
    c = http.client.HTTPConnection(d.host, d.port, timeout=20)
    try:
        c.request("POST", path, json.dumps({"model": model, "messages": []}), headers)
        answer = c.getresponse()
        answer.read()
        return answer.status
    finally:
        c.close()


def begun(d, model):
    """A request whose answer nobody waits for yet."""
    c = http.client.HTTPConnection(d.host, d.port, timeout=20)
    c.request("POST", "/v1/chat/completions", json.dumps({"model": model, "messages": []}))
    return c


def ended(d, n=1):
    d.wait_line('msg="request"', count=n)
    return status(d)


def target(found, upstream=0, model=0):
    return found["upstreams"][upstream]["models"][model]["targets"][0]


def test_all_is_well(provider, retryd):
    d = retryd()
    assert post(d) == 200
    found = ended(d)
    assert found["schema"] == 1 and found["health"] == {"state": "well", "sentence": "All is well", "why": []}
    assert found["history"] == [] and found["now"]["stories"] == []
    assert found["hour"]["requests"] == 1 and found["hour"]["minutes"][-1]["requests"] + \
        found["hour"]["minutes"][-2]["requests"] == 1
    assert len(found["hour"]["minutes"]) == 60
    assert found["configuration"]["file"] == d.config_path and found["configuration"]["last_reload"]["ok"] is True
    assert "[upstream test]" in found["configuration"]["dump"]
    assert target(found)["gate"]["state"] == "open"


def test_a_rescued_request_has_a_story(provider, retryd):
    provider.answers(DOWN, {"cut": {"before_head": True}}, {"preset": "auto"})
    d = retryd()
    assert post(d, path="/v1/chat/completions?key=hidden") == 200
    found = ended(d)
    (story,) = found["history"]
    line = d.requests()[0]
    assert story["id"] == line["id"] and story["path"] == "/v1/chat/completions" and story["model"] == "gpt-4o"
    assert (story["phase"], story["end"], story["status"], story["rescued"]) == ("ended", "answered", 200, True)
    assert [a["outcome"] for a in story["attempts"]] == ["failed", "failed", "good"]
    assert [a["reason"] for a in story["attempts"]] == ["overloaded", "connection_lost", None]
    assert [a["status"] for a in story["attempts"]] == [503, None, 200]
    assert story["attempts"][0]["wait_ms"] == 0 and story["attempts"][1]["wait_ms"] > 0
    assert story["attempts"][1]["start_ms"] >= story["attempts"][0]["duration_ms"]
    assert story["backoff_ms"] == int(line["wait_ms"]) and story["queue_ms"] == 0
    parts = ("upstream_ms", "backoff_ms", "queue_ms", "other_ms")
    assert story["total_ms"] == sum(story[p] for p in parts) == int(line["duration_ms"])
    assert found["time"]["total_ms"] == sum(found["time"][p] for p in parts)
    assert found["hour"]["rescued"] == 1 and found["hour"]["failures"] == {"overloaded": 1, "connection_lost": 1}


def test_a_failed_request_says_why(provider, retryd):
    provider.answers({"preset": "error", "status": 401, "code": "invalid_api_key"})
    d = retryd()
    assert post(d) == 401
    (story,) = ended(d)["history"]
    assert (story["end"], story["status"], story["reason"]) == ("failed", 401, "key_rejected")
    assert story["cannot_retry"] == d.requests()[0]["cannot_retry"]
    assert story["attempts"][0]["code"] == "invalid_api_key"


def test_what_is_ridden_out_right_now(provider, retryd):
    """The first waits for its hint, the second in the queue behind the gate that it closed."""
    provider.answers(LIMITED)
    d = retryd()
    first = begun(d, "gpt-4o")
    d.wait_line("gate closed")
    d.wait_line("attempt 1 of 5 failed")
    second = begun(d, "gpt-4o")
    raw.wait_metric(d, "retryd_queue_waiting", 1)
    found = status(d)
    assert found["health"]["state"] == "riding_out"
    assert any("gate opens in" in why for why in found["health"]["why"])
    assert target(found)["gate"]["state"] == "closed" and 50000 < target(found)["gate"]["changes_in_ms"] <= 60001
    assert target(found)["waiting"] == found["now"]["waiting"] == 1
    backing_off, queued = found["now"]["stories"]
    assert backing_off["phase"] == "backing_off" and backing_off["reason"] == "rate_limited"
    assert 50000 < backing_off["next_in_ms"] < 80000
    assert queued["phase"] == "queued" and queued["waits_for"] == "gate" and queued["attempts"] == []
    assert 50000 < queued["next_in_ms"] <= 60001
    first.close()
    second.close()
    d.wait_line('msg="request"', count=2)
    assert status(d)["now"]["stories"] == []


def test_a_wait_in_the_queue_is_told_only_if_it_was_long(provider, retryd):
    provider.rules(default={"preset": "auto", "delay_ms": 100})
    d = retryd(upstream_settings={"max_concurrency": 1})
    threads = [threading.Thread(target=post, args=(d,)) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    found = ended(d, 3)
    assert found["history"] == [] and found["hour"]["requests"] == 3
    assert found["time"]["queue_ms"] > 0 and found["upstreams"][0]["max_concurrency"] == 1


def test_a_slow_request_is_told(provider, retryd):
    provider.answers({"preset": "auto", "delay_ms": 30})
    d = retryd(admin={"slow": "10ms"})
    assert post(d) == 200
    (story,) = ended(d)["history"]
    assert story["end"] == "answered" and story["first_byte_ms"] > 10
    assert [a["outcome"] for a in story["attempts"]] == ["good"]


def test_breakers_and_keys(provider, retryd, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-first-0123456789abcdef\nsk-second-0123456789abcdef\n")
    provider.answers({"preset": "error", "status": 401, "code": "invalid_api_key"}, DOWN)
    d = retryd(upstream_settings={"api_key_file": keys}, breaker={"failures": 1, "open_for": "60s"},
               retry={"max_attempts": 2})
    post(d)
    found = ended(d)
    assert found["health"]["state"] == "down"
    model = found["upstreams"][0]["models"][0]
    assert model["breaker"]["state"] == "open" and 50000 < model["breaker"]["changes_in_ms"] <= 60000
    assert [k["state"] for k in found["upstreams"][0]["keys"]] == ["set_aside", "in_use"]
    assert found["upstreams"][0]["keys"][0]["changes_in_ms"] > 200000
    assert [a["key"] for a in found["history"][0]["attempts"]] == [1, 2]
    text = d.admin("/status.txt")[1]
    rows = text[text.index("MODEL                        KEY BREAKER"):].splitlines()[1:]
    assert [line.split()[1] for line in rows] == ["1", "2"]
    assert text.index("The latest that failed") < text.index("KEY BREAKER")  # the table may be long


def test_a_reload_that_failed(retryd):
    d = retryd()
    d.write_config("[server]\nlisten = 127.0.0.1:0\nnosuch = 1\n")
    d.signal(1)
    d.wait_line("reload failed")
    found = status(d)
    assert found["health"]["state"] == "attention" and "nosuch" in found["health"]["why"][0]
    assert found["configuration"]["last_reload"]["ok"] is False
    assert "nosuch" in found["configuration"]["last_reload"]["problem"]


def test_only_what_is_new(provider, retryd):
    provider.answers({"preset": "error", "status": 400})
    d = retryd()
    for _ in range(3):
        post(d)
    found = ended(d, 3)
    assert [s["serial"] for s in found["history"]] == [3, 2, 1] and found["history_serial"] == 3
    later = status(d, "?since=2")
    assert [s["serial"] for s in later["history"]] == [3] and later["configuration"]["dump"] is None
    assert status(d, "?since=3")["history"] == [] and status(d, "?since=3")["history_serial"] == 3
    assert set(later) == set(found)


def test_the_last_200_are_kept(provider, retryd):
    provider.answers({"preset": "error", "status": 400})
    d = retryd()
    with raw.Raw(d) as c:
        for i in range(230):
            c.request(body=b'{"model":"model-%d"}' % i)
            assert c.answer().status == 400
    found = ended(d, 230)
    assert len(found["history"]) == 200 and found["history"][0]["model"] == "model-229"
    assert len(found["upstreams"][0]["models"]) == 50 and found["upstreams"][0]["models_hidden"] == 180


def test_one_request(provider, retryd):
    provider.answers(DOWN, {"preset": "auto"})
    d = retryd()
    post(d)
    (story,) = ended(d)["history"]
    assert json.loads(d.admin("/requests/" + story["id"])[1]) == story
    assert d.admin("/requests/nosuch")[0] == d.admin("/requests/")[0] == 404


SECRETS = ["sk-configured-0123456789", "sk-client-abcdefghijkl", "header-value-4711", "proxy-pass-4711", "query-4711",
           "request-query-4711"]


def secretive(retryd, provider, tmp_path):
    """A daemon that knows secrets of every kind, and has met errors that quote them."""
    keys = tmp_path / "keys"
    keys.write_text(SECRETS[0] + "\n")
    provider.answers({"status": 401, "json": {"error": {"message": "no " + SECRETS[0], "code": SECRETS[0],
                                                        "type": "invalid_request_error"}}})
    d = retryd(provider.base_url + "?api=" + SECRETS[4],
               upstream_settings={"api_key_file": keys, "header.X-Own": SECRETS[2]},
               config="[upstream other]\nurl = http://127.0.0.1:1/v1\nproxy = http://user:proxy-pass-4711@127.0.0.1:1\n")
    post(d, path="/v1/chat/completions?" + SECRETS[5], Authorization="Bearer " + SECRETS[1])
    d.wait_line('msg="request"')
    return d


def test_no_secret_is_in_it(provider, retryd, tmp_path):
    """C31."""
    d = secretive(retryd, provider, tmp_path)
    text = d.admin("/status.json")[1]
    assert json.loads(text)["history"][0]["attempts"][0]["code"] == "(not shown: it quotes a key)"
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}], ids=str)
def test_a_web_page_sees_nothing(headers, retryd):
    """C30: nor one that has had its name point here (DNS rebinding)."""
    d = retryd()
    host, _, port = d.admin_address.rpartition(":")
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", "/status.json", headers=headers)
    answer = c.getresponse()
    assert answer.status == 403 and b"schema" not in answer.read()
    assert answer.getheader("Access-Control-Allow-Origin") is None
    c.close()
