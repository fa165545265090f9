"""C6: each form of a hint, over sockets: the next attempt comes not before the hinted time, and is planned for at most
15 % and 50 ms after it. The provider's clock measures the one, the log tells the other: a busy machine is late.
"""

import datetime
import email.utils
import time

import pytest
from cases import AUTO, Case, calm, error, pair, run
from raw import in_time

DELAY = 20  # ms, of our own backoff, without jitter: far below each hint
MAX_DELAY = 1300
ROUTES = """
[route slow]
model = slow-*
retry.initial_delay = 1s
[route short]
model = short-*
retry.max_hint = 1s
"""


def told(status=429, message="m", **headers):
    return {**error(status, message=message, code="rate_limit_exceeded"),
            "headers": {k.replace("_", "-"): v for k, v in headers.items()}}


def bucket(which, reset, remaining="0"):
    return {f"x_ratelimit_remaining_{which}": remaining, f"x_ratelimit_reset_{which}": reset}


def fields(**error_object):
    return {"status": 429, "json": {"error": {"message": "m", **error_object}}}


FAR = 2047  # a year that our own clock is not in
LONG_AGO = "Tue, 01 Jan 2019 05:00:00 GMT"

# name: (the failed answer, the wait that it asks for in ms)
HINTS = {
    "retry-after-ms": (told(retry_after_ms="1200"), 1200),
    "retry-after-ms-float": (told(retry_after_ms="1100.5"), 1100.5),
    "retry-after-integer": (told(retry_after="1"), 1000),
    "retry-after-float": (told(retry_after="1.25"), 1250),
    "retry-after-of-a-503": (told(503, retry_after="1"), 1000),
    "retry-after-of-a-500": (told(500, retry_after="1.1"), 1100),
    "message-seconds": (told(message="Rate limit reached. Please try again in 1.2s. Visit x"), 1200),
    "message-ms": (told(message="Please try again in 976ms."), 976),
    "message-azure": (told(message="Requests have exceeded the limit. Please retry after 1 second."), 1000),
    "message-azure-seconds": (told(message="Please retry after 2 seconds."), 2000),
    "message-gzipped": ({**told(message="Please try again in 1.2s."), "gzip": True}, 1200),
    "bucket-seconds": (told(**bucket("requests", "1s")), 1000),
    "bucket-tokens": (told(**bucket("tokens", "1.1s")), 1100),
    "bucket-ms": (told(**bucket("requests", "812ms")), 812),
    "bucket-minutes-are-capped": (told(**bucket("tokens", "6m0s")), MAX_DELAY),
    "buckets-longest-of-the-empty": (told(**bucket("requests", "700ms"), **bucket("tokens", "1.1s")), 1100),
    "buckets-only-the-empty": (told(**bucket("requests", "800ms"), **bucket("tokens", "9s", "1")), 800),
    # in the fields of the error object, and in other words
    "resets-in-seconds": (fields(type="usage_limit_reached", resets_at=4102444800, resets_in_seconds=1.1), 1100),
    "retry-info": (fields(code=429, status="RESOURCE_EXHAUSTED", details=[
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}]), 1200),
    "fields-over-message": (fields(retry_after=0.9, message="Please try again in 9s."), 900),
    "resets-at-a-date": ({**fields(resets_at="2019-01-01T05:00:01Z"), "headers": {"date": LONG_AGO}}, 1000),
    "resets-at-as-text": ({**fields(resets_at="1546318801"), "headers": {"date": LONG_AGO}}, 1000),
    "openrouter-quotes-a-head": ({**fields(metadata={"headers": {
        "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1546318801100"}}), "headers": {"date": LONG_AGO}}, 1100),
    "please-wait": (told(message="Too many requests. Please wait 1 second before you try again."), 1000),
    "will-reset-after": (told(message="Your quota will reset after 1s."), 1000),
    "capacity-498": (told(498, retry_after="1"), 1000),
    # times against the response's own clock, which is not ours
    "date-of-its-own": (told(date=f"Tue, 01 Jan {FAR} 05:00:00 GMT", retry_after=f"Tue, 01 Jan {FAR} 05:00:01 GMT"),
                        1000),
    "date-long-ago": (told(date="Tue, 01 Jan 2019 05:00:00 GMT", retry_after="Tue, 01 Jan 2019 05:00:01 GMT"), 1000),
    "epoch-seconds": (told(date="Tue, 01 Jan 2019 05:00:00 GMT", x_ratelimit_remaining="0",
                           x_ratelimit_reset="1546318801"), 1000),
    "epoch-ms": (told(date="Tue, 01 Jan 2019 05:00:00 GMT", x_ratelimit_remaining="0",
                      x_ratelimit_reset="1546318801200"), 1200),
    "ratelimit-reset": (told(ratelimit_remaining="0", ratelimit_reset="1"), 1000),
    # the order of C6
    "ms-over-seconds": (told(retry_after_ms="800", retry_after="9"), 800),
    "seconds-over-message": (told(message="Please try again in 9s.", retry_after="0.9"), 900),
    "message-over-bucket": (told(message="Please try again in 850ms.", **bucket("tokens", "1.2s")), 850),
    "bad-ms-then-seconds": (told(retry_after_ms="soon", retry_after="0.9"), 900),
    "bad-seconds-then-message": (told(message="try again in 900ms", retry_after="-1"), 900),
    # a floor under what we would wait ourselves
    "slow-backoff": (told(retry_after_ms="300"), 1000),
    "slow-hint": (told(retry_after_ms="1200"), 1200),
    "stalled-amid-the-body": ({**told(retry_after_ms="1200"), "cut": {"after_bytes": 5}}, 1200),
}
IGNORED = {
    "words": told(retry_after="soon"),
    "negative": told(retry_after="-5"),
    "empty": told(retry_after=""),
    "bucket-not-empty": told(**bucket("tokens", "9s", "1")),
    "bucket-without-remaining": told(x_ratelimit_reset_tokens="9s"),
    "zero": told(retry_after="0"),
    # A good response's head asks for no wait, whatever becomes of its body.
    "good-but-cut": {"preset": "auto", "headers": {"retry-after": "9"}, "cut": {"after_bytes": 30}},
    "good-but-no-json": {"status": 200, "body": "{", "headers": {"retry-after": "9", "content-type": "application/json"}},
    "epoch-in-the-past": told(x_ratelimit_remaining="0", x_ratelimit_reset="1546318801"),
    "date-in-the-past": told(retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
}
VERDICTS = {
    "over-max-hint": (told(retry_after="121"), [], "longer wait than max_hint"),
    "a-day": (told(retry_after="86400"), [], "longer wait than max_hint"),
    "three-days-in-ms": (told(retry_after_ms="276480000"), [], "longer wait than max_hint"),
    "message": (told(message="Please try again in 3m0s."), [], "longer wait than max_hint"),
    "usage-limit": (fields(type="usage_limit_reached", resets_in_seconds=259200), [], "longer wait than max_hint"),
    "usage-limit-at": (fields(type="usage_limit_reached", resets_at=4102444800), [], "longer wait than max_hint"),
    "short-max-hint": (told(retry_after_ms="1001"), [], "longer wait than max_hint"),
    "over-the-deadline": (told(retry_after="10"), ["x-retryd-deadline: 5"], "wait beyond the deadline"),
    "over-the-sdks-timeout": (told(retry_after="10"), ["x-stainless-read-timeout: 5"],
                              "wait beyond the deadline"),
    "bucket-over-the-deadline": (told(**bucket("tokens", "9s")), ["x-retryd-deadline: 1"],
                                 "the wait would exceed the deadline"),
}


@pytest.fixture(scope="module")
def machine():
    with pair(retry={"initial_delay": f"{DELAY}ms", "jitter": "none", "multiplier": 1,
                     "max_delay": f"{MAX_DELAY}ms"}, config=ROUTES) as both:
        yield both


@pytest.fixture(scope="module")
def seen(machine):
    cases = {name: Case([first, AUTO]) for name, (first, _) in HINTS.items()}
    cases |= {name: Case([first, AUTO]) for name, first in IGNORED.items()}
    return run(*machine, cases)


def at_most(hint):
    return hint * 1.15 + 50


def assert_kept(case, *hints):
    assert len(case.waits) >= len(hints)
    for wait, failure, hint in zip(case.waits, case.failures, hints):
        assert hint <= wait
        assert int(failure["wait_ms"]) <= at_most(hint)


@pytest.mark.parametrize("name", HINTS)
def test_hint_is_kept(seen, name):
    case = seen[name]
    assert case.answer.status == 200, case.problem
    assert_kept(case, HINTS[name][1])


@pytest.mark.alone
def test_a_hint_is_kept_in_time(machine):
    """The clock measures the end of the wait, too."""
    seen = calm(lambda: run(*machine, {"one": Case([told(retry_after_ms="400"), AUTO])}), lambda seen: [
        (seen["one"].gaps[0], 0, at_most(400))])
    in_time(seen["one"].gaps[0], at_most(400))


@pytest.mark.parametrize("name", IGNORED)
def test_no_hint(seen, name):
    assert DELAY <= seen[name].waits[0]
    assert seen[name].failures[0]["wait_ms"] == str(DELAY)


# --- times of day ----------------------------------------------------------------------------------

def http_dates(t):
    """The three forms of RFC 9110 5.6.7."""
    d = datetime.datetime.fromtimestamp(t, datetime.UTC)
    return {"imf": email.utils.format_datetime(d.replace(microsecond=0), usegmt=True),
            "rfc850": d.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
            "asctime": f"{d:%a %b} {d.day:2d} {d:%H:%M:%S %Y}"}


def test_dates(machine):
    """They have whole seconds, so all are relative to one moment that lies two seconds ahead or three."""
    seen, hints = dates(*machine)
    for name, (least, most) in hints.items():
        assert least <= seen[name].waits[0], name
        assert int(seen[name].failures[0]["wait_ms"]) <= at_most(most), name


def dates(provider, daemon):
    """What came of each form, and the shortest and longest wait that it asked for."""
    moment = int(time.time()) + 3
    offset = time.time() * 1000 - time.monotonic() * 1000
    stamp = datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    later = datetime.datetime.fromtimestamp(moment + 7200, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    answers = {name: told(retry_after=date) for name, date in http_dates(moment).items()}
    for name, reset in (("rfc3339", f"{stamp}Z"), ("rfc3339-fraction", f"{stamp}.000Z"),
                        ("rfc3339-offset", f"{later}+02:00")):
        answers[name] = told(anthropic_ratelimit_requests_remaining="0",
                             anthropic_ratelimit_requests_reset=reset)
    seen = run(provider, daemon, {name: Case([a, AUTO]) for name, a in answers.items()})
    hints = {}
    for name, case in seen.items():
        # retryd reads two clocks that tick in milliseconds, and so do we
        hint = [moment * 1000 - (case.attempts[0][t] + offset) - 2 for t in ("t_answer_end", "t_answer_start")]
        hints[name] = [min(h, MAX_DELAY) for h in hint] if "rfc3339" in name else hint  # a bucket is capped
    return seen, hints


# --- verdicts --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def refused(machine):
    return run(*machine, {name: Case([first, AUTO], headers=headers)
                          for name, (first, headers, _) in VERDICTS.items()})


@pytest.mark.parametrize("name", VERDICTS)
def test_hint_as_a_verdict(refused, name):
    case = refused[name]
    assert len(case.attempts) == 1
    assert case.answer.status == 429
    assert VERDICTS[name][2] in case.failures[0]["cannot_retry"]
    assert case.fact("x-retryd-wait-ms") == "0"


def test_each_attempt_has_its_own_hint(machine):
    answers = [told(retry_after_ms="400"), told(retry_after_ms="700"), error(500), AUTO]
    seen = run(*machine, {"three": Case(answers)})
    assert_kept(seen["three"], 400, 700, DELAY)
    assert int(seen["three"].fact("x-retryd-wait-ms")) >= 1100 + DELAY


def test_never_below_however_busy(machine):
    """A hundred hints of the same length at once: rounding and late clocks must not eat into one."""
    provider, daemon = machine
    cases = {f"busy-{i}": Case([told(retry_after_ms="300"), AUTO]) for i in range(100)}
    seen = run(provider, daemon, cases)
    assert min(wait for case in seen.values() for wait in case.waits) >= 300
    assert all(len(case.attempts) == 2 for case in seen.values())
