"""The packages that tests/dev/parts/package has built, and systems to install them into."""

import os
import subprocess

import pytest
from chroot import layered
from machine import CACHE, ROOT, debian, host_suite, packages_of, why_not

OTHER = "bookworm" if host_suite() == "trixie" else "trixie"


def built(folder):
    """The package in a folder, without the one with the debugging symbols."""
    found = list(folder.glob("retryd_*.deb"))
    assert len(found) == 1, f"{folder}: {found}; tests/dev/parts/package builds it"
    return found[0]


@pytest.fixture(scope="session")
def package():
    return built(ROOT / "build/package")


@pytest.fixture(scope="session")
def able():
    reason = why_not()
    if reason:
        pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session")
def template(able):
    """The system that the tests of the units boot, too."""
    programs = [os.environ["DAEMON_BIN"], os.environ["PROVIDER_BIN"]]
    return debian(host_suite(), ["systemd", "systemd-sysv", "dbus", "python3", "ca-certificates",
                                 *packages_of(*programs)])


def template_of_the_other():
    """The system in which other_debian.py runs the tests, and has built the package."""
    wanted = subprocess.run(["sh", "-c", ". tests/dev/lib.sh; packages_on_other_debian"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    return debian(OTHER, ["ca-certificates"], sorted(set(wanted)))


@pytest.fixture(params=["this", "other"])
def release(request, package, able):
    """(a fresh system, the package that was built on that release): this Debian, and the other one."""
    if request.param == "this":
        system, deb = request.getfixturevalue("template"), package
    else:
        system, deb = template_of_the_other(), built(CACHE.parent / f"on-{OTHER}/build/package")
    with layered(system) as root:
        yield root, deb


@pytest.fixture(scope="session")
def later_of():
    """Makes the same package with a later version."""
    def make(deb, place):
        folder, later = place / "later", place / "retryd_later.deb"
        subprocess.run(["dpkg-deb", "-R", deb, folder], check=True)
        control = (folder / "DEBIAN/control").read_text()
        version = next(line for line in control.splitlines() if line.startswith("Version: "))
        (folder / "DEBIAN/control").write_text(control.replace(version, version + "+later"))
        subprocess.run(["dpkg-deb", "-b", "--root-owner-group", folder, later], check=True, capture_output=True)
        return later
    return make
