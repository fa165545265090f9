"""Tests of streams from other modules, with real HTTP/2 servers between retryd and the provider.

A module that takes over some of them imports the fixtures as well:

    from http2_streams import both, cases_of, cuts_come_later, front, pki, through_front
    globals().update(cases_of(test_commit))
"""

import os

import pytest
import streams
import test_broken_streams
import test_commit
import test_stream_cuts
import test_stream_ends
import test_streams
import test_unknown_streams
from client import Provider
from daemon import Retryd
from fronts import KINDS, Front, front, through_front  # noqa: F401
from pki import pki  # noqa: F401

# Its 270 cuts each come 400 ms behind their bytes: a server between that is late brings both at once.
LEFT_OUT = ["test_a_cut_at_any_byte_is_one_at_the_last_whole_event"]
MODULES = [test_commit, test_stream_cuts, test_stream_ends, test_unknown_streams, test_broken_streams, test_streams]


@pytest.fixture(scope="module", autouse=True)
def cuts_come_later():
    """A cut comes some time behind its bytes, which have longer to go here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in [streams, *MODULES]:
            patch.setattr(module, "PAUSE_MS", 600, raising=False)
        yield


@pytest.fixture(scope="module", params=KINDS)
def both(request, pki, tmp_path_factory):  # noqa: F811
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider, \
            Front(request.param, provider, pki.good, tmp_path_factory.mktemp("front")) as between, \
            Retryd(between.base_url, upstream_settings={"ca_file": pki.ca, "http_version": "2"},
                   retry={"initial_delay": "20ms", "budget_min": 100000}) as daemon:
        yield provider, daemon


def cases_of(*modules):
    return {name: test for module in modules for name, test in vars(module).items()
            if name.startswith("test_") and name not in LEFT_OUT}
