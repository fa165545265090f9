"""Runs unmodified coding agents: Codex, Claude Code, the Gemini CLI and aider, each non-interactively.

The settings of each agent come from docs/clients.md, and the daemon's configuration comes from the end of
conf/retryd.conf, so that neither can become outdated. The daemon listens on the address given there, in a network of
its own (run.py). Each agent sends one greeting; the test checks its output and the upstream's requests.
"""

import collections
import os
import pathlib
import re
import subprocess

import pytest
from cases import error
from client import Provider
from daemon import Retryd
from ready import page, ready_config

AGENTS = pathlib.Path(os.environ["AGENTS_DIR"])
TEXT = "Hello there my friend"
WHOLE = {"preset": "auto", "text": TEXT, "events": 4}
CUT = {**WHOLE, "cut": {"after_deltas": 2, "delay_ms": 300}}
LIMITED = {**error(429), "headers": {"retry-after-ms": "200"}}
ATTEMPTS = 5

# its command, the variables that hold its key and calm it, and how often it may ask in all when nothing helps
Agent = collections.namedtuple("Agent", "command env requests")
CLIENTS = {
    "codex": Agent(["codex/node_modules/.bin/codex", "exec", "--skip-git-repo-check", "-m", "gpt-5.2-codex"],
                   {"OPENAI_API_KEY": "sk-1"}, 1),
    "claude": Agent(["claude/node_modules/.bin/claude", "-p"], {"ANTHROPIC_API_KEY": "sk-ant-1"}, 1),
    "gemini": Agent(["gemini/node_modules/.bin/gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p"],
                    {"GEMINI_API_KEY": "AIza1"}, 5),
    "aider": Agent(["aider/bin/aider", "--model", "openai/gpt-4o", "--no-git", "--yes-always", "--no-check-update",
                    "--analytics-disable", "--no-show-model-warnings", "--no-pretty", "--message"],
                   {"OPENAI_API_KEY": "sk-1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, 12),
}
every_agent = pytest.mark.parametrize("name", CLIENTS)

BLOCK = re.compile(r"^```(\w+) (\S+)(?: (~/\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(name):
    """What the page says for a client: (the language, the file it goes into, the text)."""
    return [(lang, file, text) for lang, client, file, text in BLOCK.findall(page()) if client == name]


def prepared(name, home, without=""):
    """Does what the page says, but for the lines that match; the environment that follows."""
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb", "NO_COLOR": "1", **CLIENTS[name].env}
    blocks = blocks_of(name)
    assert blocks, f"docs/clients.md has no block for {name}"
    for lang, file, text in blocks:
        if file:
            path = home / file[2:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub(without, "", text, flags=re.MULTILINE) if without else text)
        else:
            assert lang == "sh"
            env.update(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
    return env


Ran = collections.namedtuple("Ran", "code said record asked")


def run(name, tmp_path, *answers, config="", without=""):
    """Asks it for a greeting. record: the provider's, of generations; asked: how often the client sent one."""
    env = prepared(name, tmp_path, without)
    work = tmp_path / "work"
    work.mkdir()
    command = CLIENTS[name].command
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        provider.rules({"match": {"method": "POST"}, "answers": list(answers), "then": "repeat"})
        with Retryd(config=ready_config(provider) + config, raw=True) as daemon:
            assert daemon.listeners == ["127.0.0.1:4290"]
            done = subprocess.run([AGENTS / command[0], *command[1:], "Say hello"], cwd=work, env=env, text=True,
                                  capture_output=True, stdin=subprocess.DEVNULL, timeout=200)
            record = [r for r in provider.record() if r["method"] == "POST"]
            asked = [r for r in daemon.requests() if r["method"] == "POST"]
    return Ran(done.returncode, done.stdout + done.stderr, record, asked)


FIRST = {"normal": [], "503-twice": [error(503)] * 2, "429-with-a-hint": [LIMITED],
         "reset-before-the-head": [{"cut": {"before_head": True}}]}


@every_agent
@pytest.mark.parametrize("first", FIRST)
def test_the_agent_sees_nothing_of_it(name, first, tmp_path):
    """C3."""
    ran = run(name, tmp_path, *FIRST[first], WHOLE)
    assert ran.code == 0 and TEXT in ran.said, ran
    assert (len(ran.asked), len(ran.record)) == (1, 1 + len(FIRST[first])), ran


# Gemini's streams are not spliced: there a cut is met as in live.
MODES = [(name, mode) for name in CLIENTS for mode in ("live", "splice", "hold")]
TOLD = [(name, mode) for name, mode in MODES if mode == "live" or (name, mode) == ("gemini", "splice")]


@pytest.mark.parametrize("name, mode", [each for each in MODES if each not in TOLD])
def test_a_cut_is_mended(name, mode, tmp_path):
    """C13."""
    ran = run(name, tmp_path, CUT, WHOLE, config=f"\n[stream]\nmode = {mode}\n")
    assert ran.code == 0 and TEXT in ran.said, ran
    assert (len(ran.asked), len(ran.record)) == (1, 2), ran


@pytest.mark.parametrize("name, mode", TOLD)
def test_a_cut_is_no_response(name, mode, tmp_path):
    """C12: The agent learns of it, and asks again, or says so."""
    ran = run(name, tmp_path, CUT, WHOLE, config=f"\n[stream]\nmode = {mode}\n")
    assert (len(ran.asked) > 1 and TEXT in ran.said) or (len(ran.asked) == 1 and TEXT not in ran.said), ran
    assert len(ran.record) == len(ran.asked), ran


# Each repeat waits for the breaker's next probe, which comes soon here.
SOON = "\n[breaker]\nopen_for = 200ms\n"


@every_agent
def test_a_persistent_failure_costs_max_attempts_and_the_agents_own_repeats(name, tmp_path):
    """C8."""
    ran = run(name, tmp_path, error(503), config=SOON)
    assert TEXT not in ran.said
    assert 1 <= len(ran.asked) <= CLIENTS[name].requests, ran
    assert len(ran.record) == ATTEMPTS + len(ran.asked) - 1, ran


def test_codex_without_its_two_knobs_adds_up_too(tmp_path):
    """C8: It reconnects five times, each time with its members in another order, and asks five times in each."""
    ran = run("codex", tmp_path, error(503), config=SOON, without=r"^(request|stream)_max_retries = 0\n")
    assert TEXT not in ran.said
    assert 5 < len(ran.asked) <= 30, ran
    assert len({r["body_sha256"] for r in ran.record}) > 1
    assert len(ran.record) == ATTEMPTS + len(ran.asked) - 1, ran
