"""C29: retryd serves this machine only. It refuses an address that others can reach without a word that it may."""

import os
import subprocess

import pytest
from raw import ask

ANYWHERE = "0.0.0.0:0"
HERE = "127.0.0.1:0"


def start(tmp_path, text):
    """What became of a daemon that is to end by itself."""
    conf = tmp_path / "retryd.conf"
    conf.write_text(text + "[upstream x]\nurl = http://127.0.0.1:1/v1\n")
    return subprocess.run([os.environ["DAEMON_BIN"], "-c", conf], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("server, admin", [(ANYWHERE, "off"), (f"{HERE}, {ANYWHERE}", "off"), ("[::]:0", "off"),
                                           (HERE, ANYWHERE)])
def test_an_address_that_others_reach_is_refused(tmp_path, server, admin):
    done = start(tmp_path, f"[server]\nlisten = {server}\n[admin]\nlisten = {admin}\n")
    assert done.returncode == 3
    assert "which other machines can reach" in done.stderr and "insecure_listen = yes" in done.stderr
    assert "listening on" not in done.stderr


@pytest.mark.parametrize("word", ["client_keys_file = {}", "insecure_listen = yes"])
def test_what_lifts_it_for_clients_does_not_for_the_admin_pages(tmp_path, word):
    (tmp_path / "tokens").write_text("a 0123456789abcdef\n")
    done = start(tmp_path, f"[server]\nlisten = {HERE}\n{word.format(tmp_path / 'tokens')}\n[admin]\nlisten = {ANYWHERE}\n")
    assert done.returncode == 3
    assert "[admin] listen: " in done.stderr and "insecure_listen = yes in [admin]" in done.stderr


@pytest.mark.parametrize("settings", [{"listen": HERE}, {"listen": ANYWHERE, "insecure_listen": "yes"}])
def test_else_it_serves(provider, retryd, settings):
    provider.answers({"preset": "auto"})
    assert ask(retryd(server=settings)).status == 200
