"""Every command in README.md and docs/ is tried, here or by the test that is named for it. The manual page
agrees with --help.

A command that is in neither table fails, and so does an entry without its command.
tests/sdk/test_readme_examples.py runs the examples for the SDKs. tests/agents and
tests/blackbox/test_ready_routes.py run those of clients.md.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from pages import PAGES, README, ROOT, anchor, blocks, names, table_rows

DEFAULT_LISTEN, DEFAULT_ADMIN = "127.0.0.1:4290", "127.0.0.1:4291"

# Commands that need a booted systemd, a container engine or hours: who tries them.
TRIED_ELSEWHERE = {
    "./dev demo": ("tests/demo/test_demo.py", "test_every_request_is_answered_and_every_failure_shown"),
    "./dev test": (".ci/run", "exec ./dev test"),
    "./dev bench": ("tests/bench/test_bench.py", "def test_"),
    "./dev package": ("tests/dev/parts/package", "tests/dev/commands/package"),
    "sudo apt install ./build/package/retryd_*.deb": ("tests/package/test_package.py", "def test_its_life"),
    "sudo cp /usr/share/doc/retryd/examples/retryd.conf /etc/retryd/retryd.conf":
        ("tests/package/booted", 'cp /usr/share/doc/retryd/examples/retryd.conf "$conf"'),
    "sudo systemctl start retryd.service": ("tests/package/booted", "systemctl start retryd.service"),
    "kubectl create secret generic retryd --from-file=openai-key=my-key":
        ("tests/readme/test_running.py", "def test_the_key_is_where_the_secret_is_mounted"),
    "kubectl apply -f conf/kubernetes/sidecar.yaml":
        ("tests/sdk/test_kubernetes.py", "def test_the_sidecar_is_valid"),
    "docker compose -f conf/compose.yaml up":
        ("tests/package/test_examples.py", "def test_the_compose_file_is_valid"),
    "curl -s http://127.0.0.1:4291/status.json": ("tests/blackbox/test_status.py", "def test_all_is_well"),
    'curl -X POST -H "Authorization: Bearer $TOKEN" '
    '"http://127.0.0.1:4291/actions/reset?upstream=openai&model=gpt-4o"':
        ("tests/blackbox/test_actions.py", "def test_reset_lets_those_through_who_wait"),
    "retryd run -- python3 app.py": ("tests/sdk/test_run.py", "def test_python_with_a_hidden_key"),
    "promtool check rules conf/prometheus/retryd.rules.yml":
        ("tests/blackbox/test_metrics.py", 'promtool("check", "rules"'),
    "retryd wait --timeout 30s": ("tests/blackbox/test_wait.py", "def test_wait_ends_when_the_daemon_is_ready"),
    "retryd &": ("tests/readme/test_readme.py", "def test_runs_without_a_configuration"),
    "sudo systemctl daemon-reload": ("tests/service/guest.py", '"systemctl", "daemon-reload"'),
    "sudo systemctl enable --now retryd.socket retryd.service":
        ("tests/service/guest.py", "def check_can_be_enabled"),
    "systemctl status retryd": ("tests/service/guest.py", "def check_starts_as_installed"),
    "sudo systemctl reload retryd":
        ("tests/service/guest.py", "def check_reload_keeps_a_running_request"),
    "sudo install -m 600 my-key /etc/retryd/openai-key":
        ("tests/service/guest.py", '"install", "-m", "600", "/root/my-key", "/etc/retryd/openai-key"'),
    "sudo retryd -c /etc/retryd/retryd.conf --check":
        ("tests/service/guest.py", '"retryd", "-c", "/etc/retryd/retryd.conf", "--check"'),
    "sudo systemctl restart retryd": ("tests/service/guest.py", '"systemctl", "restart", "retryd.service"'),
    "kubectl exec deploy/app -c retryd -- retryd reload":
        ("tests/blackbox/test_reload.py", "def test_the_only_one_needs_no_name"),
    "docker exec retryd retryd reload": ("tests/blackbox/test_reload.py", "def test_the_only_one_needs_no_name"),
    "docker run -d --name retryd --network container:my-app --stop-timeout 45 retryd":
        ("tests/service/test_image.py", "def test_answers_on_healthz"),
    "docker build -t retryd .": ("tests/service/test_image.py", "def built"),
    "docker run -d --name retryd --network container:my-app retryd":
        ("tests/service/test_image.py", "def test_answers_on_healthz"),
}


def commands(pages=PAGES):
    """Each command of the shell blocks, lines that go on joined."""
    text = "".join(block for page in pages for block in blocks("sh", PAGES[page])).replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def command(start):
    """The one command that starts so, wherever it stands."""
    found = {c for c in commands() if c.startswith(start)}
    assert len(found) == 1, f"{start!r}: {found}"
    return found.pop()


def shell(text, **environment):
    return subprocess.run(["sh", "-euc", text], capture_output=True, text=True, timeout=100, cwd=ROOT,
                          env={**os.environ, **environment})


@pytest.fixture
def installed(tmp_path):
    """What the README's install command puts where, below a folder of the test's own."""
    build = pathlib.Path(os.environ["DAEMON_BIN"]).parent
    text = command("sudo cmake --install").removeprefix("sudo ").replace("build/release", str(build))
    done = shell(text, DESTDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    return tmp_path


# The rest, by how they begin, and the test below that tries them.
TRIED_HERE = {
    "./dev build": "test_build",
    "sudo cmake --install": "test_install",
    "retryd": "test_runs_without_a_configuration",
    "export OPENAI_BASE_URL=": "test_exported_url",
    "curl http://127.0.0.1:4290/v1/chat/completions": "test_curl",
    "retryd -c /etc/retryd/retryd.conf --check": "test_check_and_dump",
    "retryd -c /etc/retryd/retryd.conf --dump-config": "test_check_and_dump",
    "retryd -c /etc/retryd/retryd.conf": "test_runs_with_the_configuration",
    "curl http://127.0.0.1:4291/metrics": "test_metrics",
}


def here_for(text):
    """The entry of TRIED_HERE for a command: the longest that fits. `retryd` must fit as a whole."""
    fitting = [start for start in TRIED_HERE
               if text == start or (text.startswith(start) and not start.startswith("retryd"))]
    return max(fitting, key=len, default=None)


def test_every_command_is_tried():
    untried = [c for c in commands() if c not in TRIED_ELSEWHERE and not here_for(c)]
    assert untried == []
    assert {here_for(c) for c in commands()} - {None} == set(TRIED_HERE)
    assert set(TRIED_ELSEWHERE) - set(commands()) == set()
    assert set(TRIED_HERE.values()) <= set(globals())


def test_the_readme_has_the_two_commands_for_contributors_once():
    here = commands(["README.md"])
    assert (here.count("./dev demo"), here.count("./dev test")) == (1, 1)


@pytest.mark.parametrize("text", TRIED_ELSEWHERE)
def test_the_test_named_for_a_command_exists(text):
    file, what = TRIED_ELSEWHERE[text]
    assert what in (ROOT / file).read_text()


def test_every_dev_command_is_known_to_dev():
    told = shell("./dev help").stdout
    used = {word for text in PAGES.values() for word in re.findall(r"`?\./dev ([a-z]+)", text)}
    assert {"demo", "test", "build", "bench", "fuzz", "soak", "lint"} <= used
    assert [word for word in used if not re.search(rf"^  {word}\b", told, re.MULTILINE)] == []
    assert "--no-sdk" in told and "test agents" in told


def test_the_parts_of_the_tests_are_told():
    parts = re.search(r"^parts='(.+)'$", (ROOT / "dev").read_text(), re.MULTILINE).group(1).split()
    told = [name for row in table_rows(PAGES["docs/testing.md"]) for name in names(row[0])]
    assert sorted(told) == sorted(parts)
    on_request = re.search(r"^parts_on_request='(.+)'", (ROOT / "dev").read_text(), re.MULTILINE).group(1).split()
    assert re.findall(r"`\./dev test (\w+)`", PAGES["docs/testing.md"]) == on_request


def test_build():
    done = shell(command("./dev build"))
    assert done.returncode == 0, done.stderr
    assert os.access(ROOT / "build/release/retryd", os.X_OK)


def test_install(installed):
    for path in ("usr/bin/retryd", "etc/retryd/retryd.conf", "usr/lib/systemd/system/retryd.service",
                 "usr/lib/systemd/system/retryd.socket", "usr/share/man/man1/retryd.1"):
        assert (installed / path).is_file(), path


# The default ports may be in use here: it gets a network of its own.
PROBE = """
import fcntl, socket, struct, subprocess, sys, urllib.request
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
d = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
for line in d.stderr:
    if "is ready" in line:
        break
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://%s/healthz").status)
with socket.create_connection(("127.0.0.1", 4290)) as s:
    s.sendall(b"GET /nothing HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    print(s.recv(4096).decode().split()[1])
d.terminate()
d.stderr.read()
print(d.wait())
""" % DEFAULT_ADMIN


def run_in_own_network(text, installed):
    words = [str(installed / "usr/bin/retryd"), *text.split()[1:]]
    words = [str(installed) + w if w.startswith("/etc/") else w for w in words]
    done = subprocess.run(["unshare", "--map-root-user", "--net", sys.executable, "-c", PROBE, *words],
                          capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    assert done.stdout.split() == ["200", "404", "0"]


def test_runs_without_a_configuration(installed):
    run_in_own_network("retryd", installed)


def test_runs_with_the_configuration(installed):
    run_in_own_network("retryd -c /etc/retryd/retryd.conf", installed)


@pytest.fixture
def daemon(provider, retryd):
    provider.answers({"preset": "error", "status": 503}, {"preset": "auto", "text": "Hello."})
    return retryd()


def at(daemon, text):
    return text.replace(DEFAULT_LISTEN, daemon.listeners[0]).replace(DEFAULT_ADMIN, daemon.admin_address)


def test_exported_url(daemon, provider):
    done = shell(at(daemon, command("export OPENAI_BASE_URL=")) +
                 '; curl -qsS --noproxy "*" "$OPENAI_BASE_URL/models"')
    assert json.loads(done.stdout)["object"] == "list"
    assert [r["target"] for r in provider.record()] == ["/v1/models"] * 2


def test_curl(daemon, provider):
    done = shell(at(daemon, command("curl http://127.0.0.1:4290/v1/chat/completions")),
                 OPENAI_API_KEY="sk-readme", no_proxy="*")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "Hello."
    record = provider.record()
    assert len(record) == 2
    assert all(["Authorization", "Bearer sk-readme"] in r["headers"] for r in record)


def test_metrics(daemon):
    done = shell(at(daemon, command("curl http://127.0.0.1:4291/metrics")), no_proxy="*")
    assert "retryd_" in done.stdout


def test_check_and_dump(installed):
    for start in ("--check", "--dump-config"):
        text = command(f"retryd -c /etc/retryd/retryd.conf {start}")
        done = shell(f"{installed}/usr/bin/" + text.replace("/etc/", f"{installed}/etc/"))
        assert done.returncode == 0, done.stderr
    assert "listen = 127.0.0.1:4290" in done.stdout


# --- docs/retryd.1 ---

MANUAL = (ROOT / "docs/retryd.1").read_text()


def usage():
    """--help as far as the configuration's keys."""
    return shell('"$DAEMON_BIN" --help').stdout.partition("All keys with their defaults")[0]


def test_manual_has_the_options_of_help():
    in_help = re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: ([A-Z]+))?", usage(), re.MULTILINE)
    in_manual = re.findall(r"^\.It Fl (?:(\w) , Fl )?\\-([\w-]+)(?: Ar (\w+))?$", MANUAL, re.MULTILINE)
    assert len(in_help) >= 6
    assert [(short, long, value.upper()) for short, long, value in in_manual] == in_help
    synopsis = MANUAL.partition(".Sh SYNOPSIS")[2].partition(".Sh")[0]
    assert all(f"Fl \\-{long}" in synopsis or f"Fl {short} " in synopsis for short, long, _ in in_help)


def test_manual_has_the_exit_codes_of_help():
    codes = usage().partition("Exit codes:\n")[2].partition("\n\n")[0]
    in_help = {code: text for line in codes.splitlines()
               for code, text in re.findall(r"(?:^| {2})(\d)  (.+?)(?= {3}|$)", line)}
    section = MANUAL.partition(".Sh EXIT STATUS")[2].partition(".Sh")[0]
    in_manual = dict(re.findall(r"^\.It (\d)\n(.+)\.$", section, re.MULTILINE))
    assert len(in_help) >= 8
    assert {code: text[0].lower() + text[1:] for code, text in in_manual.items()} == in_help


def test_manual_has_the_signals_of_help():
    named = set(re.findall(r"SIG[A-Z]+", usage()))
    assert named and named <= set(re.findall(r"SIG[A-Z]+", MANUAL))


@pytest.mark.parametrize("tool", ["mandoc -T lint -W warning", "man --warnings -l"])
def test_manual_is_well_formed(tool):
    """By what of the two is here: a machine without manual pages need not get them for this."""
    if shutil.which(tool.split()[0]):
        done = shell(f"{tool} docs/retryd.1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "retryd.1:" not in done.stdout


# --- the rest ---


# Those of configuration.md stand in the middle of an explanation (tests/unit/test_config_docs.c); sections in
# capitals are systemd's.
@pytest.mark.parametrize("text", [block for page in PAGES if page not in ("docs/configuration.md", "docs/clients.md")
                                  for block in blocks("ini", PAGES[page]) if not re.match(r"(#.*\n)*\[[A-Z]", block)])
def test_configuration_is_in_force_as_it_stands(text, tmp_path):
    key = tmp_path / "key"
    key.write_text("sk-readme\n")
    key.chmod(0o600)
    conf = tmp_path / "retryd.conf"
    conf.write_text(text.replace("/etc/retryd/openai-key", str(key)).replace("/etc/retryd/azure-key", str(key))
                    .replace("/run/keys/openai-key", str(key)))
    done = shell(f'"$DAEMON_BIN" -c {conf} --check')
    assert done.returncode == 0, done.stderr
    assert "has no effect" not in done.stdout + done.stderr


def test_no_other_kind_of_block():
    kinds = {page: set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) for page, text in PAGES.items()}
    assert kinds["README.md"] == {"sh", "text"}
    assert set().union(*kinds.values()) <= {"sh", "ini", "yaml", "python", "js", "text"}


def headings(path):
    return {anchor(text) for text in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    here = (ROOT / page).parent
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", PAGES[page])
    lost = [(path, part) for path, part in links
            if not (here / path).exists() or (part and part not in headings(here / path if path else ROOT / page))]
    assert lost == []


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([^)#/]+)[)#]", PAGES["docs/README.md"]))
    assert linked == {path.name for path in (ROOT / "docs").iterdir() if path.is_file()} - {"README.md"}


def test_the_readme_is_short():
    assert README.count("\n") <= 130


RESPONSES = PAGES["docs/responses.md"]


def test_headers_are_told(daemon):
    named = re.findall(r"^\| `([\w-]+)[`:]", RESPONSES, re.MULTILINE)
    done = shell(f'curl -qsS --noproxy "*" -D - -o /dev/null {daemon.base_url}/chat/completions '
                 "-d '{\"model\":\"gpt-4o\"}'")
    told = done.stdout.lower()
    assert {"x-retryd-attempts", "x-retryd-wait-ms", "x-retryd-target", "Proxy-Status"} < set(named)
    assert all(f"\n{name.lower()}:" in told for name in named if name not in ("x-should-retry", "x-retryd-model"))


def test_overrides_are_taken(daemon, provider):
    line = next(p for p in RESPONSES.split("\n\n") if p.startswith("A request may carry"))
    overrides = re.findall(r"`(x-retryd-[\w-]+: \S+)`", line)
    assert len(overrides) == 4
    headers = " ".join(f"-H '{o}'" for o in overrides)
    done = shell(f'curl -qsS --noproxy "*" {headers} -w "%{{http_code}}" -o /dev/null {daemon.base_url}/models')
    assert done.stdout == "503"
    record = provider.record()
    assert len(record) == 1
    assert not [name for name, _ in record[0]["headers"] if name.lower().startswith("x-retryd-")]
