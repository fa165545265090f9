"""C31: an upstream's key comes from a file, a credential or the environment, and appears nowhere."""

import json
import os
import shutil
import subprocess
import tempfile

import pytest
from cases import AUTO, error
from daemon import Retryd
from raw import CHAT, STREAM, ask

KEY = "sk-CANARY-0123456789abcdef"
CLIENT = "sk-CLIENT-CANARY"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "openai-key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def sources(key_file):
    return {
        "file": ({"api_key_file": key_file}, {}),
        "environment": ({"api_key_env": "MY_KEY"}, {"MY_KEY": KEY}),
        "credential": ({"api_key_file": key_file.name}, {"CREDENTIALS_DIRECTORY": str(key_file.parent)}),
    }


def sent(provider, name):
    return [[v for n, v in attempt["headers"] if n.lower() == name] for attempt in provider.record()]


@pytest.mark.parametrize("source", ["file", "environment", "credential"])
def test_key_replaces_the_clients(provider, retryd, key_file, source):
    settings, env = sources(key_file)[source]
    d = retryd(upstream_settings=settings, env=env)
    provider.answers(error(503), AUTO)
    for headers in ([], [f"Authorization: Bearer {CLIENT}"], [f"AUTHORIZATION: Basic {CLIENT}"]):
        assert ask(d, headers=headers).status == 200
    assert len(provider.record()) == 4
    assert sent(provider, "authorization") == [[f"Bearer {KEY}"]] * 4


@pytest.mark.parametrize("source", ["file", "environment", "credential"])
def test_api_key_header(provider, retryd, key_file, source):
    """Azure's form: the bare key; the client's own Authorization has no business there."""
    settings, env = sources(key_file)[source]
    d = retryd(upstream_settings={**settings, "auth_header": "api-key"}, env=env)
    ask(d, headers=[f"Authorization: Bearer {CLIENT}", f"Api-Key: {CLIENT}"])
    assert sent(provider, "api-key") == [[KEY]]
    assert sent(provider, "authorization") == [[]]


def test_no_key_passes_the_clients(provider, retryd):
    ask(retryd(), headers=[f"Authorization: Bearer {CLIENT}", "api-key: other", "x-api-key: third"])
    assert sent(provider, "authorization") == [[f"Bearer {CLIENT}"]]
    assert sent(provider, "api-key") == [["other"]] and sent(provider, "x-api-key") == [["third"]]


@pytest.mark.parametrize("field", ["Authorization", "api-key", "x-goog-api-key"])
def test_no_credentials_of_the_clients_go_where_another_key_does(provider, retryd, field):
    """Whatever field they are in, and whatever field the upstream's own is in."""
    d = retryd(upstream_settings={"api_key_env": "MY_KEY", "auth_header": field}, env={"MY_KEY": KEY})
    ask(d, headers=[f"Authorization: Bearer {CLIENT}", f"api-key: {CLIENT}", f"x-api-key: {CLIENT}"])
    (attempt,) = provider.record()
    assert CLIENT not in json.dumps(attempt["headers"])
    assert [n.lower() for n, v in attempt["headers"] if KEY in v] == [field.lower()]


@pytest.mark.parametrize("text", [f"{KEY}", f"\n\n{KEY}\r\n", f"# the team's\n  {KEY}  \n", f"{KEY}\nsk-second\n"])
def test_forms_of_a_key_file(provider, retryd, tmp_path, text):
    (tmp_path / "key").write_bytes(text.encode())
    ask(retryd(upstream_settings={"api_key_file": tmp_path / "key"}))
    assert sent(provider, "authorization") == [[f"Bearer {KEY}"]]


def run_retryd(*args, env=None):
    return subprocess.run([os.environ["DAEMON_BIN"], *args], env={**os.environ, **(env or {})},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("source", ["file", "environment", "credential"])
def test_key_is_shown_nowhere(provider, retryd, key_file, source):
    """Not in the log at its most talkative, nor in metrics, errors, --check, --dump-config or argv."""
    settings, env = sources(key_file)[source]
    d = retryd(upstream_settings=settings, env=env, log={"level": "debug"}, retry={"max_attempts": "2",
                                                                                  "initial_delay": "1ms"})
    shown = ""
    for answer in (AUTO, error(401, message=f"Incorrect API key provided: {KEY}"), error(503),
                   {"cut": {"before_head": True}}, {"stall": {"before_head": True}}):
        provider.answers(answer)
        for body in (CHAT, STREAM):
            got = ask(d, body, headers=["x-retryd-deadline: 300ms", f"Authorization: {CLIENT}"])
            shown += str(got.headers)
            if KEY not in answer.get("message", ""):  # what the upstream quotes is its own affair
                shown += got.body.decode()
    shown += "".join(d.admin(page)[1] for page in ("/metrics", "/healthz", "/readyz"))
    for flag in ("--dump-config", "--check"):
        done = run_retryd("-c", d.config_path, flag, env=env)
        assert done.returncode == 0, done.stderr
        shown += done.stdout + done.stderr
    with open(f"/proc/{d.pid}/cmdline", encoding="utf-8") as f:
        shown += f.read()
    d.stop()
    assert len(d.lines) > 10
    assert "CANARY" not in shown + d.log
    assert "0123456789abcdef" not in shown + d.log


@pytest.mark.parametrize("key", ["sk-CANARY with spaces", "sk-CANARY\x01", "sk-CANAR\u00dd"])
@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_bad_key_is_not_quoted(tmp_path, source, key):
    (tmp_path / "key").write_text(key)
    value = f"api_key_file = {tmp_path / 'key'}" if source == "file" else "api_key_env = MY_KEY"
    (tmp_path / "conf").write_text(f"[upstream x]\nurl = http://127.0.0.1:1/v1\n{value}\n")
    done = run_retryd("-c", str(tmp_path / "conf"), "--check", env={"MY_KEY": key})
    assert done.returncode != 0
    assert "is not a key" in done.stdout + done.stderr
    assert "CANAR" not in done.stdout + done.stderr


def test_reload_takes_a_new_key(provider, retryd, key_file):
    """A key is rotated by writing the file and a SIGHUP."""
    d = retryd(upstream_settings={"api_key_file": key_file})
    ask(d)
    key_file.write_text("sk-NEW")
    d.signal(1)
    d.wait_line("configuration reloaded")
    for _ in range(2000):
        ask(d)
        if sent(provider, "authorization")[-1] == ["Bearer sk-NEW"]:
            break
    values = [v for v, in sent(provider, "authorization")]
    assert values[0] == f"Bearer {KEY}" and values[-1] == "Bearer sk-NEW"
    assert set(values) == {f"Bearer {KEY}", "Bearer sk-NEW"}


# --- the process -----------------------------------------------------------------------------------

def test_no_core_file(retryd):
    with open(f"/proc/{retryd().pid}/limits", encoding="utf-8") as f:
        limits = [line.split() for line in f if line.startswith("Max core file size")]
    assert [line[4:6] for line in limits] == [["0", "0"]]


class Readable(Retryd):
    """Its configuration can be read by whoever it runs as."""

    def write_config(self, text):
        super().write_config(text)
        os.chmod(self._folder.name, 0o755)
        os.chmod(self.config_path, 0o644)


NOBODY = 65534


def drop():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def owner(pid):
    return os.stat(f"/proc/{pid}/environ").st_uid


def test_not_dumpable(provider, monkeypatch):
    """Who runs it owns what /proc tells of a process, unless the process is not dumpable: then it is
    root's, and neither a debugger nor a core file of that user gets at the keys (proc(5))."""
    user = os.getuid() or NOBODY
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        binary = os.path.join(folder, "retryd")
        shutil.copy(os.environ["DAEMON_BIN"], binary)
        os.chmod(binary, 0o755)
        monkeypatch.setenv("DAEMON_BIN", binary)
        with Readable(provider.base_url, preexec=drop) as d:
            with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, preexec_fn=drop) as other:
                assert owner(other.pid) == user  # what any other program shows
                other.stdin.close()
            assert owner(d.pid) == 0
            with open(f"/proc/{d.pid}/status", encoding="utf-8") as f:
                assert f"Uid:\t{user}\t{user}" in f.read()


def long_key(n):
    return ("eyJ0eXAiOiJKV1Qi." * (n // 17 + 1))[:n]


@pytest.mark.parametrize("n", [2041, 4000, 16 * 1024])
@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_keys_as_long_as_tokens_are(provider, retryd, tmp_path, n, header):
    """Entra's and other OpenID Connect tokens run to several KiB."""
    (tmp_path / "keys").write_text(f"{long_key(n)}\n")
    d = retryd(upstream_settings={"api_key_file": tmp_path / "keys", "auth_header": header})
    assert ask(d).status == 200
    assert sent(provider, header.lower()) == [["Bearer " * (header == "Authorization") + long_key(n)]]


def test_a_key_that_is_too_long_is_found_by_check(tmp_path):
    (tmp_path / "keys").write_text(f"sk-first\n{long_key(16 * 1024 + 1)}\n")
    for value in (f"api_key_file = {tmp_path / 'keys'}", "api_key_env = MY_KEY"):
        (tmp_path / "conf").write_text(f"[upstream x]\nurl = http://127.0.0.1:1/v1\n{value}\n")
        done = run_retryd("-c", str(tmp_path / "conf"), "--check", env={"MY_KEY": long_key(16 * 1024 + 1)})
        assert done.returncode == 6
        assert "16 KiB" in done.stderr and "eyJ0" not in done.stderr


@pytest.mark.parametrize("n, status", [(2041, 200), (12_000, 200), (15_500, 431)])
def test_long_credentials_of_the_clients(provider, retryd, n, status):
    answer = ask(retryd(), headers=[f"Authorization: Bearer {long_key(n)}"])
    assert answer.status == status
    if status == 200:
        assert sent(provider, "authorization") == [[f"Bearer {long_key(n)}"]]


TOKEN = "qWErty0123456789ABCDEF"


@pytest.mark.parametrize("own", [True, False], ids=["configured", "the client's"])
@pytest.mark.parametrize("quoted", [TOKEN, f"bad key {TOKEN}!", TOKEN[5:], TOKEN[:12]])
def test_a_key_that_the_upstream_puts_into_a_code(provider, retryd, quoted, own):
    """The code of an error is logged; where it quotes a key it is not."""
    provider.answers({"preset": "error", "status": 400, "code": quoted})
    settings = {"api_key_env": "MY_KEY"} if own else {}
    d = retryd(upstream_settings=settings, env={"MY_KEY": TOKEN})
    answer = ask(d, headers=[f"Authorization: Bearer {'other' if own else TOKEN}"])
    assert answer.status == 400 and answer.json()["error"]["code"] == quoted
    assert "not shown" in d.wait_log("attempt 1 of")["code"]
    d.stop()
    assert not any(TOKEN[i:i + 12] in d.log for i in range(len(TOKEN) - 11))


def test_dump_shows_no_value_of_a_header_or_a_query(tmp_path):
    (tmp_path / "conf").write_text(
        "[upstream x]\nurl = http://h.example/v1?api-version=CANARY1&sig=CANARY2&flag\nheader.X-Team = CANARY3\n")
    done = run_retryd("-c", str(tmp_path / "conf"), "--dump-config")
    assert done.returncode == 0
    assert "CANARY" not in done.stdout
    assert "url = http://h.example/v1?api-version=***&sig=***&flag\n" in done.stdout
    assert "header.X-Team = ***\n" in done.stdout
    (tmp_path / "again").write_text(done.stdout)
    assert run_retryd("-c", str(tmp_path / "again"), "--check").returncode == 0
