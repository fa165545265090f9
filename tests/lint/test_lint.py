"""Every check of lint.py fails on a wrong snippet, passes a correct one, and passes the tree."""

import json
import pathlib

import contract
import lint
import pytest
import unused

ROOT = pathlib.Path(__file__).parents[2]
OPEN = "/* A file. */\n"


def findings(tmp_path, check, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(check(lint.Tree(tmp_path)))


def long_function(lines):
    return "int f(void)\n{\n" + "    g();\n" * lines + "}\n"


TEST = 'def test_{}():\n    """{}"""\n'
PAGE = {"docs/contract.md": "### C1 One\n\n### C2 Two\n"}
CLAIMED = {"src/edge/a.h": "/* A file (C1). */\n", "src/edge/b.h": "/* Another (C2). */\n",
           "tests/blackbox/test_a.py": '"""C1: one."""\n' + TEST.format("a", "") + TEST.format("b", "C1, C2: both.")}

BAD = [
    (lint.layers, {"src/base/a.c": '#include "policy/hint.h"\n'}),
    (lint.layers, {"src/policy/a.h": '#include "exchange/exchange.h"\n'}),
    (lint.layers, {"src/exchange/a.c": '#  include "edge/spool.h"\n'}),
    (lint.layers, {"src/edge/a.c": '#include "daemon/config.h"\n'}),
    (lint.layers, {"src/edge/a.c": '#include "spool.h"\n'}),
    (lint.layers, {"src/edge/a.c": '#include "../daemon/config.h"\n'}),
    (lint.layers, {"src/util/a.c": ""}),
    (lint.library_owners, {"src/edge/admin.c": "#include <microhttpd.h>\n"}),
    (lint.library_owners, {"src/edge/frontier.c": "#include <microhttpd.h>\n"}),
    (lint.library_owners, {"src/edge/frontend.c": "#include <curl/curl.h>\n"}),
    (lint.library_owners, {"src/worker/worker.c": "#include <curl/multi.h>\n"}),
    (lint.library_owners, {"src/cli/main.c": "#include <ini.h>\n"}),
    (lint.library_owners, {"src/policy/apierror.c": "#include <cJSON.h>\n"}),
    (lint.library_owners, {"src/daemon/shared.c": "#include <hiredis/hiredis.h>\n"}),
    (lint.edges_apart, {"src/edge/frontend.c": '#include "edge/fetch.h"\n'}),
    (lint.edges_apart, {"src/edge/fetch.c": '#include "edge/frontend.h"\n'}),
    (lint.edges_apart, {"src/edge/redis.c": '#include "edge/fetch.h"\n'}),
    (lint.no_logging_below, {"src/base/buf.c": '#include "base/log.h"\n'}),
    (lint.no_logging_below, {"src/policy/hint.c": '#include "base/log.h"\n'}),
    (lint.no_logging_below, {"src/policy/hint.c": 'void f(void) { fprintf(stderr, "x"); }\n'}),
    (lint.no_logging_below, {"src/base/buf.c": 'void f(void) { syslog(1, "x"); }\n'}),
    (lint.pure, {"src/policy/hint.c": "#include <time.h>\n"}),
    (lint.pure, {"src/policy/hint.h": "#include <sys/socket.h>\n"}),
    (lint.pure, {"src/policy/hint.c": "#include <unistd.h>\n"}),
    (lint.pure, {"src/policy/hint.c": "#include <uv.h>\n"}),
    (lint.pure, {"src/policy/hint.c": 'void f(void) { getenv("X"); }\n'}),
    (lint.pure, {"src/policy/hint.c": "void f(void) { clock_gettime(0, &t); }\n"}),
    (lint.pure, {"src/policy/hint.c": "static int calls;\n"}),
    (lint.pure, {"src/policy/hint.c": "static struct x last = {0};\n"}),
    *[(lint.forbidden_functions, {"src/edge/a.c": f"void f(void) {{ {call}; }}\n"}) for call in (
        "sprintf(b, s)", "vsprintf(b, s, a)", "strcpy(a, b)", "strcat(a, b)", "strtok(a, b)",
        "atoi(s)", "atof(s)", "rand()", "time(NULL)", "sleep(1)", "x = time (0)")],
    (lint.function_length, {"src/edge/a.c": long_function(81)}),
    (lint.function_length, {"tests/unit/test_a.c": long_function(81)}),
    (lint.file_length, {"src/edge/a.c": "\n" * 801}),
    (lint.opening_sentence, {"src/edge/a.c": "#include <stdio.h>\n"}),
    (lint.leftovers, {"src/edge/a.c": "/* TODO: later */\n"}),
    (lint.leftovers, {"tests/blackbox/test_a.py": "# FIXME\n"}),
    (lint.leftovers, {"dev": "# XXX\n"}),
    (lint.leftovers, {"README.md": "TODO\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "time.sleep(1)\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "await asyncio.sleep(0.1)\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "from time import monotonic, sleep\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "@pytest.mark.skipif(True)\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "pytest.skip('no')\n"}),
    (lint.waits_and_skips, {"tests/sdk/conftest.py": "openai = pytest.importorskip('openai')\n"}),
    (lint.waits_and_skips, {"tests/unit/test_a.c": "void f(void) { usleep(10); }\n"}),
    (lint.waits_and_skips, {"tests/service/a.sh": "start & sleep 1\n"}),
    (lint.waits_and_skips, {"tests/sdk/node4/a.mjs": "test.skip('x')\n"}),
    (lint.unit_tests_placed, {"tests/unit/test_a.c": ""}),
    (lint.unit_tests_placed, {"tests/unit/edges/test_a.c": ""}),
    (lint.include_cycles, {"src/base/a.h": '#include "base/b.h"\n',
                           "src/base/b.h": '#include "base/c.h"\n',
                           "src/base/c.h": '#include "base/a.h"\n'}),
    (lint.include_cycles, {"src/base/a.h": '#include "base/a.h"\n'}),
    (lint.one_name_one_struct, {"src/base/a.c": "struct a {\n};\n", "src/base/b.c": "struct a {\n};\n"}),
    (lint.names_needed, {"src/base/a.h": "#define A_MAX 2 /* of A_MAX */\n"}),
    (lint.names_needed, {"src/base/a.c": "struct a {\n    int used, unused;\n};\nint f(struct a *a)\n{\n"
                                         "    return a->used;\n}\n"}),
    (lint.exports_needed, {"src/base/a.h": "int a_get(int\n n);\n", "src/base/a.c": "int a_get(int n)\n{\n}\n"}),
    (lint.exports_needed, {"src/base/a.h": "void a_get(void);\n", "src/base/a.c": "void a_get(void)\n{\n}\n",
                           "tests/unit/base/test_a.c": "a_get();\n"}),
    (lint.exports_needed, {"src/base/a.h": "void a_get(void);\n",
                           "src/base/a.c": "void a_get(void)\n{\n}\nvoid b(void)\n{\n a_get();\n}\n"}),
    (lint.module_prefixes, {"src/base/a.c": "int get(int n)\n{\n}\n"}),
    (lint.module_prefixes, {"src/base/a_b.c": "struct x *b_get(int\n n)\n{\n}\n"}),
    (lint.module_prefixes, {"src/base/a.h": "static inline int get(void)\n{\n}\n"}),
    (lint.module_prefixes, {"src/policy/retry.c": "int decoder_get(void)\n{\n}\n"}),
    (contract.clauses_in_order, {"docs/contract.md": "### C1 One\n### C3 Three\n"}),
    (contract.clauses_in_order, {"docs/contract.md": "### C1 One\n### C1 Again\n"}),
    (contract.clauses_in_order, {"docs/contract.md": "### C0 None\n### C1 One\n"}),
    (contract.clauses_claimed, {**PAGE, **CLAIMED, "src/edge/b.h": OPEN}),
    (contract.clauses_claimed, {**PAGE, **CLAIMED, "tests/blackbox/test_a.py": TEST.format("a", "C1.")}),
    # A module that speaks of several does not say which test holds which, and a unit test does not drive the daemon.
    (contract.clauses_claimed, {**PAGE, **CLAIMED, "tests/blackbox/test_a.py":
                                '"""C1, C2: both."""\n' + TEST.format("a", "C1.") + TEST.format("b", "No clause."),
                                "tests/blackbox/cases.py": TEST.format("a", "C2."),
                                "tests/unit/test_a.c": "START_TEST(c02_b)\n"}),
    (contract.clauses_known, {**PAGE, "src/edge/a.h": "/* A file (C3). */\n"}),
    (contract.clauses_known, {**PAGE, "src/edge/a.c": 'log("not in force (C0)");\n'}),
    (contract.clauses_known, {**PAGE, "docs/configuration.md": "C2 to C3\n"}),
    (contract.clauses_known, {**PAGE, "README.md": "(C31)\n"}),
    (contract.clauses_known, {**PAGE, "conf/retryd.conf": "# Later (C4)\n"}),
    (contract.clauses_known, {**PAGE, "tests/blackbox/test_a.py": '"""C3: what is not there."""\n'}),
    (contract.clauses_known, {**PAGE, "tests/blackbox/test_a.py": TEST.format("a", "C2 to C3.")}),
    (contract.clauses_known, {**PAGE, "tests/unit/test_a.c": "START_TEST(c3_a)\n"}),
    (contract.documents_here, {"src/edge/a.h": "/* As DESIGN says. */\n"}),
    (contract.documents_here, {"src/edge/a.h": "/* curl issue 11920 */\n"}),
    (contract.documents_here, {"tests/blackbox/test_a.py": "# FACTS of the API\n"}),
    (contract.documents_here, {"docs/a.md": "See [there](other.md#part).\n"}),
    (contract.documents_here, {"README.md": "See docs/other.md.\n"}),
]

GOOD = [
    (lint.layers, {"src/exchange/a.c": OPEN + '#include "exchange/a.h"\n#include "policy/hint.h"\n'
                                              '#include "base/buf.h"\n#include <uv.h>\n'}),
    (lint.layers, {"src/base/a.c": '/* #include "policy/hint.h" */\n'}),
    (lint.library_owners, {"src/edge/frontend.c": "#include <microhttpd.h>\n",
                           "src/edge/frontend_private.h": "#include <microhttpd.h>\n",
                           "src/edge/fetch.c": "#include <curl/curl.h>\n",
                           "src/edge/redis.c": "#include <hiredis/read.h>\n",
                           "src/config/config_file.c": "#include <ini.h>\n"}),
    (lint.edges_apart, {"src/edge/frontend.c": '#include "edge/frontend.h"\n'}),
    (lint.no_logging_below, {"src/base/log.c": '#include "base/log.h"\nvoid f(void) { fputs(s, f); }\n',
                             "src/base/str.c": "void f(void) { snprintf(b, n, s); }\n",
                             "src/exchange/a.c": '#include "base/log.h"\n'}),
    (lint.pure, {"src/policy/hint.c": "#include <stdint.h>\n#include <sys/types.h>\n"
                                             "static const int days[] = {31};\n"
                                             "static int parse(int a);\n"}),
    (lint.forbidden_functions, {"src/edge/a.c": '/* time( */ char *s = "sprintf(";\n'
                                                "void f(void) { snprintf(b, 1, s); uptime(1); }\n"}),
    (lint.function_length, {"src/edge/a.c": long_function(80)}),
    (lint.file_length, {"src/edge/a.c": "\n" * 800}),
    (lint.opening_sentence, {"src/edge/a.c": OPEN}),
    (lint.one_name_one_struct, {"src/base/a.c": "struct a {\n};\n", "src/base/b.c": "struct a;\nstruct b {\n};\n"}),
    (lint.exports_needed, {"src/base/a.h": "void a_get(void);\n/* void a_put(void); */\n",
                           "src/base/a.c": "void a_get(void)\n{\n}\n",
                           "src/base/b.c": "void f(void)\n{\n a_get();\n}\n"}),
    (lint.exports_needed, {"src/base/a.h": "void a_get(void);\n",
                           "src/base/a.c": "void a_get(void)\n{\n}\nstatic void b(void)\n{\n a_get();\n}\n",
                           "tests/unit/base/test_a.c": "a_get();\n"}),
    (lint.module_prefixes, {"src/base/a_b.c": "int a_get(int n)\n{\n}\nstatic int get(void)\n{\n}\nint base_get(void)\n{\n}\n",
                            "src/base/a.h": "static inline int a_b(void)\n{\n}\nint other(void);\n",
                            "src/policy/retry.c": "int backoff_get(void)\n{\n}\n",
                            "src/cli/main.c": "int main(void)\n{\n}\n"}),
    (lint.names_needed, {"src/base/a.h": "#define A_MAX 2\n\nstruct a {\n    int many[A_MAX];\n};\n",
                         "src/base/a.c": "#define A_SYSTEM\nint f(struct a *a)\n{\n    return a->many[0];\n}\n"}),
    (lint.leftovers, {"src/edge/a.c": "/* nothing to do */\n", "build/x.c": "/* TODO */\n"}),
    (lint.waits_and_skips, {"tests/blackbox/test_a.py": "await asyncio.sleep(0)\n",
                            "tests/provider/main.c": "nanosleep(&t, NULL);\n"}),
    (lint.unit_tests_placed, {"tests/unit/edge/test_a.c": "", "tests/unit/support/unit.c": ""}),
    (lint.include_cycles, {"src/base/a.h": '#include "base/b.h"\n', "src/base/b.h": "",
                           "src/base/c.h": '#include "base/b.h"\n#include "base/a.h"\n'}),
    (contract.clauses_in_order, PAGE),
    (contract.clauses_claimed, {**PAGE, **CLAIMED}),
    (contract.clauses_claimed, {**PAGE, **CLAIMED, "src/edge/a.h": "/* C1 to C2 */\n", "src/edge/b.h": OPEN}),
    (contract.clauses_known, {**PAGE, **CLAIMED, "src/base/a.c": "int C3_MAX, xC3;\n", "tests/lint/a.py": "# C3\n",
                              "tests/unit/test_c.c": "START_TEST(count_3)\n"}),
    (contract.documents_here, {"docs/a.md": "[b](b.md), [c](../src/README.md#d), https://example.org/e.md\n",
                               "docs/b.md": "RFC 9110, https://github.com/curl/curl/issues/11920\n",
                               "src/README.md": "docs/a.md, *.md\n", "tests/lint/a.py": "# DESIGN.md\n"}),
]


def name_of(case):
    return f"{case[0].__name__}-{'-'.join(case[1])}"


@pytest.mark.parametrize("check, files", BAD, ids=map(name_of, BAD))
def test_check_fails_on_bad_snippet(tmp_path, check, files):
    assert len(findings(tmp_path, check, files)) == 1


@pytest.mark.parametrize("check, files", GOOD, ids=map(name_of, GOOD))
def test_check_passes_good_snippet(tmp_path, check, files):
    assert findings(tmp_path, check, files) == []


def test_contract_prints_each_clause_with_what_claims_it(tmp_path, capsys, monkeypatch):
    findings(tmp_path, contract.clauses_claimed, {**PAGE, **CLAIMED, "src/edge/b.h": OPEN})
    monkeypatch.setattr("sys.argv", ["contract.py", str(tmp_path)])
    assert contract.main() == 1
    told = capsys.readouterr()
    assert told.out == """\
C1 One
  code:  src/edge/a.h
  tests: tests/blackbox/test_a.py
  black-box tests: 2
C2 Two
  code:  none
  tests: tests/blackbox/test_a.py
  black-box tests: 1
"""
    assert told.err == "docs/contract.md:3: C2: no comment in src/ names it\n"


def test_unused_finds_what_main_cannot_reach(tmp_path):
    files = {"src/a.h": "int a_used(void);\nint a_unused(void);\nint a_only_there(void);\nextern int a_count;\n"
                        "static inline int a_short(void)\n{\n    return 1;\n}\n"
                        "static inline int a_long(void)\n{\n    return 2;\n}\n",
             "src/a.c": '#include "a.h"\nint a_count = 1;\nint a_used(void)\n{\n    return a_long();\n}\n'
                        "int a_unused(void)\n{\n    return a_only_there();\n}\n",
             "src/b.c": '#include "a.h"\nint a_only_there(void)\n{\n    return 3;\n}\n'
                        "int main(void)\n{\n    return a_used();\n}\n",
             "tests/c.c": '#include "a.h"\nint test(void)\n{\n    return a_unused();\n}\n'}
    commands = []
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        if name.endswith(".c"):
            commands.append({"directory": str(tmp_path), "file": str(tmp_path / name),
                             "command": f"clang -O2 -I{tmp_path}/src -o x.o -c {name}"})
    (tmp_path / "compile_commands.json").write_text(json.dumps(commands))
    assert sorted(unused.findings(tmp_path, tmp_path)) == [
        ("src/a.c", 2, "a_count"), ("src/a.c", 7, "a_unused"), ("src/a.h", 2, "a_unused"), ("src/a.h", 3, "a_only_there"),
        ("src/a.h", 5, "a_short"), ("src/b.c", 2, "a_only_there")]


def test_every_check_is_tried():
    assert {check for check, _ in BAD} == set(lint.CHECKS) == {check for check, _ in GOOD}


@pytest.mark.parametrize("check", lint.CHECKS, ids=lambda check: check.__name__)
def test_tree(check):
    assert list(check(lint.Tree(ROOT))) == []
