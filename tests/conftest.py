"""Shared by all tests: the binaries under test, a provider, and a daemon in front of it."""

import os
import pathlib
import sys

import pytest

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here))
sys.path.insert(0, str(here / "provider"))

from client import Provider  # noqa: E402
from daemon import Retryd  # noqa: E402
from late import pytest_runtest_makereport, pytest_runtest_protocol  # noqa: E402, F401

FAST = {"initial_delay": "20ms"}


@pytest.fixture
def provider():
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as p:
        yield p


@pytest.fixture
def retryd(provider):
    """Starts daemons in front of the provider: retryd(retry={...}, ...); all end with the test."""
    running = []

    def start(upstream=None, **how):
        how.setdefault("retry", dict(FAST))
        d = Retryd(provider.base_url if upstream is None else upstream, **how)
        running.append(d)
        return d

    yield start
    errors = []
    for d in running:
        try:
            d.__exit__(None, None, None)
        except Exception as e:  # every daemon is ended before the first problem is told
            errors.append(e)
    if errors:
        raise errors[0]
