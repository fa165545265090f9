"""What a new user sees in a terminal, and which configuration file is read."""

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess

import pytest
from raw import CHAT, Raw

BIN = os.environ["DAEMON_BIN"]


def user_file(tmp_path, provider, more=""):
    folder = tmp_path / "retryd"
    folder.mkdir()
    conf = folder / "retryd.conf"
    conf.write_text(f"[server]\nlisten = 127.0.0.1:0\n[admin]\nlisten = off\n[retry]\ninitial_delay = 10ms\n"
                    f"[upstream own]\nurl = {provider.base_url}\n{more}")
    return conf


class Seen:
    """A retryd on a pseudo-terminal, and what it has written there; or, as nohup starts it, to a pipe."""

    def __init__(self, *arguments, nohup=False, **env):
        read, write = os.pipe()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                os.dup2(write, 2)
            os.execve(BIN, ["retryd", *arguments], {**os.environ, **env})
        os.close(write)
        self.fd = read if nohup else os.dup(self.terminal)
        if not nohup:
            os.close(read)
        self.text = ""

    def wait(self, pattern):
        while not (found := re.search(pattern, self.text, re.DOTALL)):
            assert select.select([self.fd], [], [], 60)[0], self.text
            self.text += os.read(self.fd, 4096).decode()
        return found

    def end(self):
        os.kill(self.pid, signal.SIGINT)
        self.wait("retryd has stopped")
        with contextlib.suppress(OSError):  # the last process has closed the terminal
            while os.read(self.fd, 4096):
                pass
        assert os.waitpid(self.pid, 0)[1] == 0
        os.close(self.fd)
        os.close(self.terminal)


def test_a_terminal_gets_a_greeting_and_lines_for_a_person(provider, tmp_path):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    conf = user_file(tmp_path, provider)
    seen = Seen(XDG_CONFIG_HOME=str(tmp_path), TERM="xterm", NO_COLOR="")
    port = int(seen.wait(r"listening on 127\.0\.0\.1:(\d+)")[1])
    seen.wait("is ready")
    greeting = seen.text.splitlines()[:5]
    assert greeting[0].startswith("retryd retries requests")
    assert f"forwards to {provider.base_url}" in greeting[1]
    assert greeting[2].endswith(f"export OPENAI_BASE_URL=http://127.0.0.1:{port}/v1")
    assert str(conf) in greeting[4]
    with Raw(("127.0.0.1", port)) as c:
        c.request(body=CHAT)
        assert c.answer().status == 200
    seen.wait(r"200\x1b\[0m POST /v1/chat/completions.* 2 attempts, waited 0\.\d s")
    assert "    \x1b[33mattempt 1 of 5 failed: 503" in seen.text
    seen.end()


def test_it_ends_with_its_terminal(provider, tmp_path):
    user_file(tmp_path, provider)
    seen = Seen(XDG_CONFIG_HOME=str(tmp_path), TERM="xterm")
    seen.wait("is ready")
    os.close(seen.fd)
    os.close(seen.terminal)
    assert os.waitpid(seen.pid, 0)[1] == 0


def test_nohup_outlives_the_terminal(provider, tmp_path):
    user_file(tmp_path, provider)
    seen = Seen(nohup=True, XDG_CONFIG_HOME=str(tmp_path))
    port = int(seen.wait(r"listening on 127\.0\.0\.1:(\d+)")[1])
    seen.wait("is ready")
    os.close(seen.terminal)
    seen.wait("reloaded")
    with Raw(("127.0.0.1", port)) as c:
        c.request(body=CHAT)
        assert c.answer().status == 200
    os.kill(seen.pid, signal.SIGTERM)
    assert os.waitpid(seen.pid, 0)[1] == 0
    os.close(seen.fd)


def have_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("listen, listening, told", [
    ("0.0.0.0:0\ninsecure_listen = yes", r"0\.0\.0\.0:(\d+)", "export OPENAI_BASE_URL=http://127.0.0.1:{}/v1"),
    *([("[::]:0\ninsecure_listen = yes", r"\[::\]:(\d+)", "export OPENAI_BASE_URL=http://[::1]:{}/v1")]
      if have_ipv6() else []),
    ("unix:DIR/own.sock", r"unix:(\S+)", "in the client: the Unix socket {}, path /v1"),
    ("unix:DIR/own.sock, 127.0.0.1:0", r"(?<=listening on )127\.0\.0\.1:(\d+)",
     "export OPENAI_BASE_URL=http://127.0.0.1:{}/v1"),
])
def test_the_greeting_says_what_a_client_can_connect_to(provider, tmp_path, listen, listening, told):
    conf = user_file(tmp_path, provider)
    text = conf.read_text().replace("listen = 127.0.0.1:0", "listen = " + listen.replace("DIR", str(tmp_path)), 1)
    conf.write_text(text.replace("listen = off", "listen = 127.0.0.1:0"))
    seen = Seen(XDG_CONFIG_HOME=str(tmp_path), TERM="dumb")
    seen.wait("is ready")
    address = re.search("listening on .*?" + listening, seen.text) or re.search(listening, seen.text)
    admin = re.search(r"listening on (127\.0\.0\.1:\d+) \(admin\)", seen.text)[1]
    greeting = seen.text[seen.text.index("retryd retries"):].splitlines()
    assert greeting[2].endswith(told.format(address[1]))
    assert f"and http://{admin}; " in greeting[3]
    seen.end()


@pytest.mark.parametrize("env, colours, pretty", [({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, True),
                                                  ({"RETRYD_LOG_FORMAT": "logfmt"}, False, False)])
def test_without_colours(provider, tmp_path, env, colours, pretty):
    user_file(tmp_path, provider)
    seen = Seen(**{"XDG_CONFIG_HOME": str(tmp_path), "TERM": "xterm", **env})
    seen.wait("is ready")
    assert ("\x1b" in seen.text) == colours
    assert ("level=info" not in seen.text) == pretty
    seen.end()


@pytest.mark.parametrize("option, line", [("pretty", r"\n\d\d:\d\d:\d\d"), ("logfmt", r"level=info"), ("json", r'"level":')])
def test_log_prevails_over_the_configuration(provider, tmp_path, option, line):
    """A reload keeps it."""
    user_file(tmp_path, provider, f"[log]\nformat = {'logfmt' if option == 'json' else 'json'}\n")
    seen = Seen("--log", option, XDG_CONFIG_HOME=str(tmp_path), TERM="dumb", RETRYD_LOG_FORMAT="auto")
    seen.wait("is ready")
    assert re.search(line, seen.text)
    before = len(seen.text)
    os.kill(seen.pid, signal.SIGHUP)
    seen.wait("configuration (is )?reloaded")
    seen.end()
    assert re.search(line, seen.text[before:])
    assert ('"msg":' in seen.text[before:]) == (option == "json")


def check(*arguments, **env):
    return subprocess.run([BIN, *arguments, "--check"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **env})


def test_the_users_file_is_read(provider, tmp_path):
    conf = user_file(tmp_path, provider)
    assert check(XDG_CONFIG_HOME=str(tmp_path)).stdout == f"{conf}: ok\n"
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.config").symlink_to(tmp_path)
    env = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""}
    assert check(**env).stdout == f"{tmp_path}/home/.config/retryd/retryd.conf: ok\n"
    other = tmp_path / "other"
    other.write_text("")
    assert check("-c", str(other), **env).stdout.startswith(f"{other}: ok\n")
    assert check(XDG_CONFIG_HOME="/nonexistent").stdout.startswith("defaults: ok")
    conf.write_text("[server]\nlisten = x\n")
    assert check(XDG_CONFIG_HOME=str(tmp_path)).returncode == 3


def test_run_reads_it_too(provider, tmp_path):
    conf = user_file(tmp_path, provider, "[log]\nlevel = debug\n")
    conf.write_text(conf.read_text().replace("initial", "initail"))
    done = subprocess.run([BIN, "run", "true"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 125 and f"{conf}:6: " in done.stderr


def test_the_first_line_names_the_file(provider, retryd):
    d = retryd()
    assert f'msg="configuration: {d.config_path}"' in d.lines[0]


# An /etc with a configuration of the service's, for one program. $0 has room for it.
WITH_SERVICE = """
cp -a /etc "$0/etc" 2>/dev/null || :
mkdir -p "$0/etc/retryd"
echo > "$0/etc/retryd/retryd.conf"
mount --bind "$0/etc" /etc
exec "$@"
"""


@pytest.mark.parametrize("mine", [False, True])
def test_the_first_line_names_the_services_file(provider, tmp_path, mine):
    conf = user_file(tmp_path, provider) if mine else "the defaults"
    listen = {} if mine else {"RETRYD_LISTEN": "127.0.0.1:0", "RETRYD_ADMIN_LISTEN": "off"}
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    daemon = subprocess.Popen(["unshare", *as_root, "--mount", "sh", "-euc", WITH_SERVICE, tmp_path, BIN],
                              env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), **listen},
                              stderr=subprocess.PIPE, text=True)
    with daemon:
        first = daemon.stderr.readline()
        daemon.terminate()
        daemon.stderr.read()
    assert f'msg="configuration: {conf}; /etc/retryd/retryd.conf is the service' in first
    assert daemon.returncode == 0
