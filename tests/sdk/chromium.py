"""Drives Chromium through its pipe of the DevTools protocol (standard library only).

    with Chromium(folder) as browser:
        page = browser.page(width=1000, height=800, dark=True)
        page.open(url)
        page.until("document.title === 'x'")
        assert page.value("document.body.innerText") == "..."
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "chromium-headless-shell"
# Nothing but loopback is asked for anything. Root cannot have the sandbox.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--hide-scrollbars"]


class Chromium:
    """One browser; its pages share it."""

    def __init__(self, folder):
        to_read, self.to = os.pipe()
        self.back, from_write = os.pipe()

        def descriptors():  # 3 and 4 are the protocol's
            os.dup2(to_read, 100)
            os.dup2(from_write, 101)
            os.dup2(100, 3)
            os.dup2(101, 4)

        self.log = open(os.path.join(folder, "chromium.log"), "wb")
        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=descriptors, close_fds=False)
        os.close(to_read)
        os.close(from_write)
        self.numbers = itertools.count(1)
        self.rest = b""
        self.events = []

    def _message(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\0" not in self.rest:
            ready = select.select([self.back], [], [], max(0, deadline - time.monotonic()))[0]
            data = os.read(self.back, 1 << 20) if ready else b""
            if not data:
                raise AssertionError("Chromium does not answer")
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        while True:
            answer = self._message(60)
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def page(self, **how):
        return Page(self, **how)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        self.log.close()


class Page:
    def __init__(self, browser, width=1000, height=800, dark=False, script=True):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.target = target
        self.call("Page.enable")
        self.call("Log.enable")
        self.call("Runtime.enable")
        self.look(width, height, dark)
        if not script:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def look(self, width, height, dark):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        seen = len(self.browser.events)
        self.call("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" and e.get("sessionId") == self.session
                      for e in self.browser.events[seen:]):
            self.browser.events.append(self.browser._message(60))

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, (expression, result)
        return result["result"].get("value")

    def until(self, expression, timeout=60):
        """Waits within the page until it is true."""
        self.value("new Promise((done, failed) => { const end = Date.now() + %d; (function look() { if (%s) done(true);"
                   " else if (Date.now() > end) failed('never true'); else setTimeout(look, 20); })(); })"
                   % (timeout * 1000, expression))

    def enter(self):
        """The key, for whatever has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)

    def problems(self):
        """What the browser complained about: a policy that was broken, an exception."""
        return [e["params"] for e in self.browser.events if e.get("sessionId") == self.session and
                (e.get("method") == "Runtime.exceptionThrown" or
                 e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] == "error")]

    def picture(self, path, whole=True):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
