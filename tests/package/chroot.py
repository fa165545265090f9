"""A system to install into: a Debian from tests/service/machine.py below a layer of its own, which is thrown away."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

from machine import CACHE, run

# The layer is in memory. A machine without overlayfs gets a copy.
LAYER = """
set -eu
template=$1 place=$2
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=$template,upperdir=$place/upper,workdir=$place/work" "$place/root" ||
    cp -a "$template/." "$place/root"
"""

RUN = """
set -eu
root=$1
shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive "$@"
"""


class Chroot:
    def __init__(self, root):
        self.root = root

    def call(self, *command):
        """The exit code and the output, with nothing on standard input."""
        done = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", RUN, "sh",
                               self.root, *command],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def __call__(self, *command):
        status, output = self.call(*command)
        assert status == 0, f"{' '.join(command)} ended with {status}:\n{output}"
        return output

    def take(self, file):
        """Copies a file of the machine to /tmp there, and returns its name there."""
        path = self.root / "tmp" / pathlib.Path(file).name
        path.write_bytes(pathlib.Path(file).read_bytes())
        return f"/tmp/{path.name}"

    def files(self):
        """Each file, with what tells a change, but for what dpkg and ldconfig keep of their own work."""
        own = ("var/lib/dpkg", "var/log", "var/cache", "tmp", "dev", "proc", "root")
        found = {}
        for folder, folders, names in os.walk(self.root):
            here = pathlib.Path(folder).relative_to(self.root).as_posix()
            folders[:] = [name for name in folders if f"{here}/{name}".removeprefix("./") not in own]
            for name in names:
                path = pathlib.Path(folder, name)
                state = path.lstat()
                found[f"{here}/{name}"] = (state.st_mode, state.st_uid, state.st_size,
                                           os.readlink(path) if path.is_symlink() else state.st_mtime_ns)
            found[here] = True
        return found


@contextlib.contextmanager
def layered(template):
    """A folder with the template's files, which may be changed."""
    with tempfile.TemporaryDirectory(prefix="layer-", dir=CACHE) as place:
        run("sh", "-c", LAYER, "sh", template, place)
        try:
            yield pathlib.Path(place) / "root"
        finally:
            for mount in (f"{place}/root", place):
                subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL)
