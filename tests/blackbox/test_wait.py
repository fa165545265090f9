"""`retryd wait` and `retryd --ready`, and a SIGTERM that comes before the daemon can handle it."""

import contextlib
import os
import signal
import subprocess

import pytest

PATIENCE = 60


@pytest.fixture
def conf(tmp_path):
    """A configuration with addresses that are this test's own."""
    path = tmp_path / "conf"
    path.write_text(f"[server]\nlisten = unix:{tmp_path}/clients\ndrain_linger = 30s\n"
                    f"[admin]\nlisten = unix:{tmp_path}/admin\n")
    return path


@contextlib.contextmanager
def started(conf):
    daemon = subprocess.Popen([os.environ["DAEMON_BIN"], "-c", conf], stderr=subprocess.PIPE, text=True)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.communicate()


def run(conf, *words):
    return subprocess.run([os.environ["DAEMON_BIN"], "-c", conf, *words], capture_output=True, text=True,
                          timeout=PATIENCE)


def test_wait_ends_when_the_daemon_is_ready(conf, tmp_path):
    """It is there first."""
    waiting = subprocess.Popen([os.environ["DAEMON_BIN"], "-c", conf, "wait", "--timeout", "50s"],
                               stdout=subprocess.PIPE, text=True)
    with started(conf) as daemon:
        assert waiting.communicate(timeout=PATIENCE)[0] == f"retryd is ready: unix:{tmp_path}/admin answers\n"
        assert waiting.returncode == 0
        assert run(conf, "--ready").returncode == 0
        assert daemon.poll() is None


def test_a_draining_daemon_is_healthy_and_not_ready(conf, tmp_path):
    with started(conf) as daemon:
        assert run(conf, "wait").returncode == 0
        daemon.send_signal(signal.SIGTERM)
        next(line for line in daemon.stderr if "SIGTERM" in line or "drain" in line)
        done = run(conf, "--ready")
        assert (done.returncode, done.stderr) == (1, f"retryd is not ready: unix:{tmp_path}/admin answers 503\n")
        assert run(conf, "--health").returncode == 0
        assert run(conf, "wait", "--timeout=50ms").returncode == 1


def test_wait_ends_when_its_time_is_over(conf, tmp_path):
    done = run(conf, "wait", "--timeout", "50ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"retryd does not answer: unix:{tmp_path}/admin: No such file or directory\n"


def test_wait_has_nobody_to_ask(conf):
    conf.write_text("[admin]\nlisten = off\n")
    done = run(conf, "wait")
    assert (done.returncode, done.stderr) == (1, "retryd: there is no admin address to ask: [admin] listen is off\n")


@pytest.mark.parametrize("words, said", [
    (["--timeout"], "--timeout needs a duration such as 90s"),
    (["--timeout", "soon"], "--timeout expects a duration such as 90s, not soon"),
    (["--timeout=5"], "--timeout expects a duration such as 90s, not 5"),
    (["now"], "wait: unknown argument now"),
    (["--timeout", "1s", "now"], "unexpected argument now"),
])
def test_wait_says_what_it_takes(conf, words, said):
    done = run(conf, "wait", *words)
    assert (done.returncode, done.stderr) == (2, f"retryd: {said}; see retryd --help\n")


def test_a_sigterm_before_the_start_is_over(tmp_path, conf):
    """As process 1 of a container it would be lost, and elsewhere the exit code would be that of a signal. The daemon
    waits for its configuration, which is a pipe here."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with started(fifo) as daemon:
        with open(fifo, "w") as pipe:  # opens once the daemon reads it
            daemon.send_signal(signal.SIGTERM)
            pipe.write(conf.read_text().replace("drain_linger = 30s\n", ""))
        assert daemon.wait(PATIENCE) == 0
