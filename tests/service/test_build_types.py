"""A packager's build: asserts stay on, warnings are not errors, and missing packages are reported."""

import json
import os
import shlex
import subprocess

import pytest
from machine import ROOT


def configure(build, *options, **environment):
    return subprocess.run(["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *options],
                          env={**os.environ, **environment}, capture_output=True, text=True)


def commands(build):
    found = {entry["file"]: shlex.split(entry["command"])
             for entry in json.loads((build / "compile_commands.json").read_text())}
    assert len([file for file in found if file.startswith(f"{ROOT}/src/")]) > 50
    return found


@pytest.mark.parametrize("kind", ["Debug", "Release", "RelWithDebInfo", "MinSizeRel", "None"])
def test_no_build_type_turns_asserts_off(tmp_path, kind):
    done = configure(tmp_path, f"-DCMAKE_BUILD_TYPE={kind}", "-DRETRYD_TESTS=OFF", CFLAGS="-DNDEBUG")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in commands(tmp_path).values():
        assert [word for word in words if word.endswith("NDEBUG")][-1] == "-UNDEBUG", words


def test_no_other_build_does():
    done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", "-D_GNU_SOURCE", "-DNDEBUG", f"-I{ROOT}/src",
                           f"{ROOT}/src/exchange/exchange.c"], capture_output=True, text=True)
    assert done.returncode != 0 and "asserts stay on" in done.stderr


@pytest.mark.parametrize("how, errors", [((), False), (("--preset", "release"), True)], ids=["plain", "preset"])
def test_warnings_are_errors_in_the_presets_alone(tmp_path, how, errors):
    done = configure(tmp_path, *how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"-Werror" in words for words in commands(tmp_path).values()} == {errors}


def test_all_missing_libraries_are_told_at_once(tmp_path):
    (tmp_path / "libuv.pc").write_text("Name: libuv\nDescription: an old one\nVersion: 1.40.0\n")
    done = configure(tmp_path / "build", "-DCMAKE_DISABLE_FIND_PACKAGE_mimalloc=ON", PKG_CONFIG_LIBDIR=str(tmp_path))
    assert done.returncode != 0
    for line in ("libuv 1.44 or newer, not 1.40.0: Debian's libuv1-dev", "hiredis 0.14.1 or newer: Debian's libhiredis-dev",
                 "mimalloc 2.0 or newer: Debian's libmimalloc-dev, or -DRETRYD_MIMALLOC=OFF",
                 "check 0.15.2 or newer: Debian's check, or -DRETRYD_TESTS=OFF"):
        assert f"    {line}\n" in done.stderr, done.stderr


@pytest.mark.parametrize("options, remedy", [
    (["-DRETRYD_SANITIZE=address"], "-DRETRYD_MIMALLOC=OFF"),
    (["-DRETRYD_FUZZ=ON", "-DCMAKE_C_COMPILER=gcc"], "-DCMAKE_C_COMPILER=clang"),
])
def test_options_that_exclude_each_other_are_refused(tmp_path, options, remedy):
    done = configure(tmp_path, *options)
    assert done.returncode != 0 and remedy in done.stderr, done.stderr
