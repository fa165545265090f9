#!/usr/bin/python3
"""Prints the README's ten log lines: six requests meet a rate limit.

    DAEMON_BIN=... PROVIDER_BIN=... tests/readme/rate_limit.py

The first request gets a 429 that asks for 2 s, and closes the gate. The five others arrive while it is closed,
and wait. After the wait one of them goes, and gets a 429 that asks for one second more. retryd runs with its
defaults. The lines about its start and end are left out.
"""

import os
import pathlib
import sys
import threading

if __name__ == "__main__":
    tests = pathlib.Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(tests), str(tests / "provider"), str(tests / "blackbox")]

from client import Provider  # noqa: E402
from daemon import Retryd  # noqa: E402
from raw import ask  # noqa: E402

CONFIGURATION = """[server]
listen = 127.0.0.1:0
[admin]
listen = 127.0.0.1:0
[upstream openai]
url = {url}
"""
REQUESTS = 6


def limited(ms):
    return {"preset": "error", "status": 429, "code": "rate_limit_exceeded", "headers": {"retry-after-ms": str(ms)}}


def play():
    """The statuses that the clients got, and the log lines about requests and gates."""
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
        provider.answers(limited(2000), limited(1000), {"preset": "auto", "delay_ms": 400})
        with Retryd(config=CONFIGURATION.format(url=provider.base_url), raw=True) as daemon:
            statuses = []
            clients = [threading.Thread(target=lambda: statuses.append(ask(daemon).status)) for _ in range(REQUESTS)]
            clients[0].start()
            daemon.wait_log('msg="attempt 1 of 5')
            for client in clients[1:]:
                client.start()
            for client in clients:
                client.join()
            daemon.wait_log('msg="request"', count=REQUESTS)
            return statuses, [line for line in daemon.lines if " target=" in line]


if __name__ == "__main__":
    print("\n".join(play()[1]))
