"""retryd run: what the child gets, and that terminal, signals, job control and exit code are as without retryd."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys

import pytest

BIN = os.environ["DAEMON_BIN"]
PYTHON = sys.executable
VARIABLES = {"OPENAI_BASE_URL": "/v1", "OPENAI_API_BASE": "/v1", "ANTHROPIC_BASE_URL": "/anthropic",
             "ANTHROPIC_API_BASE": "/anthropic", "GOOGLE_GEMINI_BASE_URL": "/google"}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY")
REQUEST = """
import json, os, sys, urllib.request
def ask(base="OPENAI_BASE_URL", path="/chat/completions", **headers):
    request = urllib.request.Request(os.environ[base] + path, b'{"model": "m", "messages": []}',
                                     {"content-type": "application/json", **headers})
    return urllib.request.urlopen(request, timeout=60)
"""


def environment(provider=None, **more):
    """Nothing of the machine's own leads a test elsewhere; every API is this provider."""
    env = {name: value for name, value in os.environ.items()
           if name not in VARIABLES and name not in KEYS and not name.lower().endswith("_proxy")}
    env.update(HOME="/nonexistent", XDG_CONFIG_HOME="/nonexistent")
    if provider:
        env["OPENAI_BASE_URL"] = provider.base_url
        env["ANTHROPIC_BASE_URL"] = env["GOOGLE_GEMINI_BASE_URL"] = f"http://127.0.0.1:{provider.port}"
    env.update(more)
    return env


def run(*command, options=(), provider=None, env=None, **how):
    how.setdefault("stdin", subprocess.DEVNULL)
    if "stdout" not in how:
        how["capture_output"] = True
    return subprocess.run([BIN, "run", *options, "--", *command], text=True, timeout=120,
                          env=environment(provider, **(env or {})), **how)


def python(text, *arguments, **how):
    return run(PYTHON, "-c", REQUEST + text, *arguments, **how)


def start(*command, options=(), provider=None, env=None, **how):
    return subprocess.Popen([BIN, "run", *options, "--", *command], env=environment(provider, **(env or {})),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **how)


# --- what the child gets ---


def test_variables_lead_to_a_private_retryd(provider):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    done = python("print(os.environ['OPENAI_BASE_URL'], ask().status)", provider=provider)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1 200\n", done.stdout), done
    assert done.stdout.split()[0] != provider.base_url
    assert re.fullmatch(r"retryd: rode out failures of 1 of 1 request: 1 failed attempt, \d+\.\d s of waiting\n",
                        done.stderr)
    assert len(provider.record()) == 2


def test_each_api_has_its_own_upstream(provider):
    provider.answers({"preset": "auto"})
    done = python("ask(); ask('ANTHROPIC_BASE_URL', '/v1/messages')\n"
                  "ask('GOOGLE_GEMINI_BASE_URL', '/v1beta/models/g:generateContent')", provider=provider)
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["target"] for r in provider.record()] == \
        ["/v1/chat/completions", "/v1/messages", "/v1beta/models/g:generateContent"]


def test_defaults_are_the_apis_themselves():
    """No request is made: the log names the hosts."""
    done = run("sh", "-c", "env", options=["--env", "MY_URL=/v1/x", "--env", "OTHER", "--env", "BARE="])
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    address = seen["OPENAI_BASE_URL"].removesuffix("/v1")
    assert {name: seen[name] for name in VARIABLES} == {name: address + path for name, path in VARIABLES.items()}
    assert (seen["MY_URL"], seen["OTHER"], seen["BARE"]) == (address + "/v1/x", address + "/v1", address)
    assert "NO_PROXY" not in seen and "no_proxy" not in seen


def test_the_rest_of_the_environment_is_the_same():
    done = run(PYTHON, "-c", "import json, os; print(json.dumps(dict(os.environ)))",
               env={"NOTIFY_SOCKET": "@x", "RUN_TEST": "a=b\nc"})
    seen, mine = json.loads(done.stdout), environment(NOTIFY_SOCKET="@x", RUN_TEST="a=b\nc")
    ours = set(VARIABLES) | {"LC_CTYPE"}  # Python sets the latter itself
    assert {k: v for k, v in seen.items() if k not in ours} == {k: v for k, v in mine.items() if k not in ours}


@pytest.mark.parametrize("before, after", [
    ({"HTTP_PROXY": "http://p:1"}, {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}),
    ({"http_proxy": "http://p:1", "no_proxy": "a,b"}, {"NO_PROXY": "a,b,127.0.0.1", "no_proxy": "a,b,127.0.0.1"}),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "a", "no_proxy": "b"},
     {"NO_PROXY": "a,127.0.0.1", "no_proxy": "b,127.0.0.1"}),
    ({"HTTP_PROXY": "http://p:1", "no_proxy": "*"}, {"no_proxy": "*"}),
])
def test_a_proxy_does_not_come_between(before, after):
    done = run("env", env=before)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.lower().startswith("no_proxy="))
    assert seen == after


def test_an_upstream_is_reached_through_the_proxy_of_the_environment(provider):
    """The provider plays the proxy: what it gets is meant for another host."""
    provider.answers({"preset": "auto"})
    done = python("ask()", env={"OPENAI_BASE_URL": "http://api.example/v1", "NO_PROXY": "other.example",
                                "http_proxy": f"127.0.0.1:{provider.port}"})
    assert done.returncode == 0, done.stderr
    assert provider.record()[0]["target"] == "http://api.example/v1/chat/completions"


# --- the configuration ---


def test_the_file_prevails_over_the_environment(provider, tmp_path):
    provider.answers({"preset": "auto"})
    conf = tmp_path / "conf"
    conf.write_text(f"[server]\nlisten = 127.0.0.1:1\nallowed_hosts = x.example\n[admin]\nlisten = 127.0.0.1:2\n"
                    f"[upstream own]\nurl = {provider.base_url}\n[route anthropic]\nbase = /anthropic\n")
    done = python("ask(); ask('ANTHROPIC_BASE_URL', '/messages')", options=["-c", conf],
                  env={"OPENAI_BASE_URL": "http://elsewhere.example/v1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"retryd: OPENAI_BASE_URL is set, but {conf} has an upstream for this API: " \
                          "requests go to 127.0.0.1\n"
    assert [r["target"] for r in provider.record()] == ["/v1/chat/completions", "/v1/messages"]


def test_a_file_without_upstreams_leaves_them_to_the_environment(provider, tmp_path):
    provider.answers({"preset": "error", "status": 503})
    conf = tmp_path / "conf"
    conf.write_text("[retry]\nmax_attempts = 2\ninitial_delay = 10ms\n")
    done = python("ask()", provider=provider, options=["-c", conf])
    assert len(provider.record()) == 2
    assert done.stderr.endswith("retryd: 1 request failed for good\n")


def test_tokens_for_other_machines_are_not_asked_for(provider, tmp_path):
    """The file is not even read."""
    provider.answers({"preset": "auto"})
    conf = tmp_path / "conf"
    conf.write_text("[server]\nclient_keys_file = /nonexistent\n")
    done = python("ask(authorization='Bearer sk-own')", provider=provider, options=["-c", conf])
    assert (done.returncode, done.stderr) == (0, "")
    assert dict(provider.record()[0]["headers"])["Authorization"] == "Bearer sk-own"


def test_one_configuration_before_or_after_the_command(tmp_path):
    """The user's own file is no -c; another before `run` is."""
    (tmp_path / "retryd").mkdir()
    (tmp_path / "retryd/retryd.conf").write_text("")
    env = environment(XDG_CONFIG_HOME=str(tmp_path))
    for before, code in ([], 0), (["-c", "/dev/null"], 125):
        done = subprocess.run([BIN, *before, "run", "-c", "/dev/null", "true"], env=env, capture_output=True,
                              text=True, timeout=120)
        assert (done.returncode, "given twice" in done.stderr) == (code, code != 0), done


@pytest.mark.parametrize("options, env, told", [
    (["-c", "/nonexistent"], {}, "/nonexistent: cannot be read"),
    ([], {"OPENAI_BASE_URL": "ftp://x"}, "retryd: the url of [upstream openai] is that of OPENAI_BASE_URL\n"),
    (["--env", "=x"], {}, "retryd: --env expects NAME or NAME=/PATH, not =x"),
    (["--env", "A B=/x"], {}, "retryd: --env expects NAME or NAME=/PATH, not A B=/x"),
    (["--env", "1A"], {}, "retryd: --env expects NAME or NAME=/PATH, not 1A"),
    (["-c", "/dev/null", "-c", "/dev/null"], {}, "retryd: -c was given twice; expected one file"),
    (["-c", ""], {}, "retryd: -c needs a file name"),
    (["--log"], {}, "retryd: run: an option needs a value, not --"),
    (["--hide-key"], {}, "retryd: --hide-key: there is no key to hide"),
    (["--log", "/nonexistent/log"], {}, "retryd: cannot write the log to /nonexistent/log"),
    (["--what"], {}, "retryd: run: unknown option --what"),
])
def test_what_keeps_it_from_starting(options, env, told):
    done = run("echo", "started", options=options, env=env)
    assert (done.returncode, done.stdout) == (125, "")
    assert told in done.stderr


def test_log(provider, tmp_path):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    log = tmp_path / "log"
    assert python("ask()", options=["--log", log], provider=provider).returncode == 0
    assert "attempt 1 of 5 failed: 503" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    done = python("ask()", options=["--log", "-"], provider=provider)
    assert 'msg="request"' in done.stderr


# --- exit codes ---


def test_exit_code_is_the_childs():
    assert run("sh", "-c", "exit 7").returncode == 7
    assert run("true").stderr == ""


def test_what_cannot_be_started(tmp_path):
    done = run("no-such-program")
    assert (done.returncode, done.stderr) == (127, "retryd: cannot run no-such-program: No such file or directory\n")
    plain = tmp_path / "plain"
    plain.write_text("x")
    done = run(plain)
    assert (done.returncode, done.stderr) == (126, f"retryd: cannot run {plain}: Permission denied\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_it_ends_by_the_childs_signal(number):
    assert run("sh", "-c", f"kill -{number.value} $$").returncode == -number


# --- signals and descriptors ---


STATE = """
import json, os, resource, signal
print(json.dumps([
    sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    [n for n in range(1, 65) if n not in (9, 19, 32, 33) and signal.getsignal(n) == signal.SIG_IGN],
    sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)),
    [resource.getrlimit(what) for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)], os.getpgrp() == int(os.environ['GROUP']),
    os.umask(0)]))
"""


def test_the_child_is_as_without_retryd():
    """Blocked and ignored signals, descriptors, limits, umask: with what is unusual of each."""
    read, write = os.pipe()
    os.dup2(write, 77)

    def unusual():
        import resource
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2, signal.SIGCHLD])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.umask(0o027)
        os.environ["GROUP"] = str(os.getpgrp())
        os.close(0)

    def state(*wrap):
        return subprocess.run([*wrap, PYTHON, "-c", STATE], capture_output=True, text=True, check=True,
                              preexec_fn=unusual, pass_fds=[write, 77], stdin=subprocess.DEVNULL,
                              env=environment(GROUP=str(os.getpgrp()))).stdout

    try:
        assert state(BIN, "run", "--") == state()
    finally:
        for fd in (read, write, 77):
            os.close(fd)


# Python writes the number of each signal to the pipe: a signal.pause() could begin just after a signal came.
TRAP = """
import os, signal, sys
got, wakeup = os.pipe()
os.set_blocking(wakeup, False)
signal.set_wakeup_fd(wakeup)
for n in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
    signal.signal(n, lambda number, frame: None)
print("ready", flush=True)
while True:
    number = signal.Signals(os.read(got, 1)[0])
    print(number.name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(3)
"""


def test_signals_go_on_to_the_child():
    process = start(PYTHON, "-c", TRAP)
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        process.send_signal(number)
        assert process.stdout.readline() == number.name + "\n"
    process.terminate()
    assert process.stdout.readline() == "SIGTERM\n"
    assert process.wait(60) == 3


def test_a_child_that_ignores_sigterm(provider):
    """retryd waits for it, and serves it: the second line comes after the signal."""
    provider.answers({"preset": "auto"})
    process = start(PYTHON, "-c", REQUEST + "import signal\n"
                    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
                    "print('ready', flush=True); signal.sigwait([signal.SIGUSR1]); print(ask().status, flush=True)", provider=provider)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "200\n"
    assert process.wait(60) == 0


def test_if_retryd_dies_the_child_is_told():
    process = start(PYTHON, "-c", TRAP)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.stdout.readline() == "SIGTERM\n"
    process.wait(60)


FORKS = REQUEST + """
if os.fork() == 0:
    print(ask().status, flush=True)
    os._exit(0)
sys.stdin.read()
os._exit(4)
"""


def test_a_child_that_forks(provider):
    """retryd ends with the child itself, but first lets a request finish that is under way."""
    provider.answers({"preset": "auto", "held": True})
    process = subprocess.Popen([BIN, "run", "--log", "-", "--", PYTHON, "-c", FORKS], env=environment(provider),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    provider.wait(requests=1)
    process.stdin.close()
    assert any("shutting down" in line for line in process.stderr)
    provider.release()
    assert process.stdout.readline() == "200\n"
    process.stderr.read()
    assert process.wait(60) == 4


# --- terminals ---


class Terminal:
    """A program on a pseudo-terminal, as its session's leader."""

    def __init__(self, *command, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], [str(c) for c in command], env or environment())
        self.seen = ""

    def wait(self, pattern, timeout=60):
        """What came up to the end of the pattern, which is then no longer looked at."""
        while True:
            found = re.search(pattern, self.seen)
            if found:
                before, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return before
            ready, _, _ = select.select([self.fd], [], [], timeout)
            assert ready, f"no /{pattern}/ in {self.seen!r}"
            try:
                self.seen += os.read(self.fd, 4096).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(f"it ended without /{pattern}/: {self.seen!r}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_ctrl_c_reaches_the_child_once():
    with Terminal(BIN, "run", "--", PYTHON, "-c", TRAP.replace("SIGTERM:", "SIGQUIT:")) as t:
        t.wait("ready")
        t.type("\x03")
        t.wait("SIGINT")
        t.type("\x1c")
        assert "SIGINT" not in t.wait("SIGQUIT")


def shell(env=None):
    t = Terminal("bash", "--norc", "-i", env={**environment(), "PS1": "", "PS2": "", **(env or {})})
    t.type("stty -echo; bind 'set enable-bracketed-paste off'; echo be''gin\n")
    t.wait("begin")
    return t


def test_ctrl_c_ends_the_job_as_without_retryd():
    """The shell sees a job that SIGINT ended, and so gives up the rest of the line."""
    with shell() as t:
        t.type(f"{BIN} run -- {PYTHON} -c 'import signal; signal.signal(2, signal.SIG_DFL); print(\"up\", flush=True); signal.pause()'; echo rest\n")
        t.wait("up")
        t.type("\x03")
        t.type("echo code=$?\n")
        assert "rest" not in t.wait("code=130")


def test_ctrl_z_and_fg():
    with shell() as t:
        t.type(f"{BIN} run -- {PYTHON} -c 'print(\"up\", flush=True); print(input()[::-1])'\n")
        t.wait("up")
        t.type("\x1a")
        t.wait("Stopped")
        t.type("echo running=$(jobs -r | wc -l); fg\n")
        t.wait("running=0")
        t.type("abc\n")
        t.wait("cba")
        t.type("echo code=$?\n")
        t.wait("code=0")


def test_a_program_that_stops_itself():
    """As editors do, which read Ctrl-Z as a key: the shell must see its job stop."""
    with shell() as t:
        t.type(f"{BIN} run -- {PYTHON} -c 'import os, signal; print(\"up\", flush=True); os.kill(os.getpid(), signal.SIGTSTP); print(\"again\")'\n")
        t.wait("Stopped")
        t.type("fg\n")
        t.wait("again")
        t.type("echo code=$?\n")
        t.wait("code=0")


def test_an_interactive_shell_as_the_child():
    """It makes process groups of its own, and moves the terminal between them."""
    with shell() as t:
        t.type(f"{BIN} run -- bash --norc -i\n")
        t.type("echo in=${OPENAI_BASE_URL%%:*}\n")
        t.wait("in=http")
        t.type(f"{PYTHON} -c 'print(\"up\", flush=True); input()'\n")
        t.wait("up")
        t.type("\x1a")
        t.wait("Stopped")
        t.type("kill -9 %1; disown %1; exit 5\n")
        t.type("echo code=$?\n")
        t.wait("code=5")


def test_a_shell_pipeline():
    line = f'printf "a\\nb\\n" | "{BIN}" run -- cat | "{BIN}" run -- tr a-z A-Z | head -n 1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "A\n", "")
    line = f'"{BIN}" run -- yes | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment())
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


# --- hidden keys ---


@pytest.mark.parametrize("base, path, key, header, sent", [
    ("OPENAI_BASE_URL", "/chat/completions", "OPENAI_API_KEY", "authorization", "Bearer {}"),
    ("ANTHROPIC_BASE_URL", "/v1/messages", "ANTHROPIC_API_KEY", "x-api-key", "{}"),
    ("ANTHROPIC_BASE_URL", "/v1/messages", "ANTHROPIC_AUTH_TOKEN", "authorization", "Bearer {}"),
    ("GOOGLE_GEMINI_BASE_URL", "/v1beta/models/g:generateContent", "GEMINI_API_KEY", "x-goog-api-key", "{}"),
    ("GOOGLE_GEMINI_BASE_URL", "/v1beta/models/g:generateContent", "GOOGLE_API_KEY", "x-goog-api-key", "{}"),
])
def test_hidden_key(provider, tmp_path, base, path, key, header, sent):
    """The child has a token, the upstream gets the key, and neither sees what the other has."""
    provider.answers({"preset": "auto"})
    log = tmp_path / "log"
    done = python(f"ask({base!r}, {path!r}, **{{{header!r}: {sent!r}.format(os.environ[{key!r}])}})\n"
                  "print(os.environ)", provider=provider, options=["--hide-key", "--log", log],
                  env={key: "sk-the-real-key"})
    assert done.returncode == 0, done.stderr
    assert "the-real-key" not in done.stdout
    token = re.search(r"sk-retryd-[0-9a-f]{48}", done.stdout)[0]
    got = provider.record()[0]
    assert dict(got["headers"])[header.title() if header not in dict(got["headers"]) else header] == \
        sent.format("sk-the-real-key")
    assert token not in str(got)
    assert token not in log.read_text() and "the-real-key" not in log.read_text()


@pytest.mark.parametrize("authorization", [None, "Bearer sk-retryd-", "Bearer sk-the-real-key"])
def test_without_the_token_nobody_gets_in(provider, authorization):
    provider.answers({"preset": "auto"})
    done = python("import urllib.error\ntry:\n    ask(**json.loads(sys.argv[1]))\n"
                  "except urllib.error.HTTPError as e:\n    print(e.code, e.read().decode())",
                  '{"authorization": "%s"}' % authorization if authorization else "{}", provider=provider,
                  options=["--hide-key"], env={"OPENAI_API_KEY": "sk-the-real-key"})
    assert done.stdout.startswith("401 "), done
    assert provider.record() == []


def test_keys_of_the_configuration_are_hidden_too(provider, tmp_path):
    provider.answers({"preset": "auto"})
    conf = tmp_path / "conf"
    conf.write_text(f"[upstream own]\nurl = {provider.base_url}\napi_key_env = OWN_KEY\n")
    done = python("ask(authorization='Bearer ' + os.environ['OPENAI_API_KEY'])\nprint(os.environ)",
                  options=["--hide-key", "-c", conf], env={"OWN_KEY": "sk-the-real-key"})
    assert done.returncode == 0, done.stderr
    assert "the-real-key" not in done.stdout
    assert dict(provider.record()[0]["headers"])["Authorization"] == "Bearer sk-the-real-key"


HIDDEN = "sk-the-real-key"


def test_a_key_for_an_api_that_is_not_served_is_removed(provider, tmp_path):
    """[route ant] takes the place of the ready-made routes, and nothing says whose API it is."""
    conf = tmp_path / "conf"
    conf.write_text(f"[upstream own]\nurl = {provider.base_url}\n[route own]\nbase = /v1\n[route ant]\nbase = /\n")
    done = run("env", options=["-c", conf, "--hide-key", "--env", "GOOGLE_GEMINI_BASE_URL=/g"],
               env={"ANTHROPIC_API_KEY": HIDDEN, "ANTHROPIC_AUTH_TOKEN": HIDDEN, "OPENAI_API_KEY": HIDDEN,
                    "RETRYD_UPSTREAM_HEADER_X_API_KEY": HIDDEN, "RETRYD_RETRY_MAX_ATTEMPTS": "2"})
    assert done.returncode == 0, done.stderr
    assert HIDDEN not in done.stdout + done.stderr
    assert "ANTHROPIC" not in done.stdout and "RETRYD_" not in done.stdout
    assert "OPENAI_API_KEY=sk-retryd-" in done.stdout
    removed, other, settings, address = done.stderr.splitlines()
    assert removed.startswith("retryd: --hide-key: the command does not get ANTHROPIC_API_KEY: ")
    assert other.startswith("retryd: --hide-key: the command does not get ANTHROPIC_AUTH_TOKEN: ")
    assert settings == "retryd: --hide-key: the command does not get RETRYD_RETRY_MAX_ATTEMPTS, " \
                       "RETRYD_UPSTREAM_HEADER_X_API_KEY: settings of retryd" or \
        settings == "retryd: --hide-key: the command does not get RETRYD_UPSTREAM_HEADER_X_API_KEY, " \
                    "RETRYD_RETRY_MAX_ATTEMPTS: settings of retryd"
    assert address.startswith("retryd: ANTHROPIC_BASE_URL stays as it was, ") and "[route ant]" in address


def test_settings_in_the_environment_stay_without_hide_key():
    assert "RETRYD_RETRY_MAX_ATTEMPTS=2\n" in run("env", env={"RETRYD_RETRY_MAX_ATTEMPTS": "2"}).stdout


@pytest.mark.parametrize("upstream, key, version", [
    ("[upstream anthropic]\n", {"ANTHROPIC_API_KEY": HIDDEN}, ""),
    ("[upstream own]\napi_key_env = ANTHROPIC_API_KEY\nauth_header = x-api-key\n", {"ANTHROPIC_API_KEY": HIDDEN}, ""),
    ("[upstream anthropic]\n", {"ANTHROPIC_API_KEY": HIDDEN}, "/v1"),
])
def test_a_route_at_the_root_that_serves_an_api(provider, tmp_path, upstream, key, version):
    provider.answers({"preset": "auto"})
    conf = tmp_path / "conf"
    conf.write_text(f"{upstream}url = http://127.0.0.1:{provider.port}{version}\n"
                    f"[route ant]\nbase = {version or '/'}\n[route rest]\nbase = /\n")
    done = python("print(os.environ['ANTHROPIC_BASE_URL'])\nkey = os.environ['ANTHROPIC_API_KEY']\n"
                  "ask('ANTHROPIC_BASE_URL', '/v1/messages', **{'x-api-key': key})",
                  options=["-c", conf, "--hide-key"], env=key)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", done.stdout)
    got = provider.record()[0]
    assert got["target"] == "/v1/messages" and HIDDEN in str(got["headers"])


def test_the_first_upstream_at_the_root(provider, tmp_path):
    """It stands for OpenAI, whose clients add no version to their base URL."""
    provider.answers({"preset": "auto"})
    conf = tmp_path / "conf"
    conf.write_text(f"[upstream own]\nurl = {provider.base_url}\n[route all]\nbase = /\n")
    done = python("print(os.environ['OPENAI_BASE_URL'], ask().status)", options=["-c", conf])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ 200\n", done.stdout), done
    assert provider.record()[0]["target"] == "/v1/chat/completions"


# --- programs that read no variable ---


def test_codex_gets_a_provider_on_its_command_line(tmp_path):
    codex = tmp_path / "codex"
    codex.write_text('#!/bin/sh\nfor a; do echo "$a"; done\n')
    codex.chmod(0o755)
    done = run(codex, "exec", "hello", env={"OPENAI_API_KEY": "sk-x"})
    lines = done.stdout.splitlines()
    assert lines[:3] == ["-c", 'model_provider="retryd"', "-c"] and lines[4:] == ["exec", "hello"]
    assert re.search(r'base_url="http://127\.0\.0\.1:\d+/v1"', lines[3])
    done = run(codex, "exec", "hello")
    assert done.stdout == "exec\nhello\n"
    assert done.stderr.startswith("retryd: codex uses its login")


def test_opencode_is_told_about(tmp_path):
    program = tmp_path / "opencode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "opencode.json" in run(program).stderr
