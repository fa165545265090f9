"""Runs an image in its own network and checks its health; test_image.py runs this.

    unshare --net image_run.py BUILDAH-COMMAND... -- CONTAINER

The entrypoint, command and health check come from the image's own configuration. The output is one JSON object. This
is a separate program because it must not share the machine's network, where the daemon's default ports may be in use.
"""

import fcntl
import http.client
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time

DEADLINE = 20
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def healthz():
    connection = http.client.HTTPConnection("127.0.0.1", 4291, timeout=DEADLINE)
    connection.request("GET", "/healthz")
    return connection.getresponse().status


def daemon_pid():
    """The retryd that runs in this network."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            same = os.stat(process / "ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
            if same and (process / "cmdline").read_bytes().split(b"\0")[0] == b"/usr/bin/retryd":
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no process of this network is /usr/bin/retryd")


def main():
    split = sys.argv.index("--")
    buildah, container = sys.argv[1:split], sys.argv[split + 1]
    config = json.loads(subprocess.run([*buildah, "inspect", container], check=True,
                                       capture_output=True).stdout)["Docker"]["config"]
    inside = [*buildah, "run", "--isolation", "chroot", container, "--"]
    loopback_up()
    result = {"user": config["User"], "log": ""}
    daemon = subprocess.Popen([*inside, *config["Entrypoint"], *config["Cmd"]],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + DEADLINE
    while "healthz" not in result and daemon.poll() is None and time.monotonic() < end:
        if select.select([daemon.stdout], [], [], 0.1)[0]:
            result["log"] += os.read(daemon.stdout.fileno(), 65536).decode(errors="replace")
        try:
            result["healthz"] = healthz()
        except ConnectionRefusedError:
            pass
    if "healthz" in result:
        check = config["Healthcheck"]["Test"]
        assert check[0] == "CMD"
        result["healthcheck"] = subprocess.run([*inside, *check[1:]], capture_output=True).returncode
        pid = daemon_pid()
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        result["uid"] = next(int(line.split()[1]) for line in status.splitlines()
                             if line.startswith("Uid:"))
        os.kill(pid, signal.SIGTERM)
    try:
        result["log"] += daemon.communicate(timeout=DEADLINE)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        daemon.kill()
    result["status"] = daemon.wait()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
