"""The Debian package: what is in it, lintian, a second build, and its life in a system."""

import hashlib
import os
import re
import subprocess

import pytest
from chroot import Chroot
from machine import ROOT, host_suite, run

CONF = "etc/retryd/retryd.conf"
WANTED = "etc/systemd/system/multi-user.target.wants/retryd.service"


def contents(deb):
    """{path: mode} of the package's files."""
    listed = run("dpkg-deb", "-c", deb)
    return {line.split()[5].removeprefix("."): line.split()[0] for line in listed.splitlines() if line[0] != "d"}


def test_it_has_what_an_administrator_looks_for(package):
    units = "/usr/lib/systemd/system" if host_suite() != "bookworm" else "/lib/systemd/system"
    assert set(contents(package)) == {
        "/usr/bin/retryd", f"{units}/retryd.service", f"{units}/retryd.socket",
        "/usr/share/man/man1/retryd.1.gz", "/usr/share/man/man5/retryd.conf.5.gz",
        "/usr/share/bash-completion/completions/retryd", "/usr/share/zsh/vendor-completions/_retryd",
        "/usr/share/fish/vendor_completions.d/retryd.fish", "/usr/share/doc/retryd/copyright",
        "/usr/share/doc/retryd/changelog.gz", "/usr/share/lintian/overrides/retryd",
        *(f"/usr/share/doc/retryd/examples/{name.rpartition('/')[2]}"
          for name in (ROOT / "debian/retryd.examples").read_text().split())}


# What lintian says of Standards-Version depends on its own age: 4.6.2 is the newest that Debian 12 knows.
BY_AGE = "out-of-date-standards-version"


def test_lintian_finds_nothing(package):
    changes = next(package.parent.glob("*.changes"))
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "lintian", "--pedantic", "-EvIL", "+pedantic",
                           "--suppress-tags", BY_AGE, changes], capture_output=True, text=True,
                          env={**os.environ, "HOME": "/nonexistent"})
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("N:")]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("tool", ["mandoc -T lint -W warning", "man --warnings -l"])
@pytest.mark.parametrize("page", ["man1/retryd.1", "man5/retryd.conf.5"])
def test_a_manual_page_is_well_formed(package, tmp_path, tool, page):
    run("dpkg-deb", "-x", package, tmp_path)
    text = run("gzip", "-dc", tmp_path / f"usr/share/man/{page}.gz")
    (tmp_path / "page").write_text(text)
    done = subprocess.run([*tool.split(), tmp_path / "page"], capture_output=True, text=True,
                          env={**os.environ, "MANWIDTH": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"^mandoc: ", done.stdout, re.MULTILINE), done.stdout


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
            if path.suffix in (".deb", ".dsc", ".xz")}


def test_a_second_build_has_the_same_bytes(package, tmp_path):
    """In a folder with another name, with another umask, home, language and time zone."""
    again = tmp_path / "a-longer-name-than-the-first"
    run("sh", "-c", 'umask 027; exec tests/dev/commands/package "$0"', again, cwd=ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "Pacific/Kiritimati", "HOME": str(tmp_path)})
    first = digests(package.parent)
    assert len(first) == 4 and digests(again) == first


def test_its_life(release, later_of, tmp_path):
    """Installed, upgraded with a configuration that was edited, removed, purged: what is the administrator's stays as
    it was, and nothing else is left."""
    root, deb = release
    system = Chroot(root)
    first, later = system.take(deb), system.take(later_of(deb, tmp_path))
    before = system.files()

    said = system("dpkg", "-i", first)
    assert "warning" not in said.lower(), said
    assert (root / "etc/retryd").is_dir() and not (root / CONF).exists()
    assert system("retryd", "--version").startswith("retryd ")
    assert os.path.lexists(root / WANTED)
    assert not list(root.glob("etc/systemd/system/sockets.target.wants/retryd*"))

    (root / CONF).write_text("[log]\nlevel = warn\n")
    (root / "etc/retryd/openai-key").write_text("sk-mine\n")
    assert system("retryd", "-c", f"/{CONF}", "--check") == f"/{CONF}: ok\n"
    said = system("dpkg", "-i", later)
    assert "conf" not in said.replace(deb.name, ""), said  # it does not ask
    assert "+later" in system("dpkg-query", "-W", "retryd")
    assert (root / CONF).read_text() == "[log]\nlevel = warn\n"

    system("dpkg", "-r", "retryd")
    assert not (root / "usr/bin/retryd").exists()
    assert (root / CONF).read_text() == "[log]\nlevel = warn\n"
    system("dpkg", "-i", first)
    assert (root / CONF).read_text() == "[log]\nlevel = warn\n"

    system("dpkg", "-P", "retryd")
    assert (root / CONF).read_text() == "[log]\nlevel = warn\n"
    (root / CONF).unlink()
    assert (root / "etc/retryd/openai-key").read_text() == "sk-mine\n"
    (root / "etc/retryd/openai-key").unlink()
    (root / "etc/retryd").rmdir()
    after = system.files()
    assert {path for path in after.keys() ^ before.keys()} == set()
    assert {path for path in after if after[path] != before[path]} == set()


def test_purging_removes_the_folder_that_has_nothing_else(release):
    root, deb = release
    system = Chroot(root)
    system("dpkg", "-i", system.take(deb))
    system("dpkg", "-P", "retryd")
    assert not (root / "etc/retryd").exists()


def test_a_first_installation_keeps_a_configuration_that_is_there(release):
    """Without a terminal: one that `cmake --install` or provisioning has written is no question."""
    root, deb = release
    system = Chroot(root)
    (root / "etc/retryd").mkdir()
    (root / CONF).write_text("[log]\nlevel = warn\n")
    system("dpkg", "-i", system.take(deb))
    assert (root / CONF).read_text() == "[log]\nlevel = warn\n"
    system("dpkg", "-P", "retryd")
    (root / CONF).unlink()
    (root / "etc/retryd").rmdir()
