"""C4, C18: where each verdict leads: to another key, upstream or model that can help, or otherwise to the caller."""

import pytest
from cases import AUTO, error
from raw import text_of
from targets import ask, chat, flood, house, in_order, key_of, model_of, on, total, verdict, where

KEYS = ["sk-first-secret", "sk-second-secret"]
SLOW_BACKOFF = {"initial_delay": "10s", "jitter": "none"}


def said(status, **error_object):
    return {"status": status, "json": {"error": {"message": "m", **error_object}}}


ASIDE = {  # causes that lie with a key: (the response, its reason)
    "quota": (verdict("insufficient_quota", 429), "quota_exhausted"),
    "spend-limit": (verdict("project_spend_limit_exceeded", 429), "quota_exhausted"),
    "dead": (verdict("invalid_api_key", 401), "key_rejected"),
    "deactivated": (verdict("account_deactivated", 401), "key_rejected"),
    # in other words than OpenAI's
    "moonshot": (said(429, type="exceeded_current_quota_error"), "quota_exhausted"),
    "minimax": (said(500, type="api_error", message="insufficient balance (1008)"), "quota_exhausted"),
    "deepseek": (said(402, code="invalid_request_error", message="Insufficient Balance"), "quota_exhausted"),
    "zhipu": (said(429, code="1113"), "quota_exhausted"),
    "siliconflow": ({"status": 403, "json": {"code": 30001, "message": "m", "data": None}}, "quota_exhausted"),
    "alibaba": (said(400, code="Arrearage"), "quota_exhausted"),
}


@pytest.fixture
def pool(tmp_path):
    """Upstream "one" with two keys; more settings for it."""
    (tmp_path / "keys").write_text("".join(key + "\n" for key in KEYS))

    def settings(**more):
        return {"one": {"api_key_file": tmp_path / "keys", **more}}
    return settings


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("cause", ASIDE)
def test_a_key_that_is_done_for_is_left_alone(pool, cause, bad):
    """C4: One attempt finds it out. From then on the other one serves all."""
    failure, reason = ASIDE[cause]
    with house(pool(key_cooldown="60s"), retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", failure, key=KEYS[bad]))
        answers = [ask(daemon) for _ in range(20)]
        used = [key_of(r) for r in provider.record()]
        if KEYS[bad] in used:
            line = daemon.wait_log('msg="key set aside"')
            assert (line["target"], line["reason"], line["for_ms"]) == ("one", reason, "60000")
            assert total(daemon, "retryd_keys_set_aside_total", upstream="one", key=line["key"]) == 1
        assert not any(key in daemon.log + daemon.admin("/metrics")[1] for key in KEYS)
    assert {a.status for a in answers} == {200}
    assert used.count(KEYS[bad]) <= 1 and used.count(KEYS[1 - bad]) == 20


def test_after_its_cooldown_a_key_is_tried_again(pool):
    """C4."""
    with house(pool(key_cooldown="1s"), retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", verdict("insufficient_quota"), AUTO, key=KEYS[0]))

        shots = flood(daemon, 30, every_ms=70)
        first, again = [r for r in in_order(provider.record()) if key_of(r) == KEYS[0]][:2]
    assert {s.answer.status for s in shots} == {200}
    assert again["t_first"] - first["t_first"] >= 1000 - 20 and again["status"] == 200


@pytest.mark.parametrize("cause", ASIDE)
def test_all_keys_done_for(pool, cause):
    """C4: The API's own error, at once, and no storm of attempts to get it."""
    failure, _ = ASIDE[cause]
    with house(pool(key_cooldown="60s"), retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", failure))
        first = ask(daemon)
        assert sorted(key_of(r) for r in provider.record()) == KEYS
        provider.clear()
        others = [ask(daemon) for _ in range(5)]
        assert 5 <= len(provider.record()) <= 10
    for answer in [first, *others]:
        assert answer.status == failure["status"]
        assert answer.json() == failure["json"] and answer.header("x-should-retry") == "false"
    assert first.header("x-retryd-attempts") == "2"


def test_a_client_with_a_key_of_its_own_harms_no_other():
    """C4."""
    with house() as (provider, daemon):
        provider.rules(on("one", verdict("insufficient_quota"), key="sk-empty"))
        for _ in range(3):
            assert ask(daemon, headers=["Authorization: Bearer sk-empty"]).status == 429
            assert ask(daemon, headers=["Authorization: Bearer sk-full"]).status == 200
        assert [key_of(r) for r in in_order(provider.record())] == ["sk-empty", "sk-full"] * 3


def test_the_verdict_stands_in_a_streams_first_event(pool):
    """C4."""
    quota = {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}
    with house(pool(), retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", {"sse": [quota]}, key=KEYS[0]), on("one", {"preset": "auto", "text": "served"}))
        answer = ask(daemon, chat(stream=True))
        assert sorted(key_of(r) for r in provider.record()) in (KEYS, KEYS[1:])
    assert answer.status == 200 and text_of(answer.body) == "served"


def test_an_upstream_whose_keys_are_done_for_is_left(pool):
    """C4."""
    with house({**pool(key_cooldown="60s"), "two": {}}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", verdict("insufficient_quota")))
        answers = [ask(daemon) for _ in range(10)]
        went = where(provider.record())
    assert {(a.status, a.header("x-retryd-target")) for a in answers} == {(200, "two")}
    assert went[:3] == ["one", "one", "two"] and went[3:] == ["two"] * 9


# --- upstreams -------------------------------------------------------------------------------------

BOTH = {"one": {}, "two": {}}
ELSEWHERE = {
    "unknown-model": verdict("model_not_found", 404),
    "no-deployment": {"status": 404, "json": {"error": {"code": "DeploymentNotFound", "message": "m"}}},
    "forbidden": {"status": 403, "json": {"error": {"message": "m", "code": "forbidden", "type": "x"}}},
    "quota": verdict("insufficient_quota"),
    "not-implemented": error(501),
    "says-no": {**error(503), "headers": {"x-should-retry": "false"}},
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_another_upstream_may_serve(name):
    """C4."""
    with house(BOTH, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", ELSEWHERE[name]))
        answer = ask(daemon)
        assert where(provider.record()) == ["one", "two"]
    assert (answer.status, answer.header("x-retryd-target")) == (200, "two")
    assert answer.header("x-retryd-attempts") == "2"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_where_no_one_serves_it_each_is_asked_once(name):
    """C4."""
    with house(BOTH, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("*", ELSEWHERE[name]))
        answer = ask(daemon)
        assert where(provider.record()) == ["one", "two"]
    assert answer.status == ELSEWHERE[name]["status"]


# --- models ----------------------------------------------------------------------------------------

CONTEXT = verdict("context_length_exceeded", 400)


def test_a_context_overflow_goes_to_the_larger_model():
    """C4: At once, and to no other upstream with the same model: it is as small there."""
    with house(BOTH, {"fallback_models": "large"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("*", CONTEXT, model="small"))
        answer = ask(daemon, chat("small"))
        record = in_order(provider.record())
    assert [model_of(r) for r in record] == ["small", "large"]
    assert answer.status == 200 and answer.header("x-retryd-model") == "large"


def test_a_context_overflow_of_the_larger_model_too():
    """C4."""
    with house(BOTH, {"fallback_models": "large"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("*", CONTEXT))
        answer = ask(daemon, chat("small"))
        assert [model_of(r) for r in in_order(provider.record())] == ["small", "large"]
    assert answer.status == 400 and answer.json() == CONTEXT["json"]


def test_a_context_overflow_says_nothing_of_the_next_request():
    """C4."""
    with house(route={"fallback_models": "large"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("one", CONTEXT, AUTO, model="small"))
        assert ask(daemon, chat("small")).header("x-retryd-model") == "large"
        assert ask(daemon, chat("small")).header("x-retryd-model") is None


def test_a_model_nobody_has_is_fallen_back_from():
    """C4."""
    with house(BOTH, {"fallback_models": "small"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("*", verdict("model_not_found", 404), model="big"))
        answer = ask(daemon)
        record = in_order(provider.record())
    assert where(record)[:2] == ["one", "two"] and [model_of(r) for r in record] == ["big", "big", "small"]
    assert answer.status == 200


# --- nowhere ---------------------------------------------------------------------------------------

NOWHERE = {
    "content-policy": verdict("content_policy_violation", 400),
    "content-filter": verdict("content_filter", 400),
    "content-filter-429": verdict("content_filter", 429),
    "bad-request": error(400),
    "unprocessable": error(422),
    "not-found": error(404),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_what_leads_nowhere(pool, name):
    """C4: With keys, upstreams and models to spare: the caller gets it at once."""
    with house({**pool(), "two": {}}, {"fallback_models": "small"}, retry=SLOW_BACKOFF) as (provider, daemon):
        provider.rules(on("*", NOWHERE[name]))
        answer = ask(daemon)
        assert len(provider.record()) == 1
        assert total(daemon, "retryd_keys_set_aside_total") == 0
    assert answer.status == NOWHERE[name]["status"] and answer.header("x-retryd-attempts") == "1"
    assert answer.header("x-should-retry") == "false"
