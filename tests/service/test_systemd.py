"""The units under a real systemd: a minimal Debian boots with retryd installed.

guest.py runs in it and tests the units. Each of its checks becomes a test here.
"""

import json
import shutil

import guest
import pytest
from machine import CACHE, ROOT, boot, debian, host_suite, packages_of, run, start_at_boot

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
    start_at_boot(root, "retryd-test.service", DRIVER)


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
        boot(root, "retryd-test", console, BOOT_TIMEOUT)
        found = root / "results.json"
        assert found.exists(), "the guest wrote no results; its console:\n" + console.read_text(errors="replace")
        return json.loads(found.read_text())
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("check", guest.CHECKS)
def test_unit(results, check):
    if results[check] is not None:
        pytest.fail(results[check], pytrace=False)
