#!/usr/bin/python3
"""Finds functions of src/ that main() cannot reach, and exported variables that nothing uses.

    tests/lint/unused.py BUILD_DIR

BUILD_DIR is configured; it need not be built. Each source is compiled with every function in a section of its own,
unused inline functions of headers included, and without optimization, which takes some seconds in all. The linker
then lists the sections that it drops. What only tests use, or only functions that nothing uses, is in that list, too.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import lint

FLAGS = ["-O0", "-w", "-ffunction-sections", "-fdata-sections", "-fkeep-inline-functions", "-fkeep-static-functions"]
DROPPED = re.compile(r"section '\.(\w+)(?:\.\w+)*?\.([A-Za-z_]\w*)(?:\.\d+)?' in file '([^']+)'")


def compile_all(commands, root, folder):
    """Compiles the sources of `root`; returns the objects."""
    def compile_one(number, entry):
        words = shlex.split(entry["command"])
        kept = [w for before, w in zip(["", *words], words)
                if w.startswith(("-I", "-D", "-isystem", "-std=", "-pthread")) or before in ("-I", "-isystem")]
        target = folder / f"{number}.o"
        subprocess.run(["gcc", *FLAGS, *kept, "-c", entry["file"], "-o", target], check=True, cwd=entry["directory"])
        return target

    sources = {entry["file"]: entry for entry in commands if pathlib.Path(entry["file"]).is_relative_to(root)}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, range(len(sources)), sources.values()))


def unused(objects, folder):
    """The names that are dropped from each object that has them."""
    link = ["ld.bfd", "--gc-sections", "--print-gc-sections", "--unresolved-symbols=ignore-all", "-e", "main",
            "-o", folder / "program", *objects]
    dropped = subprocess.run(link, check=True, capture_output=True, text=True).stderr
    symbols = subprocess.run(["nm", "--defined-only", "--print-file-name", *objects],
                             check=True, capture_output=True, text=True).stdout
    has, lost, variables = collections.defaultdict(set), collections.defaultdict(set), set()
    for line in symbols.splitlines():
        place, kind, name = line.rsplit(" ", 2)
        has[name].add(place.split(":")[0])
        if kind in "DBR": # an exported one; of the others the compilers warn
            variables.add(name)
    for section, name, place in DROPPED.findall(dropped):
        if section == "text" or name in variables:
            lost[name].add(place)
    return {name for name in lost if lost[name] >= has[name]}


def findings(build, root):
    source = pathlib.Path(root, "src")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        commands = json.loads(pathlib.Path(build, "compile_commands.json").read_text())
        names = unused(compile_all(commands, source, folder), folder) - lint.FOR_TESTS
    for path in sorted(source.rglob("*.[ch]")):
        code = lint.without_comments_and_strings(path.read_text())
        for found in re.finditer(r"^(?!return\b|typedef\b|[#\s}])[\w \t*]*?\b(\w+)(?:\(|\[[^;{]*=|\s*=)", code, re.MULTILINE):
            if found[1] in names:
                yield path.relative_to(root).as_posix(), lint.line_of(code, found.start(1)), found[1]


def main():
    count = 0
    for name, line, what in findings(sys.argv[1], pathlib.Path(__file__).resolve().parents[2]):
        print(f"{name}:{line}: {what}: the program does not use it")
        count += 1
    print(f"unused: {count} findings", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
