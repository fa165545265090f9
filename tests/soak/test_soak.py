"""C3, C8, C12, C17, C27: all records agree under a mixed load with faults and clients that leave; nothing grows."""

import importlib.machinery
import importlib.util
import math
import os
import pathlib
import random
import re

import pytest

HERE = pathlib.Path(__file__).parent


def load(name):
    """The program, which has no ending."""
    loader = importlib.machinery.SourceFileLoader(name, str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


soak = load("soak")


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_record_log_and_metrics_agree(workers):
    """C27."""
    assert soak.main(["--requests", "2500", "--seed", "9", "--workers", str(workers)]) == 0


def test_nothing_remains_of_reloads_and_peaks(capsys):
    """C27."""
    assert soak.main(["--minutes", "0.03", "--seed", "9", "--peak", "50"]) == 0
    told = capsys.readouterr().out
    assert int(re.search(r"(\d+) reloads", told)[1]) > 0, told
    assert int(re.search(r"1 peaks of 50 streams at once: \d+ KiB, (\d+) descriptors", told)[1]) > 100, told


def test_the_delay_of_an_event(capsys):
    """So many streams at once are not only opened, but all open. What is late here is the machine."""
    assert soak.main(["--streams", "100", "--seconds", "0.2", "--interval-ms", "50", "--p99-ms", "60000"]) == 0
    told = capsys.readouterr().out
    assert len(re.findall(r"p99 [\d.]+ ms.* \(\d+ events\)", told)) == 2, told
    assert int(re.search(r"(\d+) with all streams open$", told, re.MULTILINE)[1]) >= 200, told


@pytest.mark.parametrize("answer, message", [
    ({"preset": "chat_stream", "events": 3, "cut": {"after_events": 2, "how": "fin"}}, "ended after 0 of 3 events"),
    ({"preset": "chat_stream", "events": 3, "clock": True, "cut": {"after_events": 3}}, "of 3 events"),
    ({"preset": "chat_stream", "events": 2, "clock": True}, "ended after 2 of 3 events"),
    ({"preset": "error", "status": 503}, "answered with b'HTTP/1.1 503")])
def test_a_stream_that_is_not_whole_is_found(answer, message):
    with soak.Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        provider.answers(answer)
        with pytest.raises(soak.streams.StreamsError, match=message):
            soak.streams.Streams([("127.0.0.1", provider.port)], 1, 3).run()


def test_streams_that_end_too_early_are_tried_again(monkeypatch):
    """A busy machine may be slow to open them."""
    class Slow:
        def __init__(self, _addresses, _count, events, _look):
            self.delays = [1] * (events - 60)

        def run(self):
            return self

    class Provider:
        def answers(self, answer):
            pass

    monkeypatch.setattr(soak.streams, "Streams", Slow)
    assert [len(t.delays) for t in soak.streams.hold(Provider(), [], 1000, 1, 100)] == [0, 10]
    with pytest.raises(soak.streams.StreamsError, match="the first of 1 streams had ended"):
        soak.streams.hold(Provider(), [], 1, 1, 100)


def test_late_events_fail_a_run():
    delays = [1000] * 980 + [70_000] * 20
    assert soak.many.judge(soak.many.tell("", delays), 50) == 1
    assert soak.many.judge(soak.many.tell("", delays[:985]), 50) == 0


def test_as_many_daemons_as_the_limit_demands():
    """Each stream may need four descriptors, and the client holds one for each."""
    limits = {65_536: 1, 40_200: 1, 40_000: 2, 20_000: 3, 10_200: 4}
    assert {limit: soak.many.daemons_for(10_000, limit) for limit in limits} == limits
    with pytest.raises(soak.ledger.Wrong, match="10200 file descriptors at least, and 40200"):
        soak.many.daemons_for(10_000, 10_000)


def series(kib, rounds=80, files=20):
    """What kib(round) makes of a run of so many rounds of 5 000 requests, 8 s each."""
    return [soak.levels.Level(5000 * (n + 1), 8 * (n + 1), round(kib(n)), files) for n in range(rounds)]


# Allocators step and come back, and a first peak stays.
NOISE = random.Random(1)
AT_REST = {
    "flat": lambda n: 40_000,
    "warms up": lambda n: 40_000 - 20_000 * math.exp(-2 * n),
    "scatters": lambda n: 40_000 + NOISE.gauss(0, 800),
    "swings": lambda n: 40_000 + 1500 * math.sin(n / 3),
    "steps once": lambda n: 40_000 + 1500 * (n > 60),
    "has outliers": lambda n: 40_000 + 5000 * (n % 9 == 8),
    "shrinks": lambda n: 40_000 - 50 * n,
}
LEAKS = {
    "20 bytes a request": lambda n: 40_000 + 20 * 5000 / 1024 * n + NOISE.gauss(0, 400),
    "400 KiB a peak": lambda n: 40_000 + 400 * (n // 3),
    "500 bytes a request": lambda n: 40_000 + 500 * 5000 / 1024 * n,
}


@pytest.mark.parametrize("name", AT_REST)
def test_noise_is_no_leak(name):
    levels = series(AT_REST[name])
    soak.levels.check(levels, 20)
    assert soak.levels.growth(levels) is not None


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found(name):
    with pytest.raises(soak.ledger.Wrong, match="memory gr"):
        soak.levels.check(series(LEAKS[name]), 20)


def test_a_slope_alone_is_a_leak():
    """It stays within what the first rounds may add."""
    with pytest.raises(soak.ledger.Wrong, match="memory grows by 25 bytes a request"):
        soak.levels.check(series(lambda n: 40_000 + 25 * 5000 / 1024 * n, rounds=40), 20)


def test_a_short_run_has_no_slope():
    levels = series(lambda n: 40_000 + 100 * n, rounds=10)
    soak.levels.check(levels, 20)
    assert soak.levels.growth(levels) is None


def test_a_descriptor_that_remains_is_found():
    with pytest.raises(soak.ledger.Wrong, match="21 descriptors at the end, 20 at the beginning"):
        soak.levels.check(series(AT_REST["flat"], files=21), 20)


def test_a_wrong_account_is_found():
    """A response that is another request's, a line too few, a line too many, an attempt not logged."""
    import ledger
    import plan

    def line(n, attempts=1):
        return f'level=info msg="request" id=r{n} model=m path=/v1/s{n}/chat/completions end=answered status=200 ' \
               f"attempts={attempts}"

    def seen(n, serial):
        return {"target": f"/v1/s{n}/chat/completions", "headers": [["X-Soak-Id", str(n)]], "n": serial,
                "serial": serial, "status": 200, "sent": 1}

    def answer(serial):
        body = (f'{{"id":"chatcmpl-{serial:012}","choices":[{{"message":{{"content":"{plan.TEXT}"}}}}]}}').encode()
        made = soak.crowd.Answer()
        reader = soak.crowd.Reader(made)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return made

    requests = [plan.Request(n, "chat", None, None) for n in (1, 2)]
    good = {"answers": {1: answer(11), 2: answer(12)}, "record": [seen(1, 11), seen(2, 12)],
            "lines": [line(1), line(2)]}
    ledger.Round(requests, **good).check()
    for wrong in ({"answers": {1: answer(12), 2: answer(11)}}, {"lines": [line(1)]},
                  {"lines": [line(1), line(2), line(2)]}, {"lines": [line(1), line(2), line(3)]},
                  {"lines": [line(1), line(2, attempts=2)]}, {"record": [seen(1, 11), seen(2, 12), seen(2, 13)]},
                  {"record": [seen(1, 11), seen(2, 12), seen(3, 13)]}):
        with pytest.raises((ledger.Wrong, AssertionError)):
            ledger.Round(requests, **{**good, **wrong}).check()
