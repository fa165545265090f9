#!/usr/bin/python3
"""Runs clang-tidy on every changed file of a build, on all cores.

    tests/lint/tidy.py BUILD_DIR CACHE_DIR

A file that several programs are built from is checked with the first of its compile commands. clang-tidy itself would
check it with each of them.

A clean file leaves a stamp in CACHE_DIR. The name of the stamp depends on everything that affects the result:
the file, the tree's headers that it includes, the compile command, .clang-tidy and clang-tidy's version.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def included(source, folders, known):
    """The headers of this tree that a file includes, and that these include."""
    found, todo = set(), [source]
    while todo:
        path = todo.pop()
        if path not in known:
            names = re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', path.read_text(errors="replace"), re.MULTILINE)
            known[path] = names
        for name in known[path]:
            header = next((f / name for f in (path.parent, *folders) if (f / name).is_file()), None)
            if header and header not in found:
                found.add(header)
                todo.append(header)
    return sorted(found)


def main():
    build, cache = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    cache.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], check=True, capture_output=True).stdout
    common = digest(version, (ROOT / ".clang-tidy").read_bytes())

    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        entries.setdefault(pathlib.Path(entry["file"]), entry)
    stamps, known = {}, {}
    for source, entry in entries.items():
        folders = [pathlib.Path(word[2:]) for word in shlex.split(entry["command"]) if word.startswith("-I")]
        headers = [h.read_bytes() for h in included(source, folders, known)]
        stamps[source] = cache / digest(common.encode(), entry["command"].encode(), source.read_bytes(), *headers)
    stale = [source for source, stamp in stamps.items() if not stamp.exists()]

    def tidy(source):
        run = subprocess.run(["clang-tidy", "-p", commands, "--quiet", str(source)], capture_output=True, text=True)
        if run.returncode == 0:
            stamps[source].touch()
        return source, run

    failed = 0
    with (tempfile.TemporaryDirectory() as commands, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool):
        pathlib.Path(commands, "compile_commands.json").write_text(json.dumps(list(entries.values())))
        for source, run in pool.map(tidy, sorted(stale)):
            if run.returncode != 0:
                failed += 1
                print(run.stdout.strip() or run.stderr.strip())
    for old in set(cache.iterdir()) - set(stamps.values()):
        old.unlink()
    print(f"clang-tidy: {len(stamps)} files, {len(stale)} checked, {failed} with findings",
          file=sys.stderr)
    return 1 if failed or not stamps else 0


if __name__ == "__main__":
    sys.exit(main())
