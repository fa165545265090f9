"""Runs every client of the table of streams, with many streams each, all at the same time.

    told = run_all(base_url, {"python": [{"name": ..., "op": "chat", "model": ..., "headers": {}}], ...})
    told["python"][0] == {"name", "kind": "whole" or "error", "text", "finish", "error"}

The Node clients are programs beside their node_modules (batch.mjs describes their input and output). The clients for
Go and Rust are built from tests/sdk/go and tests/sdk/rust into COMPILED_DIR; if it is set, only they run. The Python
client runs here. All clients report the same.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess

import openai
from conftest import KEY

HERE = pathlib.Path(__file__).resolve().parent
SDK = pathlib.Path(os.environ["SDK_DIR"])
AT_ONCE = 40

# client: its folder below SDK_DIR and its driver
NODE_CLIENTS = {
    "node4": ("node4", "openai.mjs"), "node6": ("node6", "openai.mjs"), "node7": ("node7", "openai.mjs"),
    "ai": ("nodeai", "ai.mjs"), "ai-compatible": ("nodeai", "ai.mjs"), "langchain": ("nodelangchain", "langchain.mjs"),
}
COMPILED = {"go": "client-go", "rust": "client-rust"}
COMPILED_DIR = os.environ.get("COMPILED_DIR")
CLIENTS = list(COMPILED) if COMPILED_DIR else ["python", *NODE_CLIENTS]


# --- Python ---


def chat(client, job, told):
    chunks = client.chat.completions.create(model=job["model"], messages=[{"role": "user", "content": "hi"}],
                                            stream=True, stream_options={"include_usage": True},
                                            extra_headers=job["headers"])
    for chunk in chunks:
        for choice in chunk.choices or []:
            told["text"] += choice.delta.content or ""
            told["finish"] = choice.finish_reason or told["finish"]


def responses(client, job, told):
    events = client.responses.create(model=job["model"], input="hi", stream=True, extra_headers=job["headers"])
    for event in events:
        if event.type == "response.output_text.delta":
            told["text"] += event.delta
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            told["finish"] = event.response.status


def facts(error):
    return {"name": type(error).__name__, "isAPIError": isinstance(error, openai.APIError),
            "status": getattr(error, "status_code", None), "code": getattr(error, "code", None),
            "message": str(error)}


def one(client, job):
    told = {"name": job["name"], "kind": "whole", "text": "", "finish": None, "error": None}
    try:
        {"chat": chat, "responses": responses}[job["op"]](client, job, told)
    except Exception as error:  # whatever it is, it is what the application meets
        told.update(kind="error", error=facts(error))
    return told


def run_python(base_url, jobs):
    with openai.OpenAI(base_url=base_url, api_key=KEY) as client:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda job: one(client, job), jobs))


# --- programs ---


def command_of(name):
    if name in COMPILED:
        return [pathlib.Path(COMPILED_DIR) / COMPILED[name]]
    folder, driver = NODE_CLIENTS[name]
    return [os.environ["NODE"], SDK / folder / driver]


def run_program(name, base_url, jobs):
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(command_of(name), input=json.dumps(jobs), text=True, capture_output=True, timeout=100,
                          env={**environment, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY})
    # The older SDKs write what they cannot read there, too.
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_all(base_url, jobs):
    """What came of each client's jobs: {client: [told, ...]}."""
    for folder, driver in set(NODE_CLIENTS.values()):
        for source in ("batch.mjs", driver):
            shutil.copy2(HERE / source, SDK / folder)

    def run(item):
        name, its_jobs = item
        if name == "python":
            return run_python(base_url, its_jobs)
        return run_program(name, base_url, its_jobs)

    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return dict(zip(jobs, pool.map(run, jobs.items())))
