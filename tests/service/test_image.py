"""Builds and runs the Dockerfile without a container engine and without a registry.

buildah builds it in a chroot. The image in FROM is a minimal Debian that debootstrap creates.
"""

import json
import pathlib
import re
import shutil
import sys

import pytest
from machine import CACHE, ROOT, debian, run

IMAGE = "localhost/retryd:test"


class Store:
    """buildah with images and containers of its own."""

    def __init__(self):
        place = CACHE / "images"
        self.place = place
        self.command = ["buildah", "--root", str(place / "root"), "--runroot", str(place / "run"),
                        "--storage-driver", "vfs"]

    def __call__(self, *arguments):
        return run(*self.command, *arguments).strip()

    def have_base(self, name, template):
        """name is an image that holds template's files."""
        known = f"{template.name} {name}"
        note = self.place / "base"
        if note.exists() and note.read_text() == known:
            return
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        archive = self.place / "base.tar"
        run("tar", "-C", template, "-c", "-f", archive, ".")
        container = self("from", "scratch")
        self("add", "-q", container, archive, "/")
        self("commit", "-q", "--rm", container, name)
        archive.unlink()
        note.write_text(known)


@pytest.fixture(scope="module")
def built(able):
    """The image, as a container of a store: what `buildah from` calls it."""
    bases = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(bases) == 1, f"one base for both stages, not {bases}"
    base = bases.pop()
    suite = re.fullmatch(r"docker\.io/library/debian:(\w+)-slim", base).group(1)
    store = Store()
    store.have_base(base, debian(suite, ["ca-certificates"]))
    store("bud", "--isolation", "chroot", "--pull=never", "--format", "docker", "-t", IMAGE, ROOT)
    container = store("from", "--pull=never", IMAGE)
    yield store, container
    store("rm", container)
    store("rmi", IMAGE)


@pytest.fixture(scope="module")
def ran(built):
    store, container = built
    output = run("unshare", "--net", sys.executable, ROOT / "tests/service/image_run.py",
                 *store.command, "--", container)
    return json.loads(output.splitlines()[-1])


def test_answers_on_healthz(ran):
    assert ran.get("healthz") == 200, ran


def test_health_check_passes(ran):
    assert ran.get("healthcheck") == 0, ran


def test_health_check_goes_by_the_configuration_of_the_daemon():
    """[admin] listen may be any: one that asked elsewhere would have a healthy daemon killed."""
    text = (ROOT / "Dockerfile").read_text()
    check, daemon = (json.loads(found) for found in re.findall(r"^(?:    )?CMD (\[.*\])$", text, re.MULTILINE))
    assert check == ["/usr/bin/retryd", *daemon, "--health"]
    probes = re.findall(r"command: (\[.*\])", (ROOT / "docs/kubernetes.md").read_text())
    assert [json.loads(probe) for probe in probes] == [check] * 2


def test_runs_without_root(ran):
    assert ran["user"] == "10001:10001"
    assert ran.get("uid") == 10001, ran


def test_ends_cleanly_on_sigterm(ran):
    assert ran["status"] == 0, ran


def test_holds_no_compiler_and_no_sources(built):
    store, container = built
    root = pathlib.Path(store("mount", container))
    found = [path for name in ("gcc", "cc", "cmake", "ninja") for path in root.glob(f"usr/bin/{name}*")]
    found += root.glob("retryd/*")
    store("umount", container)
    assert found == []
