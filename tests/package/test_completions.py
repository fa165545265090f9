"""The completions for bash, zsh and fish, each tried in that shell: every option and command of --help is completed."""

import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
FOLDER = ROOT / "completions"
PATIENCE = 60


def help_of(*words):
    return subprocess.run([os.environ["DAEMON_BIN"], *words, "--help"], capture_output=True, text=True,
                          check=True).stdout


def options(text):
    return re.findall(r"^ {2,6}(?:-\w, )?(--[a-z-]+)", text.partition("All keys")[0], re.MULTILINE)


OPTIONS = options(help_of())
COMMANDS = re.findall(r"^  ([a-z]+)  ", help_of().partition("\nCommands")[2].partition("\n\n")[0], re.MULTILINE)
# What stands before the word, and the word.
WORDS = [("", word) for word in OPTIONS + COMMANDS]
WORDS += [(f"{command} ", word) for command in COMMANDS for word in options(help_of(command))]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A home without settings, in which the program is on PATH, and file-of-mine is there."""
    home = tmp_path_factory.mktemp("home")
    (home / "bin").mkdir()
    (home / "bin/retryd").symlink_to(os.environ["DAEMON_BIN"])
    (home / "bin/program-of-mine").symlink_to("/bin/true")
    (home / "file-of-mine").touch()
    (home / ".zshrc").write_text(ZSHRC)
    os.chdir(home)
    yield {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    os.chdir(ROOT)


def shell(environment, *command):
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout.split("\n")


def bash(environment, line):
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    script = (f". {FOLDER}/retryd.bash; COMP_LINE=$1; COMP_POINT=${{#1}}; COMP_CWORD={len(words) - 1}; shift; "
              'COMP_WORDS=("$@"); _retryd; printf "%s\\n" "${COMPREPLY[@]}"')
    return shell(environment, "bash", "--norc", "-c", script, "bash", line, *words)


def fish(environment, line):
    found = shell(environment, "fish", "--no-config", "-c", f"source {FOLDER}/retryd.fish; complete -C $argv[1]", line)
    return [text.partition("\t")[0] for text in found]


ZSHRC = f"""
PS1='' fpath=({FOLDER} $fpath)
autoload -Uz compinit
compinit -u -D
retryd() {{ if [[ $* = *--help ]] {{ command retryd "$@" }} else {{ print -r -- "<$*>" }} }}
print '<ready>'
"""


class Zsh:
    """A zsh on a terminal. Its retryd says what it was called with, but for --help."""

    def __init__(self, environment):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe("zsh", ["zsh", "--no-globalrcs", "-i"], environment)
        self.seen = b""
        self.read_until(b"<ready>")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def read_until(self, what):
        end = time.monotonic() + PATIENCE
        while what not in self.seen:
            assert time.monotonic() < end, f"zsh wrote {self.seen!r}, not {what!r}"
            if select.select([self.terminal], [], [], 1)[0]:
                self.seen += os.read(self.terminal, 65536)
        self.seen = self.seen.partition(what)[2]

    def completes(self, line, wanted):
        """Types the line, a tab and a return: retryd is called with `wanted`."""
        self.type(f"retryd {line}\t\n")
        self.read_until(f"<{wanted}>".encode())

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture(scope="module")
def zsh(environment):
    shell = Zsh(environment)
    yield shell
    shell.close()


def test_help_has_options_and_commands():
    assert {"--config", "--check", "--help"} < set(OPTIONS) and {"reload", "wait"} <= set(COMMANDS)
    assert ("wait ", "--timeout") in WORDS


def test_bash_offers_all(environment):
    for before, word in WORDS:
        assert word in bash(environment, f"retryd {before}{word[:-1]}"), (before, word)


def test_bash_completes_files(environment):
    assert bash(environment, "retryd -c file-of") == ["file-of-mine", ""]
    assert "reload" in bash(environment, "retryd -c file-of-mine rel")


def test_fish_offers_all(environment):
    for before, word in WORDS:
        assert word in fish(environment, f"retryd {before}{word[:-1]}"), (before, word)


def test_fish_completes_files(environment):
    assert "file-of-mine" in fish(environment, "retryd -c file-of")
    assert "reload" in fish(environment, "retryd -c file-of-mine rel")


def test_what_follows_run_is_a_command_line_of_its_own(environment, zsh):
    for before in ("run -- ", "-c file-of-mine run -- "):
        assert bash(environment, f"retryd {before}program-of") == ["program-of-mine", ""]
        assert "program-of-mine" in fish(environment, f"retryd {before}program-of")
        zsh.completes(f"{before}program-of", f"{before}program-of-mine")
    assert "file-of-mine" in fish(environment, "retryd run -- program-of-mine file-of")
    zsh.completes("run -- program-of-mine file-of", "run -- program-of-mine file-of-mine")


def test_zsh_completes_all(zsh):
    for before, word in WORDS:
        if word != "--help":  # which would print it
            zsh.completes(f"{before}{word[:-1]}", f"{before}{word}")


def test_zsh_completes_files(zsh):
    zsh.completes("-c file-of", "-c file-of-mine")
    zsh.completes("-c file-of-mine relo", "-c file-of-mine reload")
