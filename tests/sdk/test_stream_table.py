"""Runs the table of streams: what an upstream does to a stream (stream_rows.py), and what each client's application
then sees. Each client runs in one process, with all its streams at the same time, all through one daemon.
"""

import collections
import json
import os

import pytest
from client import Provider
from daemon import Retryd
from stream_causes import APIS, HALF, WHOLE
from stream_clients import CLIENTS, run_all
from stream_rows import ANY, ATTEMPTS, MODES, ROWS, SAYS_BOOM, Effect, error, raw, repeated

# What a client makes of an effect where it differs, and why: {(row, client): {mode: effect}}.
AI_ASKS_AGAIN = {
    # It repeats by itself, twice, what has a status from 500 on or 429. It looks neither at x-should-retry nor at the
    # code, and no header can stop it. An error that comes first in a stream it takes for a status of its own choice,
    # and loses its code; @ai-sdk/openai-compatible does not.
    "error-first-always": {mode: Effect("error", ANY, "", ANY, ANY) for mode in MODES},
    "heartbeats-then-error-always": {mode: Effect("error", ANY, "", ANY, ANY) for mode in MODES},
    "error-quota-always": {"hold": Effect("error", ANY, "", ANY, ANY)},
    "reset-always": {"hold": repeated(error(text="", attempts=3), 3)},
    "no-json-always": {"hold": Effect("error", ANY, "", ANY, ANY)},
    **{row: {mode: Effect("error", ANY, "", ANY, ANY) for mode in MODES}
       for row in ("detail-always", "detail-in-200-always", "base-resp-always")},
}
RUST = {
    # It repeats by itself, three times, what has 429 or a status from 500 on, whatever the headers say.
    "reset-always": {"hold": repeated(error(text="", attempts=3), 4)},
    "no-json-always": {"hold": repeated(error("answer_malformed", "", 2), 4)},
    **dict.fromkeys(["detail-always", "detail-in-200-always"],
                    dict.fromkeys(MODES, repeated(error(text="", attempts=3), 4))),
    # A response of 429 has to have an `error`.
    "base-resp-always": dict.fromkeys(MODES, raw("", 3)),
    # Its types know neither a reason nor choices like these, with or without retryd.
    "empty-reasons": dict.fromkeys(MODES, raw("")),
    **dict.fromkeys(["empty-reasons-reset", "empty-reasons-clean-end"], dict.fromkeys(["live", "splice"], raw(""))),
    "choices-null": dict.fromkeys(MODES, raw(HALF)),
    "choices-null-first": dict.fromkeys(MODES, raw("")),
    "error-in-a-choice": {"live": raw(HALF)},
}
BUT = {
    **{(row, "rust"): modes for row, modes in RUST.items()},
    **{(row, client): modes for row, modes in AI_ASKS_AGAIN.items() for client in ("ai", "ai-compatible")},
    # Of a chat stream's first error it loses the code.
    ("error-of-the-request-always", "ai"): {mode: error(text="") for mode in MODES},
    # It takes "error": null for an error, with or without retryd.
    ("error-null", "ai-compatible"): {mode: raw("") for mode in MODES},
    ("error-null", "go"): {mode: error(text="") for mode in MODES},
    # Its types know no such thing, with or without retryd.
    **{(row, client): {mode: raw(text) for mode in MODES} for client in ("ai", "ai-compatible")
       for row, text in (("choices-null", HALF), ("choices-null-first", ""))},
    # LangChain has switched off the repeats of the SDK below it, and with them x-should-retry; its own go by the status
    # alone. Here it is given one repeat: its 6 would take a minute.
    ("reset-always", "langchain"): {"hold": repeated(error(text="", attempts=3), 2)},
}
LANGCHAIN_REPEATS = {"reset-always": 1, **dict.fromkeys(["error-first-always", "no-json-always", "detail-always",
                                                        "detail-in-200-always", "base-resp-always",
                                                        "heartbeats-then-error-always"], 0)}

Cell = collections.namedtuple("Cell", "row api mode client")


def cells():
    for row, (causes, _) in ROWS.items():
        for api, cause in zip(APIS, causes):
            for mode in MODES:
                for client in CLIENTS:
                    if cause is not None and (client, api) != ("ai-compatible", "responses"):
                        yield Cell(row, api, mode, client)


def name_of(cell):
    return ".".join(cell)


def job(cell):
    op = "compatible" if cell.client == "ai-compatible" else cell.api
    return {"name": name_of(cell), "op": op, "model": name_of(cell), "headers": {"x-retryd-stream-mode": cell.mode},
            "max_retries": LANGCHAIN_REPEATS.get(cell.row, 6)}


def rule(cell):
    causes, _ = ROWS[cell.row]
    first = causes[APIS.index(cell.api)]
    return {"match": {"model": name_of(cell)}, "answers": [first] if "always" in cell.row else [first, WHOLE]}


Seen = collections.namedtuple("Seen", "told attempts requests")


@pytest.fixture(scope="module")
def seen():
    """{name of a cell: what its client told, the attempts that the provider saw, the requests in the log}."""
    # A busy machine may let a stream wait for a second; the silent ones are found all the same.
    settings = {"retry": {"initial_delay": "20ms", "max_attempts": ATTEMPTS}, "timeout": {"idle": "6s"},
                "route beats": {"model": "heartbeats-*", "upstreams": "test", "stream.heartbeat": "50ms"},
                "route others": {"upstreams": "test"}}
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider, Retryd(provider.base_url, **settings) as daemon:
        provider.rules(*map(rule, cells()))
        jobs = collections.defaultdict(list)
        for cell in cells():
            jobs[cell.client].append(job(cell))
        told = {t["name"]: t for ts in run_all(daemon.base_url, jobs).values() for t in ts}
        attempts = collections.Counter(json.loads(r["body"])["model"] for r in provider.record())
    requests = collections.Counter(line["model"] for line in daemon.requests())
    return {name: Seen(told[name], attempts[name], requests[name]) for name in told}


@pytest.mark.parametrize("cell", list(cells()), ids=name_of)
def test_stream(cell, seen):
    """C12."""
    effect = BUT.get((cell.row, cell.client), {}).get(cell.mode, ROWS[cell.row][1][MODES.index(cell.mode)])
    told, attempts, requests = seen[name_of(cell)]
    story = f"{requests} requests, {attempts} attempts, and the client told {json.dumps(told)}"
    problem = told["error"]
    if effect.kind == "whole":
        assert told["kind"] == "whole" and told["finish"], story
    else:
        assert told["kind"] == "error" and problem["isAPIError"] == (effect.kind == "error"), story
        assert effect.code in (ANY, str(problem["code"])), story
        assert cell.row not in SAYS_BOOM or effect.kind == "raw" or "boom" in problem["message"], story
    assert told["text"] == effect.text, story
    assert effect.attempts in (ANY, attempts) and effect.requests in (ANY, requests), story
