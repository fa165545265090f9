"""The units are valid, and give the daemon no more privileges than it needs."""

import re
import subprocess

import pytest
from machine import ROOT, run

EXPOSURE_MAX = 1.5


@pytest.fixture
def units(tmp_path, retryd):
    """The units as they are, but for the place of the program, which is not installed here."""
    for unit in (ROOT / "systemd").iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/retryd", str(retryd)))
    return sorted(tmp_path.iterdir())


def test_verify_has_nothing_to_say(units):
    assert [unit.name for unit in units] == ["retryd.service", "retryd.socket"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_exposure_is_low(units):
    text = run("systemd-analyze", "--no-pager", "security", "--offline=yes", units[0])
    exposure = float(re.search(r"Overall exposure level for retryd.service: ([\d.]+)", text).group(1))
    assert exposure <= EXPOSURE_MAX, text


def test_stop_waits_longer_than_the_drain():
    service = (ROOT / "systemd/retryd.service").read_text()
    conf = (ROOT / "conf/retryd.conf").read_text()
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s$", service, re.MULTILINE).group(1))
    drain = int(re.search(r"^[;# ]*drain_timeout *= *(\d+)s", conf, re.MULTILINE).group(1))
    assert stop > drain


def test_nothing_is_started_anew_that_only_a_person_can_mend():
    """The unit's list is that of --help."""
    service = (ROOT / "systemd/retryd.service").read_text()
    usage = (ROOT / "src/cli/cli.c").read_text()
    prevented = re.search(r"^RestartPreventExitStatus=([\d ]+)$", service, re.MULTILINE).group(1)
    told = re.search(r"After ([\d, and]+) a person must fix", usage).group(1)
    assert prevented.split() == re.findall(r"\d", told)
