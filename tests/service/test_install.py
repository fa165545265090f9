"""Installing, upgrading and uninstalling never change the administrator's file in /etc."""

import os
import subprocess

import pytest
from machine import ROOT


@pytest.fixture
def cmake(tmp_path):
    """A build tree of its own, whose install_manifest.txt no other test writes, and a root to install to."""
    build, root = tmp_path / "build", tmp_path / "root"

    def run(*args):
        done = subprocess.run(["cmake", *map(str, args)], env={**os.environ, "DESTDIR": str(root)}, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_INSTALL_PREFIX=/usr", "-DRETRYD_TESTS=OFF")
    # What is installed here are the files beside the program, which need not be built for that.
    (build / "retryd").write_text("#!/bin/sh\n")
    (build / "retryd.conf.5").touch()
    run.build, run.root = build, root
    return run


def test_an_upgrade_keeps_the_configuration(cmake):
    conf, sample = cmake.root / "etc/retryd/retryd.conf", cmake.root / "usr/share/doc/retryd/retryd.conf"
    cmake("--install", cmake.build)
    assert conf.read_text() == sample.read_text() == (ROOT / "conf/retryd.conf").read_text()
    conf.write_text("# mine\n")
    sample.write_text("an older version's")
    assert "Kept: " in cmake("--install", cmake.build)
    assert conf.read_text() == "# mine\n"
    assert sample.read_text() == (ROOT / "conf/retryd.conf").read_text()


def test_an_upgrade_keeps_a_link_that_leads_nowhere_yet(cmake):
    conf = cmake.root / "etc/retryd/retryd.conf"
    conf.parent.mkdir(parents=True)
    conf.symlink_to("/run/secrets/retryd.conf")
    cmake("--install", cmake.build)
    assert conf.is_symlink()


def test_uninstalling_leaves_the_configuration_alone(cmake):
    cmake("--install", cmake.build)
    cmake("--build", cmake.build, "--target", "uninstall")
    assert [path for path in cmake.root.rglob("*") if not path.is_dir()] == [cmake.root / "etc/retryd/retryd.conf"]


def test_uninstalling_after_an_upgrade_does_too(cmake):
    cmake("--install", cmake.build)
    cmake("--install", cmake.build)
    cmake("--build", cmake.build, "--target", "uninstall")
    assert [path for path in cmake.root.rglob("*") if not path.is_dir()] == [cmake.root / "etc/retryd/retryd.conf"]
