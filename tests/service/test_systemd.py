"""The units under a real systemd: a minimal Debian boots with retryd installed.

guest.py runs in it and tests the units. Each of its checks becomes a test here.
"""

import json
import shutil
import subprocess

import guest
import pytest
from machine import CACHE, ROOT, debian, host_suite, packages_of, run

BOOT_TIMEOUT = 480

DRIVER = """
[Unit]
Description=The service tests
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/retryd-test/guest.py
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
"""


def install(root, provider):
    """retryd as `cmake --install` puts it there, and the tests beside it."""
    run("cmake", "--install", ROOT / "build/release", env={"DESTDIR": str(root), "PATH": "/usr/bin:/bin"})
    here = root / "opt/retryd-test"
    here.mkdir(parents=True)
    for file in (ROOT / "tests/service/guest.py", ROOT / "tests/provider/client.py", ROOT / "tests/blackbox/mutual.py",
                 provider):
        shutil.copy2(file, here)
    unit = root / "etc/systemd/system/retryd-test.service"
    unit.write_text(DRIVER)
    wanted = root / "etc/systemd/system/multi-user.target.wants/retryd-test.service"
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to("../retryd-test.service")
    run("systemd-machine-id-setup", f"--root={root}")


@pytest.fixture(scope="module")
def results(able, retryd, provider, tmp_path_factory):
    template = debian(host_suite(), ["systemd", "systemd-sysv", "dbus", "python3", "ca-certificates",
                                     *packages_of(retryd, provider)])
    root = CACHE / "guest"
    shutil.rmtree(root, ignore_errors=True)
    run("cp", "-a", "--reflink=auto", template, root)
    try:
        install(root, provider)
        console = tmp_path_factory.mktemp("guest") / "console"
        with open(console, "wb") as out:
            boot = subprocess.Popen(
                ["systemd-nspawn", "-D", root, "--machine=retryd-test", "--register=no", "--keep-unit",
                 "--private-network", "--console=pipe", "-b"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            try:
                boot.wait(BOOT_TIMEOUT)
            finally:
                boot.kill()
                boot.wait()
        found = root / "results.json"
        assert found.exists(), "the guest wrote no results; its console:\n" + console.read_text(errors="replace")
        return json.loads(found.read_text())
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("check", guest.CHECKS)
def test_unit(results, check):
    if results[check] is not None:
        pytest.fail(results[check], pytrace=False)
