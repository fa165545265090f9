"""Runs a test whose name contains the release of a library (libcurl8, libmicrohttpd1, ...) on that release only, and
one that found something late (raw.in_time) up to twice more."""

import os
import re
import subprocess

import pytest
from _pytest.runner import runtestprotocol
from raw import Late

TIMES = 3


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


def pytest_collection_modifyitems(config, items):
    version = subprocess.run([os.environ["DAEMON_BIN"], "--version"], capture_output=True, text=True).stdout
    here = set(re.findall(r"(lib\w+)/(\d+)", version))
    libraries = {name for name, _ in here}

    def elsewhere(item):
        return any(name in libraries and (name, major) not in here
                   for name, major in re.findall(r"(lib[a-z]+)(\d+)", item.nodeid))

    gone = [item for item in items if elsewhere(item)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if not elsewhere(item)]
