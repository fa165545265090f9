"""The demo reports what happened, and its exit status shows whether retryd rode out the failures."""

import os
import pathlib
import re
import subprocess

RUN = pathlib.Path(__file__).resolve().parent / "run"


def run(**env):
    return subprocess.run([RUN], capture_output=True, text=True, timeout=100, env={**os.environ, **env})


def rows(output):
    """(the provider's responses, directly, by retryd, attempts) of each row."""
    found = re.findall(r"^(?:chat|stream|responses|splice|hold) +(.+?)  +(.+?)  +(.+?)  +(\d) +[\d.]+ s$", output, re.M)
    return [(what, directly, by, int(attempts)) for what, directly, by, attempts in found]


def test_every_request_is_answered_and_every_failure_shown():
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "demo: 11 of 11 requests answered; 13 failures ridden out"
    shown = rows(done.stdout)
    assert len(shown) == 12
    assert [directly for _, directly, _, _ in shown].count("answered") == 1
    assert [by for _, _, by, _ in shown] == ["answered"] * 11 + ["error 429"]
    assert [attempts for *_, attempts in shown] == [1, 3, 2, 2, 2, 2, 3, 2, 3, 2, 2, 1]
    assert "attempt 2 of 5 failed: 503 overloaded; next in" in done.stdout


def test_output_fits_a_terminal():
    assert max(len(line) for line in run().stdout.splitlines()) <= 80


def test_says_so_when_failures_are_not_ridden_out(tmp_path):
    """With one attempt per request, the provider's failures reach the client."""
    once = tmp_path / "retryd"
    once.write_text(f"#!/bin/sh\nsed 's/^.retry.$/&\\nmax_attempts = 1/' \"$2\" >'{tmp_path}/conf'\n"
                    f"exec '{os.environ['DAEMON_BIN']}' -c '{tmp_path}/conf'\n")
    once.chmod(0o755)
    done = run(DAEMON_BIN=str(once))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "demo: 1 of 11 requests answered; 0 failures ridden out"
    assert "demo: 503 twice, then good: the client saw error 503\n" in done.stderr


def test_says_what_is_missing():
    done = run(DAEMON_BIN="/nonexistent")
    assert done.returncode == 2
    assert done.stderr == "demo: DAEMON_BIN is not the path of a program; ./dev demo builds it first\n"


def test_says_that_retryd_did_not_start():
    done = run(DAEMON_BIN="/bin/false")
    assert done.returncode == 1
    assert done.stderr.startswith("demo: ")
