"""Reads the daemon's memory and descriptors, and judges whether they grow over a run."""

import contextlib
import os
import statistics
import threading
import typing

from ledger import Wrong

SAMPLE_S = 0.2
# Free lists reach their sizes in the first rounds, and a log queue that was longest later. A leak of 16 bytes a
# request is seen in a run of 10 minutes; one of 40 after 200 000 requests.
SLACK_KIB = 6 * 1024  # from the second round to the last
GROWTH_BYTES = 16  # a request, over the second half of a long run ...
GROWTH_KIB = 2 * 1024  # ... if that comes to more than this in all: an allocator's steps do not
LONG = 50_000  # requests in the second half
POINTS = 8  # of it


class Level(typing.NamedTuple):
    """What a daemon at rest has."""

    requests: int  # so far
    seconds: float
    rss_kib: int
    descriptors: int  # but those to the provider


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_descriptors(pid):
    """Those whose sockets are not shut already: libcurl closes a kept connection that was given up when it next looks
    for one."""
    folder, links = f"/proc/{pid}/fd", []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(f"{folder}/{fd}"))
    known = sockets(pid)
    return sum(not link.startswith("socket:[") or link[8:-1] in known for link in links)


def sockets(pid):
    """The inodes of the sockets that are open, listening or bound."""
    found = set()
    for name, column in (("tcp", 9), ("tcp6", 9), ("unix", 6)):
        with open(f"/proc/{pid}/net/{name}", encoding="ascii") as f:
            found.update(fields[column] for line in f if len(fields := line.split()) > column)
    return found


class Sampler(threading.Thread):
    """Reads memory and descriptors under load, several times a second, while its block runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.over = threading.Event()
        self.rss, self.files = [], []

    def run(self):
        while True:
            self.rss.append(rss_kib(self.pid))
            self.files.append(descriptors(self.pid))
            if self.over.wait(SAMPLE_S):
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def slope(points):
    """KiB per unit of x: the median of the slopes between all pairs (Theil and Sen), which a few outliers do not
    move."""
    return statistics.median((y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points)
                             for x2, y2 in points[i + 1:] if x2 != x1)


def growth(levels):
    """(bytes a request, KiB a minute) over the second half; None if that is too short to tell."""
    half = levels[len(levels) // 2:]
    if len(half) < POINTS or half[-1].requests - half[0].requests < LONG:
        return None
    return (slope([(level.requests, level.rss_kib) for level in half]) * 1024,
            slope([(level.seconds / 60, level.rss_kib) for level in half]))


def check(levels, base):
    """`base`: the descriptors at the beginning. Raises Wrong if something grew."""
    # After the first two rounds buffers have found their sizes; from then on nothing grows.
    warm, last, half = levels[min(1, len(levels) - 1)], levels[-1], levels[len(levels) // 2]
    told = [(level.requests, level.rss_kib) for level in levels]
    if last.descriptors > base:
        raise Wrong(f"{last.descriptors} descriptors at the end, {base} at the beginning")
    if last.rss_kib - warm.rss_kib > SLACK_KIB:
        raise Wrong(f"memory grew from {warm.rss_kib} to {last.rss_kib} KiB: {told}")
    found = growth(levels)
    if found and found[0] > GROWTH_BYTES and found[0] * (last.requests - half.requests) > GROWTH_KIB * 1024:
        raise Wrong(f"memory grows by {found[0]:.0f} bytes a request: {told}")
