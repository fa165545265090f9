#!/usr/bin/env python3
"""Makes the pictures of the status page in docs/img.

    DAEMON_BIN=build/release/retryd PROVIDER_BIN=build/dev/tests/provider/provider tests/sdk/status_pictures.py [FOLDER]

Needs Chromium (chromium-headless-shell or chromium) and pngquant. FOLDER is docs/img by default.
"""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "provider")]

from chromium import Chromium  # noqa: E402
from status_states import state  # noqa: E402

STATES = ("idle", "busy", "gate", "breaker", "down", "reload")
PICTURES = [(state, label, width, label == "dark") for state in STATES
            for label, width in (("light", 900), ("dark", 900), ("narrow", 400))]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1] / "docs/img")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, Chromium(scratch) as browser:
        for name, label, width, dark in PICTURES:
            path = folder / f"status-{name}-{label}.png"
            with state(name) as s:
                page = browser.page(width=width, height=1150 if width > 400 else 900, dark=dark)
                page.open(s.url)
                page.until("document.documentElement.dataset.live")
                page.picture(path, whole=False)
                page.close()
            subprocess.run(["pngquant", "--force", "--strip", "--ext", ".png", "64", path], check=True)
            print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
