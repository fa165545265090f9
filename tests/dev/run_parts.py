#!/usr/bin/python3
"""./dev test: runs parts of the tests one after the other, and reports the results.

    run_parts.py [--left-out TEXT] PART...

A part is a program in parts/. It writes its reports to the folder that REPORTS names: JUnit reports as *.xml, and for
everything else a line "PASSED FAILED" in `count`. A skipped test counts as failed, because it has shown nothing. So
does a part that ran no test, or that failed although its tests passed.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/dev"
OUT = ROOT / "build/test"
NAMED = 40  # failed tests that the summary names
BOLD, RED, GREEN, PLAIN = ("\33[1m", "\33[31m", "\33[32m", "\33[0m") if sys.stdout.isatty() else ("",) * 4

SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1",
}


def failed(case):
    return (case.get("status") in ("fail", "disabled", "notrun")
            or any(child.tag in ("failure", "error", "skipped") for child in case))


def name_of(case):
    return ".".join(filter(None, (case.get("classname"), case.get("name"))))


def count(reports):
    """(passed, failed, names of those that failed) of all reports in a folder."""
    passed, bad, names = 0, 0, []
    for report in sorted(reports.glob("*.xml")):
        cases = list(xml.etree.ElementTree.parse(report).getroot().iter("testcase"))
        wrong = [name_of(case) for case in cases if failed(case)]
        passed, bad, names = passed + len(cases) - len(wrong), bad + len(wrong), names + wrong
    told = reports / "count"
    for line in told.read_text().splitlines() if told.exists() else ():
        good, wrong = map(int, line.split())
        passed, bad = passed + good, bad + wrong
    return passed, bad, names


def judge(status, reports):
    """(passed, failed, names of those that failed, note) of a part that ended with this status."""
    try:
        passed, bad, names = count(reports)
    except xml.etree.ElementTree.ParseError as error:
        return 0, 1, [], f"left a report that cannot be read: {error}"
    if passed + bad == 0:
        return 0, 1, [], "ran no test"
    if status != 0 and bad == 0:
        return passed, 1, [], f"ended with status {status}"
    return passed, bad, names, ""


def say(text):
    print(f"{BOLD}==>{PLAIN} {text}", flush=True)


def run(part, ahead):
    reports = OUT / part
    reports.mkdir(parents=True)
    say(part)
    begin = time.monotonic()
    environment = {**SANITIZERS, **os.environ, "REPORTS": str(reports), "AHEAD": str(ahead.pid) if ahead else ""}
    status = subprocess.Popen([HERE / "parts" / part], cwd=ROOT, env=environment).wait()
    passed, bad, names, note = judge(status, reports)
    row = f"{part:<10} {passed:7} {bad:7} {int(time.monotonic() - begin):8}  {note}"
    return row, passed, bad, [f"{part}: {name}" for name in names]


def start_ahead(parts):
    """Starts it in its own process group, which a part can stop while it measures. It ends with this process."""
    with open(OUT / "ahead.log", "wb") as log:
        return subprocess.Popen(["nice", "-n", "19", "setpriv", "--pdeathsig", "TERM", HERE / "ahead", *parts],
                                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)


def descendants(pid):
    parents = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            pass
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def end_all():
    for pid in descendants(os.getpid()):
        for number in (signal.SIGTERM, signal.SIGCONT):
            try:
                os.kill(pid, number)
            except OSError:  # it has ended, or is another user's
                pass


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--left-out")
    options.add_argument("parts", nargs="*")
    asked = options.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda which, _: sys.exit(128 + which))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    rows, passed, bad, names, ahead = [], 0, 0, [], None
    try:
        if asked.parts[1:]:
            ahead = start_ahead(asked.parts[1:])
        for part in asked.parts:
            row, good, wrong, wrong_names = run(part, ahead)
            rows.append(row)
            passed, bad, names = passed + good, bad + wrong, names + wrong_names
    finally:
        end_all()
    print(f"\n{BOLD}{'part':<10} {'passed':>7} {'failed':>7} {'seconds':>8}{PLAIN}", *rows, sep="\n")
    if asked.left_out:
        print(asked.left_out)
    for name in names[:NAMED]:
        print(f"{RED}failed{PLAIN} {name}")
    if names[NAMED:]:
        print(f"... and {len(names) - NAMED} more")
    good = bad == 0 and passed > 0
    print(f"{GREEN if good else RED}retryd: {passed} passed, {bad} failed{PLAIN}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
