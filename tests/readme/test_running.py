"""docs/systemd.md, docs/kubernetes.md and what configuration.md says of the environment agree with the units, the image
and the program."""

import os
import re
import subprocess

import pytest
from pages import PAGES, ROOT, table_rows

SYSTEMD, KUBERNETES = PAGES["docs/systemd.md"], PAGES["docs/kubernetes.md"]
POD = (ROOT / "conf/kubernetes/sidecar.yaml").read_text()
CONFIG = POD.partition("retryd.conf: |")[2].partition("---")[0]


def only(pattern, text):
    found = re.findall(pattern, text)
    assert len(found) == 1, (pattern, found)
    return found[0]


def test_the_probes_are_the_image_s_health_check():
    image = only(r"HEALTHCHECK (?:.*\\\n)* +CMD (\[.+\])", (ROOT / "Dockerfile").read_text())
    assert re.findall(r"command: (\[.+\])", POD) == [image.replace("--health", "--ready"), image]


def test_the_probes_wait_longer_than_the_health_check():
    patience = int(only(r"CLI_HEALTH_PATIENCE_MS (\d+)", (ROOT / "src/cli/cli.h").read_text()))
    assert all(1000 * int(seconds) > patience for seconds in re.findall(r"timeoutSeconds: (\d+)", POD))


def test_the_grace_is_longer_than_the_drain():
    grace = int(only(r"terminationGracePeriodSeconds: (\d+)", POD))
    assert grace > int(only(r"drain_timeout = (\d+)s", CONFIG)) + 10
    assert int(only(r"--stop-timeout (\d+) retryd", KUBERNETES)) > int(only(r"drain_timeout = (\d+)s", CONFIG)) + 10


def test_the_limit_leaves_room_above_max_buffered():
    assert int(only(r"limits: \{memory: (\d+)Mi", POD)) >= int(only(r"max_buffered = (\d+)M", CONFIG)) + 128


def test_the_user_is_the_image_s():
    user = only(r"USER (\d+):\d+", (ROOT / "Dockerfile").read_text())
    assert only(r"fsGroup: (\d+)", POD) == user and f"user {user}" in KUBERNETES


def test_the_key_is_where_the_secret_is_mounted():
    folder = only(r"name: retryd-keys, mountPath: ([/\w]+)", POD)
    assert only(r"api_key_file = (\S+)", CONFIG).rpartition("/")[0] == folder


def test_the_exit_codes_are_the_unit_s():
    service = (ROOT / "systemd/retryd.service").read_text()
    prevented = only(r"(?m)^RestartPreventExitStatus=([\d ]+)$", service)
    rows = {row[0]: row[2] for row in table_rows(SYSTEMD) if len(row) == 3}
    assert "leaves it" in rows[", ".join(prevented.split())]
    assert sum("starts it again" in what for what in rows.values()) == len(rows) - 1


@pytest.mark.parametrize("metric", re.findall(r"`(retryd_config_\w+)` \|", SYSTEMD))
def test_the_metrics_are_there(retryd, metric):
    assert metric in retryd("http://127.0.0.1:1/v1").metrics()


ENVIRONMENT = PAGES["docs/configuration.md"].partition("## The environment")[2].partition("## Exit codes")[0]
# A value for the last words of a variable.
VALUES = {"ATTEMPTS": "3", "LISTEN": "127.0.0.1:4299", "URL": "http://h.example/v1", "ORG": "o", "MODELS": "a -> b, c -> d",
          "DEADLINE": "9m", "KEY_FILE": "FILE", "KEY_ENV": "OPENAI_API_KEY", "URL_FILE": "FILE"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(RETRYD_(?!SECTION_KEY)[A-Z_]+[A-Z])(?:=\w+)?`",
                                                       ENVIRONMENT))))
def test_each_variable_sets_what_the_page_says(name, tmp_path):
    value = max((end for end in VALUES if name.endswith(f"_{end}")), key=len)
    file = tmp_path / "value"
    file.write_text("http://h.example/v1\n")
    done = subprocess.run([os.environ["DAEMON_BIN"], "--check"], capture_output=True, text=True,
                          env={**os.environ, "OPENAI_API_KEY": "sk-x", name: VALUES[value].replace("FILE", str(file))})
    assert done.returncode == 0, done.stderr
    sets = re.search(rf"^{name}: sets \[(.+)\] (\S+)$", done.stdout, re.MULTILINE)
    row = next((row[1] for row in table_rows(ENVIRONMENT) if f"`{name}`" in row[0]), "")
    for key in re.findall(r"^`([a-z_.]+)`", row):
        assert sets[2] == key
    if "[upstream azure]" in row or "[route chat]" in row:
        assert f"[{sets[1]}]" in row


def test_the_problems_of_the_environment_are_told_so(tmp_path):
    for line in re.findall(r"^(RETRYD_\w+): (.+)$", ENVIRONMENT, re.MULTILINE):
        done = subprocess.run([os.environ["DAEMON_BIN"], "--check"], capture_output=True, text=True,
                              env={**os.environ, line[0]: "60"})
        assert (done.returncode, done.stderr) == (3, f"{line[0]}: {line[1]}\n")
