"""For tests that have to measure how soon something comes: in_time(took_ms, most_ms).

A busy machine stops a program for some time now and then, a defect is late each time. So a test that finds something
late runs up to twice more, from the beginning. All other failures count at once.
"""

import pytest
from _pytest.runner import runtestprotocol

TIMES = 3

# C17 promises 100 ms. A test that runs beside others allows more: an end that is overlooked comes a second
# later, or never. test_client_slots runs alone and allows 100 ms.
AT_ONCE_MS = 800


class Late(AssertionError):
    """Something took longer than it may."""


def in_time(took_ms, most_ms=AT_ONCE_MS):
    if took_ms >= most_ms:
        raise Late(f"it took {took_ms:.0f} ms, and may take {most_ms}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().late = call.excinfo is not None and call.excinfo.errisinstance(Late)


def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(TIMES)):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if left == 0 or not any(report.late for report in reports):
            break
        item._initrequest()  # with fixtures of its own
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
