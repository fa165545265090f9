"""Gemini's own API and Anthropic's messages, with the SDKs of both: what their applications see.

Each row of the table has the provider's response, each time or first, and what the application of every client then
gets: the complete response, or an error that the SDK raises. Each client runs in one process, with all its own retries
on, and makes all its calls at the same time.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess

import anthropic
import pytest
from client import Provider
from daemon import Retryd
from google import genai

HERE = pathlib.Path(__file__).resolve().parent
SDK = pathlib.Path(os.environ["SDK_DIR"])
KEY = "test-key-0123456789"
ATTEMPTS = 3  # max_attempts of the daemon
TEXT, HALF = "aabbccdd", "aabb"
PAUSE_MS = 400  # what came before a break has then been passed on
WHOLE = {"preset": "auto", "text": TEXT, "events": 4}
FINISH = {"gemini": "STOP", "anthropic": "end_turn"}
HALF_EVENTS = {"gemini": 2, "anthropic": 5}
ALL_EVENTS = {"gemini": 5, "anthropic": 10}

# client: its API, its driver with the arguments, its folder below SDK_DIR; Python's run here
CLIENTS = {
    "genai-python": ("gemini", None, None),
    "genai-node1": ("gemini", ["genai.mjs", "genai1"], "nodegenai"),
    "genai-node2": ("gemini", ["genai.mjs", "@google/genai"], "nodegenai"),
    "anthropic-python": ("anthropic", None, None),
    "anthropic-node": ("anthropic", ["anthropic.mjs"], "nodeanthropic"),
}

# --- causes ---


def error_of(api, status, message="boom"):
    words = {400: ("INVALID_ARGUMENT", "invalid_request_error"), 503: ("UNAVAILABLE", "overloaded_error")}
    google, theirs = words[status]
    if api == "gemini":
        return {"error": {"code": status, "message": message, "status": google}}
    return {"type": "error", "error": {"type": theirs, "message": message}}


def failing(status):
    return lambda api: {"status": status, "json": error_of(api, status)}


def error_event(api):
    event = error_of(api, 503)
    return {"sse": [event if api == "gemini" else f"event: error\ndata: {json.dumps(event)}\n\n"]}


def cut(how):
    return lambda api: {**WHOLE, "chunked": True,
                        "cut": {"after_events": HALF_EVENTS[api], "how": how, "delay_ms": PAUSE_MS}}


def unfinished(api):
    """It ends in good order, and has not said that it is whole."""
    return {**WHOLE, "finish": False, "done": False, "stall": {"after_events": HALF_EVENTS[api], "for_ms": PAUSE_MS}}


def always(answer):
    return lambda api: answer


Row = collections.namedtuple("Row", "op mode first then kind status attempts text")


def whole(op, mode, attempts, *first):
    return Row(op, mode, first, always(WHOLE), "whole", None, attempts, TEXT)


def error(op, mode, attempts, answer, text="", status=None):
    return Row(op, mode, [], answer, "error", status, attempts, text)


ROWS = {
    "whole": whole("whole", "live", 1),
    "stream": whole("stream", "live", 1),
    "stream-hold": whole("stream", "hold", 1),
    "503-twice": whole("whole", "live", 3, failing(503), failing(503)),
    "503-twice-stream": whole("stream", "live", 3, failing(503), failing(503)),
    "reset-before-the-head": whole("stream", "live", 2, always({"cut": {"before_head": True}})),
    "cut-before-content": whole("stream", "live", 2, always({**WHOLE, "cut": {"after_head": True}})),
    "truncated": whole("whole", "live", 2, always({**WHOLE, "cut": {"after_bytes": 40}})),
    "error-event-first": whole("stream", "live", 2, error_event),
    "reset-behind-the-end": whole("stream", "live", 1, lambda api: {
        **WHOLE, "cut": {"after_events": ALL_EVENTS[api], "delay_ms": PAUSE_MS}}),
    "reset": error("stream", "live", 1, cut("reset"), HALF),
    "fin": error("stream", "live", 1, cut("fin"), HALF),
    "clean-end": error("stream", "live", 1, unfinished, TEXT),
    "silence": error("stream", "live", 1,
                     lambda api: {**WHOLE, "stall": {"after_events": HALF_EVENTS[api]}}, HALF),
    **{f"{name}-splice": Row("stream", "splice", [broken], always(WHOLE), "whole", None, 2, TEXT)
       for name, broken in (("reset", cut("reset")), ("fin", cut("fin")), ("clean-end", unfinished))},
    "differs-splice": Row("stream", "splice", [cut("reset")], always({**WHOLE, "text": "aaxx"}), "error", None, 2, HALF),
    "reset-hold": whole("stream", "hold", 2, cut("reset")),
    "fin-hold": whole("stream", "hold", 2, cut("fin")),
    "clean-end-hold": whole("stream", "hold", 2, unfinished),
    "400": error("whole", "live", 1, failing(400), status=400),
    "503-always": error("whole", "live", ATTEMPTS, failing(503), status=503),
    "503-always-stream": error("stream", "live", ATTEMPTS, failing(503), status=503),
    "dead": error("whole", "live", ATTEMPTS, always({"cut": {"before_head": True}}), status=502),
    "dead-stream": error("stream", "hold", ATTEMPTS, cut("reset"), status=502),
}
SAYS = {**dict.fromkeys(["400", "503-always", "503-always-stream"], "boom"),
        **dict.fromkeys(["dead", "dead-stream"], "retryd: ")}

# Streams that are not joined: what splice does is then told as in live.
UNSPLICED = {"gemini": {"reset-splice": HALF, "fin-splice": HALF, "clean-end-splice": TEXT, "differs-splice": HALF}}


def wanted(api, row):
    told = UNSPLICED.get(api, {}).get(row)
    return ROWS[row] if told is None else ROWS[row]._replace(kind="error", attempts=1, text=told)


# --- clients ---


def run_gemini(base_url, jobs):
    client = genai.Client(api_key=KEY, http_options={"base_url": base_url})

    def call(job, told):
        config = {"http_options": {"headers": job["headers"]}}
        asked = {"model": job["model"], "contents": "hi", "config": config}
        chunks = (client.models.generate_content_stream(**asked) if job["op"] == "stream"
                  else [client.models.generate_content(**asked)])
        for chunk in chunks:
            told["text"] += chunk.text or ""
            reason = chunk.candidates[0].finish_reason if chunk.candidates else None
            told["finish"] = reason.value if reason else told["finish"]

    return all_of(jobs, call, genai.errors.APIError, "code")


def run_anthropic(base_url, jobs):
    client = anthropic.Anthropic(api_key=KEY, base_url=base_url)

    def call(job, told):
        asked = {"model": job["model"], "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                 "extra_headers": job["headers"]}
        if job["op"] == "whole":
            message = client.messages.create(**asked)
            told.update(text=message.content[0].text, finish=message.stop_reason)
            return
        for event in client.messages.create(**asked, stream=True):
            if event.type == "content_block_delta":
                told["text"] += event.delta.text
            elif event.type == "message_delta":
                told["finish"] = event.delta.stop_reason

    return all_of(jobs, call, anthropic.APIError, "status_code")


def all_of(jobs, call, api_error, status):
    def one(job):
        told = {"name": job["name"], "kind": "whole", "text": "", "finish": None, "error": None}
        try:
            call(job, told)
        except Exception as problem:  # whatever it is, it is what the application meets
            told.update(kind="error", error={"isAPIError": isinstance(problem, api_error), "message": str(problem),
                                             "status": getattr(problem, status, None)})
        return told

    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def run_node(base_url, jobs, driver, folder):
    for source in ("batch.mjs", driver[0]):
        shutil.copy2(HERE / source, SDK / folder)
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run([os.environ["NODE"], SDK / folder / driver[0], *driver[1:]], input=json.dumps(jobs),
                          text=True, capture_output=True, timeout=100,
                          env={**environment, "BASE_URL": base_url, "GEMINI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY})
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_client(name, base_url, jobs):
    api, driver, folder = CLIENTS[name]
    if driver:
        return run_node(base_url, jobs, driver, folder)
    return {"gemini": run_gemini, "anthropic": run_anthropic}[api](base_url, jobs)


# --- the table ---


def name_of(client, row):
    return f"{client}.{row}"


def rule(client, row):
    api, name = CLIENTS[client][0], name_of(client, row)
    match = {"path": f"*/{name}:*"} if api == "gemini" else {"model": name}
    answers = [*ROWS[row].first, ROWS[row].then]
    return {"match": match, "answers": [answer(api) for answer in answers]}


def job(client, row):
    name = name_of(client, row)
    return {"name": name, "op": ROWS[row].op, "model": name, "headers": {"x-retryd-stream-mode": ROWS[row].mode}}


def served_model(record):
    target = record["target"]
    return target.rpartition("/")[2].partition(":")[0] if ":" in target else json.loads(record["body"])["model"]


@pytest.fixture(scope="module")
def seen():
    """{name of a cell: (what its client told, the attempts that the provider saw)}."""
    settings = {"retry": {"initial_delay": "20ms", "max_attempts": ATTEMPTS}, "timeout": {"idle": "4s"},
                "route all": {"base": "/v1"}, "route gemini": {"base": "/v1beta"}}
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider, Retryd(provider.base_url, **settings) as daemon:
        provider.rules(*(rule(client, row) for client in CLIENTS for row in ROWS))
        base_url = daemon.base_url.removesuffix("/v1")
        with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
            told = pool.map(lambda client: run_client(client, base_url, [job(client, row) for row in ROWS]), CLIENTS)
            told = {t["name"]: t for ts in told for t in ts}
        attempts = collections.Counter(map(served_model, provider.record()))
        # Google's SDK for Python asks below /v1, the one for Node below /v1beta.
        path = daemon.wait_log('msg="request"')["path"]
        assert path == "/v1/messages" or path.startswith(("/v1beta/models/", "/v1/models/"))
    return {name: (told[name], attempts[name]) for name in told}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", ROWS)
def test_what_the_application_meets(row, client, seen):
    want, (told, attempts) = wanted(CLIENTS[client][0], row), seen[name_of(client, row)]
    story = f"{attempts} attempts, and the client told {json.dumps(told)}"
    assert (told["kind"], told["text"]) == (want.kind, want.text), story
    assert attempts == want.attempts, story
    if want.kind == "whole":
        assert told["finish"] == FINISH[CLIENTS[client][0]], story
    elif want.status:
        assert told["error"]["isAPIError"] and told["error"]["status"] == want.status, story
        assert SAYS[row] in told["error"]["message"], story
