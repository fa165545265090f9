"""The rows of docs/failures.md agree with the tests that they name."""

import pathlib
import re
import sys

import pytest
from pages import PAGES, ROOT, names, table_rows

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sdk"))

from stream_rows import HALF, ROWS, TEXT  # noqa: E402

PAGE = PAGES["docs/failures.md"]
ANSWERS, _, STREAMS = PAGE.partition("## Streams\n")


def words(effect):
    """An effect in the words of the page."""
    if effect.kind == "whole":
        told = {TEXT: "the complete response", HALF: "the text so far, as a complete response"}[effect.text]
    else:
        told = {"": "the error", HALF: "the text so far, then the error",
                TEXT: "the complete text, then the error"}[effect.text]
    return told + (f", {effect.attempts} attempts" if effect.attempts > 1 else "")


STREAM_ROWS = list(table_rows(STREAMS))


@pytest.mark.parametrize("row", STREAM_ROWS, ids=[row[0] for row in STREAM_ROWS])
def test_a_stream_does_what_its_tests_show(row):
    _, *effects, tests = row
    assert names(tests)
    for name in names(tests):
        assert [words(effect) for effect in ROWS[name][1]] == effects, name


def test_each_cause_has_its_place():
    told = [name for row in STREAM_ROWS for name in names(row[-1])]
    assert sorted(told) == sorted(ROWS)


def test_the_tests_of_other_responses_exist():
    there = {name for path in (ROOT / "tests/blackbox").glob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    rows = list(table_rows(ANSWERS))
    assert rows and all(names(row[-1]) for row in rows)
    assert {name for row in rows for name in names(row[-1])} - there == set()
