"""The status page in Chromium: in six states, with and without its script, and what pages of other origins get.

status_pictures.py makes the pictures of docs/img from the same states.
"""

import re

import pytest
from chromium import Chromium
from status_states import SCRIPT, STATES, state
from test_browser import Pages

HEADS = {"idle": "All is well", "busy": "Riding out a failure", "gate": "Riding out a failure",
         "breaker": "Riding out a failure", "down": "No upstream answers", "reload": "Serving, but needs a look"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("chromium")) as b:
        yield b


def text(page):
    """What stands on it, without times, which differ from look to look."""
    words = page.value("document.body.innerText")
    words = re.sub(r"just now|\d+(\.\d)? (ms|s|min|h)\b( ago)?", "T", words)
    words = re.sub(r"needs \d+ µs|Memory: \d+ MB|\d+ %|minute: T\b|room for \d+|\d+ retr\w+|on \d+ connections?", "N", words)
    return re.sub(r"\s+", " ", words)


@pytest.mark.parametrize("name", STATES)
def test_the_page(name, browser):
    """Complete without its script, and the same with it; nothing runs that is not its own; it fits into 400 px."""
    with state(name) as s:
        plain = browser.page(script=False)
        plain.open(s.url)
        without = text(plain)
        page = browser.page(width=400, dark=name in ("gate", "down"))
        page.open(s.url)
        page.until("document.documentElement.dataset.live")
        assert page.value("document.title") == f"retryd: {HEADS[name]}"
        assert page.value("document.documentElement.scrollWidth") == 400
        page.look(1000, 800, False)
        assert text(page) == without
        assert HEADS[name] in without
        if name != "idle":
            assert SCRIPT in without and page.value("document.querySelectorAll('script').length") == 1
        assert page.problems() == plain.problems() == []
        for p in (page, plain):
            p.close()


def test_it_is_live(browser):
    """A request that is made while it is open appears; what was opened stays open; the keyboard opens it."""
    with state("reload") as s:
        page = browser.page()
        page.open(s.url)
        page.until("document.documentElement.dataset.live")
        rows = page.value("document.querySelectorAll('#history tr').length")
        page.value("document.querySelector('#history summary').focus()")
        page.enter()
        s.one.answers({"preset": "error", "status": 400})
        s.ask("live-model")
        page.until(f"document.querySelectorAll('#history tr').length === {rows + 1}")
        assert "live-model" in page.value("document.querySelector('#history tr').innerText")
        assert page.value("document.querySelectorAll('#history tr')[1].querySelector('details').open") is True
        assert "Attempt 1 went to openai" in page.value("document.querySelectorAll('#history tr')[1].innerText")
        s.daemon.stop()
        page.until("document.title === 'retryd does not answer'")
        page.close()


READ = """(async () => { try { const r = await fetch(%r, {mode: %r, method: %r});
           return [r.type, r.status, await r.text()]; } catch (e) { return e.name; } })()"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_sees_nothing(host, browser):
    """C30: it can neither read nor frame the page, nor be told by its name."""
    with state("idle") as s, Pages() as pages:
        page = browser.page()
        page.open(pages.origin(host) + "/nothing")
        for path in ("", "status.json", "status.txt", "metrics"):
            assert page.value(READ % (s.url + path, "cors", "GET")) == "TypeError"
            assert page.value(READ % (s.url + path, "no-cors", "GET")) == ["opaque", 0, ""]
            assert page.value(READ % (s.url + path, "no-cors", "POST")) == ["opaque", 0, ""]
        assert page.value("""new Promise((done) => { const f = document.createElement('iframe'); f.src = %r;
            f.onload = () => { try { done(f.contentDocument === null); } catch (e) { done(e.name); } };
            document.body.append(f); })""" % s.url) is True
        assert "admin request refused" in s.daemon.log
        page.close()
