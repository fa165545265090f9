"""Runs the root of an image as a platform that trusts nobody does: read-only, as a user that the image does not know, as
process 1; test_image.py runs this.

    unshare --mount --net image_bare.py ROOT SPOOL COMMAND...

SPOOL is mounted at /var/tmp. Waits with `retryd wait`, asks with --ready and --health, then sends SIGTERM to COMMAND. The
output is one JSON object. COMMAND is process 1 of its own process namespace.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

from image_run import loopback_up

USER = 54321
DEADLINE = 60


def mounts(root, spool):
    for command in (["mount", "--make-rprivate", "/"], ["mount", "--bind", root, root],
                    ["mount", "--bind", spool, f"{root}/var/tmp"], ["mount", "--rbind", "/dev", f"{root}/dev"],
                    ["mount", "-o", "remount,bind,ro", root]):
        subprocess.run(command, check=True)


def main():
    root, spool, *command = sys.argv[1:]
    loopback_up()
    os.chown(spool, USER, 0)
    mounts(root, spool)
    inside = ["env", "-i", "PATH=/usr/sbin:/usr/bin", "RETRYD_UPSTREAM_URL=http://127.0.0.1:9/v1",
              "RETRYD_LISTEN=127.0.0.1:4292", "chroot", f"--userspec={USER}:0", "--groups=", root]

    def run(*words):
        done = subprocess.run([*inside, *words], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    daemon = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc", *inside,
                               *command], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    result = {"wait": run(command[0], "wait", "--timeout", f"{DEADLINE}s"), "ready": run(command[0], "--ready"),
              "health": run(command[0], "--health")}
    pid = int(pathlib.Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0])
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    result["uid"] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))
    result["pid"] = next(int(line.split()[-1]) for line in status.splitlines() if line.startswith("NSpid:"))
    result["writable"] = [path for path in ("/", "/etc/retryd", "/tmp", "/var/tmp")
                          if not os.statvfs(root + path).f_flag & os.ST_RDONLY]
    os.kill(pid, signal.SIGTERM)
    result["log"] = daemon.communicate(timeout=DEADLINE)[0]
    result["status"] = daemon.returncode
    print(json.dumps(result))


if __name__ == "__main__":
    main()
