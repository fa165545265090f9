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
    base, last = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert last == "scratch"
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
    probes = re.findall(r"command: (\[.*\])", (ROOT / "conf/kubernetes/sidecar.yaml").read_text())
    assert [json.loads(probe)[:-1] for probe in probes] == [check[:-1]] * 2


def test_runs_without_root(ran):
    assert ran["user"] == "10001:10001"
    assert ran.get("uid") == 10001, ran


def test_ends_cleanly_on_sigterm(ran):
    assert ran["status"] == 0, ran


@pytest.fixture(scope="module")
def root(built):
    """The files of the image."""
    store, container = built
    yield pathlib.Path(store("mount", container))
    store("umount", container)


@pytest.fixture(scope="module")
def bare(root, tmp_path_factory):
    """What came of it as another user, with a root that is read-only, as process 1."""
    output = run("unshare", "--mount", "--net", sys.executable, ROOT / "tests/service/image_bare.py", root,
                 tmp_path_factory.mktemp("spool"), "/usr/bin/retryd", "-c", "/etc/retryd/retryd.conf")
    return json.loads(output.splitlines()[-1])


def test_runs_as_any_user_with_a_read_only_root(bare):
    assert (bare["uid"], bare["pid"], bare["writable"]) == (54321, 1, ["/var/tmp"]), bare
    assert bare["wait"] == [0, "retryd is ready: 127.0.0.1:4291 answers\n"], bare
    assert (bare["ready"][0], bare["health"][0]) == (0, 0), bare
    assert "507" not in bare["log"] and "cannot" not in bare["log"], bare["log"]


def test_is_configured_by_variables(bare):
    assert "127.0.0.1:4292" in bare["log"], bare["log"]


def test_ends_with_0_as_process_1(bare):
    assert bare["status"] == 0, bare


def test_holds_only_what_the_daemon_needs(root):
    """No shell, no package manager, no compiler, no sources."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    programs = [path for path in files if path.read_bytes()[:4] in (b"\x7fELF", b"#!/b", b"#!/u")
                and not re.search(r"\.so(\.|$)", path.name)]
    assert programs == [root / "usr/bin/retryd"]
    assert not (root / "retryd").exists()


def test_tells_whose_the_libraries_are(root):
    """Scanners find each library's package, and its licence is there."""
    packages = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libcurl4t64", "libssl3t64", "ca-certificates"} <= packages
    assert all((root / f"usr/share/doc/{name}/copyright").stat().st_size for name in packages | {"retryd"})
    assert all((root / f"var/lib/dpkg/status.d/{name}").read_text().startswith(f"Package: {name}\n") for name in packages)


def test_the_page_says_its_size(root):
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    told = int(re.search(r"certificates of Debian: (\d+) MB", (ROOT / "docs/kubernetes.md").read_text())[1])
    assert abs(size / 1e6 - told) < 1.5, size
