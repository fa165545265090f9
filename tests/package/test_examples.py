"""conf/kubernetes/ and conf/compose.yaml: what they say of retryd is so. Debian's docker-compose checks a file without
Docker; tests/sdk/test_kubernetes.py checks the manifest against the published schemas, which come from PyPI."""

import os
import re
import subprocess

from machine import ROOT

SIDECAR, COMPOSE = ROOT / "conf/kubernetes/sidecar.yaml", ROOT / "conf/compose.yaml"
POD = SIDECAR.read_text()


def test_the_compose_file_is_valid():
    done = subprocess.run(["docker-compose", "-f", COMPOSE, "config", "-q"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_application_starts_after_retryd_in_its_network():
    """The other way round, retryd would start second, and lose its network whenever the application restarts."""
    app, retryd = re.search(r"^  app:\n(.*?)^  retryd:\n(.*?)^\S", COMPOSE.read_text(), re.MULTILINE | re.DOTALL).groups()
    assert "network_mode: service:retryd\n" in app
    assert re.search(r"depends_on:\n +retryd:\n +condition: service_healthy\n", app)
    assert "network_mode" not in retryd and "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_sidecar_s_configuration_is_valid(tmp_path):
    text = re.search(r"retryd\.conf: \|\n((?: {4}.*\n|\n)+)", POD)[1]
    key, conf = tmp_path / "openai-key", tmp_path / "retryd.conf"
    key.write_text("sk-x\n")
    conf.write_text(re.sub("^    ", "", text, flags=re.MULTILINE).replace("/run/keys", str(tmp_path)))
    variables = dict(re.findall(r"- \{name: (RETRYD_\w+), value: \"?([^\"}]+)\"?\}", POD))
    assert variables
    done = subprocess.run([os.environ["DAEMON_BIN"], "-c", conf, "--check"], capture_output=True, text=True,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    assert all(f"{name}: sets " in done.stdout for name in variables)


def test_the_variables_of_the_compose_file_are_settings(tmp_path):
    variables = dict(re.findall(r"^ +(RETRYD_\w+): (.+)$", COMPOSE.read_text(), re.MULTILINE))
    key = tmp_path / "openai-key"
    key.write_text("sk-x\n")
    assert variables["RETRYD_UPSTREAM_API_KEY_FILE"] == "/run/secrets/openai-key"
    variables["RETRYD_UPSTREAM_API_KEY_FILE"] = str(key)
    done = subprocess.run([os.environ["DAEMON_BIN"], "--check"], capture_output=True, text=True,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"^(RETRYD_\w+): sets ", done.stdout, re.MULTILINE)) == sorted(variables)
