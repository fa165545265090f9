"""dev, its scripts and its list of packages agree with each other. Also tests what counts as passed."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DEV = ROOT / "tests/dev"
sys.path.insert(0, str(DEV))

import run_parts  # noqa: E402

SCRIPT = (ROOT / "dev").read_text()
PARTS = [part for name in ("parts", "parts_on_request")
         for part in re.search(rf"^{name}='(.+)'", SCRIPT, re.MULTILINE)[1].split()]
PACKAGES = {name: words.split() for name, words in
            re.findall(r"^([\w-]+):((?:.*\n)(?:[ \t].*\n)*)", (DEV / "packages").read_text(), re.MULTILINE)}


def shell(text):
    done = subprocess.run(["sh", "-c", f". tests/dev/lib.sh; {text}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_each_part_has_a_script_and_packages():
    assert sorted(path.name for path in (DEV / "parts").iterdir()) == sorted(PARTS)
    assert sorted(name for name in PACKAGES if name.startswith("test-")) == sorted(f"test-{part}" for part in PARTS)


def test_each_command_is_told():
    told = set(re.findall(r"^  ([a-z]+) ", subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True).stdout,
                          re.MULTILINE))
    assert told == {path.name for path in (DEV / "commands").iterdir()} | {"build", "run", "test", "help"}
    assert told - {"build", "test", "help"} <= set(PACKAGES)


def test_each_script_can_be_run():
    for path in DEV.rglob("*"):
        if path.is_file() and path.read_bytes().startswith(b"#!"):
            assert os.access(path, os.X_OK), path


def test_the_list_refers_to_itself_alone():
    assert {word[1:] for words in PACKAGES.values() for word in words if word.startswith("@")} <= set(PACKAGES)


def test_a_name_stands_for_all_packages_behind_it():
    assert shell("packages_of test-clang rust-13") == sorted(
        {*PACKAGES["build"], "check", "mold", "clang", "libclang-rt-dev", "python3", "redis-server", "cargo", "rustc"})
    assert shell("packages_of nothing") == []


@pytest.mark.parametrize("part", PARTS)
def test_each_part_brings_the_python_that_counts(part):
    assert "python3" in shell(f"packages_of test-{part}")


def test_the_build_names_packages_of_the_list():
    named = re.findall(r"^ *(?:library|missing)\(\S+ [\d.]+ (?:\"\S+\" )?([\w-]+)", (ROOT / "CMakeLists.txt").read_text(),
                       re.MULTILINE)
    assert len(named) == 13 and set(named) <= set(shell("packages_of build-dev"))


def test_the_image_is_built_with_packages_of_the_list():
    builder = (ROOT / "Dockerfile").read_text().split("FROM ")[1]
    used = re.search(r"--no-install-recommends ([a-z\d\s\\-]+)", builder)[1].replace("\\", " ").split()
    assert len(used) > 10 and set(used) <= set(PACKAGES["build"])


@pytest.mark.parametrize("command, status", [
    ("invoke-rc.d nginx start", 0), ("deb-systemd-invoke start nginx.service", 0),
    ("deb-systemd-helper --quiet was-enabled nginx.service", 1),
])
def test_no_service_starts_and_none_is_enabled_at_boot(command, status):
    program, *arguments = command.split()
    done = subprocess.run([DEV / "no-services" / program, *arguments], env={"RETRYD_NOT_ENABLED": "haproxy nginx"},
                          capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


def test_each_service_comes_with_a_package_that_some_part_needs():
    needed = {package for part in PARTS for package in shell(f"packages_of test-{part}")}
    assert {word.partition("=")[2] for word in PACKAGES["services"]} <= needed


PASSED = '<testcase name="a"/>'
CASES = {
    "all passed": (0, PASSED + PASSED, None, (2, 0, "")),
    "one failed": (1, PASSED + '<testcase><failure/></testcase>', None, (1, 1, "")),
    "one made an error": (1, '<testcase><error/></testcase>', None, (0, 1, "")),
    "one was skipped": (0, PASSED + '<testcase><skipped/></testcase>', None, (1, 1, "")),
    "one did not run": (0, PASSED + '<testcase status="notrun"/>', None, (1, 1, "")),
    "steps besides": (0, PASSED, "1 0\n0 1\n", (2, 1, "")),
    "none ran": (0, "", None, (0, 1, "ran no test")),
    "no report": (0, None, None, (0, 1, "ran no test")),
    "ended otherwise": (3, PASSED, None, (1, 1, "ended with status 3")),
    "killed": (-9, None, None, (0, 1, "ran no test")),
    "half a report": (0, "<testcase", None, (0, 1, "left a report that cannot be read: ")),
}


@pytest.mark.parametrize("status, report, told, expected", CASES.values(), ids=CASES)
def test_a_part_is_judged(tmp_path, status, report, told, expected):
    if report is not None:
        (tmp_path / "one.xml").write_text(f"<testsuites><testsuite>{report}</testsuite></testsuites>")
    if told is not None:
        (tmp_path / "count").write_text(told)
    passed, failed, _, note = run_parts.judge(status, tmp_path)
    assert (passed, failed) == expected[:2] and note.startswith(expected[2]) and bool(note) == bool(expected[2])


def test_failed_tests_are_named(tmp_path):
    (tmp_path / "one.xml").write_text(f"""<testsuites><testsuite>{PASSED}
        <testcase classname="tests.test_it" name="test_one"><failure/></testcase>
        <testcase name="test_two[a]"><error/></testcase></testsuite></testsuites>""")
    assert run_parts.judge(1, tmp_path)[2] == ["tests.test_it.test_one", "test_two[a]"]


def test_no_test_has_a_variable_that_retryd_would_read():
    """retryd takes each variable RETRYD_* for a setting, so those of the tests have other names: DAEMON_BIN,
    SOURCE_DIR. dpkg alone sees those of no-services/."""
    pattern = re.compile(r"""environ(\.get\(|\[)["']RETRYD_|\$\{?RETRYD_|^ *RETRYD_[A-Z_]+=""", re.MULTILINE)
    named = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*")
             if path.is_file() and path.suffix in ("", ".py", ".sh", ".c") and "no-services" not in path.parts
             and path != pathlib.Path(__file__).resolve() and pattern.search(path.read_text(errors="replace"))]
    assert named == []
