"""tests/late.py: what is late each time fails, what is late twice does not, and no other failure is tried again."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
PLAYED = """
import pathlib
import pytest
from late import in_time

RUNS = pathlib.Path(__file__).with_name("runs")

@pytest.fixture
def run():
    with RUNS.open("a") as f:
        f.write("x")
    return RUNS.stat().st_size

def test_played(run):
    BODY
"""


@pytest.mark.parametrize("body, runs, result", [
    ("in_time(900 if run < 3 else 799)", 3, "1 passed"), ("in_time(900)", 3, "1 failed"),
    ("in_time(50, 60)", 1, "1 passed"), ("assert run > 1", 1, "1 failed")], ids=["twice", "always", "never", "wrong"])
def test_what_is_late_runs_again(tmp_path, body, runs, result):
    test = tmp_path / "test_played.py"
    test.write_text(PLAYED.replace("BODY", body))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "late", "-p", "no:cacheprovider", test],
                          capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TESTS)})
    assert re.search(rf"^{result} in", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert len((tmp_path / "runs").read_text()) == runs
