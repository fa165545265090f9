"""The README's ten lines agree with what the daemon writes: the same lines and fields, except for times and ids."""

import collections
import pathlib
import re
import sys

from daemon import parse_logfmt
from pages import README, blocks

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "blackbox"))

import rate_limit  # noqa: E402

MEASURED = re.compile(r"^(ts|id|upstream_id|for_ms|wait_ms|queue_ms|first_byte_ms|duration_ms)$")


def shape(line):
    """A line without what differs from run to run."""
    fields = {key: "*" if MEASURED.match(key) else re.sub(r"\d+\.\d s$", "* s", value)
              for key, value in parse_logfmt(line).items()}
    return tuple(fields.items())


def test_the_ten_lines_are_what_the_daemon_writes():
    """If this fails because the log has changed, tests/readme/rate_limit.py prints the lines for the README."""
    block, = blocks("text", README)
    lines = block.splitlines()
    assert len(lines) == 10
    statuses, written = rate_limit.play()
    assert statuses == [200] * rate_limit.REQUESTS
    assert collections.Counter(map(shape, written)) == collections.Counter(map(shape, lines))


def test_the_lines_are_of_one_run():
    """Who was told to wait was answered, and nobody was answered twice."""
    told = [parse_logfmt(line) for line in blocks("text", README)[0].splitlines()]
    answered = [line["id"] for line in told if line["msg"] == "request"]
    assert len(set(answered)) == len(answered) == rate_limit.REQUESTS
    assert {line["id"] for line in told if line["msg"].startswith("attempt")} <= set(answered)
    assert sorted(line["ts"] for line in told) == [line["ts"] for line in told]
