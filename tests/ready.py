"""conf/retryd.conf as it is when a user has enabled its ready-made routes; for tests of docs/clients.md."""

import os
import pathlib
import re

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
APIS = {"https://api.openai.com/v1": "/openai/v1", "https://api.anthropic.com": "/anthropic",
        "https://generativelanguage.googleapis.com": "/google"}


def sample():
    return (ROOT / "conf/retryd.conf").read_text(encoding="utf-8")


def page():
    return (ROOT / "docs/clients.md").read_text(encoding="utf-8")


def uncommented(text):
    """The sample with the ready-made routes enabled, and nothing else changed."""
    start = text.index("\n# Ready-made routes")
    return text[:start] + re.sub(r"^#(?=[\[a-z])", "", text[start:], flags=re.MULTILINE)


def ready_config(provider):
    """This provider plays all three APIs, each below its own path. The waits are short."""
    text = uncommented(sample()).replace("\n#url = https://api.openai.com/v1\n", "\nurl = https://api.openai.com/v1\n")
    for url, path in APIS.items():
        assert text.count(f"\nurl = {url}\n") == 1, url
        text = text.replace(f"\nurl = {url}\n", f"\nurl = http://127.0.0.1:{provider.port}{path}\n")
    return text.replace("\n#initial_delay = 1s\n", "\ninitial_delay = 20ms\n")
