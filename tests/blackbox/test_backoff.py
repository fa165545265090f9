"""C2: the number and the times of attempts: five attempts, exponential waits, their maximum and their jitter."""

import pytest
from cases import AUTO, Case, calm, error, pair, run

SLACK = 1000  # ms, for a busy machine; the log's own figures are held to the exact bounds
DOWN = Case([error(503)])
ROUTES = """
[route none]
model = none
retry.jitter = none
[route full]
model = full-*
retry.jitter = full
[route capped]
model = capped
retry.jitter = none
retry.max_delay = 150ms
[route capped-equal]
model = half-of-the-cap
retry.max_delay = 150ms
[route triple]
model = triple
retry.jitter = none
retry.multiplier = 3
retry.max_attempts = 4
[route constant]
model = constant
retry.jitter = none
retry.multiplier = 1
[route fraction]
model = fraction
retry.jitter = none
retry.multiplier = 1.5
retry.max_attempts = 4
"""
EXPONENTIAL = [100, 200, 400, 800]
# name: (the waits in full, the least part of each)
WAITS = {
    **{f"equal-{i}": (EXPONENTIAL, 0.5) for i in range(8)},
    **{f"full-{i}": (EXPONENTIAL, 0) for i in range(16)},
    "none": (EXPONENTIAL, 1),
    "capped": ([100, 150, 150, 150], 1),
    "half-of-the-cap": ([100, 150, 150, 150], 0.5),
    "triple": ([100, 300, 900], 1),
    "constant": ([100] * 4, 1),
    "fraction": ([100, 150, 225], 1),
}


@pytest.fixture(scope="module")
def seen():
    with pair(retry={"initial_delay": "100ms"}, config=ROUTES) as (provider, daemon):
        yield calm(lambda: run(provider, daemon, {name: DOWN for name in WAITS}), lambda seen: [
            (gap, 0, most + SLACK) for name, (waits, _) in WAITS.items()
            for gap, most in zip(seen[name].gaps, waits)])


@pytest.mark.parametrize("name", WAITS)
def test_waits(seen, name):
    case = seen[name]
    waits, least = WAITS[name]
    assert len(case.attempts) == len(waits) + 1
    logged = [int(f["wait_ms"]) for f in case.failures[:-1]]
    for wait, gap, said, most in zip(case.waits, case.gaps, logged, waits, strict=True):
        assert most * least <= said <= most
        assert said <= wait and gap <= said + SLACK
    assert sum(logged) <= int(case.fact("x-retryd-wait-ms")) <= sum(case.gaps) + SLACK


def spread(seen, kind):
    return [int(f["wait_ms"]) / most for name, case in seen.items() if name.startswith(kind)
            for f, most in zip(case.failures[:-1], EXPONENTIAL)]


def test_jitter_is_random(seen):
    """Each of these is wrong once in a billion times or less: 32 and 64 draws."""
    equal, full = spread(seen, "equal-"), spread(seen, "full-")
    assert min(equal) < 0.75 < max(equal)
    assert min(full) < 0.5 < max(full)


def test_defaults():
    """Nothing configured: a first wait of 0.5 s to 1 s, and five attempts in all."""
    with pair(retry={}) as (provider, daemon):
        case = run(provider, daemon, {"default": Case([error(503), AUTO])})["default"]
    assert case.answer.status == 200
    assert case.failures[0]["msg"].startswith("attempt 1 of 5 failed: 503 overloaded; next in ")
    assert 500 <= int(case.failures[0]["wait_ms"]) <= 1000
    assert 500 <= case.waits[0] and case.gaps[0] <= 1000 + SLACK
