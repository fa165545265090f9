"""What all service tests need from the machine and from the build."""

import os
import pathlib

import machine
import pytest


@pytest.fixture(scope="session")
def able():
    """The machine can make and boot small systems; if not, the test fails and says why."""
    reason = machine.why_not()
    if reason:
        pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session")
def retryd():
    return pathlib.Path(os.environ["DAEMON_BIN"])


@pytest.fixture(scope="session")
def provider():
    return pathlib.Path(os.environ["PROVIDER_BIN"])
