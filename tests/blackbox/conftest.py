"""Runs a test whose name contains the release of a library (libcurl8, libmicrohttpd1, ...) on that release only, and
begins with the files that take long, lest the other processes wait for the last of them."""

import os
import pathlib
import re
import subprocess

import pytest

# What pytest-xdist cannot know: it goes by names, or by the number of tests.
LONG = ["test_http2_libcurl8_broken", "test_http2_libcurl8_ends", "test_http2_libcurl8_streams", "test_new_connections",
        "test_http2_libcurl8_unknown", "test_slow_peers", "test_drain", "test_client_slots", "test_journal"]


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class LongestFirst(LoadFileScheduling):
        def _assign_work_unit(self, node):
            for file in self.workqueue:
                if pathlib.Path(file).stem in LONG:
                    self.workqueue.move_to_end(file, last=False)
                    break
            super()._assign_work_unit(node)

    return LongestFirst(config, log)
