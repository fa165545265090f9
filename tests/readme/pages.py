"""README.md and the pages of docs/ for the tests in this folder."""

import os
import pathlib
import re

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text()
         for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
README = PAGES["README.md"]


def blocks(language, text):
    """The blocks of that language. Those of clients.md say behind it whose they are, and are tried elsewhere."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table_rows(text):
    """The cells of each row of the tables of a text, heads left out."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            yield [cell.strip() for cell in line.strip("|").split(" |")]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def anchor(heading):
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
