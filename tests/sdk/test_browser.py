"""C30 in a real browser: a page of an allowed origin uses retryd as a program does; other pages can do nothing.

Chromium runs page.mjs, one page for each origin. The page reports to its own server what the browser lets it see.
tests/blackbox/test_web_pages.py tests the headers that the daemon sends.
"""

import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading
import urllib.parse

import pytest
from client import Provider
from conftest import ANSWER, GOOD, failing, header
from daemon import Retryd

HERE = pathlib.Path(__file__).resolve().parent
SDK = pathlib.Path(os.environ["SDK_DIR"]) / "node7/node_modules/openai"
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "chromium-headless-shell"
# Nothing but loopback is asked for anything. Root cannot have the sandbox.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--remote-debugging-port=0"]

# Where the SDK's files are, as its package.json tells a bundler for the browser.
IMPORTS = {"openai": "/openai/index.mjs",
           **{name: "/openai/" + where["browser"]["import"].removeprefix("./") for name, where
              in json.loads((SDK / "package.json").read_text(encoding="utf-8"))["imports"].items()}}
PAGE = f"""<!doctype html><meta charset="utf-8"><title>page</title>
<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>
<body><script type="module" src="/page.mjs"></script></body>
"""

READS = ["chat", "stream", "error", "ours", "refused", "sdk-chat", "sdk-stream", "sdk-broken", "sdk-ours"]
SENDS = ["plain", "opaque", "opaque-get", "image", "script", "form", "socket"]

BROKEN = {"preset": "auto", "text": "aabbccdd", "events": 4, "cut": {"after_deltas": 2, "delay_ms": 400}}
DEAD = {"cut": {"before_head": True}}
ANSWERS = {"chat": [failing(503), {**GOOD, "headers": {"x-request-id": "req_page"}}], "error": [failing(400, "no_such")],
           "ours": [DEAD], "sdk-chat": [failing(503), GOOD], "sdk-broken": [BROKEN], "sdk-ours": [DEAD]}


class Pages(http.server.ThreadingHTTPServer):
    """A site of pages, and what they told it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.told = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def origin(self, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}"

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if path == "/page":
            self.answer("text/html", PAGE.encode())
        elif path == "/page.mjs":
            self.answer("text/javascript", (HERE / "page.mjs").read_bytes())
        elif path.startswith("/openai/") and (SDK / path.removeprefix("/openai/")).is_file():
            self.answer("text/javascript", (SDK / path.removeprefix("/openai/")).read_bytes())
        else:
            self.send_error(404)

    def do_POST(self):
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer("text/plain", b"")

    def log_message(self, *_):
        pass


def visit(url, pages, folder):
    """Opens a page in a browser of its own: what it told."""
    with open(folder / "chromium.log", "w+", encoding="utf-8") as log:
        browser = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", url],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return pages.told.get(timeout=100)
        except queue.Empty:
            log.seek(0)
            raise AssertionError(f"the page told nothing; Chromium said\n{log.read()[-4000:]}") from None
        finally:
            browser.terminate()
            browser.wait()


class Visit:
    """One page of an origin on a daemon of its own: told, the provider's record, the daemon's requests."""

    def __init__(self, folder, host, allowed, calls):
        with Pages() as pages, Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider:
            server = {"allowed_origins": pages.origin() if allowed else "https://app.example"}
            retry = {"initial_delay": "20ms", "max_attempts": 3}
            with Retryd(provider.base_url, server=server, retry=retry) as daemon:
                provider.rules(*({"match": {"model": name}, "answers": answers} for name, answers in ANSWERS.items()),
                               default=GOOD)
                job = urllib.parse.quote(json.dumps({"base": daemon.base_url, "calls": calls}))
                self.told = visit(f"{pages.origin(host)}/page?job={job}", pages, folder)
                self.record = provider.record()
                self.refused = daemon.log.count("is not in allowed_origins") + daemon.log.count("of other sites")
                self.log = daemon.log

    def attempts(self, model):
        return [r for r in self.record if r["body"] and json.loads(r["body"])["model"] == model]


@pytest.fixture(scope="module")
def allowed(tmp_path_factory):
    return Visit(tmp_path_factory.mktemp("allowed"), "127.0.0.1", True, [*READS, "plain"])


# The same machine under the same name, and one that the browser takes for another site.
@pytest.fixture(scope="module", params=["127.0.0.1", "localhost"], ids=["same-site", "cross-site"])
def elsewhere(request, tmp_path_factory):
    return Visit(tmp_path_factory.mktemp("elsewhere"), request.param, False, [*READS, *SENDS])


def test_an_allowed_page_reads_answers_and_all_their_fields(allowed):
    told = allowed.told["chat"]
    assert told["status"] == 200 and json.loads(told["body"])["choices"][0]["message"]["content"] == ANSWER
    assert told["headers"]["x-retryd-attempts"] == "2" and told["headers"]["x-request-id"] == "req_page"
    assert {"x-retryd-wait-ms", "x-retryd-target", "proxy-status"} <= set(told["headers"])


def test_an_allowed_page_sends_its_own_fields(allowed):
    """The browser asked first, and the upstream heard nothing of that."""
    attempts = allowed.attempts("chat")
    assert header(attempts, "authorization") == ["Bearer sk-page"] * 2
    assert header(attempts, "x-custom") == ["1"] * 2
    assert {r["method"] for r in allowed.record} == {"POST"}


def test_an_allowed_page_reads_streams(allowed):
    told = allowed.told["stream"]
    assert told["status"] == 200 and told["headers"]["content-type"].startswith("text/event-stream")
    assert told["headers"]["x-retryd-attempts"] == "1" and told["body"].endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("call, status, code", [("error", 400, "no_such"), ("ours", 502, "connection_lost"),
                                                ("refused", 404, "no_route")])
def test_an_allowed_page_reads_errors(call, status, code, allowed):
    """retryd's own among them."""
    told = allowed.told[call]
    assert (told["status"], json.loads(told["body"])["error"]["code"]) == (status, code)
    assert told["headers"]["x-should-retry"] == "false" or call != "ours"


def test_the_sdk_works_in_an_allowed_page(allowed):
    assert allowed.told["sdk-chat"] == allowed.told["sdk-stream"] == {"text": ANSWER}
    assert len(allowed.attempts("sdk-chat")) == 2
    assert allowed.told["sdk-broken"] == {"text": "aabb", "isAPIError": True, "code": "answer_truncated"}


def test_the_sdk_in_a_page_makes_no_request_again(allowed):
    """C8: It can read x-should-retry, and so is told the reason."""
    assert allowed.told["sdk-ours"] == {"status": 502, "code": "connection_lost", "attempts": "3",
                                        "name": "InternalServerError"}
    assert len(allowed.attempts("sdk-ours")) == 3


def test_what_needs_no_preflight_is_read_too(allowed):
    assert allowed.told["plain"]["status"] == 200


@pytest.mark.parametrize("call", [*READS, "plain"])
def test_another_page_reads_nothing(call, elsewhere):
    told = elsewhere.told[call]
    assert told in ({"refused": "TypeError"}, {"text": "", "isAPIError": True}, {"name": "APIConnectionError"},
                    {"refused": "APIConnectionError"}), told


@pytest.mark.parametrize("call, told", [
    ("opaque", {"type": "opaque", "status": 0, "body": ""}), ("opaque-get", {"type": "opaque", "status": 0, "body": ""}),
    ("image", {"event": "error"}), ("form", {"read": None}), ("socket", {"event": "error"})])
def test_another_page_is_told_no_more_than_any_refusal(call, told, elsewhere):
    assert elsewhere.told[call] == told


def test_another_page_does_nothing(elsewhere):
    """Not one of its requests went on, and each that reached the daemon was refused there."""
    assert elsewhere.record == []
    assert elsewhere.refused > 0, elsewhere.log
