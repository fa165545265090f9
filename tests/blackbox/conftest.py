"""Runs a test whose name contains the release of a library (libcurl8, libmicrohttpd1, ...) on that release only."""

import os
import re
import subprocess


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
