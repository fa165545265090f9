"""The package in a booted system: its autopkgtest, and what an installation, an upgrade and a removal do to a service
that runs. The script booted runs there."""

import pathlib
import re
import shutil

import pytest
from chroot import layered
from machine import ROOT, boot, start_at_boot

BOOT_TIMEOUT = 240
HERE = pathlib.Path(__file__).parent
STEPS = re.findall(r"^good '(.+)'$", (HERE / "booted").read_text(), re.MULTILINE)

DRIVER = """
[Unit]
Description=The tests of the package
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/opt/package-test/booted
StandardOutput=journal+console
StandardError=journal+console
"""


def prepare(root, deb, later):
    here = root / "opt/package-test"
    here.mkdir(parents=True)
    shutil.copy2(deb, here / "first.deb")
    shutil.copy2(later, here / "later.deb")
    for file in (HERE / "booted", ROOT / "debian/tests/proxies-on-localhost"):
        shutil.copy2(file, here)
    start_at_boot(root, "package-test.service", DRIVER)


@pytest.fixture(scope="module")
def results(template, package, later_of, tmp_path_factory):
    """The steps that went well, and the console."""
    with layered(template) as root:
        prepare(root, package, later_of(package, tmp_path_factory.mktemp("later")))
        console = tmp_path_factory.mktemp("guest") / "console"
        boot(root, "retryd-package", console, BOOT_TIMEOUT)
        found = root / "results"
        return found.read_text().splitlines() if found.exists() else [], console.read_text(errors="replace")


@pytest.mark.parametrize("step", STEPS)
def test_step(results, step):
    steps, console = results
    if step not in steps:
        pytest.fail(f"it did not get so far; the console:\n{console[-8000:]}", pytrace=False)
