"""Runs inside the booted system: tests the units and writes the results to /results.json.

Each check_ function is one test. They run in this order, and each starts while retryd is stopped.
"""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

CONF = pathlib.Path("/etc/retryd/retryd.conf")
KEY = "sk-from-the-credential"
CHAT = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
DEADLINE = 20
PATIENCE = 120  # of a client that waits for a service to be mended


def sh(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


def show(name, unit="retryd.service"):
    return sh("systemctl", "show", "--value", "-p", name, unit)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def ask(connection=None):
    """One chat completion through retryd; returns status and headers."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", 4290, timeout=DEADLINE)
    connection.request("POST", "/v1/chat/completions", CHAT,
                       {"Content-Type": "application/json", "Authorization": "Bearer sk-client"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, dict(answer.getheaders())


def drop_in(name, text, unit="retryd.service", section="Service"):
    """Lines for a unit; clean_up takes them away again."""
    file = pathlib.Path(f"/etc/systemd/system/{unit}.d/{name}.conf")
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"[{section}]\n{text}")
    sh("systemctl", "daemon-reload")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Asking(threading.Thread):
    """A chat completion under way."""

    def __init__(self):
        super().__init__(daemon=True)
        self.result = None
        self.start()

    def run(self):
        try:
            self.result = ask(http.client.HTTPConnection("127.0.0.1", 4290, timeout=PATIENCE))
        except Exception as error:  # shown by the check that waits for it
            self.result = error

    def status(self):
        self.join(PATIENCE)
        assert isinstance(self.result, tuple), f"the request under way came to nothing: {self.result!r}"
        return self.result[0]


def configure(provider, extra=""):
    CONF.write_text(f"[upstream openai]\nurl = {provider.base_url}\n{extra}")


def check_starts_as_installed(provider):
    sh("systemctl", "start", "retryd.service")  # returns when the daemon has said READY=1
    assert show("ActiveState") == "active"
    assert show("Type") == "notify"
    assert get(4291, "/healthz")[0] == 200
    status = pathlib.Path(f"/proc/{show('MainPID')}/status").read_text()
    uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    assert uid != "0", "the daemon runs as root"


def check_can_be_enabled(provider):
    sh("systemctl", "enable", "retryd.service", "retryd.socket")
    assert sh("systemctl", "is-enabled", "retryd.service", "retryd.socket") == "enabled\nenabled"
    sh("systemctl", "disable", "retryd.service", "retryd.socket")


def check_rides_out_a_failure(provider):
    configure(provider)
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto"})
    sh("systemctl", "start", "retryd.service")
    status, headers = ask()
    assert status == 200, headers
    assert len(provider.record()) == 2


def check_reload_keeps_a_running_request(provider):
    configure(provider)
    provider.answers({"preset": "auto", "delay_ms": 1500})
    sh("systemctl", "start", "retryd.service")
    pid = show("MainPID")
    asking = Asking()
    provider.wait(requests=1)
    sh("systemctl", "reload", "retryd.service")
    assert asking.status() == 200
    assert show("MainPID") == pid
    assert show("ActiveState") == "active"
    assert len(provider.record()) == 1, "the request was made again"
    provider.answers({"preset": "auto"})
    assert ask()[0] == 200


NO_BREAKER = "[breaker]\nfailures = 0\nfailure_rate = 0%\n"  # however often it is asked in vain


def check_reload_takes_the_new_file(provider):
    configure(provider, NO_BREAKER + "[retry]\nmax_attempts = 1\nrepeat_window = 0\n")
    provider.answers({"preset": "error", "status": 503})
    sh("systemctl", "start", "retryd.service")
    assert ask()[0] == 503
    configure(provider, NO_BREAKER + "[retry]\nmax_attempts = 2\ninitial_delay = 10ms\nrepeat_window = 0\n")
    sh("systemctl", "reload", "retryd.service")  # returns when it is in force
    provider.clear()
    assert ask()[0] == 503
    assert len(provider.record()) == 2


def check_reload_fails_where_the_file_is_refused(provider):
    configure(provider)
    sh("systemctl", "start", "retryd.service")
    pid = show("MainPID")
    configure(provider, "[retry]\nmax_atempts = 2\n")
    done = subprocess.run(["systemctl", "reload", "retryd.service"], capture_output=True)
    assert done.returncode != 0
    assert (show("ActiveState"), show("MainPID")) == ("active", pid)
    assert "the reload was refused" in show("StatusText") and "max_atempts" in show("StatusText")
    assert "did you mean max_attempts?" in sh("journalctl", "-o", "cat", "-u", "retryd.service")
    assert ask()[0] == 200
    done = subprocess.run(["retryd", "reload"], capture_output=True, text=True)  # as root, from a shell
    assert done.returncode == 3 and "did you mean max_attempts?" in done.stderr, done
    configure(provider)
    sh("systemctl", "reload", "retryd.service")
    assert show("StatusText") == "Serving"


def check_stop_drains(provider):
    configure(provider)
    provider.answers({"preset": "auto", "delay_ms": 1500})
    sh("systemctl", "start", "retryd.service")
    asking = Asking()
    provider.wait(requests=1)
    sh("systemctl", "stop", "retryd.service")
    assert asking.status() == 200
    assert show("Result") == "success"
    assert show("ExecMainStatus") == "0"


def check_socket_starts_the_service(provider):
    configure(provider)
    sh("systemctl", "start", "retryd.socket")
    assert show("ActiveState") == "inactive"
    assert ask()[0] == 200
    assert show("ActiveState") == "active"


def check_socket_waits_while_the_service_is_down(provider):
    configure(provider)
    sh("systemctl", "start", "retryd.socket", "retryd.service")
    first = show("MainPID")
    sh("systemctl", "stop", "retryd.service")
    assert ask()[0] == 200
    assert show("MainPID") not in (first, "0")


def check_killed_is_started_again(provider):
    configure(provider)
    sh("systemctl", "start", "retryd.socket", "retryd.service")
    first = int(show("MainPID"))
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + DEADLINE
    while show("NRestarts") == "0" and time.monotonic() < end:
        pass
    assert show("NRestarts") == "1"
    assert ask()[0] == 200


def check_stop_takes_as_long_as_the_drain(provider):
    drop_in("stop", "TimeoutStopSec=1s\n")
    configure(provider, "[server]\ndrain_timeout = 60s\n")
    provider.answers({"preset": "auto", "delay_ms": 6000})
    sh("systemctl", "start", "retryd.service")
    asking = Asking()
    provider.wait(requests=1)
    sh("systemctl", "stop", "retryd.service")
    assert asking.status() == 200
    assert (show("Result"), show("ExecMainStatus")) == ("success", "0")


def check_linger_takes_new_connections_for_longer_than_the_unit_says(provider):
    drop_in("stop", "TimeoutStopSec=1s\n")
    configure(provider, "[server]\ndrain_linger = 60s\n")
    provider.answers({"preset": "auto", "delay_ms": 2500})
    sh("systemctl", "start", "retryd.service")
    sh("systemctl", "stop", "--no-block", "retryd.service")
    wait_until(lambda: get(4291, "/readyz")[0] == 503)
    assert [ask()[0] for _ in range(2)] == [200, 200]
    assert show("ActiveState") == "deactivating"
    sh("systemctl", "kill", "-s", "TERM", "--kill-who=main", "retryd.service")
    wait_until(lambda: show("ActiveState") == "inactive")
    assert (show("Result"), show("ExecMainStatus")) == ("success", "0")


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end


def check_what_only_a_person_can_mend_is_tried_once(provider):
    configure(provider, "[retry]\nmax_atempts = 2\n")
    assert subprocess.run(["systemctl", "start", "retryd.service"], capture_output=True).returncode != 0
    wait_until(lambda: show("ActiveState") == "failed")
    assert (show("ExecMainStatus"), show("NRestarts")) == ("3", "0")
    configure(provider)
    sh("systemctl", "start", "retryd.service")
    assert ask()[0] == 200


def check_the_socket_outlives_a_service_that_cannot_start(provider):
    """The client that makes systemd try again and again is answered once the file is mended."""
    configure(provider, "[retry]\nmax_atempts = 2\n")
    sh("systemctl", "start", "retryd.socket")
    began = f"--since=@{time.time():.3f}"
    first = time.monotonic()

    def tries():
        lines = sh("journalctl", "-o", "cat", "-u", "retryd.service", began)
        return lines.count("did you mean max_attempts?")

    asking = Asking()
    wait_until(lambda: tries() >= 6)  # one more than the usual limit
    assert time.monotonic() - first > 12, "it is started without a pause"
    assert show("ActiveState", "retryd.socket") == "active"
    configure(provider)
    assert asking.status() == 200
    assert show("ActiveState", "retryd.socket") == "active"


def check_a_socket_that_others_can_reach_is_refused(provider):
    drop_in("open", "ListenStream=\nListenStream=0.0.0.0:4290\n", "retryd.socket", "Socket")
    configure(provider)
    sh("systemctl", "start", "retryd.socket")
    assert subprocess.run(["systemctl", "start", "retryd.service"], capture_output=True).returncode != 0
    assert show("ExecMainStatus") == "3"
    assert "insecure_listen" in sh("journalctl", "-o", "cat", "-u", "retryd.service", "-n", "20")
    configure(provider, "[server]\ninsecure_listen = yes\n")
    sh("systemctl", "start", "retryd.service")
    assert ask()[0] == 200


def check_a_socket_of_its_own_for_the_admin_pages(provider):
    unit = pathlib.Path("/etc/systemd/system/retryd-admin.socket")
    unit.write_text("[Socket]\nListenStream=127.0.0.1:4299\nFileDescriptorName=admin\nService=retryd.service\n")
    sh("systemctl", "daemon-reload")
    configure(provider)
    try:
        sh("systemctl", "start", "retryd.socket", "retryd-admin.socket")
        assert get(4299, "/readyz")[0] == 200
        assert ask()[0] == 200
    finally:
        sh("systemctl", "stop", "retryd-admin.socket", "retryd.socket", "retryd.service")
        unit.unlink()


def check_key_as_the_unit_says(provider):
    """The file that only root can read and one line of configuration: nothing else."""
    key = pathlib.Path("/etc/retryd/openai-key")
    pathlib.Path("/root/my-key").write_text(KEY + "\n")
    sh("install", "-m", "600", "/root/my-key", "/etc/retryd/openai-key")
    configure(provider, f"api_key_file = {key}\n")
    assert "not every user can read" in sh("retryd", "-c", "/etc/retryd/retryd.conf", "--check")
    configure(provider, "api_key_file = openai-key\n")
    assert "not every user can read" not in sh("retryd", "-c", "/etc/retryd/retryd.conf", "--check")
    sh("systemctl", "start", "retryd.service")
    assert ask()[0] == 200
    assert f"Bearer {KEY}" in json.dumps(provider.record())
    key.write_text(KEY + "-2\n")
    sh("systemctl", "reload", "retryd.service")  # which says that it does not see it
    assert "new ones need systemctl restart" in sh("journalctl", "-o", "cat", "-u", "retryd.service", "-n", "20")
    provider.clear()
    assert ask()[0] == 200
    assert f"Bearer {KEY}\"" in json.dumps(provider.record())
    sh("systemctl", "restart", "retryd.service")
    provider.clear()
    assert ask()[0] == 200
    assert f"Bearer {KEY}-2" in json.dumps(provider.record())
    key.unlink()


def check_a_key_that_is_not_there(provider):
    """Who names the credential is told that the file was missing; who does not needs none."""
    configure(provider, "api_key_file = openai-key\n")
    assert subprocess.run(["systemctl", "start", "retryd.service"], capture_output=True).returncode != 0
    wait_until(lambda: show("ActiveState") == "failed")
    assert (show("ExecMainStatus"), show("NRestarts")) == ("6", "0")
    assert 'retryd.service/openai-key" contains no key' in sh("journalctl", "-o", "cat", "-u", "retryd.service", "-n", "20")
    configure(provider)
    sh("systemctl", "start", "retryd.service")


def authority(folder, name):
    """A CA of its own. (ca-certificates brings openssl.)"""
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
       "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem")


def certificate(folder, name, ca):
    sh("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
       "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    sh("openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{ca}.pem",
       "-CAkey", f"{folder}/{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/names",
       "-out", f"{folder}/{name}.crt")
    return folder / f"{name}.crt", folder / f"{name}.key"


def wait_journal(text):
    wait_until(lambda: any(text in line for line in journal()))


def check_certificates_in_the_service(provider):
    """Authorities from a file that changes, a client's certificate, and its key as a credential: with the unit's
    own user, its /proc and its filters."""
    from mutual import MutualServer  # copied beside this file

    folder = pathlib.Path("/root/pki")
    folder.mkdir()
    for name in ("ours", "others"):
        authority(folder, name)
    server, client = certificate(folder, "server", "ours"), certificate(folder, "client", "ours")
    trusted, key = pathlib.Path("/etc/retryd/ca.pem"), pathlib.Path("/etc/retryd/client-key")
    shutil.copy(folder / "ours.pem", trusted)
    shutil.copy(client[0], "/etc/retryd/client.crt")
    shutil.copy(client[1], key)
    trusted.chmod(0o644)
    key.chmod(0o600)
    drop_in("key", f"LoadCredential=client-key:{key}\n")
    with MutualServer(server, folder / "ours.pem") as mutual:
        CONF.write_text(f"[upstream openai]\nurl = {mutual.url}\nca_file = {trusted}\n"
                        "client_cert_file = /etc/retryd/client.crt\nclient_key_file = client-key\n"
                        "connection_lifetime = 1s\n"
                        f"[retry]\nmax_attempts = 1\n{NO_BREAKER}")
        sh("systemctl", "start", "retryd.service")
        assert ask()[0] == 200
        assert mutual.seen == ["client"]
        trusted.write_bytes((folder / "others.pem").read_bytes())
        wait_journal("a file changed, and its new content is in force")
        assert ask()[0] == 502, "the authority of before is trusted still"
        trusted.write_bytes((folder / "others.pem").read_bytes() + (folder / "ours.pem").read_bytes())
        wait_until(lambda: ask()[0] == 200)
        assert set(mutual.seen) == {"client"}
        sh("systemctl", "reload", "retryd.service")
        assert ask()[0] == 200
        trusted.unlink()  # it is in memory
        wait_journal("cannot be read")
        handshakes = len(mutual.handshakes)
        while len(mutual.handshakes) == handshakes:
            assert ask()[0] == 200
    for file in (trusted, key, pathlib.Path("/etc/retryd/client.crt")):
        file.unlink(missing_ok=True)
    shutil.rmtree(folder)


def check_unix_socket(provider):
    configure(provider, "[server]\nlisten = unix:/run/retryd/retryd.sock\n")
    sh("systemctl", "start", "retryd.service")
    assert os.stat("/run/retryd").st_mode & 0o777 == 0o750
    assert ask(UnixConnection("/run/retryd/retryd.sock"))[0] == 200


def journal(*selection):
    sh("journalctl", "--sync")
    return sh("journalctl", "--no-pager", "-o", "cat", *selection, "_SYSTEMD_UNIT=retryd.service",
              f"_PID={show('MainPID')}").splitlines()


def check_levels_reach_the_journal(provider):
    """`journalctl -p err` finds what went wrong and nothing else, and no priority is left in a message."""
    for form, first in (("logfmt", "ts="), ("json", "{")):
        extra = f"[log]\nformat = {form}\n[breaker]\nfailures = 1\n[retry]\nmax_attempts = 1\n"
        configure(provider, extra)
        provider.answers({"preset": "error", "status": 503})
        sh("systemctl", "restart", "retryd.service")
        assert ask()[0] == 503
        CONF.write_text("[nothing]\n")
        sh("systemctl", "kill", "-s", "HUP", "--kill-who=main", "retryd.service")
        end = time.monotonic() + DEADLINE
        while not any("reload failed" in line for line in journal()) and time.monotonic() < end:
            pass
        errors, warnings, rest = journal("-p", "err"), journal("-p", "warning..warning"), journal("-p", "info..debug")
        assert any("reload failed" in line for line in errors) and all("error" in line for line in errors), errors
        assert any("breaker open" in line for line in warnings), warnings
        assert any("is ready" in line for line in rest), rest
        ours = errors + warnings + [line for line in rest if "msg" in line]
        assert all(line.startswith(first) for line in ours), ours


def check_key_is_in_no_journal(provider):
    journal = sh("journalctl", "--no-pager", "-o", "cat", "-u", "retryd.service")
    assert journal, "retryd logged nothing at all"
    assert KEY not in journal
    assert "sk-client" not in journal


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items())
          if name.startswith("check_")}


def clean_up(provider):
    sh("systemctl", "stop", "retryd.socket", "retryd.service")
    for folder in pathlib.Path("/etc/systemd/system").glob("retryd.*.d"):
        shutil.rmtree(folder)
    sh("systemctl", "daemon-reload")
    subprocess.run(["systemctl", "reset-failed", "retryd.socket", "retryd.service"], capture_output=True)
    provider.answers({"preset": "auto"})
    provider.clear()


def main():
    sys.path.insert(0, "/opt/retryd-test")
    from client import Provider  # the provider's own client, copied beside this file

    results = {}
    with Provider("/opt/retryd-test/provider") as provider:
        for name, check in CHECKS.items():
            began = time.time()
            try:
                clean_up(provider)
                check(provider)
                results[name] = None
            except Exception:
                journal = subprocess.run(
                    ["journalctl", "--no-pager", f"--since=@{began:.3f}", "-u", "retryd.service",
                     "-u", "retryd.socket"],
                    capture_output=True, text=True).stdout
                results[name] = traceback.format_exc() + journal
    pathlib.Path("/results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
