"""A certificate authority for the tests. openssl creates it once per session."""

import pathlib
import subprocess
import tempfile

import pytest

SYSTEM_BUNDLE = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")


class Pki:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.ca = self._authority("ca", "Test Authority")
        self.other_ca = self._authority("other", "Unknown Authority")
        self.good = self.issue("good", "DNS:localhost,IP:127.0.0.1")
        self.wrong_name = self.issue("wrong", "DNS:elsewhere.example")
        self.expired = self.issue("expired", "DNS:localhost,IP:127.0.0.1", expired=True)
        self.big_bundle = self.folder / "bundle.pem"
        self.big_bundle.write_bytes(SYSTEM_BUNDLE.read_bytes() + self.ca.read_bytes())

    def _openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], cwd=self.folder, check=True,
                       stdin=subprocess.DEVNULL, capture_output=True)

    def _authority(self, name, title):
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                      "-subj", f"/CN={title}")
        return self.folder / f"{name}.pem"

    def issue(self, name, alt, *, expired=False, title="a provider"):
        """(certificate file, key file) for these subjectAltNames, signed by ca."""
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={title}")
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alt}\n")
        if not expired:
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                          "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext",
                          "-out", f"{name}.crt")
        else:
            self._sign_in_the_past(name)
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def _sign_in_the_past(self, name):
        """`openssl ca` is the one command of OpenSSL 3.0 that takes both dates."""
        (self.folder / "index.txt").write_text("")
        (self.folder / "serial").write_text("1000\n")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
            "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
        self._openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key",
                      "-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext",
                      "-startdate", "200101000000Z", "-enddate", "200102000000Z", "-notext")


@pytest.fixture(scope="session")
def pki():
    with tempfile.TemporaryDirectory(prefix="retryd-pki-") as folder:
        yield Pki(folder)
