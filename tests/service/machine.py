"""Small Debian systems for the service tests. debootstrap creates them, and the cache keeps them.

Packages come from the source that this machine's apt uses, with its mirror, proxy and keyrings.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(os.environ.get("SOURCE_DIR", pathlib.Path(__file__).parents[2]))
CACHE = pathlib.Path(os.environ.get("CACHE_DIR", ROOT / ".cache")) / "service"


def run(*command, **options):
    """Runs a command; if it fails, its output is the message."""
    command = [str(part) for part in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}")
    return done.stdout


def why_not():
    """What keeps this machine from running the tests, or None."""
    if os.geteuid() != 0:
        return "these tests make and boot small systems, which needs root: run ./dev test as root or with sudo"
    tried = subprocess.run(["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "true"],
                           capture_output=True, text=True)
    if tried.returncode != 0:
        return f"these tests need Linux namespaces, and this machine gives none: {tried.stderr.strip()}"
    return None


def boot(root, name, console, timeout):
    """Boots a system, waits until it has powered itself off, and kills it otherwise. What it says goes to a file."""
    with open(console, "wb") as out:
        machine = subprocess.Popen(
            ["systemd-nspawn", "-D", root, f"--machine={name}", "--register=no", "--keep-unit", "--private-network",
             "--console=pipe", "-b"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            machine.wait(timeout)
        finally:
            machine.kill()
            machine.wait()


def start_at_boot(root, unit, text):
    """Installs a unit that runs once the system has booted."""
    (root / "etc/systemd/system" / unit).write_text(text)
    wanted = root / "etc/systemd/system/multi-user.target.wants" / unit
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to(f"../{unit}")
    run("systemd-machine-id-setup", f"--root={root}")


def host_suite():
    text = pathlib.Path("/etc/os-release").read_text()
    return re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE).group(1)


def mirror():
    """The address from which apt on this machine takes Debian itself."""
    listed = run("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI)",
                 "Created-By: Packages")
    for line in listed.splitlines():
        origin, component, label, uri = line.split(" ", 3)
        if (origin, component, label) == ("Debian", "main", "Debian"):
            return uri
    raise AssertionError("apt on this machine has no Debian repository (apt-get update?)")


def apt_settings():
    """How apt on this machine reaches it: proxies, timeouts, checks."""
    dumped = run("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire")
    return "".join(f"{line}\n" for line in dumped.splitlines() if "::" in line)


def environment():
    """debootstrap's downloads know no apt settings: hand them the proxy. And what a failure leaves half made is
    thrown away, so that dpkg need not wait for the disk after each file."""
    shell = run("apt-config", "shell", "http_proxy", "Acquire::http::Proxy",
                "https_proxy", "Acquire::https::Proxy")
    found = dict(re.findall(r"^(\w+)='(.*)'$", shell, re.MULTILINE))
    proxies = {name: url for name, url in found.items() if url not in ("", "DIRECT")}
    return {**proxies, **os.environ, "DPKG_FORCE": "unsafe-io"}


def packages_of(*programs):
    """The packages that hold the shared libraries of some programs."""
    found = set()
    for program in programs:
        for path in re.findall(r"=> (/\S+)", run("ldd", program)):
            real = os.path.realpath(path)
            for name in (path, real, real.removeprefix("/usr"), "/usr" + path):
                owner = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
                if owner.returncode == 0:
                    found.add(owner.stdout.split(":")[0])
                    break
            else:
                raise AssertionError(f"{program} needs {path}, which is in no package")
    return sorted(found)


def apt_in(root, packages):
    """Installs packages in there by its own apt, which, unlike debootstrap, can order whatever depends on
    whatever. None of their services starts."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    passed = [f"{k}={v}" for k, v in environment().items() if k.endswith("_proxy") or k == "DPKG_FORCE"]
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc=" + str(root / "proc"),
              "chroot", root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
              "DEBIAN_FRONTEND=noninteractive", *passed,
              "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    run(*inside, "update")
    run(*inside, "install", "-y", "--no-install-recommends", *packages)


def debian(suite, packages, more=()):
    """A directory with a minimal Debian and these packages, and `more`, which its own apt installs. Not to be
    changed: copy it."""
    source = mirror()
    key = hashlib.sha256("\n".join([suite, source, apt_settings(), *packages, *more]).encode()).hexdigest()[:16]
    place = CACHE / f"debian-{suite}-{key}"
    if place.is_dir():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    half = place.with_suffix(f".{os.getpid()}")
    try:
        run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, half, source,
            env=environment())
        (half / "etc/apt/apt.conf.d/00machine").write_text(apt_settings())
        if more:
            apt_in(half, more)
        shutil.rmtree(half / "var/cache/apt")
        shutil.rmtree(half / "var/lib/apt/lists")
        half.rename(place)
    finally:
        if half.is_dir():
            shutil.rmtree(half)
    return place
