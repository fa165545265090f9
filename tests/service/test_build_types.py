"""Asserts stay on in every build type, whatever the builder's flags say."""

import json
import os
import shlex
import subprocess

import pytest
from machine import ROOT


@pytest.mark.parametrize("kind", ["Debug", "Release", "RelWithDebInfo", "MinSizeRel", "None"])
def test_no_build_type_turns_asserts_off(tmp_path, kind):
    done = subprocess.run(["cmake", "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja", f"-DCMAKE_BUILD_TYPE={kind}",
                           "-DRETRYD_TESTS=OFF"], env={**os.environ, "CFLAGS": "-DNDEBUG"}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    ours = [shlex.split(entry["command"]) for entry in commands if f"{ROOT}/src/" in entry["file"]]
    assert len(ours) > 50
    for words in ours:
        assert [word for word in words if word.endswith("NDEBUG")][-1] == "-UNDEBUG", words


def test_no_other_build_does():
    done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", "-D_GNU_SOURCE", "-DNDEBUG", f"-I{ROOT}/src",
                           f"{ROOT}/src/exchange/exchange.c"], capture_output=True, text=True)
    assert done.returncode != 0 and "asserts stay on" in done.stderr
