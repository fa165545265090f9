#!/usr/bin/python3
"""Checks the tree's own rules, which neither the compilers nor clang-tidy can check.

    tests/lint/lint.py [ROOT]

Prints one line for each finding, `path:line: what is wrong`, and exits with 1 if there is any. Each check is
a function from a Tree to findings and is listed in CHECKS; test_lint.py shows that each one can fail. The
checks of the contract's clauses are in contract.py.
"""

import collections
import os
import pathlib
import re
import sys

import contract

LAYERS = ["base", "http", "policy", "targets", "stream", "exchange", "edge", "config", "worker", "admin", "daemon", "cli"]

# A library's header, and the only module (its files by prefix) that may include it.
OWNERS = [
    (re.compile(r"microhttpd"), re.compile(r"src/edge/frontend(_[a-z]+)?\.[ch]")),
    (re.compile(r"curl/"), re.compile(r"src/edge/fetch(_[a-z]+)?\.[ch]")),
    (re.compile(r"hiredis/"), re.compile(r"src/edge/redis\.c")),
    (re.compile(r"cJSON\.h"), re.compile(r"src/http/json_tree\.c")),
    (re.compile(r"ini\.h"), re.compile(r"src/config/config[^/]*\.c")),
]

# These take time and randomness as arguments and touch nothing outside.
PURE = ("http", "policy", "targets", "stream")
IMPURE_HEADERS = re.compile(
    r"^(time\.h|unistd\.h|uv\.h|fcntl\.h|poll\.h|pthread\.h|threads\.h|signal\.h|syslog\.h|netdb\.h"
    r"|systemd/|netinet/|arpa/|sys/(?!types\.h)|curl/|microhttpd|hiredis/)")
IMPURE_CALLS = re.compile(
    r"\b(getenv|secure_getenv|clock|clock_gettime|gettimeofday|getrandom|getentropy|random|fopen"
    r"|printf|puts|perror)\s*\(")
LOGGING = re.compile(r"\b(f?printf|v?fprintf|puts|fputs|perror|syslog|sd_journal_\w+)\s*\(")

FORBIDDEN = re.compile(
    r"\b(v?sprintf|strcpy|stpcpy|strcat|strtok|atoi|atol|atoll|atof|rand|srand|time|gets|alloca"
    r"|sleep|usleep)\s*\(")

MAX_FUNCTION = 80
MAX_FILE = 800

WAITS_AND_SKIPS = {
    ".py": re.compile(r"\btime\.sleep\(|\basyncio\.sleep\((?!0\))|\bfrom time import .*\bsleep\b"
                      r"|\bpytest\.(skip|xfail|importorskip)\b|\bmark\.(skip|skipif|xfail)\b"
                      r"|\bunittest\.skip|\bskipTest\("),
    ".c": re.compile(r"\b(sleep|usleep|nanosleep|clock_nanosleep|thrd_sleep)\s*\("),
    ".sh": re.compile(r"(^|[;&|]|\bdo|\bthen)\s*sleep\s"),
    ".js": re.compile(r"\b(test|it|describe)\.(skip|todo)\b|\bt\.skip\("),
    ".mjs": re.compile(r"\b(test|it|describe)\.(skip|todo)\b|\bt\.skip\("),
}
# No tests: the provider delays answers by order, and lint names what it looks for.
NOT_TESTS = ("tests/provider/", "tests/lint/")

LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
TEXT = {".c", ".h", ".py", ".sh", ".js", ".mjs", ".md", ".txt", ".conf", ".service", ".socket", ".json",
        ".cmake", ".html", ".ini", ".toml", ".yml", ".1", ""}
NOT_OURS = {".git", ".cache", "build", "node_modules", "__pycache__", ".pytest_cache"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
C_TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)


def without_comments_and_strings(text):
    """Blanks them out; every other character keeps its line."""
    def blank(match):
        token = match.group()
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        return token[0] + " " * (len(token) - 2) + token[-1]
    return C_TOKEN.sub(blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class File:
    def __init__(self, root, path):
        self.name = path.relative_to(root).as_posix()
        self.suffix = path.suffix
        self.text = path.read_text(errors="replace")
        self.code = without_comments_and_strings(self.text) if self.suffix in (".c", ".h") else self.text
        self.folder = self.name.split("/")[1] if self.name.startswith("src/") else None
        # (line, is it a system header, name), includes in comments left out
        self.includes = [
            (line_of(self.text, m.start()), m.group(1) == "<", m.group(2))
            for m in INCLUDE.finditer(self.text) if self.code[m.start():m.end()].strip()
        ] if self.suffix in (".c", ".h") else []

    def grep(self, pattern, text=None):
        for number, line in enumerate((self.code if text is None else text).split("\n"), 1):
            match = pattern.search(line)
            if match:
                yield number, match.group().strip()


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = [File(self.root, p) for p in sorted(self.paths())
                      if p.is_file() and not p.is_symlink() and p.suffix in TEXT]

    def paths(self):
        """Folders that are not ours are not entered: a whole system may be coming and going there."""
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in NOT_OURS]
            yield from (pathlib.Path(folder, name) for name in names if name not in NOT_OURS)

    def sources(self):
        return [f for f in self.files if f.name.startswith("src/") and f.suffix in (".c", ".h")]


def layers(tree):
    """A folder of src/ includes only itself and the folders below it."""
    for f in tree.sources():
        if f.folder not in LAYERS:
            yield f.name, 1, f"src/{f.folder}/ is not a layer ({', '.join(LAYERS)})"
            continue
        for line, system, name in f.includes:
            if system:
                continue
            layer = name.split("/")[0]
            if layer not in LAYERS:
                yield f.name, line, f'"{name}": write the path from src/, as "{f.folder}/{name}"'
            elif LAYERS.index(layer) > LAYERS.index(f.folder):
                yield f.name, line, f'{f.folder}/ must not know {layer}/: "{name}"'


def library_owners(tree):
    """One file alone knows each big library."""
    for f in tree.sources():
        for line, _, name in f.includes:
            for header, owner in OWNERS:
                if header.match(name) and not owner.fullmatch(f.name):
                    yield f.name, line, f"only {owner.pattern} may include <{name}>"


def edges_apart(tree):
    """The edges do not know each other."""
    edges = ("frontend", "fetch", "redis", "spool")
    for f in tree.sources():
        for line, _, name in f.includes:
            for here in edges:
                for there in edges:
                    if (here != there and f.name.startswith(f"src/edge/{here}")
                            and name.startswith(f"edge/{there}")):
                        yield f.name, line, f"edge/{here} must not know edge/{there}"


def no_logging_below(tree):
    """What stands below an exchange never logs."""
    for f in tree.sources():
        if f.folder not in ("base", *PURE) or f.name.startswith("src/base/log"):
            continue
        for line, _, name in f.includes:
            if name == "base/log.h":
                yield f.name, line, f"{f.folder}/ never logs"
        for line, what in f.grep(LOGGING):
            yield f.name, line, f"{f.folder}/ never logs or prints: {what}"


def pure(tree):
    """Rules and readers have no clock, no I/O, no environment and no state of their own."""
    variable = re.compile(r"^(?:static|extern|_Thread_local)\b(?!.*\bconst\b)(?!.*\()[^;={]*[;=]")
    for f in tree.sources():
        if f.folder not in PURE:
            continue
        for line, system, name in f.includes:
            if system and IMPURE_HEADERS.match(name):
                yield f.name, line, f"{f.folder}/ is pure: no <{name}>"
        for line, what in f.grep(IMPURE_CALLS):
            yield f.name, line, f"{f.folder}/ is pure: {what}"
        for line, what in f.grep(variable):
            yield f.name, line, f"{f.folder}/ has no state of its own: {what}"


def forbidden_functions(tree):
    """Calls that overflow, guess, hide state or stall the loop."""
    for f in tree.sources():
        for line, what in f.grep(FORBIDDEN):
            yield f.name, line, f"forbidden: {what}"


def function_length(tree):
    """No function is over 80 lines."""
    for f in tree.files:
        if f.suffix != ".c":
            continue
        start = None
        for number, line in enumerate(f.code.split("\n"), 1):
            if line.startswith("{"):
                start = number
            elif line.startswith("}") and start is not None:
                if number - start - 1 > MAX_FUNCTION:
                    yield f.name, start, f"a function of {number - start - 1} lines, over {MAX_FUNCTION}"
                start = None


def file_length(tree):
    """No source file is over 800 lines."""
    for f in tree.sources():
        lines = f.text.count("\n")
        if lines > MAX_FILE:
            yield f.name, lines, f"{lines} lines, over {MAX_FILE}: split it"


def opening_sentence(tree):
    """A source file opens with one plain sentence on what it is."""
    for f in tree.sources():
        if not f.text.startswith("/*"):
            yield f.name, 1, "open with a comment: one plain sentence on what this file is"


def leftovers(tree):
    """Nothing is left for later in a comment."""
    for f in tree.files:
        if f.name.startswith("tests/lint/"):
            continue
        for line, what in f.grep(LEFTOVERS, f.text):
            yield f.name, line, f"{what}: do it or open an issue"


def waits_and_skips(tree):
    """A test waits for what it needs (a log line, a metric, a byte) and is never skipped."""
    for f in tree.files:
        pattern = WAITS_AND_SKIPS.get(f.suffix)
        if pattern and f.name.startswith("tests/") and not f.name.startswith(NOT_TESTS):
            for line, what in f.grep(pattern):
                yield f.name, line, f"no sleeps and no skips in tests: {what}"


def unit_tests_placed(tree):
    """A unit test is in the folder of the layer that it tests, or in support/: the build looks nowhere else."""
    for f in tree.files:
        parts = f.name.split("/")
        if parts[:2] == ["tests", "unit"] and (len(parts) != 4 or parts[2] not in (*LAYERS, "support")):
            yield f.name, 1, "not in the folder of a layer, nor in support/"


def include_cycles(tree):
    """No header reaches itself through its includes."""
    graph = {f.name[len("src/"):]: [n for _, system, n in f.includes if not system]
             for f in tree.sources()}
    done, path = set(), []

    def visit(name):
        if name in path:
            yield path[path.index(name):] + [name]
        elif name in graph and name not in done:
            path.append(name)
            for other in graph[name]:
                yield from visit(other)
            path.pop()
            done.add(name)

    for name in sorted(graph):
        for cycle in visit(name):
            yield "src/" + cycle[0], 1, "include cycle: " + " > ".join(cycle)


def one_name_one_struct(tree):
    """No two structs have one name."""
    first = {}
    for f in tree.sources():
        for found in re.finditer(r"^struct (\w+) \{", f.code, re.MULTILINE):
            if found[1] in first:
                yield f.name, line_of(f.code, found.start()), f"struct {found[1]} is another one in {first[found[1]]}"
            first.setdefault(found[1], f.name)


# Only tests ask for these, and could not tell without them.
FOR_TESTS = {"shared_why_down", "exchange_state_word"}


def exports_needed(tree):
    """What a header offers is used: by another file of src/, or by its own and a test."""
    declared = re.compile(r"^(?!static\b|typedef\b|return\b|[#\s}])[\w \t*]*?\b(\w+)\([^;{}]*\)\s*;",
                          re.MULTILINE)
    files = {f.name: (f, set(re.findall(r"\w+", f.code)), f.code)
             for f in tree.files if f.suffix in (".c", ".h")}
    for name, (header, _, code) in files.items():
        if not name.startswith("src/") or not name.endswith(".h"):
            continue
        for found in declared.finditer(code):
            what = found[1]
            if what in FOR_TESTS:
                continue
            users = [n for n, (_, words, _) in files.items() if what in words and n != name]
            ours = [n for n in users if n.startswith("src/") and n.endswith(".c")]
            if (len(ours) > 1 or any(n.startswith("src/") and n.endswith(".h") for n in users)
                    or len(re.findall(rf"\b{what}\b", code)) > 1): # an inline function there calls it
                continue
            called = sum(len(re.findall(rf"\b{what}\b", files[n][2])) for n in ours) > 1
            if not called:
                yield name, line_of(code, found.start(1)), f"{what}: nothing in src/ uses it"
            elif len(users) == len(ours):
                yield name, line_of(code, found.start(1)), f"{what}: only its own file uses it: make it static"


def names_needed(tree):
    """A macro of a header, and a member of a struct, is used somewhere."""
    uses = collections.Counter(w for f in tree.files if f.suffix in (".c", ".h") for w in re.findall(r"\w+", f.code))
    for f in tree.sources():
        macros = re.finditer(r"^#define (\w+)", f.code, re.MULTILINE) if f.suffix == ".h" else ()
        members = [(found.start(1) + member.start(1), member[1])
                   for found in re.finditer(r"^struct(?: \w+)? \{(.*?)^\}", f.code, re.MULTILINE | re.DOTALL)
                   for member in re.finditer(r"\b(\w+)(?:\[[^\]]*\])*\s*[,;]", found[1])]
        for at, name in [*((m.start(1), m[1]) for m in macros), *members]:
            if uses[name] == 1:
                yield f.name, line_of(f.code, at), f"{name}: nothing uses it"


# The prefixes of a file's functions that are neither its folder's name nor begin its own.
PREFIXES = {
    "src/base/hash.c": ["fingerprint"],        # of texts that arrive in pieces
    "src/worker/access_log.c": ["steps"],      # the lines at level = debug
    "src/worker/access_log.h": ["steps"],
    "src/worker/history.c": ["story"],
    "src/worker/metrics.h": ["peak"],
    "src/config/pem.c": ["bundle"],            # copies of what the files hold
    "src/daemon/reload.c": ["rotation"],       # of the log file
    "src/exchange/exchange.c": ["attempt"],    # of attempt.h
    "src/exchange/failures.c": ["repeat"],     # what an exchange asks of them
    "src/exchange/stream.c": ["mending"],
    "src/http/decode.c": ["decoder"],
    "src/http/dialect.c": ["operation"],
    "src/http/dialect.h": ["operation"],
    "src/http/credentials.c": ["tokens"],
    "src/http/message.c": ["headers"],
    "src/http/message.h": ["headers"],
    "src/policy/retry.c": ["backoff", "move"],
    "src/targets/pace.c": ["rate"],
    "src/targets/target.h": ["plan"],
}


def module_prefixes(tree):
    """A function that other files can call begins with the first word of its file's name, or its folder's."""
    defined = re.compile(r"^(static inline )?(?!static\b|typedef\b|extern\b)[a-z][\w \t*]*?\b(\w+)\([^;{}]*\)\s*\{",
                         re.MULTILINE)
    for f in tree.sources():
        stem = f.name.split("/")[-1].split(".")[0]
        words = [stem.split("_")[0], f.folder, *PREFIXES.get(f.name, [])]
        for found in defined.finditer(f.code):
            inline, name = found[1], found[2]
            if name != "main" and bool(inline) <= (f.suffix == ".h") and name.split("_")[0] not in words:
                yield (f.name, line_of(f.code, found.start(2)),
                       f"{name}: begin it with {words[0]}_, or make it static, or add its prefix to PREFIXES")


CHECKS = [layers, library_owners, edges_apart, no_logging_below, pure, forbidden_functions,
          function_length, file_length, opening_sentence, leftovers, waits_and_skips, unit_tests_placed,
          include_cycles, one_name_one_struct, exports_needed, names_needed, module_prefixes, *contract.CHECKS]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]
    tree = Tree(root)
    findings = [f"{name}:{line}: {message} [{check.__name__}]"
                for check in CHECKS for name, line, message in check(tree)]
    for finding in findings:
        print(finding)
    print(f"lint: {len(CHECKS)} checks, {len(tree.files)} files, {len(findings)} findings",
          file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
