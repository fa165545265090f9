"""Keys, passwords and certificates from files: which ones retryd presents to whom, and the effect of a change."""

import base64
import os
import subprocess
import threading

import pytest
from cases import error
from mutual import MutualServer
from pki import pki  # noqa: F401
from raw import CHAT, Raw, ask, cpu_ms
from targets import reload
from test_shared import LOST, Redis, daemons
from test_upstream_links import Tinyproxy, provider_with, url_of

IN_FORCE = "a file changed, and its new content is in force"
UNUSABLE = "a file changed but cannot be used"


def replace(path, text):
    """As careful writers do: a rename over it."""
    new = path.with_name("." + path.name + ".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, path)


def in_place(path, text):
    path.write_text(text)


def keys_sent(provider):
    return [v for r in provider.record() for n, v in r["headers"] if n.lower() == "authorization"]


def accepts(provider, *keys):
    """Only these keys are good."""
    good = [{"match": {"header": {"authorization": f"Bearer {k}"}}, "answers": [{"preset": "auto"}], "then": "repeat"}
            for k in keys]
    provider.rules(*good, {"match": {}, "answers": [error(401, code="invalid_api_key")], "then": "repeat"})


@pytest.fixture
def key_file(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    path = folder / "key"
    replace(path, "sk-one\n")
    return path


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [replace, in_place])
def test_a_key_that_changes_is_taken_without_a_reload(provider, retryd, key_file, how):
    d = retryd(upstream_settings={"api_key_file": key_file})
    assert ask(d).status == 200
    how(key_file, "sk-two\n")
    line = d.wait_log(IN_FORCE)
    assert (line["section"], line["key"], line["file"]) == ("upstream test", "api_key_file", str(key_file))
    assert ask(d).status == 200
    assert keys_sent(provider) == ["Bearer sk-one", "Bearer sk-two"]
    assert "sk-" not in d.log
    assert provider.stats()["connections"] == 1, "another key is no reason to connect anew"


def test_a_secret_mount_is_swapped(provider, retryd, tmp_path):
    """Kubernetes: key -> ..data/key, ..data -> ..1; a new folder, and ..data is renamed over."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(name, text):
        (mount / name).mkdir()
        (mount / name / "key").write_text(text)
        (mount / "..data_tmp").symlink_to(name)
        os.replace(mount / "..data_tmp", mount / "..data")

    swap("..1", "sk-1\n")
    (mount / "key").symlink_to("..data/key")
    (tmp_path / "keys").symlink_to("mount")
    d = retryd(upstream_settings={"api_key_file": tmp_path / "keys" / "key"})
    for n in range(2, 5):
        swap(f"..{n}", f"sk-{n}\n")
        d.wait_log(IN_FORCE, count=n - 1)
        (mount / f"..{n - 1}" / "key").unlink()
        (mount / f"..{n - 1}").rmdir()
        assert ask(d).status == 200
    assert keys_sent(provider) == [f"Bearer sk-{n}" for n in range(2, 5)]
    assert UNUSABLE not in d.log


def test_a_credential_of_systemd_is_such_a_file(provider, retryd, key_file):
    d = retryd(upstream_settings={"api_key_file": "key"}, env={"CREDENTIALS_DIRECTORY": str(key_file.parent)})
    replace(key_file, "sk-two\n")
    assert d.wait_log(IN_FORCE)["file"] == str(key_file)
    assert ask(d).status == 200
    assert keys_sent(provider) == ["Bearer sk-two"]


def test_half_a_file_leaves_the_old_one_in_force_and_is_told_once(provider, retryd, key_file):
    d = retryd(upstream_settings={"api_key_file": key_file})
    for text in ("", "# to follow\n", "\n\n"):
        start = len(d.lines)
        in_place(key_file, text)
        if not text:
            assert "contains no key" in d.wait_line(UNUSABLE, start=start)
        assert ask(d).status == 200
    key_file.unlink()
    assert ask(d).status == 200
    replace(key_file, "sk-two\n")
    d.wait_log(IN_FORCE)
    assert ask(d).status == 200
    assert keys_sent(provider) == ["Bearer sk-one"] * 4 + ["Bearer sk-two"]
    assert d.log.count(UNUSABLE) == 1
    in_place(key_file, "")
    d.wait_line(UNUSABLE, count=2)


def test_a_rejected_key_whose_file_has_changed_is_replaced_at_once(provider, retryd, key_file, tmp_path):
    """C8: The change comes by another name of the same file, in another folder: nobody is told of it."""
    accepts(provider, "sk-two")
    d = retryd(upstream_settings={"api_key_file": key_file})
    assert ask(d).status == 401
    other = tmp_path / "other-name"
    os.link(key_file, other)
    in_place(other, "sk-two\n")
    answer = ask(d)
    assert answer.status == 200 and answer.header("x-retryd-attempts") == "2"
    assert keys_sent(provider) == ["Bearer sk-one", "Bearer sk-one", "Bearer sk-two"]
    line = d.wait_log("attempt 1 of 5 failed: 401 key_rejected; next in 0.0 s")
    assert "the key file has changed" in line["detail"]
    d.wait_log(IN_FORCE)  # and so the other workers are told
    assert ask(d).header("x-retryd-attempts") == "1"
    assert "sk-" not in d.log


def test_a_rejected_key_is_not_repeated_without_a_new_one(provider, retryd, key_file, tmp_path):
    """C8."""
    accepts(provider, "sk-none")
    d = retryd(upstream_settings={"api_key_file": key_file})
    os.utime(key_file, (1, 1))
    assert ask(d).status == 401
    os.link(key_file, tmp_path / "other")
    in_place(tmp_path / "other", "# still\nsk-one\n")
    assert ask(d).status == 401
    assert len(provider.record()) == 2
    in_place(tmp_path / "other", "sk-two\n")
    answer = ask(d)
    # The look at the file that the second rejection has asked for may only come now, and find this key.
    sent = keys_sent(provider)[2:]
    assert sent in (["Bearer sk-one", "Bearer sk-two"], ["Bearer sk-two"])
    assert answer.status == 401 and answer.header("x-retryd-attempts") == str(len(sent))


def test_the_repeat_counts_within_max_attempts(provider, retryd, key_file, tmp_path):
    """C8."""
    accepts(provider, "sk-two")
    d = retryd(upstream_settings={"api_key_file": key_file}, retry={"max_attempts": 1})
    os.link(key_file, tmp_path / "other")
    in_place(tmp_path / "other", "sk-two\n")
    assert ask(d).status == 401
    assert len(provider.record()) == 1


def test_keys_rotated_under_load_lose_nothing(provider, retryd, key_file):
    """The provider knows the old key for as long as the log does not tell of the new one."""
    accepts(provider, "sk-one")
    d = retryd(upstream_settings={"api_key_file": key_file}, server={"workers": 2})
    over, statuses = threading.Event(), []

    def client():
        with Raw(d) as c:
            while not over.is_set():
                c.request(body=CHAT)
                statuses.append(c.answer().status)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for t in clients:
        t.start()
    keys = ["sk-one", *(f"sk-{n}" for n in range(6))]
    for n, (old, new) in enumerate(zip(keys, keys[1:]), 1):
        accepts(provider, old, new)
        replace(key_file, new + "\n")
        d.wait_log(IN_FORCE, count=n)
        accepts(provider, new)
    over.set()
    for t in clients:
        t.join()
    assert len(statuses) >= 8 and set(statuses) == {200}
    assert ask(d).status == 200
    assert keys_sent(provider)[-1] == f"Bearer {keys[-1]}"


# --- client certificates -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clients(pki):  # noqa: F811
    """Two certificates of clients."""
    return [pki.issue(name, "DNS:client", title=name) for name in ("client-a", "client-b")]


def show(clients, folder, n):
    for source, name in zip(clients[n], ("tls.crt", "tls.key")):
        replace(folder / name, source.read_text())
    return {"client_cert_file": folder / "tls.crt", "client_key_file": folder / "tls.key"}


def test_a_client_certificate_is_shown(pki, clients, retryd, tmp_path):  # noqa: F811
    both = tmp_path / "both.pem"
    replace(both, clients[1][0].read_text() + clients[1][1].read_text())
    with MutualServer(pki.good, pki.ca) as server:
        d = retryd(server.url, upstream_settings={"ca_file": pki.ca, **show(clients, tmp_path, 0)})
        for _ in range(2):
            assert ask(d).status == 200
        assert server.seen == ["client-a"] * 2 and server.handshakes == ["client-a"]
        d = retryd(server.url, upstream_settings={"ca_file": pki.ca, "client_cert_file": both})
        assert ask(d).status == 200
        assert server.seen[2:] == ["client-b"]
        d = retryd(server.url, upstream_settings={"ca_file": pki.ca}, retry={"max_attempts": 1})
        assert ask(d).status == 502
        assert len(server.seen) == 3
        assert "PRIVATE KEY" not in d.log


def test_a_client_certificate_that_changes_is_shown_at_once(pki, clients, retryd, tmp_path):  # noqa: F811
    """Certificate and key come one after the other: half a pair is not used, nor told more than once."""
    settings = show(clients, tmp_path, 0)
    with MutualServer(pki.good, pki.ca) as server:
        d = retryd(server.url, upstream_settings={"ca_file": pki.ca, **settings})
        assert ask(d).status == 200
        replace(tmp_path / "tls.crt", clients[1][0].read_text())
        assert "does not match" in d.wait_line(UNUSABLE)
        assert ask(d).status == 200
        assert server.seen == ["client-a"] * 2
        replace(tmp_path / "tls.key", clients[1][1].read_text())
        d.wait_log(IN_FORCE, count=2)
        assert ask(d).status == 200
        assert server.seen[2:] == ["client-b"] and server.handshakes == ["client-a", "client-b"]
        assert d.log.count(UNUSABLE) == 1


def check(settings, tmp_path):
    config = tmp_path / "check.conf"
    config.write_text("[upstream openai]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
    result = subprocess.run([os.environ["DAEMON_BIN"], "--check", "-c", config], capture_output=True, text=True,
                            stdin=subprocess.DEVNULL)
    return result.returncode, result.stdout + result.stderr


def test_check_finds_what_no_server_would_take(clients, tmp_path):
    settings = show(clients, tmp_path, 0)
    assert check(settings, tmp_path)[0] == 0
    replace(tmp_path / "tls.key", clients[1][1].read_text())
    code, text = check(settings, tmp_path)
    assert code != 0 and "check.conf:3: [upstream openai] client_key_file:" in text and "does not match" in text
    subprocess.run(["openssl", "pkey", "-in", clients[0][1], "-aes128", "-passout", "pass:x", "-out",
                    tmp_path / "tls.key"], check=True)
    code, text = check(settings, tmp_path)
    assert code != 0 and "check.conf:3: [upstream openai] client_key_file:" in text and "is encrypted" in text


# --- authorities ---------------------------------------------------------------------------------------


def test_authorities_that_change_are_taken_without_a_reload(pki, retryd, tmp_path):  # noqa: F811
    """What was trusted before is trusted no more, not even over what is kept; half a file changes nothing."""
    ca = tmp_path / "ca.pem"
    replace(ca, pki.ca.read_text())
    with provider_with(pki.good) as secure:
        d = retryd(url_of(secure), upstream_settings={"ca_file": ca})
        assert ask(d).status == 200
        in_place(ca, pki.other_ca.read_text()[:-40])
        assert "is incomplete" in d.wait_line(UNUSABLE)
        assert ask(d).status == 200
        assert secure.stats()["tls_handshakes"] == 1
        replace(ca, pki.other_ca.read_text())
        d.wait_log(IN_FORCE)
        assert ask(d).error["code"] == "certificate_rejected"
        replace(ca, pki.other_ca.read_text() + pki.ca.read_text())
        d.wait_log(IN_FORCE, count=2)
        assert ask(d).status == 200


def test_a_reload_with_authorities_that_cannot_be_read_is_refused(pki, retryd, tmp_path):  # noqa: F811
    ca = tmp_path / "ca.pem"
    replace(ca, pki.ca.read_text())
    with provider_with(pki.good) as secure:
        d = retryd(url_of(secure), upstream_settings={"ca_file": ca})
        assert ask(d).status == 200
        ca.unlink()
        with pytest.raises(AssertionError):
            reload(d)
        line = d.wait_line(r"\[upstream test\] ca_file: .*cannot be read: No such file")
        assert f"{d.config_path}:" in line
        secure.answers({"preset": "auto", "close": True})
        for _ in range(2):
            assert ask(d).status == 200


def test_authorities_are_parsed_before_a_request_needs_them(pki, retryd, tmp_path):  # noqa: F811
    """A new bundle of some hundred certificates: the first connection with it costs far less than to read it."""
    ca = tmp_path / "ca.pem"
    replace(ca, pki.big_bundle.read_text())

    def first_costs(change):
        before = cpu_ms(d.pid)
        change()
        with Raw(d) as c:
            c.request("GET", "/nowhere")
            assert c.answer().status == 404  # the worker has had the news when it answers
        read = cpu_ms(d.pid)
        assert ask(d).status == 200
        return read - before, cpu_ms(d.pid) - read

    def grow():
        replace(ca, ca.read_text() + pki.other_ca.read_text())
        d.wait_log(IN_FORCE)

    with provider_with(pki.good) as secure:
        d = retryd(url_of(secure), upstream_settings={"ca_file": ca})
        assert ask(d).status == 200
        read, first = first_costs(grow)
        assert first * 2 < read, (read, first)
        assert secure.stats()["tls_handshakes"] == 2
        replace(ca, pki.big_bundle.read_text())
        read, first = first_costs(lambda: reload(d))
        assert first * 2 < read, (read, first)


# --- passwords -----------------------------------------------------------------------------------------


def test_a_proxys_password_comes_from_a_file(provider, retryd, tmp_path):
    password = tmp_path / "password"
    replace(password, "wrong\n")
    with Tinyproxy(tmp_path, "BasicAuth user sesame") as proxy:
        d = retryd(upstream_settings={"proxy": proxy.url.replace("//", "//user@"), "proxy_password_file": password},
                   retry={"max_attempts": 1})
        assert ask(d).status != 200
        replace(password, "sesame\n")
        d.wait_log(IN_FORCE)
        assert ask(d).status == 200
        assert "sesame" not in d.log and "wrong" not in d.log
        assert not any(n.lower() == "proxy-authorization" for r in provider.record() for n, _ in r["headers"])


@pytest.mark.parametrize("password", ["p@ss:w/rd", "50%25 + %zz", "ünï?#&"])
def test_a_proxys_password_is_what_stands_there(provider, retryd, tmp_path, password):
    """Whatever it would mean in a URL. The provider plays the proxy."""
    file = tmp_path / "password"
    replace(file, password + "\n")
    d = retryd("http://api.example/v1",
               upstream_settings={"proxy": f"http://us%40er@127.0.0.1:{provider.port}", "proxy_password_file": file})
    for _ in range(2):
        assert ask(d).status == 200
    sent = [v for r in provider.record() for n, v in r["headers"] if n.lower() == "proxy-authorization"]
    assert [base64.b64decode(v.removeprefix("Basic ")).decode() for v in sent] == [f"us@er:{password}"] * 2
    assert password not in d.log


def test_a_tunnels_password_that_changes_is_taken_by_the_next_attempt(pki, retryd, tmp_path):  # noqa: F811
    password = tmp_path / "password"
    replace(password, "wrong\n")
    with Tinyproxy(tmp_path, "BasicAuth user sesame") as proxy, provider_with(pki.good) as secure:
        d = retryd(url_of(secure), retry={"initial_delay": "200ms", "max_attempts": 20, "max_delay": "200ms"},
                   upstream_settings={"proxy": proxy.url.replace("//", "//user@"), "ca_file": pki.ca,
                                      "proxy_password_file": password})
        with Raw(d) as c:
            c.request(body=CHAT)
            d.wait_line("attempt 1 of 20 failed")
            replace(password, "sesame\n")
            assert c.answer().status == 200


def test_the_shared_views_password_that_changes_is_taken(tmp_path):
    password = tmp_path / "password"
    replace(password, "wrong\n")
    with Redis(tmp_path, "--requirepass", "sesame") as redis, \
            daemons(redis, count=1, joined=False, shared={"redis_password_file": password}) as (_, one):
        one.wait_line(LOST)
        replace(password, "sesame\n")
        one.wait_log(IN_FORCE)
        one.wait_line("shared view is back")
        assert "sesame" not in one.log
