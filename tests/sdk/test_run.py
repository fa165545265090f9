"""retryd run with the real SDKs: the program is as it was, makes no retry of its own, and knows only its environment."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ANSWER, GOOD, KEY, assert_no_sdk_retry, failing, header

HERE = pathlib.Path(__file__).resolve().parent
SDK = pathlib.Path(os.environ["SDK_DIR"])
RODE_OUT = r"retryd: rode out failures of 1 of 1 request: 1 failed attempt, \d+\.\d s of waiting\n"
SCRIPT = """
from openai import OpenAI
client = OpenAI(max_retries=0)
print(client.api_key)
print(client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}]).choices[0].message.content)
"""


def run(*command, options=()):
    return subprocess.run([os.environ["DAEMON_BIN"], "run", *options, "--", *command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture
def upstream(provider, environment, monkeypatch):
    """What was set before retryd run: the provider itself, and the key."""
    environment(provider)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    return provider


def test_python_with_a_hidden_key(upstream, tmp_path):
    """The program has a token of the run, and the upstream gets the key."""
    upstream.answers(failing(503), GOOD)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(sys.executable, script, options=["--hide-key"])
    has, answer = done.stdout.splitlines()
    assert (done.returncode, answer) == (0, ANSWER)
    assert re.fullmatch(r"sk-retryd-[0-9a-f]{48}", has)
    assert re.fullmatch(RODE_OUT, done.stderr)
    record = upstream.record()
    assert header(record, "authorization") == [f"Bearer {KEY}"] * 2
    assert_no_sdk_retry(record)


def test_node(upstream, monkeypatch, tmp_path):
    """The file of -c says where the API is."""
    monkeypatch.delenv("OPENAI_BASE_URL")
    upstream.answers(failing(429, "rate_limit_exceeded"), GOOD)
    conf = tmp_path / "retryd.conf"
    conf.write_text(f"[retry]\ninitial_delay = 10ms\n[upstream own]\nurl = {upstream.base_url}\n")
    folder = SDK / "node6"
    shutil.copy2(HERE / "driver.mjs", folder)
    job = json.dumps({"op": "chat", "client": {"maxRetries": 0}})
    done = run(os.environ["NODE"], folder / "driver.mjs", job, options=["-c", conf])
    assert (done.returncode, json.loads(done.stdout)) == (0, {"text": ANSWER})
    assert re.fullmatch(RODE_OUT, done.stderr)
    record = upstream.record()
    assert header(record, "authorization") == [f"Bearer {KEY}"] * 2
    assert_no_sdk_retry(record)
