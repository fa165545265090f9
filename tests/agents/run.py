#!/usr/bin/python3
"""Runs Python in a network namespace that has only a loopback; for the tests in this folder.

    run.py -m pytest ARGUMENTS...
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


def begin(arguments):
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    os.execvp("unshare", ["unshare", *as_root, "--net", sys.executable, __file__, "inside", *arguments])


def inside(arguments):
    assert [name for _, name in socket.if_nameindex()][:1] == ["lo"], socket.if_nameindex()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
    os.execv(sys.executable, [sys.executable, *arguments])


if sys.argv[1] == "inside":
    inside(sys.argv[2:])
begin(sys.argv[1:])
