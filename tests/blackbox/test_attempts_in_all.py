"""C8, C28: no more attempts than allowed, SDKs included; retries that may be charged twice are reported."""

import re

import pytest
from cases import AUTO, Case, error, pair, run

BREAK = {"cut": {"before_head": True}}
ROUTES = """
[route once]
model = once*
retry.max_attempts = 1
[route seven]
model = seven*
retry.max_attempts = 7
[route hasty]
model = *
timeout.first_byte = 700ms
"""


@pytest.fixture(scope="module")
def machine():
    with pair(retry={"initial_delay": "5ms"}, config=ROUTES,
              upstream_settings={"idempotency_header": "Idempotency-Key"}) as both:
        yield both


LIMITS = {  # name: (headers, attempts)
    "default": ([], 5), "once": ([], 1), "seven": ([], 7),
    "default-override-2": (["x-retryd-max-attempts: 2"], 2),
    "default-override-9": (["x-retryd-max-attempts: 9"], 9),
    "once-override-3": (["x-retryd-max-attempts: 3"], 3),
    "no-retry": (["x-retryd-no-retry: yes"], 1),
    "no-retry-true": (["x-retryd-no-retry: true"], 1),
    "no-retry-no": (["x-retryd-no-retry: no"], 5),
}
DOWN = {
    "503": (error(503), 503),
    "hinting-429": ({**error(429), "headers": {"retry-after-ms": "1", "x-should-retry": "true"}}, 429),
    "should-retry": ({**error(500), "headers": {"X-Should-Retry": "true"}}, 500),
    "should-retry-400": ({**error(400), "headers": [["x-should-retry", "true"],
                                                    ["x-should-retry", "true"]]}, 400),
    "reset": (BREAK, 502),
}


@pytest.fixture(scope="module")
def down(machine):
    cases = {f"{name}~{what}": Case([answer], headers=headers)
             for name, (headers, _) in LIMITS.items() for what, (answer, _) in DOWN.items()}
    return run(*machine, cases)


@pytest.mark.parametrize("what", DOWN)
@pytest.mark.parametrize("name", LIMITS)
def test_attempts(down, name, what):
    """C8."""
    case = down[f"{name}~{what}"]
    attempts = LIMITS[name][1]
    assert case.answer.status == DOWN[what][1]
    assert len(case.attempts) == attempts
    assert case.fact("x-retryd-attempts") == str(attempts)
    assert [f["attempt"] for f in case.failures] == [str(n + 1) for n in range(attempts)]
    assert case.request["attempts"] == str(attempts)


@pytest.mark.parametrize("what", DOWN)
def test_final_failures_tell_the_sdk(down, what):
    """C8: The upstream's own word about it, in any case and number, is replaced."""
    for name in LIMITS:
        assert down[f"{name}~{what}"].answer.all("x-should-retry") == ["false"]


def test_sdk_repeats_are_noticed(machine):
    """C8."""
    provider, daemon = machine
    before = daemon.metric("retryd_sdk_retries_total")
    counts = {"sdk-0": "0", "sdk-1": "1", "sdk-2": "2", "sdk-x": "x", "sdk-none": None}
    seen = run(provider, daemon, {
        name: Case([AUTO], headers=[f"X-Stainless-Retry-Count: {n}"] if n else [])
        for name, n in counts.items()})
    assert {name: case.request.get("sdk_retry") for name, case in seen.items()} == \
        {"sdk-0": None, "sdk-1": "1", "sdk-2": "2", "sdk-x": None, "sdk-none": None}
    assert daemon.metric("retryd_sdk_retries_total") == before + 2


# --- C28 -------------------------------------------------------------------------------------------

STALL = {"stall": {"before_head": True}}
AMBIGUOUS = {
    "reset": BREAK,
    "cut-body": {"preset": "auto", "cut": {"after_bytes": 5}},
    "silence": STALL,
    "502": error(502),
    "504": error(504),
    "not-http": {"wire": [{"send": "SSH-2.0\r\n\r\n"}, {"fin": True}]},
    "error-in-200": {"status": 200, "json": {"error": {"message": "m"}}},
}
CLEAR = {str(s): error(s) for s in (408, 409, 425, 429, 500, 503, 529)}


@pytest.fixture(scope="module")
def repeats(machine):
    provider, daemon = machine
    before = daemon.metric("retryd_possible_duplicates_total")
    cases = {name: Case([first, AUTO]) for name, first in {**AMBIGUOUS, **CLEAR}.items()}
    cases["twice"] = Case([BREAK, error(502), error(503), AUTO])
    cases["last"] = Case([error(503), BREAK], headers=["x-retryd-max-attempts: 2"])
    seen = run(provider, daemon, cases)
    return seen, daemon.metric("retryd_possible_duplicates_total") - before


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_repeats_are_told(repeats, name):
    """C28."""
    case = repeats[0][name]
    assert (case.answer.status, len(case.attempts)) == (200, 2)
    assert case.failures[0]["possible_duplicate"] == "yes"
    assert case.request["possible_duplicates"] == "1"


@pytest.mark.parametrize("name", CLEAR)
def test_clear_repeats_are_not(repeats, name):
    """C28."""
    case = repeats[0][name]
    assert (case.answer.status, len(case.attempts)) == (200, 2)
    assert "possible_duplicate" not in case.failures[0]
    assert "possible_duplicates" not in case.request


def test_each_is_counted(repeats):
    """C28."""
    seen, counted = repeats
    assert seen["twice"].request["possible_duplicates"] == "2"
    assert "possible_duplicates" not in seen["last"].request  # nothing was made again after it
    assert counted == len(AMBIGUOUS) + 2


def test_retry_ambiguous_off():
    """C28."""
    with pair(retry={"initial_delay": "5ms", "retry_ambiguous": "no"},
              timeout={"first_byte": "700ms"}) as (provider, daemon):
        seen = run(provider, daemon, {n: Case([first, AUTO])
                                      for n, first in {**AMBIGUOUS, **CLEAR}.items()})
        assert daemon.metric("retryd_possible_duplicates_total") == 0
    for name in AMBIGUOUS:
        case = seen[name]
        assert len(case.attempts) == 1, name
        assert case.answer.status >= 500, name
        assert case.failures[0]["cannot_retry"] == \
            "the attempt may have been processed and retry_ambiguous is off"
    for name in CLEAR:
        assert (seen[name].answer.status, len(seen[name].attempts)) == (200, 2), name


def values(attempt, name):
    return [v for n, v in attempt["headers"] if n.lower() == name]


def test_idempotency_header(machine):
    """C28: The same for all attempts of a request, another for another request; the client's own stays."""
    flaky = [error(503), BREAK, AUTO]
    own = ["idempotency-key: mine"]
    seen = run(*machine, {"one": Case(flaky), "two": Case(flaky), "own": Case(flaky, headers=own)})
    keys = {}
    for name, case in seen.items():
        sent = [values(a, "idempotency-key") for a in case.attempts]
        assert len(sent) == 3 and sent == [sent[0]] * 3 and len(sent[0]) == 1
        keys[name] = sent[0][0]
    assert keys["own"] == "mine"
    assert keys["one"] != keys["two"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", keys["one"])
    assert keys["one"] == seen["one"].request["id"]


def test_no_idempotency_header_unless_configured():
    """C28."""
    with pair() as (provider, daemon):
        seen = run(provider, daemon, {"plain": Case([error(503), AUTO])})
    assert not any("idempotency" in n.lower() for a in seen["plain"].attempts for n, _ in a["headers"])
