"""The metrics as Prometheus sees them: promtool reads a scrape, and evaluates the dashboard and the alerts in conf/."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from cases import AUTO, error
from pki import pki  # noqa: F401
from raw import CHAT, STREAM, Raw, ask, wait_idle, wait_metric
from targets import house, on
from test_upstream_links import provider_with, url_of

CONF = pathlib.Path(os.environ["SOURCE_DIR"]) / "conf"
RULES = CONF / "prometheus/retryd.rules.yml"
ALERTS = pathlib.Path(__file__).parent / "alerts.yml"
TOKEN = "CANARY-token-0123456789"
ROUNDS = 4
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
# Prometheus makes `up`; the shared view has its own tests, with a Redis server.
NOT_RECORDED = {"up", "retryd_shared_up"}


def promtool(*arguments, **how):
    found = shutil.which("promtool")
    assert found, "promtool is missing: Debian's package prometheus"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60, **how)
    assert done.returncode == 0 and "error" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def one_round(daemon, n):
    """Something of everything that the dashboard shows. Each request that fails does so for good."""
    def send(body=CHAT, *headers, model="gpt-4o", token=TOKEN):
        headers = [*headers, f"Authorization: Bearer {token}"]
        return ask(daemon, body={**body, "model": model}, headers=headers).status

    once = "x-retryd-no-retry: true"
    assert send() == send(STREAM) == send() == 200
    assert send(CHAT, f"x-n: {n}", model="sometimes") == 200
    assert send(CHAT, once, model=f"broken-{n}") == 500
    assert send(token="x" * 20) == 401
    assert send(CHAT, "x-retryd-max-attempts: many") == 400
    send(CHAT, once, model="limited")
    for _ in range(2):
        send(CHAT, model="down")
    assert send(CHAT, model="key") == 200


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory):
    """What a scraper finds in a daemon whose upstreams misbehave in each way that the dashboard shows."""
    folder = tmp_path_factory.mktemp("metrics")
    for name, text in (("tokens", f"alice {TOKEN}\n"), ("keys", "k1\nk2\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    routes = {"strict": {"model": "limited", "upstreams": "one"},
              "all": {"upstreams": "one", "fallback_models": "small"}}
    with house({"one": {"api_key_file": folder / "keys"}}, routes=routes, log={"level": "info"},
               server={"client_keys_file": folder / "tokens"}, breaker={"failures": 2}, queue={"timeout": "10ms"},
               retry={"initial_delay": "1ms"}) as (provider, daemon):
        limited = error(429, headers={"retry-after": "100"})
        provider.rules(on("one", limited, model="limited"), on("one", error(500), model="down"),
                       on("one", error(500), model="broken-*"),
                       on("one", error(503), AUTO, model="sometimes", key_header="x-n"),
                       on("one", error(401, code="invalid_api_key"), AUTO, model="key"),
                       on("one", AUTO))
        texts = []
        for n in range(ROUNDS):
            one_round(daemon, n)
            wait_idle(daemon)
            texts.append(daemon.admin("/metrics")[1])
        yield texts


def parse(text):
    """{(name, labels): value}"""
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found = SAMPLE.match(line)
            samples[found[1], found[2] or ""] = found[3]
    return samples


def names_of(scrapes):
    return {name for name, _ in parse(scrapes[-1])}


def test_promtool_finds_nothing_wrong(scrapes):
    assert promtool("check", "metrics", input=scrapes[-1]) == ""


def test_each_family_is_on_the_page(scrapes):
    page = (CONF.parent / "docs/metrics.md").read_text()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", scrapes[-1], re.MULTILINE):
        assert f"\n| `{name}` | {kind} |" in page


def test_no_secret_is_in_them(scrapes):
    assert "CANARY" not in scrapes[-1] and not re.search(r'"k[12]"', scrapes[-1])


# --- the dashboard and the rules -------------------------------------------------------------------


def dashboard():
    board = json.loads((CONF / "grafana/retryd.json").read_text())
    targets = [t for panel in board["panels"] for t in panel.get("targets", [])]
    assert len(targets) > 40
    return [t["expr"] for t in targets]


def rules():
    return re.findall(r"^ +expr: (.+)$", RULES.read_text(), re.MULTILINE)


def concrete(expression):
    return expression.replace("$__rate_interval", "1m").replace('"$instance"', '".*"')


def evaluate(scrapes, tmp_path, expressions):
    """promtool evaluates each of them over the scrapes, 15 s apart; each has to give 1."""
    rounds = [parse(text) for text in scrapes]
    series = []
    for name, labels in dict.fromkeys(key for samples in rounds for key in samples):
        values = " ".join(samples.get((name, labels), "_") for samples in rounds)
        more = ", ".join(filter(None, [labels, 'job="retryd"', 'instance="a:1"']))
        series.append({"series": f"{name}{{{more}}}", "values": values})
    last = f"{15 * (len(rounds) - 1)}s"
    checks = [{"expr": e, "eval_time": last, "exp_samples": [{"labels": "{}", "value": 1}]} for e in expressions]
    test = {"rule_files": [str(RULES)], "evaluation_interval": "15s",
            "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": checks}]}
    (tmp_path / "recorded.yml").write_text(json.dumps(test))  # YAML's subset
    promtool("test", "rules", str(tmp_path / "recorded.yml"))


def test_each_panel_shows_data(scrapes, tmp_path):
    """None is empty, or has only numbers that are none (0/0)."""
    evaluate(scrapes, tmp_path, [f"count(({concrete(e)}) > -Inf) > bool 0" for e in dashboard()])


def test_each_rule_is_evaluated(scrapes, tmp_path):
    """An alert may find nothing, but its metrics are there."""
    assert len(rules()) == 20
    evaluate(scrapes, tmp_path, [f"count({e}) >= bool 0 or vector(1)" for e in rules()])
    recorded = "|".join(re.findall(r"record: (\S+)", RULES.read_text()))
    for expression in rules() + dashboard():
        used = re.findall(r"\b(?:retryd|process)_\w+|\bup\b", re.sub(recorded, "", expression))
        assert set(used) - NOT_RECORDED <= names_of(scrapes), expression


def test_each_alert_fires_when_it_should_and_only_then():
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(ALERTS))
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = re.findall(r"alertname: (\w+)", ALERTS.read_text())
    assert len(alerts) == 17 and sorted(tested) == sorted(alerts * 2)  # of a daemon that is well, and one that is not


# --- targets ---------------------------------------------------------------------------------------


def test_limits_and_who_waits_for_them():
    with house({"one": {"max_concurrency": 1, "requests_per_minute": 6000}}) as (provider, daemon):
        provider.rules(on("one", {"stall": {"before_head": True}}))
        with Raw(daemon) as first, Raw(daemon) as second:
            first.request(body=CHAT)
            provider.wait(requests=1)
            second.request(body=CHAT)
            place = '{upstream="one",model="gpt-4o",operation="generate",key="0"}'
            assert wait_metric(daemon, "retryd_target_waiting" + place, 1) == 1
            samples = daemon.metrics()
    assert samples["retryd_queue_waiting"] == samples['retryd_target_in_flight{upstream="one"}'] == 1
    assert samples['retryd_target_concurrency_limit{upstream="one"}'] == 1
    assert samples['retryd_rate_limit_per_second{upstream="one"}'] == 100
    assert {f'retryd_{name}{{upstream="one"}}' for name in ("rate_wait_seconds", "budget_requests", "budget_retries")
            } <= set(samples)


# --- connections -----------------------------------------------------------------------------------


def test_connections_and_handshakes_are_counted(retryd, pki):  # noqa: F811
    with provider_with(pki.good) as tls:
        tls.answers(AUTO)
        d = retryd(url_of(tls), upstream_settings={"ca_file": pki.ca})
        for _ in range(3):
            assert ask(d).status == 200
        assert wait_metric(d, "retryd_upstream_reused_total", 2) == 2
        samples = d.metrics()
        assert samples["retryd_upstream_connections_total"] == samples["retryd_upstream_connections_open"] == 1
        assert samples["retryd_upstream_tls_handshakes_total"] == 1
        assert samples["retryd_upstream_tls_handshake_seconds_total"] > 0
        assert samples["retryd_client_connections_total"] == 3


def test_the_process_is_told(retryd):
    samples = retryd("http://127.0.0.1:1/v1").metrics()
    assert samples["process_open_fds"] > 3 and samples["process_max_fds"] > samples["process_open_fds"]
    assert samples["process_resident_memory_bytes"] > 1 << 20 and samples["process_cpu_seconds_total"] > 0
    boot = next(int(line.split()[1]) for line in open("/proc/stat") if line.startswith("btime"))
    assert samples["process_start_time_seconds"] > boot
