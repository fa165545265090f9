"""systemd's journal gets the level of each line: a priority precedes each line if the journal is the reader."""

import json
import os
import re
import subprocess

import pytest
from cases import AUTO, error, pair
from daemon import Retryd, parse_logfmt
from raw import ask

PRIORITY = {"debug": "<7>", "info": "<6>", "warn": "<4>", "error": "<3>"}

# What systemd does for a service whose standard error is the journal's.
JOURNAL = ["sh", "-c", 'JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr) exec "$@"', "sh"]
# Its standard output is; its standard error goes elsewhere.
OTHER = ["sh", "-c", 'JOURNAL_STREAM=$(stat -Lc %d:%i /dev/null) exec "$@"', "sh"]


def level_of(text, kind):
    return (json.loads(text) if kind == "json" else parse_logfmt(text))["level"]


@pytest.mark.parametrize("kind", ["logfmt", "json"])
def test_each_line_bears_its_priority(kind):
    with pair(log={"level": "debug", "format": kind}, retry={"initial_delay": "1ms"}, wrap=JOURNAL,
              breaker={"failures": 1}) as (provider, daemon):
        provider.answers(error(503), AUTO)
        assert ask(daemon).status == 200
        daemon.wait_line("breaker open")
        daemon.stop()
        levels = set()
        for line in daemon.lines:
            level = level_of(line[3:], kind)
            assert line[:3] == PRIORITY[level], line
            levels.add(level)
        assert {"info", "warn"} <= levels


@pytest.mark.parametrize("wrap", [(), OTHER, ["env", "JOURNAL_STREAM=x"], ["env", "JOURNAL_STREAM=1:"]])
def test_whoever_else_reads_sees_no_priorities(wrap):
    with pair(wrap=wrap) as (_, daemon):
        assert all(line.startswith("ts=") for line in daemon.lines)


@pytest.mark.parametrize("kind", ["logfmt", "json"])
def test_each_problem_of_a_configuration_is_an_error(tmp_path, kind):
    """They are told before there is a log, many at once."""
    (tmp_path / "conf").write_text(f"[nothing]\nx = 1\n[server]\nworkers = none\n[log]\nformat = {kind}\n")
    done = subprocess.run([*JOURNAL, os.environ["DAEMON_BIN"], "-c", str(tmp_path / "conf")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("<3>") for line in lines), lines
    if kind == "json":
        assert all(json.loads(line[3:])["level"] == "error" for line in lines)


@pytest.mark.parametrize("args", [["--no-such-option"], ["--check", "-c", "/no/such/file"]])
def test_a_command_that_cannot_be_served_is_an_error(args):
    done = subprocess.run([*JOURNAL, os.environ["DAEMON_BIN"], *args], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr and all(line.startswith("<3>") for line in done.stderr.splitlines()), done.stderr


def test_notes_on_a_configuration_are_warnings():
    with Retryd("http://127.0.0.1:1/v1", wrap=JOURNAL, shared={"redis_user": "x"}) as daemon:
        notes = [line for line in daemon.lines if not re.match(r"<\d>ts=", line)]
        assert notes and all(line.startswith("<4>") for line in notes)
