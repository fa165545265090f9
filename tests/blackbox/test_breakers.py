"""C20: each model of an upstream has a breaker. When it opens, single probes, and other requests meanwhile."""

import time

import pytest
from cases import AUTO, error
from daemon import parse_logfmt
from raw import in_time, time_of, wait_requests
from targets import (Asked, ask, chat, flood, house, in_order, limited, model_of, on, refusal, reload, total,
                     wait_queued)

OUTAGE_MS, OPEN_FOR_MS, EVERY_MS = 6000, 1000, 100
ROUNDING_MS = 100  # of the daemon's clock, and the way of a request to the provider


def outage(to_ms=None, model="big", failure=None):
    """The model is down, for so long from the first request on."""
    between = {} if to_ms is None else {"between": {"to_ms": to_ms}}
    return {"match": {"model": model}, "answers": [failure or error(503)], **between}


def too_close(times, least_ms):
    return [round(b - a, 1) for a, b in zip(times, times[1:]) if b - a < least_ms]


@pytest.fixture(scope="module")
def ridden_out():
    """A request every 100 ms, while the primary model is down for six seconds and for three more."""
    with house(route={"fallback_models": "small"}, breaker={"failures": 3, "open_for": "1s"}) as (provider, daemon):
        provider.rules(outage(OUTAGE_MS))
        shots = flood(daemon, 90, EVERY_MS)
        wait_requests(daemon, 90)
        lines = {what: daemon.wait_log(f'msg="{what}"') for what in ("breaker open", "breaker probe",
                                                                    "breaker closed")}
        yield shots, in_order(provider.record()), lines, daemon.metrics(), daemon.log.splitlines()


def primary(record):
    return [r for r in record if model_of(r) == "big"]


def while_open(log):
    """The lines from the breaker's opening to its last probe, which closes it."""
    opened, = [n for n, line in enumerate(log) if 'msg="breaker open"' in line][:1]
    return log[opened:[n for n, line in enumerate(log) if 'msg="breaker probe"' in line][-1]]


def sent_at_ms(shot):
    """By the clock of the log."""
    return shot.sent_ms + time.time() * 1000 - time.monotonic() * 1000


def test_every_request_is_answered(ridden_out):
    shots = ridden_out[0]
    assert {s.answer.status for s in shots} == {200}
    assert max(int(s.answer.header("x-retryd-wait-ms")) for s in shots) < OPEN_FOR_MS


def test_at_most_one_probe_in_the_time_it_is_open(ridden_out):
    """Each attempt at the primary is a probe then; the log tells them in the order in which they were decided."""
    lines = [parse_logfmt(line) for line in while_open(ridden_out[4])]
    probes = [time_of(line) for line in lines if line["msg"] == "breaker probe"]
    begun = [line for line in lines if "attempt begins" in line["msg"] and "a probe" in line["why"]]
    again = [line for line in lines if "attempt begins" in line["msg"] and line["why"] != "a fallback model"]
    assert begun == again and len(probes) <= len(begun) + 1
    assert 2 <= len(probes) <= OUTAGE_MS / OPEN_FOR_MS
    assert too_close([time_of(lines[0]), *probes], OPEN_FOR_MS - ROUNDING_MS) == []


def test_the_primary_serves_again_after_one_good_probe(ridden_out):
    shots, record, lines, _, _ = ridden_out
    after = [r["status"] for r in primary(record) if r["t_first"] > record[0]["t_body"] + OUTAGE_MS + ROUNDING_MS]
    assert len(after) >= 10 and set(after) == {200}
    late = [s for s in shots if sent_at_ms(s) > time_of(lines["breaker closed"])]
    assert late and {s.answer.json()["model"] for s in late} == {"big"}
    assert {s.answer.header("x-retryd-attempts") for s in late} == {"1"}


def test_meanwhile_the_fallback_answers_at_once(ridden_out):
    lines = [parse_logfmt(line) for line in while_open(ridden_out[4])]
    meanwhile = [line for line in lines if line["msg"] == "request"]
    assert {line.get("fallback") for line in meanwhile} == {"small"}
    more = [line for line in meanwhile if line["attempts"] != "1"]
    in_vain = [line for line in lines if line["msg"].startswith("attempt 1 of")]
    assert len(meanwhile) >= 20 and len(more) <= 3 + len(in_vain)  # those that opened it, and the probes


def test_it_is_told(ridden_out):
    shots, _, lines, samples, _ = ridden_out
    for what, line in lines.items():
        assert (line["target"], line["model"]) == ("one", "big"), what
    assert int(lines["breaker open"]["for_ms"]) == OPEN_FOR_MS
    assert lines["breaker open"]["reason"] == "overloaded"
    assert samples['retryd_breaker_opened_total{upstream="one",model="big",operation="generate"}'] >= 1
    fell = sum(s.answer.header("x-retryd-model") == "small" for s in shots)
    assert samples['retryd_fallbacks_total{upstream="one",model="small",operation="generate"}'] == fell


# --- with nowhere else to go -----------------------------------------------------------------------

ONE_SECOND = {"failures": 3, "open_for": "1s"}


def test_without_a_fallback_requests_wait_for_the_probe():
    with house(breaker=ONE_SECOND, retry={"initial_delay": "400ms", "jitter": "none"}) as (provider, daemon):
        provider.rules(outage(2700))
        first = Asked(daemon)
        daemon.wait_line("breaker open")
        others = [Asked(daemon) for _ in range(20)]
        answers = [a.answer() for a in [first, *others]]
        record = in_order(provider.record())
        assert total(daemon, "retryd_queue_waits_total", why="breaker") >= 20
    assert {a.status for a in answers} == {200}
    failed = [r for r in record if r["status"] == 503]
    assert len(failed) == 4 and len(record) == 4 + 21  # three that opened it, one probe in vain
    good = [r for r in record if r["status"] == 200]
    assert good[0]["t_first"] - failed[-1]["t_first"] >= OPEN_FOR_MS - ROUNDING_MS
    assert good[1]["t_first"] >= good[0]["t_answer_start"], "nobody goes before the probe is answered"


def test_a_wait_beyond_the_deadline_is_in_vain():
    with house(breaker={"failures": 3, "open_for": "20s"}, retry={"initial_delay": "20ms", "max_attempts": 3}) \
            as (provider, daemon):
        provider.rules(outage())
        first = ask(daemon)
        other = Asked(daemon, headers=["x-retryd-deadline: 2s"])
        answer = other.answer()
        assert len(provider.record()) == 3
    assert first.status == 503 and first.json()["error"]["message"] == "x"  # the upstream's own words
    assert (answer.status, refusal(answer)["code"]) == (503, "upstream_down")
    in_time(other.answered_ms - other.sent_ms, 2000)


def test_a_probe_whose_client_leaves_is_followed_by_another():
    with house(breaker=ONE_SECOND, retry={"initial_delay": "20ms", "max_attempts": 3}) as (provider, daemon):
        provider.rules({"answers": [error(503)] * 3 + [{"stall": {"before_head": True}}, AUTO]})
        assert ask(daemon).status == 503
        probe = Asked(daemon)
        provider.wait(requests=4)
        other = Asked(daemon)
        wait_queued(daemon, 1)
        probe.leave()
        provider.wait(closed=1)
        assert other.answer().status == 200
        record = in_order(provider.record())
    assert record[4]["t_first"] - record[3]["t_first"] >= OPEN_FOR_MS - ROUNDING_MS


def test_a_probe_that_hangs_is_followed_by_another():
    with house(breaker=ONE_SECOND, retry={"initial_delay": "20ms", "max_attempts": 3}) as (provider, daemon):
        provider.rules({"answers": [error(503)] * 3 + [{"stall": {"before_head": True}}, AUTO]})
        assert ask(daemon).status == 503
        probe = Asked(daemon)
        provider.wait(requests=4)
        assert ask(daemon).status == 200
        record = in_order(provider.record())
        probe.leave()
        provider.wait(closed=1)
    assert record[4]["t_first"] - record[3]["t_first"] >= OPEN_FOR_MS - ROUNDING_MS


# --- what opens it, and what does not --------------------------------------------------------------


def thirty(provider, daemon, *answers, **how):
    """Thirty requests one after the other, an attempt each."""
    provider.rules({"answers": list(answers), "then": "cycle"})
    statuses = [ask(daemon, chat(), headers=["x-retryd-max-attempts: 1", "x-retryd-deadline: 2s"], **how).status
                for _ in range(30)]
    wait_requests(daemon, 30)
    return statuses, total(daemon, "retryd_breaker_opened_total")


LASTING = {"open_for": "60s"}


def test_failures_in_a_row():
    with house(breaker={**LASTING, "failures": 7, "failure_rate": 0}) as (provider, daemon):
        statuses, opened = thirty(provider, daemon, error(503))
        assert len(provider.record()) == 7 and opened == 1
    assert statuses == [503] * 30


def test_a_success_between_starts_the_count_anew():
    with house(breaker={**LASTING, "failures": 3, "failure_rate": 0}) as (provider, daemon):
        _, opened = thirty(provider, daemon, error(503), error(503), AUTO)
        assert len(provider.record()) == 30 and opened == 0


def test_failure_rate():
    """Half of them fail: it opens once there are enough of them to say so."""
    with house(breaker={**LASTING, "failures": 0, "failure_rate": "50%"}) as (provider, daemon):
        _, opened = thirty(provider, daemon, AUTO, error(503))
        assert 20 <= len(provider.record()) <= 21 and opened == 1


def test_below_the_failure_rate():
    with house(breaker={**LASTING, "failures": 0, "failure_rate": "50%"}) as (provider, daemon):
        _, opened = thirty(provider, daemon, AUTO, error(503), AUTO)
        assert len(provider.record()) == 30 and opened == 0


def test_off():
    with house(breaker={**LASTING, "failures": 0, "failure_rate": 0}) as (provider, daemon):
        _, opened = thirty(provider, daemon, error(503))
        assert len(provider.record()) == 30 and opened == 0


ANSWERS_ALL_THE_SAME = {"400": error(400), "404": error(404), "422": error(422), "429": limited(1),
                        "context": error(400, code="context_length_exceeded"),
                        "policy": error(400, code="content_policy_violation")}


@pytest.mark.parametrize("name", ANSWERS_ALL_THE_SAME)
def test_errors_of_the_request_do_not_open_it(name):
    with house(breaker={**LASTING, "failures": 3}) as (provider, daemon):
        _, opened = thirty(provider, daemon, ANSWERS_ALL_THE_SAME[name])
        assert len(provider.record()) == 30 and opened == 0


@pytest.mark.parametrize("failure", [{"cut": {"before_head": True}}, {"stall": {"before_head": True}},
                                     {"preset": "auto", "cut": {"after_bytes": 5}}, error(500)],
                         ids=["reset", "silence", "truncated", "500"])
def test_what_counts_as_down(failure):
    with house(breaker={**LASTING, "failures": 3}, timeout={"first_byte": "100ms"}) as (provider, daemon):
        _, opened = thirty(provider, daemon, failure)
        assert len(provider.record()) == 3 and opened == 1


def test_a_client_that_leaves_says_nothing_of_the_target():
    with house(breaker={**LASTING, "failures": 3}) as (provider, daemon):
        provider.rules({"answers": [{"stall": {"before_head": True}}] * 6 + [AUTO]})
        for n in range(6):
            gone = Asked(daemon)
            provider.wait(requests=n + 1)
            gone.leave()
            provider.wait(closed=n + 1)
        assert ask(daemon).status == 200
        assert total(daemon, "retryd_breaker_opened_total") == 0


# --- what is apart, and what lasts -----------------------------------------------------------------


def test_one_model_may_be_down_alone():
    with house(breaker={**LASTING, "failures": 3}, retry={"initial_delay": "20ms", "max_attempts": 3}) \
            as (provider, daemon):
        provider.rules(outage())
        assert ask(daemon, chat()).status == 503
        daemon.wait_line("breaker open")
        assert ask(daemon, chat("other")).status == 200
        assert total(daemon, "retryd_breaker_opened_total", model="other") == 0


def test_another_upstream_serves_the_same_model():
    with house({"one": {}, "two": {}}, breaker={**LASTING, "failures": 3}) as (provider, daemon):
        provider.rules({"match": {"path": "/one/*"}, "answers": [error(503)]})
        answers = [ask(daemon) for _ in range(20)]
        went = [r["target"].split("/")[1] for r in in_order(provider.record())]
    assert {(a.status, a.header("x-retryd-model")) for a in answers} == {(200, None)}
    assert went.count("one") == 3 and went[6:] == ["two"] * 17


def test_a_reload_keeps_it_open():
    with house(route={"fallback_models": "small"}, breaker={**LASTING, "failures": 3}) as (provider, daemon):
        provider.rules(outage())
        assert ask(daemon).status == 200
        daemon.wait_line("breaker open")
        provider.clear()
        reload(daemon)
        answers = [ask(daemon) for _ in range(5)]
        assert {model_of(r) for r in provider.record()} == {"small"}
    assert {(a.status, a.header("x-retryd-attempts")) for a in answers} == {(200, "1")}


def test_all_upstreams_of_a_tier_down_leaves_it_at_once():
    with house({"one": {}, "two": {}}, {"fallback_models": "small"}, breaker={**LASTING, "failures": 2},
               retry={"initial_delay": "20ms", "attempts_per_tier": 10, "max_attempts": 11}) as (provider, daemon):
        provider.rules(outage())
        answer = ask(daemon)
        models = [model_of(r) for r in in_order(provider.record())]
    assert answer.status == 200 and models == ["big"] * 4 + ["small"]


def test_streams_that_break_count_as_failures():
    """Though each has begun well: what it comes to is told when it is over."""
    broken = {"preset": "chat_stream", "events": 5, "interval_ms": 20,
              "cut": {"after_deltas": 2, "how": "fin", "delay_ms": 200}}
    with house(breaker={**LASTING, "failures": 3}) as (provider, daemon):
        provider.rules({"answers": [broken]})
        answers = [ask(daemon, chat(stream=True), headers=["x-retryd-deadline: 2s"]) for _ in range(5)]
        daemon.wait_line("breaker open")
        assert len(provider.record()) == 3
    assert [a.status for a in answers] == [200] * 3 + [503] * 2


def test_streams_that_go_well_are_no_failures():
    with house(breaker={**LASTING, "failures": 1, "failure_rate": "1%"}) as (provider, daemon):
        answers = [ask(daemon, chat(stream=True)) for _ in range(25)]
        assert daemon.metric('retryd_breaker_state{upstream="one",model="big",operation="generate"}') == 0
        assert total(daemon, "retryd_target_in_flight") == 0
    assert {a.status for a in answers} == {200}


def test_one_at_a_time_each_makes_one_probe():
    """Who has made a probe in vain waits for another only as long as its backoffs would have taken."""
    with house(breaker={"failures": 3, "failure_rate": 0, "open_for": "1s"},
               retry={"initial_delay": "20ms", "jitter": "none", "max_attempts": 5}) as (provider, daemon):
        provider.rules(on("*", error(503)))
        ask(daemon)
        answers = [ask(daemon) for _ in range(3)]
    assert [(a.status, a.header("x-retryd-attempts")) for a in answers] == [(503, "1")] * 3
    assert all(int(a.header("x-retryd-wait-ms")) < 1500 for a in answers)
