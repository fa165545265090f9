"""./dev soak --streams N: how late are events when so many streams are open at once on one core?

retryd runs on one core, with one worker. The provider and the client run on another. The same streams also go straight
to the provider: the delay that they have is the provider's and the client's own.
"""

import contextlib
import math
import os
import resource
import time
import typing

import levels
from client import Provider
from daemon import Retryd
from ledger import Wrong
from streams import hold

FILES_OF_A_STREAM = 4  # as retryd reckons: two for the client, one to the upstream, one for a body
FILES_SPARE = 200
WAIT_S = 60


def add_arguments(parser):
    parser.add_argument("--streams", type=int, help="instead of all else: hold so many streams open at once")
    parser.add_argument("--seconds", type=float, default=30, help="for which they are all open")
    parser.add_argument("--interval-ms", type=int, default=1000, help="between two events of a stream")
    parser.add_argument("--p99-ms", type=float, default=50, help="which the delay of an event may have")


class Look(typing.NamedTuple):
    """What the daemons have and have used, in all."""

    cpu_ns: int
    wait_ns: int  # ready to run, while others had the core
    rss_kib: int
    files: int


def look(daemons):
    cpu = wait = 0
    for d in daemons:
        for task in os.listdir(f"/proc/{d.pid}/task"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{d.pid}/task/{task}/schedstat",
                                                              encoding="ascii") as f:
                ran, waited, _ = map(int, f.read().split())
                cpu, wait = cpu + ran, wait + waited
    return Look(cpu, wait, sum(levels.rss_kib(d.pid) for d in daemons), sum(levels.descriptors(d.pid) for d in daemons))


def daemons_for(streams, limit):
    """How many daemons the limit on descriptors demands: one, if it is four times the streams."""
    room = (limit - FILES_SPARE) // FILES_OF_A_STREAM
    if room < 1 or streams + FILES_SPARE > limit:
        raise Wrong(f"{streams} streams need a limit of {streams + FILES_SPARE} file descriptors at least, and "
                    f"{FILES_OF_A_STREAM * streams + FILES_SPARE} to be held by one daemon; it is {limit} (ulimit -n)")
    return math.ceil(streams / room)


def quantile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000


def tell(name, delays):
    """The 99th percentile of the delays, in milliseconds."""
    ordered = sorted(delays)
    p50, p99, p999 = (quantile(ordered, part) for part in (0.5, 0.99, 0.999))
    print(f"soak: delay of an event {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, p99.9 {p999:.1f} ms, "
          f"at most {ordered[-1] / 1000:.1f} ms ({len(ordered)} events)", flush=True)
    return p99


def tell_cost(held, idle):
    first, last = held.looks
    seconds = held.times[1] - held.times[0]
    ran, waited = last.cpu_ns - first.cpu_ns, last.wait_ns - first.wait_ns
    print(f"soak: {len(held.delays) / seconds:.0f} events a second; {ran / 1000 / len(held.delays):.1f} us of CPU an "
          f"event, {ran / seconds / 1e7:.0f} % of the core; ready, but not on it for {waited / seconds / 1e7:.0f} %")
    print(f"soak: memory: {idle.rss_kib} KiB idle, {first.rss_kib} with all streams open, "
          f"{(first.rss_kib - idle.rss_kib) / held.count:.1f} KiB a stream; descriptors: {idle.files} idle, "
          f"{first.files} with all streams open")


def wait_for_rest(daemons, provider, idle):
    """Waits until all that the streams had is given back, without the connections kept to the provider."""
    deadline = time.monotonic() + WAIT_S
    while True:
        names = ("retryd_requests_active", "retryd_client_connections")
        open_ones = sum(d.metric(name) for d in daemons for name in names)
        files = sum(levels.open_descriptors(d.pid) for d in daemons) - provider.stats()["open"]
        if open_ones == 0 and files <= idle.files:
            return files
        if time.monotonic() > deadline:
            raise Wrong(f"requests and connections remain: {open_ones:.0f}; descriptors: {files} of {idle.files}")


def run(options):
    """The exit status."""
    limit, cores = resource.getrlimit(resource.RLIMIT_NOFILE)[0], sorted(os.sched_getaffinity(0))
    count, number = options.streams, daemons_for(options.streams, limit)
    os.sched_setaffinity(0, {cores[-1]})  # for the provider, too
    print(f"soak: {count} streams at once, an event every {options.interval_ms} ms in each; {number} retryd with one "
          f"worker on core {cores[0]}, the provider and the client on core {cores[-1]}", flush=True)
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(Provider(os.environ["PROVIDER_BIN"], record=False, quiet=True))
        straight = hold(provider, [("127.0.0.1", provider.port)], count, options.seconds, options.interval_ms)[-1]
        tell("straight from the provider", straight.delays)
        daemons = [stack.enter_context(Retryd(
            provider.base_url, server={"max_connections": count + 64},
            preexec=lambda: os.sched_setaffinity(0, {cores[0]}))) for _ in range(number)]
        idle = look(daemons)
        held = hold(provider, [(d.host, d.port) for d in daemons], count, options.seconds, options.interval_ms,
                    lambda: look(daemons))[-1]
        p99 = tell("through retryd", held.delays)
        tell_cost(held, idle)
        files = wait_for_rest(daemons, provider, idle)
        print(f"soak: when they had ended: {look(daemons).rss_kib} KiB; descriptors: {files}, without those to the "
              "provider")
    return judge(p99, options.p99_ms)


def judge(p99, most):
    if p99 >= most:
        print(f"soak: one event in a hundred is more than {most:g} ms late")
        return 1
    return 0
