"""The manifest in conf/kubernetes/ is valid by the schemas that Kubernetes publishes, which kubernetes-validate brings."""

import os
import pathlib
import subprocess
import sys

import pytest

SIDECAR = pathlib.Path(os.environ["SOURCE_DIR"]) / "conf/kubernetes/sidecar.yaml"


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_the_sidecar_is_valid(version):
    """1.29 is the oldest that has sidecar containers."""
    program = pathlib.Path(sys.executable).parent / "kubernetes-validate"
    done = subprocess.run([program, "--strict", "-k", version, SIDECAR], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == 2
