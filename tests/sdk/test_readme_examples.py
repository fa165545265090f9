"""Runs the programs of docs/running.md unmodified except for the port, because the default one may be in use here."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ANSWER, GOOD, RESET, assert_no_sdk_retry, failing

PAGE = (pathlib.Path(os.environ["SOURCE_DIR"]) / "docs/running.md").read_text()
SDK = pathlib.Path(os.environ["SDK_DIR"])


def example(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture
def run(provider, retryd, environment, tmp_path):
    d = retryd()
    environment(d)
    provider.answers(failing(503), RESET, GOOD)

    def run(language, command, name):
        text = example(language)
        assert text.count("http://127.0.0.1:4290/v1") == 1
        file = tmp_path / name
        file.write_text(text.replace("http://127.0.0.1:4290/v1", d.base_url))
        done = subprocess.run([command, file], capture_output=True, text=True, timeout=60,
                              env={k: v for k, v in os.environ.items() if k != "OPENAI_BASE_URL"})
        assert (done.returncode, done.stderr, done.stdout) == (0, "", ANSWER + "\n")
        assert_no_sdk_retry(provider.record())
    return run


def test_python(run):
    run("python", sys.executable, "example.py")


@pytest.mark.parametrize("major", [4, 6, 7])
def test_node(major, run, tmp_path):
    (tmp_path / "node_modules").symlink_to(SDK / f"node{major}/node_modules")
    run("js", os.environ["NODE"], "example.mjs")
