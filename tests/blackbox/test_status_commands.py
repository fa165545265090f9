"""retryd status, top and explain, and the pages that they show."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from test_status import DOWN, LIMITED, SECRETS, begun, post, secretive


def run(*arguments, **how):
    return subprocess.run([os.environ["DAEMON_BIN"], *arguments], capture_output=True, text=True, timeout=60, **how)


@pytest.fixture
def conf(tmp_path):
    def write(d):
        path = tmp_path / "admin.conf"
        path.write_text(f"[admin]\nlisten = {d.admin_address}\n")
        return str(path)
    return write


def test_status_is_one_screen(provider, retryd, conf):
    provider.answers(LIMITED)
    d = retryd()
    c = begun(d, "gpt-4o\n\x1b[2J<b>")
    d.wait_line("attempt 1 of 5 failed")
    shown = run("-c", conf(d), "status")
    assert shown.returncode == 0 and shown.stderr == ""
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("Riding out a failure") and len(lines) <= 24
    assert "gate opens in" in shown.stdout and "rate_limited; attempt 2 of 5 in" in shown.stdout
    assert "\x1b" not in shown.stdout and "gpt-4o  [2J<b>" in shown.stdout
    c.close()


def test_explain_tells_one_request(provider, retryd, conf):
    provider.answers({**DOWN, "code": "engine_overloaded"}, {"preset": "auto"})
    d = retryd()
    post(d, "gpt-4o")
    identity = d.wait_log('msg="request"')["id"]
    for id_ in (identity, identity[:8]):
        told = run("-c", conf(d), "explain", id_)
        assert told.returncode == 0, told.stderr
        first, one, two, end, times = told.stdout.splitlines()
        assert first.startswith("POST /v1/chat/completions for gpt-4o came at 20")
        assert one.startswith("Attempt 1 went to test and failed after") and "503 overloaded (engine_overloaded)" in one
        assert two.startswith("retryd waited ") and "Attempt 2 went to test and was answered with 200" in two
        assert end.startswith("The client got the response, with status 200, ") and times.startswith("Its time: ")


@pytest.mark.parametrize("arguments, code, words", [
    (["explain"], 2, "expects the id"), (["explain", "../x"], 2, "no request's id"),
    (["explain", "deadbeef"], 1, "no such request is known"), (["status", "x"], 2, "takes no argument"),
    (["top", "x"], 2, "takes no argument")])
def test_what_cannot_be_told(arguments, code, words, retryd, conf):
    told = run("-c", conf(retryd()), *arguments)
    assert (told.returncode, told.stdout) == (code, "") and words in told.stderr


def test_nobody_to_ask(tmp_path):
    path = tmp_path / "off.conf"
    path.write_text("[admin]\nlisten = off\n")
    assert "there is no admin address to ask" in run("-c", path, "status").stderr
    path.write_text("[admin]\nlisten = 127.0.0.1:1\n")
    told = run("-c", path, "top")
    assert told.returncode == 1 and "does not answer" in told.stderr


def test_top_without_a_terminal_prints_once(retryd, conf):
    shown = run("-c", conf(retryd()), "top", stdin=subprocess.DEVNULL)
    assert shown.returncode == 0 and shown.stdout.startswith("All is well")


@pytest.mark.parametrize("how", ["q", "signal"])
def test_top_draws_until_it_is_left(how, provider, retryd, conf):
    """What happens meanwhile appears; the terminal is as it was afterwards."""
    d = retryd()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    before = termios.tcgetattr(theirs)
    top = subprocess.Popen([os.environ["DAEMON_BIN"], "-c", conf(d), "top"], stdin=theirs, stdout=theirs, stderr=theirs)

    def until(words, seen=b""):
        deadline = time.monotonic() + 60
        while words not in seen:
            assert select.select([ours], [], [], max(0, deadline - time.monotonic()))[0], seen
            seen += os.read(ours, 65536)
        return seen

    first = until(b"All is well")
    assert first.index(b"\x1b[?1049h") < first.index(b"All is well")
    provider.answers({"preset": "error", "status": 400})
    post(d, "gpt-4o")
    assert all(len(line) < 130 for line in until(b"failed with 400").split(b"\x1b[K"))
    if how == "q":
        os.write(ours, b"q")
    else:
        top.send_signal(signal.SIGINT)
    until(b"\x1b[?1049l")
    assert top.wait(20) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_no_secret_is_told(provider, retryd, conf, tmp_path):
    """C31."""
    d = secretive(retryd, provider, tmp_path)
    id_ = d.requests()[0]["id"]
    told = run("-c", conf(d), "explain", id_).stdout + run("-c", conf(d), "status").stdout + d.admin("/")[1]
    assert id_ in told and not [secret for secret in SECRETS if secret in told]


def test_the_page_allows_nothing_but_itself(provider, retryd):
    """C30: its policy names its own style and script by their hashes; text from outside is escaped."""
    import base64
    import hashlib
    import http.client
    import re

    provider.answers(DOWN, {"preset": "auto"})
    d = retryd()
    post(d, '</script><script>alert("1")</script>&\'')
    d.wait_line('msg="request"')
    host, _, port = d.admin_address.rpartition(":")
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", "/")
    answer = c.getresponse()
    text = answer.read().decode()
    c.close()
    assert answer.status == 200 and answer.getheader("Content-Type") == "text/html; charset=utf-8"
    policy = answer.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        sum_ = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{sum_}'" in policy
    body = text[text.index("<body>"):]
    assert "&lt;/script&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;" in body
    assert not re.search(r"\son\w+=|style=|javascript:|(src|href)=\"(?!/|data:)", text)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
