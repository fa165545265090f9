"""--check reports the files that the service's user cannot read, and those that only the service sees."""

import os
import subprocess
import tempfile

import pytest


def check(tmp_path, text, *option, wrap=(), env=None):
    path = tmp_path / "retryd.conf"
    path.write_text(text)
    path.chmod(0o644)
    environment = {k: v for k, v in os.environ.items() if k != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run([*wrap, os.environ["DAEMON_BIN"], "-c", path, *(option or ["--check"])], capture_output=True,
                          text=True, timeout=60, env={**environment, **(env or {})})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def as_root(tmp_path):
    """Root, of this machine or of a user namespace; a folder that everyone may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    return [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]


UPSTREAM = "[server]\nspool_dir = /tmp\n[upstream u]\nurl = http://127.0.0.1:1/v1\n"


def test_a_key_that_only_root_can_read(tmp_path, as_root):
    key = tmp_path / "key"
    key.write_text("sk-x\n")
    key.chmod(0o600)
    code, out, err = check(tmp_path, UPSTREAM + f"api_key_file = {key}\n", wrap=as_root)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "not every user" in line]
    assert len(lines) == 1 and lines[0].startswith("[upstream u] api_key_file: ")
    assert "mode 0600" in lines[0] and "LoadCredential=" in lines[0]


def test_a_folder_that_only_root_may_enter(tmp_path, as_root):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    (folder / "ca.pem").write_text("")
    code, out, _ = check(tmp_path, UPSTREAM + f"ca_file = {folder}/ca.pem\n", wrap=as_root)
    lines = [line for line in out.splitlines() if "not every user" in line]
    if code == 0:  # an empty bundle may be a problem of its own
        assert len(lines) == 1 and f'"{folder}" has mode 0700' in lines[0] and "LoadCredential" not in lines[0]


def test_a_folder_that_only_root_may_write_to(tmp_path, as_root):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o755)
    code, out, _ = check(tmp_path, UPSTREAM.replace("/tmp", str(folder)), wrap=as_root)
    assert code == 0 and "[server] spool_dir: not every user can write to" in out


def test_what_everyone_can_read_is_no_news(tmp_path, as_root):
    key = tmp_path / "key"
    key.write_text("sk-x\n")
    key.chmod(0o644)
    code, out, _ = check(tmp_path, UPSTREAM + f"api_key_file = {key}\n", wrap=as_root)
    assert code == 0 and "not every user" not in out


def test_what_the_unit_hides(tmp_path, as_root):
    """A folder of the service's own stands in place of /tmp, whatever the modes are; a link may lead there, too."""
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as key:
        key.write("sk-x\n")
        key.flush()
        (tmp_path / "link").symlink_to(key.name)
        for path in (key.name, tmp_path / "link"):
            code, out, err = check(tmp_path, UPSTREAM + f"api_key_file = {path}\n", wrap=as_root)
            assert (code, err) == (0, "")
            assert "[upstream u] api_key_file: " in out and "retryd.service cannot see" in out
    code, out, _ = check(tmp_path, UPSTREAM + "ca_file = /etc/ssl/certs/ca-certificates.crt\n", wrap=as_root)
    assert code == 0 and "cannot see" not in out


@pytest.mark.parametrize("option", ["--check", "--dump-config"])
def test_a_credential_is_not_there_outside_of_the_service(tmp_path, option):
    code, out, err = check(tmp_path, UPSTREAM + "api_key_file = openai-key\n", option)
    assert (code, err) == (0, "")
    if option == "--check":
        assert "[upstream u] api_key_file: \"openai-key\" is a systemd credential, which only the service can see" in out
    else:
        assert "api_key_file = openai-key" in out


def test_a_credential_is_read_in_the_service(tmp_path):
    """And to run without one is an error."""
    text = UPSTREAM + "api_key_file = openai-key\n"
    code, _, err = check(tmp_path, text, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert code == 6 and "cannot be read" in err
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", tmp_path / "retryd.conf"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 6 and "CREDENTIALS_DIRECTORY is not set" in done.stderr
