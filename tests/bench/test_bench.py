"""Tests the benchmark itself: a quick run measures all proxies, and the verdict is correct."""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import subprocess

import pytest

RUN = pathlib.Path(__file__).resolve().parent / "run"


def load_run():
    loader = importlib.machinery.SourceFileLoader("bench_run", str(RUN))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    loader.exec_module(module)
    return module


bench = load_run()
CASES = [row.name for row in bench.ROWS]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(what the quick run printed, what it wrote as JSON)"""
    return run_it(tmp_path_factory, "--quick")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return run_it(tmp_path_factory, "--quick", "--rows", "paced, TLS")


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    return run_it(tmp_path_factory, "--quick", "--rows", "memory, 500")


def run_it(tmp_path_factory, *arguments):
    figures = tmp_path_factory.mktemp("bench") / "figures.json"
    done = subprocess.run([RUN, *arguments, "--json", figures], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(figures.read_text())


def table_row(text, case):
    """Four figures and three ratios."""
    cell = r"\s+([\d.]+) \([\d.]+-[\d.]+\)"
    found = re.search(f"^{case}{cell * 4}\\s+([\\d.]+)\\s+([\\d.]+)\\s+([\\d.]+)$", text, re.MULTILINE)
    assert found, text
    return found


def test_the_table_has_room_for_a_busy_machine(capsys):
    by_proxy = {name: [{"cpu_us": 12345.6}] for name in bench.NAMES}
    cases = [row.name for row in (*bench.ROWS, *bench.MORE_ROWS)]
    bench.print_table(bench.summarise(dict.fromkeys(cases, by_proxy)), argparse.Namespace(rounds=1, seconds=1))
    text = capsys.readouterr().out
    for case in cases:
        assert table_row(text, case).groups() == ("12345.6",) * 4 + ("1.00",) * 3


def test_the_table_has_every_case(quick):
    text, figures = quick
    for case in CASES:
        found = table_row(text, case)
        assert all(float(n) > 0 for n in found.groups())
        ratio = figures["summary"][case]["ratio"]
        for place, name in enumerate(bench.NAMES[1:], 5):
            assert float(found[place]) == pytest.approx(ratio[name], abs=0.01)


def test_the_time_to_a_response_is_told(quick):
    assert re.search(r"^request, paced: .*p50 \(p99\), at requests a second: retryd -?\d+ \(-?\d+\) at \d+, ", quick[0],
                     re.MULTILINE), quick[0]


def test_a_tls_upstream(tls):
    text, figures = tls
    assert list(figures["results"]) == ["request, paced, TLS"]
    assert table_row(text, "request, paced, TLS")
    for name, rounds in figures["results"]["request, paced, TLS"].items():
        assert rounds[0]["rate"] > 50, name


def test_the_memory_of_a_connection(memory):
    text, figures = memory
    found = figures["memory"]["memory, 500 connections, TLS"]
    assert set(found) == set(bench.NAMES)
    for name, kib in found.items():
        assert 0 < kib["stream_kib"] < 1000 and 0 < kib["idle_kib"] < 1000, name
        assert f"{name} {kib['stream_kib']:.1f} ({kib['idle_kib']:.1f})" in text


def test_a_row_that_does_not_exist():
    done = subprocess.run([RUN, "--rows", "no such row"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    assert done.returncode == 2 and "no row's name contains 'no such row'" in done.stderr


def test_the_machine_is_told(quick):
    machine = quick[0].splitlines()[0]
    assert re.fullmatch(r"machine: \d+ cores \(.*\), Linux \S+; retryd \d\S* \(libmicrohttpd \d\S*, "
                        r"libcurl \d\S*\), nginx \d\S*, HAProxy \d\S*, wrk \d\S*", machine), machine


def test_every_proxy_served(quick):
    for case, by_proxy in quick[1]["results"].items():
        assert set(by_proxy) == set(bench.NAMES)
        for name, rounds in by_proxy.items():
            assert len(rounds) == 1, (case, name)
            assert rounds[0]["rate"] > 50, (case, name)


def test_events_pass_singly(quick):
    """Otherwise the cost of an event would be that of a part of a batch."""
    for name, rounds in quick[1]["results"][CASES[-1]].items():
        assert rounds[0]["events_per_read"] < 2, name


def test_the_guard_is_measured_on_the_same_events(quick):
    text, figures = quick
    found = re.search(r"^retryd's stream guard, per event: guarded \S+ \(\S+\) = ([\d.]+) times, "
                      r"unguarded \S+ \(\S+\), spliced \S+ \(\S+\) = ([\d.]+) times$", text, re.MULTILINE)
    assert found, text
    ratio = figures["guard_summary"]["ratio"]
    assert float(found[1]) == pytest.approx(ratio["guarded"], abs=0.01)
    assert float(found[2]) == pytest.approx(ratio["spliced"], abs=0.01)
    for name, rounds in figures["guard"].items():
        assert len(rounds) == 1, name
        assert rounds[0]["rate"] > 50, name
        assert rounds[0]["events_per_read"] < 2, name


def row_named(name):
    return next(row for row in [*bench.ROWS, *bench.MORE_ROWS] if row.name == name)


def judged(ratio, quick, guard=1.0, name=CASES[0]):
    summary = {name: {"cpu_us": {}, "ratio": {"nginx": 9.0, "HAProxy": ratio}}}
    return bench.judge([row_named(name)], summary, {}, guard, argparse.Namespace(quick=quick))


@pytest.mark.parametrize(("name", "bar"), [("request, 32 connections", 1.5), ("request, paced, TLS", 1.5),
                                           ("slow event, 2000 streams, TLS", 1.3)])
def test_the_bar(name, bar):
    assert judged(bar, quick=False, name=name) == 0
    assert judged(bar + 0.01, quick=False, name=name) == 1
    assert judged(bar + 0.01, quick=True, name=name) == 0


@pytest.mark.parametrize(("name", "bar"), [("memory, 2000 connections", 24), ("memory, 2000 connections, TLS", 70)])
def test_the_bar_of_memory(name, bar):
    for kib, status in ((bar, 0), (bar + 0.1, 1)):
        memory = {name: {"retryd": {"stream_kib": kib}, "HAProxy": {"stream_kib": 70}}}
        assert bench.judge([row_named(name)], {}, memory, 0, argparse.Namespace(quick=False)) == status


def test_the_bar_of_the_guard():
    assert judged(1.0, quick=False, guard=1.5) == 0
    assert judged(1.0, quick=False, guard=1.51) == 1
    assert judged(1.0, quick=True, guard=1.51) == 0


def test_ratios_are_taken_round_by_round():
    mine, theirs = ([{"cpu_us": float(n)} for n in ns] for ns in ((10, 40, 30), (10, 20, 30)))
    assert bench.ratio(mine, theirs) == 1.0


def test_without_the_programs_it_says_what_is_missing():
    env = {k: v for k, v in os.environ.items() if k != "DAEMON_BIN"}
    done = subprocess.run([RUN, "--quick"], env={**env, "PATH": "/nonexistent"},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "needs DAEMON_BIN, wrk" in done.stderr
