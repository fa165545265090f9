"""C4, C5: the body overrides the status, and the upstream's own word overrides the table."""

import gzip
import zlib

import pytest
from cases import AUTO, Case, error, pair, run

# The codes of the API's verdicts (https://platform.openai.com/docs/guides/error-codes), and the reason that each is.
VERDICTS = {
    "insufficient_quota": "quota_exhausted",
    "credit_balance_exhausted": "quota_exhausted",
    "organization_spend_limit_exceeded": "quota_exhausted",
    "project_spend_limit_exceeded": "quota_exhausted",
    "organization_usage_limit_exceeded": "quota_exhausted",
    "billing_hard_limit_reached": "quota_exhausted",
    "billing_not_active": "quota_exhausted",
    "invalid_api_key": "key_rejected",
    "account_deactivated": "key_rejected",
    "model_not_found": "model_unknown",
    "context_length_exceeded": "context_too_long",
    "content_policy_violation": "content_policy",
    "content_filter": "content_policy",
}
STATUSES = [429, 500, 503, 200]
ENCODINGS = ["identity", "gzip", "deflate"]

SHAPES = {
    "by-type": ({"error": {"message": "m", "type": "insufficient_quota", "code": None}},
                "quota_exhausted"),
    "openrouter-credits": ({"error": {"message": "m", "code": 402}}, "quota_exhausted"),
    "anthropic-key": ({"type": "error", "error": {"type": "authentication_error", "message": "m"}},
                      "key_rejected"),
    "azure-deployment": ({"error": {"code": "DeploymentNotFound", "message": "m"}}, "model_unknown"),
    "google-key": ([{"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "m"}}],
                   "key_rejected"),
    "vllm-context": ({"object": "error", "type": "BadRequestError", "code": 400, "message":
                      "This model's maximum context length is 8192 tokens. However, you asked"},
                     "context_too_long"),
    "too-large-for-the-limit": ({"error": {"code": "rate_limit_exceeded", "type": "tokens", "message":
                                           "Request too large for gpt-4o on tokens per min (TPM): "
                                           "Limit 30000, Requested 40000."}}, "context_too_long"),
    "not-at-the-top": ({"id": "x", "filler": ["}" * 300, {"error": None}],
                        "error": {"code": "insufficient_quota", "message": "m"}}, "quota_exhausted"),
    # Empty accounts and dead keys in other words than OpenAI's, under whatever status.
    "moonshot-empty": ({"error": {"message": "Your account is suspended, please check your plan and billing details",
                                  "type": "exceeded_current_quota_error"}}, "quota_exhausted"),
    "moonshot-key": ({"error": {"message": "m", "type": "incorrect_api_key_error"}}, "key_rejected"),
    "minimax-empty": ({"type": "error", "error": {"type": "insufficient_balance_error", "message": "m",
                                                  "http_code": "429"}}, "quota_exhausted"),
    "minimax-words": ({"type": "error", "error": {"type": "api_error", "message": "insufficient balance (1008)"}},
                      "quota_exhausted"),
    "deepseek-empty": ({"error": {"message": "Insufficient Balance", "type": "unknown_error", "param": None,
                                  "code": "invalid_request_error"}}, "quota_exhausted"),
    "zhipu-empty": ({"error": {"code": "1113", "message": "\u4f59\u989d\u4e0d\u8db3"}}, "quota_exhausted"),
    "zhipu-locked": ({"error": {"code": "1121", "message": "m"}}, "key_rejected"),
    "alibaba-empty": ({"error": {"code": "Arrearage", "type": "Arrearage", "message": "m"}}, "quota_exhausted"),
    "ark-empty": ({"error": {"code": "AccountOverdueError", "type": "Forbidden", "message": "m"}}, "quota_exhausted"),
    "siliconflow-empty": ({"code": 30001, "message": "m", "data": None}, "quota_exhausted"),
    "novita-empty": ({"code": 403, "reason": "x", "message": "not enough balance"}, "quota_exhausted"),
    "xai-empty": ({"code": "x", "error": "Your team has either used all available credits or reached its limit"},
                  "quota_exhausted"),
    "google-empty": ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
                                "message": "Your prepayment credits are depleted."}}, "quota_exhausted"),
    "google-bad-key": ({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid."}},
                       "key_rejected"),
    "alibaba-content": ({"error": {"code": "data_inspection_failed", "message": "m"}}, "content_policy"),
    "escaped": ({"error": {"code": "insufficient_quota", "message": 'a "quoted" \\ \u00e9 \n word'}},
                "quota_exhausted"),
}


def verdict(code, status, encoding):
    return {"status": status, "json": {"error": {"message": "no", "type": "t", "param": None,
                                                 "code": code}},
            **({} if encoding == "identity" else {"encoding": encoding})}


@pytest.fixture(scope="module")
def seen():
    cases = {f"{code}-{status}-{encoding}": Case([verdict(code, status, encoding), AUTO])
             for code in VERDICTS for status in STATUSES for encoding in ENCODINGS}
    with pair() as (provider, daemon):
        found = {}
        for status in STATUSES:  # in portions: a thread each
            found |= run(provider, daemon, {n: c for n, c in cases.items() if f"-{status}-" in n})
        yield found


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("code", VERDICTS)
def test_verdict_is_final(seen, code, status, encoding):
    """C4."""
    case = seen[f"{code}-{status}-{encoding}"]
    assert len(case.attempts) == 1
    # A failure that calls itself a success reaches the caller as a failure.
    assert case.answer.status == (status if status >= 400 else 502)
    assert case.answer.header("content-encoding") == (None if encoding == "identity" else encoding)
    assert case.fact("x-should-retry") == "false"
    failure, = case.failures
    assert (failure["reason"], failure["code"]) == (VERDICTS[code], code)
    assert failure["cannot_retry"] == "the same request would fail again"
    body = case.answer.body
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    assert f'"{code}"'.encode() in body


def test_verdicts_in_other_shapes():
    """C4."""
    cases = {name: Case([{"status": 429, "json": body}, AUTO]) for name, (body, _) in SHAPES.items()}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    for name, (_, reason) in SHAPES.items():
        case = seen[name]
        assert len(case.attempts) == 1, name
        assert case.answer.status == 429, name
        assert case.failures[0]["reason"] == reason, name


def test_what_is_no_verdict():
    """C4: Rate limits and overload, however said, go on as their status has it."""
    codes = {"rate_limit_exceeded": "rate_limited", "slow_down": "overloaded",
             "server_is_overloaded": "overloaded", "overloaded_error": "overloaded",
             "anything_else": "rate_limited"}
    cases = {code: Case([error(429, code=code), AUTO]) for code in codes}
    cases["alibaba-a-minute"] = Case([error(429, code="insufficient_quota", type="insufficient_quota",
                                            message="Allocated quota exceeded, please increase your quota limit."), AUTO])
    cases["google-a-minute"] = Case([{"status": 429, "json": {"error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota"}}}, AUTO])
    cases["no-json"] = Case([{"status": 429, "body": "insufficient_quota"}, AUTO])
    cases["only-in-the-message"] = Case([error(429, message="not insufficient_quota"), AUTO])
    cases["broken-gzip"] = Case([{"status": 429, "body": '{"error":{"code":"insufficient_quota"}}',
                                  "headers": {"content-encoding": "gzip"}}, AUTO])
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    for name, case in seen.items():
        assert (case.answer.status, len(case.attempts)) == (200, 2), name
        assert case.failures[0]["reason"] == codes.get(name, "rate_limited"), name


def test_verdict_at_the_start_of_a_stream():
    """C4."""
    quota = {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}
    cases = {"data": Case([{"sse": [quota]}, AUTO], more={"stream": True}),
             "named": Case([{"sse": ['event: error\ndata: {"type":"error","code":"insufficient_quota",'
                                     '"message":"m"}\n\n']}, AUTO], more={"stream": True})}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, cases)
    for name, case in seen.items():
        assert len(case.attempts) == 1, name
        assert b"insufficient_quota" in case.answer.body, name
        assert case.failures[0]["reason"] == "quota_exhausted", name


# --- C5 --------------------------------------------------------------------------------------------

def says(status, word, **how):
    return {**error(status, **how), "headers": {"x-should-retry": word}}


QUOTA = {"code": "insufficient_quota"}
C5 = {  # (first response, attempts, reason)
    **{f"no-{s}": (says(s, "false"), 1, "upstream_says_no_retry") for s in (408, 409, 429, 500, 503)},
    **{f"yes-{s}": (says(s, "true"), 2, "upstream_says_retry") for s in (400, 401, 404, 422, 501)},
    "yes-500": (says(500, "true"), 2, "server_error"),
    "no-400": (says(400, "false"), 1, "client_error"),
    "upper-case": (says(503, "FALSE"), 1, "upstream_says_no_retry"),
    "maybe": (says(503, "maybe"), 2, "overloaded"),
    "maybe-400": (says(400, "maybe"), 1, "client_error"),
    "yes-quota-429": (says(429, "true", **QUOTA), 1, "quota_exhausted"),
    "yes-quota-500": (says(500, "true", **QUOTA), 1, "quota_exhausted"),
    "yes-key-401": (says(401, "true", code="invalid_api_key"), 1, "key_rejected"),
    "no-error-in-200": ({"status": 200, "json": {"error": {"message": "m"}},
                         "headers": {"x-should-retry": "false"}}, 1, "upstream_says_no_retry"),
}


@pytest.fixture(scope="module")
def told():
    with pair() as (provider, daemon):
        yield run(provider, daemon, {n: Case([first, AUTO]) for n, (first, _, _) in C5.items()})


@pytest.mark.parametrize("name", C5)
def test_should_retry(told, name):
    """C5."""
    case = told[name]
    first, attempts, reason = C5[name]
    assert len(case.attempts) == attempts
    assert case.failures[0]["reason"] == reason
    assert case.answer.status == (200 if attempts == 2 else max(first["status"], 400)
                                  if first["status"] >= 400 else 502)


def test_decides_over_retry_on():
    """C5."""
    with pair(retry={"initial_delay": "20ms", "retry_on": "none"}) as (provider, daemon):
        seen = run(provider, daemon, {"yes": Case([says(503, "true"), AUTO]),
                                      "silent": Case([error(503), AUTO])})
    assert len(seen["yes"].attempts) == 2
    assert len(seen["silent"].attempts) == 1


def test_good_responses_stay_good():
    """C5."""
    first = {"preset": "auto", "headers": {"x-should-retry": "true"}}
    with pair() as (provider, daemon):
        seen = run(provider, daemon, {"good": Case([first, error(500)])})
    assert len(seen["good"].attempts) == 1
    assert seen["good"].answer.all("x-should-retry") == ["true"]
