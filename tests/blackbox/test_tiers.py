"""C18, C21: tiers of targets. In order or by weight, other keys, fallback models, and model names in requests."""

import hashlib
import json
from collections import Counter
from urllib.parse import parse_qsl, urlsplit

import pytest
from cases import error
from client import pattern
from raw import events_of
from targets import (ask, chat, flood, house, in_order, key_of, limited, model_of, on, total, value,
                     verdict, where)

SILENT = {"stall": {"before_head": True}}
SLOW_BACKOFF = {"initial_delay": "10s", "jitter": "none"}
BOTH = {"one": {}, "two": {}}
AT_ONCE_MS = 5000  # far below the backoff of these tests


def fallen_back(answer):
    return answer.header("x-retryd-model")


# --- several upstreams -----------------------------------------------------------------------------


def test_in_order_the_first_healthy_one_takes_all():
    """C18."""
    with house(BOTH) as (provider, daemon):
        answers = [ask(daemon, chat()) for _ in range(10)]
        assert where(provider.record()) == ["one"] * 10
    assert {a.header("x-retryd-target") for a in answers} == {"one"}
    assert {a.header("x-retryd-attempts") for a in answers} == {"1"}
    assert {fallen_back(a) for a in answers} == {None}


@pytest.mark.parametrize("failure", [error(503), error(500), limited(60000), {"cut": {"before_head": True}}],
                         ids=["503", "500", "429", "reset"])
def test_a_failure_goes_on_elsewhere_at_once(failure):
    """C18."""
    with house(BOTH, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", failure))
        answer = ask(daemon, chat())
        first, second = in_order(provider.record())
        assert where([first, second]) == ["one", "two"]
        assert second["t_first"] - first["t_answer_end"] < AT_ONCE_MS
        assert first["body_sha256"] == second["body_sha256"]
    assert answer.status == 200
    assert answer.header("x-retryd-target") == "two" and answer.header("x-retryd-attempts") == "2"
    assert fallen_back(answer) is None


def test_an_upstream_that_is_not_there():
    """C18."""
    upstreams = {"dead": {"url": "http://127.0.0.1:1/v1"}, "one": {}}
    with house(upstreams, retry=SLOW_BACKOFF) as (provider, daemon):
        answer = ask(daemon, chat())
        assert len(provider.record()) == 1
    assert (answer.status, answer.header("x-retryd-target")) == (200, "one")


def test_where_all_fail_they_take_turns_and_the_last_error_passes():
    """C18."""
    with house(BOTH) as (provider, daemon):
        provider.rules(on("one", error(503, message="of one")), on("two", error(500, message="of two")))
        answer = ask(daemon, chat())
        went = where(provider.record())
    assert went[:2] == ["one", "two"] and len(went) == 5
    assert all(a != b for a, b in zip(went, went[1:]))
    assert answer.json()["error"]["message"] == f"of {went[-1]}"
    assert answer.header("x-should-retry") == "false" and answer.header("x-retryd-target") == went[-1]


def test_requests_without_a_model_move_too():
    """C18."""
    with house(BOTH, {"fallback_models": "small"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", error(503)))
        answer = ask(daemon, None, "/v1/models", method="GET")
        assert where(provider.record()) == ["one", "two"]
    assert (answer.status, fallen_back(answer)) == (200, None)


def test_routes_choose_their_upstreams():
    """C18."""
    routes = {"chat": {"path": "/chat/*", "upstreams": "two"}, "rest": {"upstreams": "one, two"}}
    with house(BOTH, routes=routes) as (provider, daemon):
        ask(daemon, chat())
        ask(daemon, {"model": "e", "input": "x"}, "/v1/embeddings")
        assert where(provider.record()) == ["two", "one"]


def test_weights_share_the_requests():
    """C18."""
    with house(BOTH, {"weights": "3, 1"}) as (provider, daemon):
        shots = flood(daemon, 400, every_ms=3)
        went = Counter(where(provider.record()))
    assert all(s.answer.status == 200 for s in shots) and went.total() == 400
    assert 250 <= went["one"] <= 350, went  # 300 +- 8.7: one in ten million fails by chance


def test_weights_leave_the_healthy_ones_to_help_out():
    """C18."""
    with house(BOTH, {"weights": "3, 1"}, retry=SLOW_BACKOFF, breaker={"failures": 0, "failure_rate": 0}) \
            as (provider, daemon):
        provider.rules(on("one", error(503)))
        answers = [ask(daemon, chat()) for _ in range(12)]
    assert {(a.status, a.header("x-retryd-target")) for a in answers} == {(200, "two")}
    assert {a.header("x-retryd-attempts") for a in answers} <= {"1", "2"}


def test_weight_0_is_a_spare():
    """C18."""
    with house(BOTH, {"weights": "1, 0"}, retry=SLOW_BACKOFF) as (provider, daemon):
        assert {ask(daemon, chat()).header("x-retryd-target") for _ in range(10)} == {"one"}
        provider.rules(on("one", error(503)))
        assert ask(daemon, chat()).header("x-retryd-target") == "two"


# --- key pools -------------------------------------------------------------------------------------

KEYS = ["sk-first", "sk-second", "sk-third"]


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "keys").write_text("".join(key + "\n" for key in KEYS))
    return {"one": {"api_key_file": tmp_path / "keys"}}


def test_a_key_that_is_limited_has_others_beside_it(pool):
    """C18."""
    with house(pool, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", limited(60000), key="sk-first"), on("one", limited(60000), key="sk-second"))
        answers = [ask(daemon, chat(), headers=["Authorization: Bearer sk-client"]) for _ in range(20)]
        used = Counter(key_of(r) for r in provider.record())
    assert {a.status for a in answers} == {200}
    assert used["sk-third"] == 20
    assert used["sk-first"] == 1 and used["sk-second"] == 1 and set(used) == set(KEYS)


def test_every_attempt_has_a_key_of_its_upstream(pool):
    """C18."""
    with house({**pool, "two": {"auth_header": "api-key", "api_key_env": "SECOND_KEY"}},
               env={"SECOND_KEY": "sk-other"}) as (provider, daemon):
        provider.rules(on("one", error(503)))
        answer = ask(daemon, chat(), headers=["Authorization: Bearer sk-client"])
        first, second = in_order(provider.record())
    assert answer.status == 200
    assert key_of(first) in KEYS and value(first, "api-key") is None
    assert value(second, "api-key") == "sk-other" and value(second, "authorization") is None


# --- fallback models -------------------------------------------------------------------------------


def test_after_attempts_per_tier_the_fallback_model():
    """C18."""
    with house(route={"fallback_models": "small", "retry.attempts_per_tier": 3}) as (provider, daemon):
        provider.rules(on("one", error(503), model="big"))
        answer = ask(daemon, chat())
        record = in_order(provider.record())
    assert [model_of(r) for r in record] == ["big"] * 3 + ["small"]
    assert (answer.status, answer.header("x-retryd-attempts")) == (200, "4")
    assert answer.header("x-retryd-target") == "one" and fallen_back(answer) == "small"


def test_the_response_names_the_model_that_served_it():
    """C21."""
    with house(route={"fallback_models": "small", "retry.attempts_per_tier": 1}) as (provider, daemon):
        provider.rules(on("one", error(503), model="big"))
        whole = ask(daemon, chat())
        stream = ask(daemon, chat(stream=True))
        assert total(daemon, "retryd_fallbacks_total", model="small") == 2
    assert whole.json()["model"] == "small"
    chunks = [json.loads(data) for data in events_of(stream.body) if data != "[DONE]"]
    assert chunks and {c["model"] for c in chunks} == {"small"}
    assert fallen_back(whole) == fallen_back(stream) == "small"


def test_the_response_is_kept_as_it_came():
    """C21: Whatever name the upstream gives the model in its response: not a byte of it is changed."""
    served = {"status": 200, "body": '{ "model" :"small-2026-01-01",  "choices":[{"index":0,"finish_reason":"stop",'
                                     '"message":{"role":"assistant","content":"a"}}] }',
              "headers": {"content-type": "application/json"}}
    with house(route={"fallback_models": "small", "retry.attempts_per_tier": 1}) as (provider, daemon):
        provider.rules(on("one", error(503), model="big"), on("one", served))
        answer = ask(daemon, chat())
    assert answer.body.decode() == served["body"] and fallen_back(answer) == "small"


REWRITTEN = {
    "spaces": b'{ "messages" : [ {"role":"user", "content":"\\"model\\":\\"big\\""} ] ,\n\t"model" : %s , "n":1 }',
    "nested": b'{"metadata":{"model":"big"},"messages":[{"model":"big"}],"model":%s}',
    "numbers": b'{"model":%s,"seed":12345678901234567890,"temperature":1.0e-0,"messages":[]}',
    "unicode": '{"model":%s,"messages":[{"role":"user","content":"h\u00e9 \U0001f600 \\u00e9"}]}'.encode(),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_nothing_but_the_model_is_rewritten(name):
    """C18."""
    with house(route={"fallback_models": "small", "retry.attempts_per_tier": 1}) as (provider, daemon):
        provider.rules(on("one", error(503), model="big"))
        answer = ask(daemon, REWRITTEN[name] % b'"big"', headers=["Content-Type: application/json"])
        first, second = in_order(provider.record())
    assert answer.status == 200
    assert first["body"].encode() == REWRITTEN[name] % b'"big"'
    assert second["body"].encode() == REWRITTEN[name] % b'"small"'
    assert value(second, "content-length") == str(second["body_len"])


def test_a_body_on_disk_is_rewritten_too():
    """C18: Beyond memory_body the body is in a file; the model stands behind two megabytes."""
    filler = "x" * (2 << 20)
    with house(route={"fallback_models": "a-much-longer-name", "retry.attempts_per_tier": 1},
               server={"memory_body": "64k"}) as (provider, daemon):
        provider.rules(on("one", error(503), model="big"))
        answer = ask(daemon, b'{"messages":[{"role":"user","content":"%s"}],"model":"big"}' % filler.encode())
        first, second = in_order(provider.record())
    assert answer.status == 200 and answer.json()["model"] == "a-much-longer-name"
    assert second["body_len"] - first["body_len"] == len("a-much-longer-name") - len("big")


def form(model, sound, order):
    """A form as the SDKs send it, and what it looks like for each model."""
    parts = {"model": b'Content-Disposition: form-data; name="model"\r\n\r\n%s\r\n' % model.encode(),
             "file": b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n'
                     b"Content-Type: audio/wav\r\n\r\n" + sound + b"\r\n"}
    return b"".join(b"--limit\r\n" + parts[name] for name in order) + b"--limit--\r\n"


FORM_TYPE = "Content-Type: multipart/form-data; boundary=limit"


@pytest.mark.parametrize("order", [("model", "file"), ("file", "model")], ids="-".join)
@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_forms_model_is_rewritten(order, size):
    """C18: A transcription: the fallback's name, and an upstream's own name for it, in the form; all else as it was."""
    sound = pattern(size)
    with house({"one": {"model.small": "our-small"}}, {"fallback_models": "small", "retry.attempts_per_tier": 1}) \
            as (provider, daemon):
        provider.rules({"answers": [error(503), {"json": {"text": "yes"}}]})
        answer = ask(daemon, form("whisper-1", sound, order), "/v1/audio/transcriptions", headers=[FORM_TYPE])
        first, second = in_order(provider.record())
        line = daemon.wait_log('msg="request"')
    assert answer.json() == {"text": "yes"} and fallen_back(answer) == "small"
    assert line["model"] == "whisper-1"
    for attempt, model in ((first, "whisper-1"), (second, "our-small")):
        assert attempt["body_sha256"] == hashlib.sha256(form(model, sound, order)).hexdigest()
        assert value(attempt, "content-type") == FORM_TYPE.partition(": ")[2]
        assert value(attempt, "content-length") == str(len(form(model, sound, order)))


def test_a_forms_model_chooses_its_route_and_its_path():
    """C18."""
    upstreams = {"one": {}, "azure": {"url": "PROVIDER/azure/d/{model}"}}
    routes = {"sound": {"model": "whisper-*", "upstreams": "azure"}, "rest": {"upstreams": "one"}}
    with house(upstreams, routes=routes) as (provider, daemon):
        for model in ("whisper-1", "other"):
            body = form(model, b"sound", ("file", "model"))
            assert ask(daemon, body, "/v1/audio/translations", headers=[FORM_TYPE]).status == 200
        targets = [r["target"] for r in in_order(provider.record())]
    assert targets == ["/azure/d/whisper-1/audio/translations", "/one/v1/audio/translations"]


def test_the_last_tier_takes_all_attempts_that_are_left():
    """C18."""
    with house(route={"fallback_models": "small, tiny", "retry.attempts_per_tier": 1,
                      "retry.max_attempts": 6}) as (provider, daemon):
        provider.rules(on("one", error(503)))
        answer = ask(daemon, chat())
        models = [model_of(r) for r in in_order(provider.record())]
    assert answer.status == 503 and models == ["big", "small"] + ["tiny"] * 4


@pytest.mark.parametrize("attempts,models", [(5, ["big"] * 3 + ["small", "tiny"]), (4, ["big", "big", "small", "tiny"]),
                                             (2, ["big", "small"]), (1, ["big"])])
def test_each_fallback_model_has_an_attempt_left(attempts, models):
    """C18: With the default of three attempts for each: a tier is left before it takes those of the others."""
    with house(route={"fallback_models": "small, tiny", "retry.max_attempts": attempts}) as (provider, daemon):
        provider.rules(on("one", error(503)))
        assert ask(daemon, chat()).status == 503
        assert [model_of(r) for r in in_order(provider.record())] == models


def test_a_model_does_not_fall_back_to_itself():
    """C18."""
    with house(route={"fallback_models": "small, tiny", "retry.attempts_per_tier": 1}) as (provider, daemon):
        provider.rules(on("one", verdict("context_length_exceeded", 400), model="small"))
        answers = [ask(daemon, chat("small")), ask(daemon, chat("tiny"))]
        assert [model_of(r) for r in in_order(provider.record())] == ["small", "tiny", "tiny"]
        provider.rules(on("one", verdict("context_length_exceeded", 400)))
        provider.clear()
        last = ask(daemon, chat("tiny"))
        assert [model_of(r) for r in in_order(provider.record())] == ["tiny", "small"]
    assert [(a.status, fallen_back(a)) for a in answers] == [(200, "tiny"), (200, None)]
    assert last.status == 400 and fallen_back(last) == "small"


def test_a_tier_is_all_of_its_upstreams():
    """C18."""
    with house(BOTH, {"fallback_models": "small", "retry.attempts_per_tier": 3}) as (provider, daemon):
        provider.rules(on("*", error(503), model="big"))
        answer = ask(daemon, chat())
        record = in_order(provider.record())
    assert answer.status == 200
    assert [model_of(r) for r in record] == ["big"] * 3 + ["small"]
    assert where(record)[:3] == ["one", "two", "one"]


@pytest.mark.parametrize("failure,attempts", [(verdict("model_not_found", 404), 2), (SILENT, 2),
                                              (verdict("context_length_exceeded", 400), 2)],
                         ids=["verdict", "silence", "context"])
def test_a_tier_is_left_at_once(failure, attempts):
    """C18."""
    with house(route={"fallback_models": "small"}, retry=SLOW_BACKOFF, timeout={"first_byte": "400ms"}) \
            as (provider, daemon):
        provider.rules(on("one", failure, model="big"))
        answer = ask(daemon, chat())
        first, second = in_order(provider.record())
    assert (answer.status, fallen_back(answer)) == (200, "small")
    assert answer.header("x-retryd-attempts") == str(attempts)
    ended = first["t_answer_end"] or first["t_closed"]
    assert second["t_first"] - ended < AT_ONCE_MS


# What may leave tier 0: (fallback_on, the failure, whether it leaves).
LEAVING = {
    "error": ("error", error(503), True), "error-not": ("timeout, context_length", error(503), False),
    "timeout": ("timeout", SILENT, True), "timeout-not": ("error, context_length", SILENT, False),
    "context": ("context_length", verdict("context_length_exceeded", 400), True),
    "context-not": ("error, timeout", verdict("context_length_exceeded", 400), False),
    "none": ("none", error(503), False), "none-silent": ("none", SILENT, False),
}


@pytest.mark.parametrize("name", LEAVING)
def test_fallback_on(name):
    """C18."""
    causes, failure, leaves = LEAVING[name]
    with house(route={"fallback_models": "small", "fallback_on": causes, "retry.attempts_per_tier": 1,
                      "retry.max_attempts": 3}, timeout={"first_byte": "300ms"}) as (provider, daemon):
        provider.rules(on("one", failure, model="big"))
        answer = ask(daemon, chat())
        models = [model_of(r) for r in in_order(provider.record())]
    if leaves:
        assert models == ["big", "small"] and answer.status == 200
    else:
        assert set(models) == {"big"} and answer.status >= 400 and fallen_back(answer) is None


def test_a_request_that_names_no_model_stays_in_its_tier():
    """C18."""
    with house(route={"fallback_models": "small", "retry.attempts_per_tier": 1}) as (provider, daemon):
        provider.rules(on("one", error(503)))
        answer = ask(daemon, {"messages": []})
        bodies = {r["body"] for r in provider.record()}
    assert answer.status == 503 and len(bodies) == 1 and fallen_back(answer) is None


# --- names on the way ------------------------------------------------------------------------------


def test_an_upstreams_own_name_for_a_model():
    """C18."""
    with house({"one": {"model.big": "vendor/big-v3", "model.small": "vendor/small-v1"}, "two": {}},
               {"fallback_models": "small", "retry.attempts_per_tier": 2}) as (provider, daemon):
        provider.rules(on("one", error(503), model="vendor/big-v3"), on("two", error(503), model="big"))
        answer = ask(daemon, chat())
        record = in_order(provider.record())
        provider.clear()
        ask(daemon, chat("another"))
        assert model_of(provider.record()[0]) == "another"
    assert [(where([r])[0], model_of(r)) for r in record] == \
        [("one", "vendor/big-v3"), ("two", "big"), ("one", "vendor/small-v1")]
    assert fallen_back(answer) == "small"  # as the configuration calls it
    assert answer.json()["model"] == "vendor/small-v1"  # as the upstream does


AZURE = {"auth_header": "api-key", "api_key_env": "AZURE_KEY"}


def test_azure():
    """C18: The model in the path, a query on every request, the key in a header of its own."""
    url = "PROVIDER/azure/openai/deployments/{model}?api-version=2024-10-21"
    with house({"azure": {**AZURE, "url": url, "model.gpt-4o": "our-deployment"}},
               env={"AZURE_KEY": "sk-azure"}) as (provider, daemon):
        answer = ask(daemon, chat("gpt-4o"), headers=["Authorization: Bearer sk-client"])
        ask(daemon, chat("other"), "/v1/chat/completions?a=1&b=%20")
        first, second = in_order(provider.record())
    assert answer.status == 200
    assert first["target"] == "/azure/openai/deployments/our-deployment/chat/completions?api-version=2024-10-21"
    assert value(first, "api-key") == "sk-azure" and value(first, "authorization") is None
    parts = urlsplit(second["target"])
    assert parts.path == "/azure/openai/deployments/other/chat/completions"
    assert sorted(parse_qsl(parts.query)) == [("a", "1"), ("api-version", "2024-10-21"), ("b", " ")]
    assert "b=%20" in parts.query  # as the client wrote it


def test_from_one_dialect_of_urls_to_another():
    """C18: OpenAI fails, Azure serves, under its own path, model and key; then Azure's fallback deployment."""
    upstreams = {"openai": {}, "azure": {**AZURE, "url": "PROVIDER/azure/d/{model}?v=1", "model.small": "mini"}}
    with house(upstreams, {"fallback_models": "small", "retry.attempts_per_tier": 2},
               env={"AZURE_KEY": "sk-azure"}) as (provider, daemon):
        provider.rules(on("openai", error(503)), on("azure", error(503), model="big"))
        answer = ask(daemon, chat(), headers=["Authorization: Bearer sk-client"])
        record = in_order(provider.record())
    assert answer.status == 200 and fallen_back(answer) == "small"
    assert [r["target"] for r in record[:2]] == ["/openai/v1/chat/completions", "/azure/d/big/chat/completions?v=1"]
    assert [r["target"] for r in record if r["status"] == 200] == ["/azure/d/mini/chat/completions?v=1"]
    assert {value(r, "authorization") for r in record if "/openai/" in r["target"]} == {"Bearer sk-client"}


@pytest.mark.parametrize("model,path", [("a/b", "a%2Fb"), ("a b?c#d", "a%20b%3Fc%23d"), ("..", None)])
def test_a_model_in_the_path_stays_one_segment(model, path):
    """C18: A client's model must not lead anywhere but to a deployment."""
    with house({"azure": {"url": "PROVIDER/azure/d/{model}/x"}}) as (provider, daemon):
        answer = ask(daemon, chat(model))
        targets = [r["target"] for r in provider.record()]
    if path is None:
        assert targets == [] and answer.status == 400
    else:
        assert targets == [f"/azure/d/{path}/x/chat/completions"] and answer.status == 200


def test_each_attempt_is_logged_with_its_target_and_model():
    """C18."""
    with house(BOTH, {"fallback_models": "small", "retry.attempts_per_tier": 2}) as (provider, daemon):
        provider.rules(on("*", error(503), model="big"))
        ask(daemon, chat())
        line = daemon.wait_log('msg="request"')
        first = daemon.wait_log("attempt 1 of 5")
        second = daemon.wait_log("attempt 2 of 5")
        assert total(daemon, "retryd_fallbacks_total", model="small") == 1
    assert (first["target"], second["target"]) == ("one", "two")
    assert line["target"] in ("one", "two") and line["attempts"] == "3"
