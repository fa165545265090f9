"""conf/retryd.conf as a user has it who removed the # of its ready routes; for tests of what stands in docs/clients.md."""

import os
import pathlib
import re

ROOT = pathlib.Path(os.environ["RETRYD_SOURCE_DIR"])
APIS = {"https://api.openai.com/v1": "/openai/v1", "https://api.anthropic.com": "/anthropic",
        "https://generativelanguage.googleapis.com": "/google"}


def sample():
    return (ROOT / "conf/retryd.conf").read_text(encoding="utf-8")


def page():
    return (ROOT / "docs/clients.md").read_text(encoding="utf-8")


def uncommented(text):
    """The sample with the ready routes in force, and nothing else changed."""
    start = text.index("\n# Routes that stand ready")
    return text[:start] + re.sub(r"^#(?=[\[a-z])", "", text[start:], flags=re.MULTILINE)


def ready_config(provider):
    """All three APIs are played by this provider, each below a path of its own; the waits are short."""
    text = uncommented(sample()).replace("\n#url = https://api.openai.com/v1\n", "\nurl = https://api.openai.com/v1\n")
    for url, path in APIS.items():
        assert text.count(f"\nurl = {url}\n") == 1, url
        text = text.replace(f"\nurl = {url}\n", f"\nurl = http://127.0.0.1:{provider.port}{path}\n")
    return text.replace("\n#initial_delay = 1s\n", "\ninitial_delay = 20ms\n")
