#!/usr/bin/python3
"""Runs a command in this tree on the other of the two Debian releases: on 13 if this is 12, and on 12 if this is 13.

    other_debian.py PACKAGES COMMAND [ARGUMENT...]      PACKAGES: names, separated by blanks

Needs root. The system is created once and kept in .cache/service; it is created again when PACKAGES change. The
command sees that system, and this tree at /srv, read-only. It has its own build/ and .cache/, which are kept in
.cache/on-SUITE/. Its network is a loopback. Its mounts and processes end with it.
"""

import os
import signal
import subprocess
import sys
import tempfile

import machine

OTHERS = {"trixie": "bookworm"}  # for all others: trixie

ENTER = """
set -eu
system=$1 tree=$2 own=$3 tmp=$4
shift 4
mount --make-rprivate /
mount --bind "$system" "$system"
mount -o remount,bind,ro "$system"
mount -t proc proc "$system/proc"
mount --rbind /dev "$system/dev"
mount -t tmpfs -o mode=755 tmpfs "$system/run"
mount --bind "$tmp" "$system/tmp"
mount --bind "$tmp" "$system/var/tmp"
mount --bind "$tree" "$system/srv"
mount -o remount,bind,ro "$system/srv"
mount --bind "$own/build" "$system/srv/build"
mount --bind "$own/cache" "$system/srv/.cache"
exec chroot "$system" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 /bin/sh -euc 'ip link set lo up; cd /srv; exec "$@"' sh "$@"
"""


def enter(suite, packages, command):
    """Its exit code."""
    system = machine.debian(suite, ["ca-certificates"], packages)
    own = machine.ROOT / f".cache/on-{suite}"
    for name in ("build", "cache"):
        (own / name).mkdir(parents=True, exist_ok=True)
    for name in ("build", ".cache"):  # where its own are mounted
        (machine.ROOT / name).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=own) as tmp:
        os.chmod(tmp, 0o1777)
        return subprocess.run(
            ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
             "sh", "-c", ENTER, "sh", system, machine.ROOT, own, tmp, *command],
            stdin=subprocess.DEVNULL).returncode


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the command, and what is half made, end with it
    reason = machine.why_not()
    if reason:
        sys.exit(reason)
    suite = OTHERS.get(machine.host_suite(), "trixie")
    print(f"on Debian {suite}:", flush=True)
    return enter(suite, sorted(set(sys.argv[1].split())), sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
