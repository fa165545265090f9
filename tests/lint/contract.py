#!/usr/bin/python3
"""Lists the clauses of docs/contract.md with the code and the tests that claim them.

    tests/lint/contract.py [ROOT]

Prints each clause with its files. lint.py runs the checks below. They find a clause without code or without a test, a
number that is not a clause, and a reference to a document that does not exist.

Code claims a clause if a comment or a message names its number (C7, C18 to C20). A test claims the clauses that its
docstring names. If it names none, the test claims the clause in its module's docstring, if that names only one. A test
in C claims the clauses in its name (c21_...).
"""

import ast
import collections
import pathlib
import re
import sys

PAGE = "docs/contract.md"
HEADING = re.compile(r"^### C(\d+) (.+)$", re.MULTILINE)

# "C7", and "C18 to C20", which names three.
NAMED = re.compile(r"\bC(\d+)(?: to C(\d+))?\b")
IN_A_TEST_NAME = re.compile(r"\bSTART_TEST\((c\d+(?:_c\d+)*)_")
SPEAKS_OF_CLAUSES = re.compile(r"(src|conf|docs|systemd)/|tests/(?!lint/|fuzz/)|[A-Z]+\.md$")

DOCUMENT = re.compile(r"(?<![\w/.:-])[\w./-]*\w\.md\b")
ABSENT = re.compile(r"\b(DESIGN|FACTS|STYLE)\b|\b[Ii]ssues? #?\d+")

Clause = collections.namedtuple("Clause", "number line title")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def numbers(match):
    """Those of a match of NAMED."""
    return range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1)


def clauses(tree):
    return [Clause(int(m.group(1)), line_of(f.text, m.start()), m.group(2))
            for f in tree.files if f.name == PAGE for m in HEADING.finditer(f.text)]


def named(f):
    """(line, number) of each clause that a file names."""
    for m in NAMED.finditer(f.text):
        yield from ((line_of(f.text, m.start()), n) for n in numbers(m))
    for m in IN_A_TEST_NAME.finditer(f.text if f.name.startswith("tests/") else ""):
        yield from ((line_of(f.text, m.start()), int(n)) for n in re.findall(r"c(\d+)", m.group(1)))


def claimed_by_tests(f):
    """The clauses that each test of a Python file claims, one set a test."""
    def told(node):
        return {n for m in NAMED.finditer(ast.get_docstring(node) or "") for n in numbers(m)}

    module = ast.parse(f.text)
    of_all = told(module)
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield told(node) or (of_all if len(of_all) == 1 else set())


def speakers(tree):
    return [f for f in tree.files if SPEAKS_OF_CLAUSES.match(f.name)]


def claims(tree):
    """{number: [file, ...]} of all files that name it, except the page itself."""
    found = collections.defaultdict(list)
    for f in speakers(tree):
        if f.name != PAGE:
            for number in sorted({n for _, n in named(f)}):
                found[number].append(f)
    return found


def black_box_tests(tree):
    """How many tests that drive the real daemon claim each clause."""
    return collections.Counter(n for f in tree.files if re.fullmatch(r"tests/blackbox/test_\w+\.py", f.name)
                               for claimed in claimed_by_tests(f) for n in claimed)


def clauses_in_order(tree):
    """The clauses are numbered from 1, without a gap and without a repetition."""
    for expected, clause in enumerate(clauses(tree), 1):
        if clause.number != expected:
            yield PAGE, clause.line, f"C{clause.number}: C{expected} comes here"
            return


def clauses_claimed(tree):
    """Each clause has code that names it, and a black-box test that claims it."""
    claimed, tests = claims(tree), black_box_tests(tree)
    for clause in clauses(tree):
        if not any(f.name.startswith("src/") for f in claimed[clause.number]):
            yield PAGE, clause.line, f"C{clause.number}: no comment in src/ names it"
        if not tests[clause.number]:
            yield PAGE, clause.line, f"C{clause.number}: no test in tests/blackbox/ names it in its docstring"


def clauses_known(tree):
    """Each number that is named is that of a clause."""
    known = {clause.number for clause in clauses(tree)}
    for f in speakers(tree):
        for line, number in named(f):
            if number not in known:
                yield f.name, line, f"C{number}: there is no such clause in {PAGE}"


def documents_here(tree):
    """Each reference is to a file in this tree, an RFC or an address, not to notes kept elsewhere."""
    here = {f.name for f in tree.files}
    names = {name.rsplit("/", 1)[-1] for name in here}
    for f in tree.files:
        if f.name.startswith(("tests/lint/", "tests/fuzz/corpus/")) or f.suffix == ".json":
            continue
        for line, what in f.grep(ABSENT, f.text):
            yield f.name, line, f"{what}: not in this tree; name an RFC, an API page or an address"
        for number, text in enumerate(f.text.split("\n"), 1):
            for m in DOCUMENT.finditer(text):
                if m.group().rsplit("/", 1)[-1] not in names:
                    yield f.name, number, f"{m.group()}: there is no such document in this tree"


CHECKS = [clauses_in_order, clauses_claimed, clauses_known, documents_here]


def table(tree):
    claimed, tests = claims(tree), black_box_tests(tree)
    for clause in clauses(tree):
        yield f"C{clause.number} {clause.title}"
        for label, folder in (("code", "src/"), ("tests", "tests/")):
            files = [f.name for f in claimed[clause.number] if f.name.startswith(folder)]
            yield f"  {label + ':':<7}" + ("\n" + " " * 9).join(files or ["none"])
        yield f"  black-box tests: {tests[clause.number]}"


def main():
    import lint

    tree = lint.Tree(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    print("\n".join(table(tree)))
    findings = [f"{name}:{line}: {message}" for check in CHECKS for name, line, message in check(tree)]
    print("\n".join(findings), end="\n" if findings else "", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
