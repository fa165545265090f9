"""The sixteen faults that providers are publicly reported to have, over sockets.

Their original timings are a stall of 30 s, a first word after 20 s and a caller that gives up after 45 s. Here all of
them are SCALE times shorter, and so are the settings that docs/configuration.md has for such a caller.
tests/unit/exchange/test_catalogue.c plays the same faults in virtual time, with their original timings.

There is one upstream with the requested model, "big", and a fallback model, "small".
"""

import concurrent.futures
import dataclasses
import json

import pytest
from cases import calm, error, send
from streams import MODES, READ, assert_broken, assert_whole, case, chat_events, sse
from targets import house, in_order, model_of, verdict

SCALE = 6
LIMIT_MS = 45_000 / SCALE
STALL_MS = round(30_000 / SCALE)
FIRST_WORD_MS = round(20_000 / SCALE)


def scaled(seconds):
    return f"{round(seconds * 1000 / SCALE)}ms"


SETTINGS = {
    "timeout": {"first_byte": scaled(25), "first_content": scaled(25), "idle": scaled(10)},
    "stream": {"mend_timeout": scaled(30)},
    "retry": {"deadline": scaled(43), "initial_delay": scaled(1), "jitter": "none"},
}

# --- the faults -------------------------------------------------------------------------------------

WORDS = ["Hello", " you", " all"]
TEXT = "".join(WORDS)
EVENTS = chat_events(*WORDS)
WELL = sse(EVENTS)
CUT = sse(EVENTS, 3)
GARBLED = "data: {\"choices\":[{\"ind\n\n"
# What the caller is left with. Nothing else is right, and nothing else is safe.
RESCUED = "a whole answer, as if nothing had happened"
REFUSED = "the upstream's own error, at once: no repeat would change it"
TOLD = "the words that came, and one error event behind them: no end, nothing twice"


@dataclasses.dataclass
class Fault:
    big: list  # answers of the model that was asked for, one after the other; then the last again
    live: tuple  # what the caller is left with, and the requests that it took
    splice: tuple
    hold: tuple
    small: object = None  # the fallback's answers; None: good ones


def all_modes(big, gets, attempts, **more):
    return Fault(big, *[(gets, attempts)] * 3, **more)


CATALOGUE = {
    "429-with-hint": all_modes([{**error(429, code="rate_limit_exceeded"), "headers": {"retry-after-ms": "500"}}, WELL],
                               RESCUED, 2),
    "persistent-429": all_modes([error(429, code="rate_limit_exceeded")], RESCUED, 4),
    "one-500": all_modes([error(500), WELL], RESCUED, 2),
    "persistent-503": all_modes([error(503)], RESCUED, 4),
    "reset-before-the-head": all_modes([{"cut": {"before_head": True}}, WELL], RESCUED, 2),
    "silence": all_modes([{"stall": {"before_head": True}}], RESCUED, 2),
    "late-first-token": all_modes([sse(EVENTS, stall={"after_events": 1, "for_ms": FIRST_WORD_MS})], RESCUED, 1),
    "cut": Fault([CUT, WELL], live=(TOLD, 1), splice=(RESCUED, 2), hold=(RESCUED, 2)),
    "stall": Fault([sse(EVENTS, stall={"after_events": 3, "for_ms": STALL_MS})],
                   live=(TOLD, 1), splice=(TOLD, 1), hold=(RESCUED, 2)),
    "malformed-event": Fault([sse([*EVENTS[:3], GARBLED, *EVENTS[3:]]), WELL],
                             live=(RESCUED, 1), splice=(RESCUED, 2), hold=(RESCUED, 2)),
    "missing-done": all_modes([sse(EVENTS[:-1])], RESCUED, 1),
    "context-length": all_modes([verdict("context_length_exceeded", 400)], RESCUED, 2),
    "content-policy": all_modes([verdict("content_policy_violation", 400)], REFUSED, 1),
    # A fallback that is asked to go on behind "Hello you" refuses: it is sent what the caller sent, and only where
    # the caller has nothing yet.
    "fallback-rejects-prefill": Fault([CUT], live=(TOLD, 1), splice=(TOLD, 5), hold=(RESCUED, 4)),
    "flapping-primary": all_modes([error(503), sse(EVENTS, 1), WELL], RESCUED, 3),
    "accounting-after-a-fall-back": all_modes([error(503)], RESCUED, 4),
}


def rules_of(name, fault):
    match = {"header": {"x-case": name}}
    return [{"match": {**match, "model": "small"}, "answers": fault.small or [WELL], "then": "repeat"},
            {"match": match, "answers": fault.big, "then": "repeat"}]


def play(mode):
    """{fault: Seen} of all of them at once."""
    asked = {name: case("chat", [], mode) for name in CATALOGUE}
    for a in asked.values():
        a.body = a.body.replace(b'"gpt-4o"', b'"big"')
    with house(route={"fallback_models": "small"}, **SETTINGS) as (provider, daemon):
        provider.rules(*(r for name, fault in CATALOGUE.items() for r in rules_of(name, fault)))
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(asked)) as pool:
            seen = {got.name: got for got in pool.map(lambda item: send(daemon, *item), asked.items())}
        for attempt in in_order(provider.record()):
            seen[dict(attempt["headers"])["x-case"]].attempts.append(attempt)
    return seen


@pytest.fixture(scope="module")
def played():
    """What came of each mode, played once; again where this machine was late, which is no fault of ours."""
    found = {}

    def once(mode):
        if mode not in found:
            found[mode] = calm(lambda: play(mode), lambda seen: [(s.ended_after_ms, 0, LIMIT_MS) for s in seen.values()])
        return found[mode]
    return once


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CATALOGUE)
def test_each_fault_in_each_mode(name, mode, played):
    """C12, C13."""
    seen = played(mode)[name]
    gets, attempts = getattr(CATALOGUE[name], mode)
    assert seen.problem is None, repr(seen.problem)
    assert seen.ended_after_ms < LIMIT_MS
    if gets is REFUSED:
        assert seen.answer.status == 400 and seen.answer.json()["error"]["code"] == "content_policy_violation"
    else:
        told = READ["chat"](seen.answer.body)
        told.ends += name == "missing-done"  # the finish_reason says that it is whole
        if gets is RESCUED:
            assert_whole(told, "chat", TEXT)
            assert len(told.usages) == 1
        else:
            assert_broken(told, "".join(WORDS[:2]))
    assert len(seen.attempts) == attempts
    served = [model_of(a) for a in seen.attempts]
    assert seen.answer.header("x-retryd-model") == ("small" if served[-1] == "small" else None)
    if mode == "hold":
        assert seen.fact("x-retryd-attempts") == str(attempts)


def test_hold_rides_out_all_sixteen():
    """C13."""
    assert len(CATALOGUE) == 16
    assert all(fault.hold[0] in (RESCUED, REFUSED) for fault in CATALOGUE.values())


def test_a_fallback_is_sent_what_the_caller_sent(played):
    """C18: No prefill: its messages are the caller's, and only the model is another."""
    for name in ("fallback-rejects-prefill", "accounting-after-a-fall-back"):
        bodies = [json.loads(a["body"]) for a in played("hold")[name].attempts]
        assert [b.pop("model") for b in bodies] == ["big", "big", "big", "small"]
        assert all(b == bodies[0] for b in bodies)
