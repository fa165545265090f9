"""C12: what says that an answer is whole, what only looks like it, and what comes behind the end."""

import pytest
from cases import pair, run
from streams import DONE, MODES, PAUSE_MS, assert_broken, assert_whole, case, choice, chunk, read_chat, sse, usage


@pytest.fixture(scope="module")
def both():
    with pair(retry={"initial_delay": "20ms", "budget_min": 100000}) as running:
        yield running


def told_of(seen):
    assert seen.problem is None and seen.answer.status == 200, (seen.name, seen.problem, seen.answer)
    return read_chat(seen.answer.body)


# --- a finish_reason that says nothing ---

OPEN = {"empty": "", "null": None, "the-word-null": "null", "the-word-none": "None", "blank": " "}


def open_events(reason, *texts):
    """A stream whose chunks have this finish_reason until its last one."""
    said = [chunk(choice({"content": text}, reason)) for text in texts]
    return [chunk(choice({"role": "assistant", "content": ""}, reason)), *said]


@pytest.mark.parametrize("mode", MODES)
def test_c12_a_finish_reason_that_says_nothing_ends_nothing(mode, both):
    """A cut or an orderly end behind it is a break; behind the role alone nothing has been said yet."""
    cases = {}
    for name, reason in OPEN.items():
        good = sse([*open_events(reason, "one ", "two ", "three"), chunk(choice({}, "stop")), usage(), DONE])
        part, role = open_events(reason, "one ", "two "), open_events(reason)
        bad = {"cut": sse(part, cut=3), "end": sse(part, stall={"after_events": 3, "for_ms": PAUSE_MS}),
               "cut-role": sse(role, cut=1), "end-role": sse(role)}
        for how, answer in bad.items():
            cases[f"{mode}-{name}-{how}"] = case("chat", [answer, good], mode, stream_options=None)
    for name, seen in run(*both, cases).items():
        told = told_of(seen)
        if mode == "live" and not name.endswith("role"):
            assert_broken(told, "one two ")
            assert len(seen.attempts) == 1, name
        else:
            assert_whole(told, "chat", "one two three")
            assert len(seen.attempts) == 2, name


@pytest.mark.parametrize("mode", MODES)
def test_c12_servers_that_send_it_are_well(mode, both):
    """A stream of theirs that comes to its end passes as it is, in one attempt."""
    cases, bodies = {}, {}
    for name, reason in OPEN.items():
        events = [*open_events(reason, "one ", "two"), chunk(choice({}, "stop")), usage(), DONE]
        cases[f"well-{mode}-{name}"] = case("chat", [sse(events)], mode)
        bodies[f"well-{mode}-{name}"] = "".join(events).encode()
    for name, seen in run(*both, cases).items():
        assert seen.answer.body == bodies[name] and len(seen.attempts) == 1, name
