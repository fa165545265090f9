"""The state that daemons on one account share over Redis: gates, breakers, rates (C19, C20, C22).

The tests use two real daemons, a real redis-server and one provider.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cases import error
from client import Provider
from daemon import Retryd
from raw import CHAT, Raw, in_time, now_ms, time_of
from targets import Asked, ask, chat, in_order, limited, model_of

JOINED = "shared view: joined"
LOST = "shared view lost"
BACK = "shared view is back"


class Redis:
    """A redis-server of its own, on a Unix socket in `folder`."""

    def __init__(self, folder, *args):
        self.socket, self.args = str(folder / "redis.sock"), args
        self.start()

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no",
             *self.args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if "eady to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server did not start")
        # Its pipe is to stay empty, so that it is never held up.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *how):
        self.kill()


@pytest.fixture
def redis(tmp_path):
    with Redis(tmp_path) as server:
        yield server


@contextlib.contextmanager
def daemons(redis, settings=None, count=2, shared=None, joined=True, **how):
    """The provider, and so many daemons that share what they learn."""
    how.setdefault("retry", {"initial_delay": "20ms", "jitter": "none", "budget_min": 100000})
    with Provider(os.environ["PROVIDER_BIN"], quiet=True) as provider, contextlib.ExitStack() as stack:
        all_of_them = [
            stack.enter_context(Retryd(provider.base_url, upstream_settings=settings,
                                       shared={"redis": f"unix:{redis.socket}", **(shared or {})}, **how))
            for _ in range(count)]
        if joined:
            for daemon in all_of_them:
                daemon.wait_line(JOINED)
        yield provider, *all_of_them


@pytest.mark.alone
@pytest.mark.parametrize("knows_it", [True, False], ids=["known", "never-used"])
def test_a_429_seen_by_one_holds_the_other_within_100_ms(redis, knows_it):
    """C19."""
    with daemons(redis) as (provider, one, two):
        if knows_it:
            assert ask(two).status == 200
        provider.clear()
        provider.answers(limited(2000), {"preset": "auto"})
        sent = two.metric("retryd_shared_sent_total")
        first = Asked(one)
        closed = one.wait_log('msg="gate closed"')
        learned = two.wait_log('msg="gate closed"')
        assert learned["learned"] == "yes" and ("target" in learned) == knows_it
        assert time_of(learned) - time_of(closed) <= 100
        assert two.metric("retryd_shared_sent_total") == sent, "what was learned is not told on"
        second = Asked(two)
        assert first.answer().status == 200 and second.answer().status == 200
        record = in_order(provider.record())
        assert len(record) == 3
        told = record[0]["t_answer_start"]
        assert all(r["t_first"] - told >= 1990 for r in record[1:])


@pytest.mark.alone
def test_a_breaker_that_one_opened_is_open_for_the_other(redis):
    """C20."""
    with daemons(redis, breaker={"failures": 3, "failure_rate": 0, "open_for": "60s"},
                 retry={"max_attempts": 1, "budget_min": 100000}, queue={"timeout": "100ms"}) \
            as (provider, one, two):
        assert ask(two).status == 200
        provider.answers(error(503))
        for _ in range(3):
            assert ask(one).status == 503
        opened, learned = one.wait_log('msg="breaker open"'), two.wait_log('msg="breaker open"')
        assert learned["learned"] == "yes" and time_of(learned) - time_of(opened) <= 100
        seen = len(provider.record())
        answer = ask(two)
        assert answer.status == 503 and answer.json()["error"]["code"] == "upstream_down"
        assert len(provider.record()) == seen


@pytest.mark.alone
def test_a_breaker_that_one_closed_is_closed_for_the_other(redis):
    """C20."""
    with daemons(redis, breaker={"failures": 3, "failure_rate": 0, "open_for": "700ms"},
                 retry={"max_attempts": 1, "budget_min": 100000}) as (provider, one, two):
        assert ask(two).status == 200
        provider.answers(error(503), error(503), error(503), {"preset": "auto"})
        for _ in range(3):
            assert ask(one).status == 503
        two.wait_log('msg="breaker open"')
        assert ask(one).status == 200 # it waits for its probe
        closed, learned = one.wait_log('msg="breaker closed"'), two.wait_log('msg="breaker closed"')
        assert abs(time_of(learned) - time_of(closed)) <= 100


def test_requests_per_minute_count_for_all_daemons_together(redis):
    """C22."""
    with daemons(redis, {"requests_per_minute": 600}) as (provider, *both):
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda n: ask(both[n % 2]).status, range(40)))
        assert answers == [200] * 40
        times = sorted(r["t_first"] for r in provider.record())
        # Each could spend a second's worth before it has heard of the other.
        for i, begin in enumerate(times):
            for k, end in enumerate(times[i:]):
                assert k + 1 <= 20 + 5 + (end - begin) / 100, (begin, end, k + 1)
        assert times[-1] - times[0] >= 1500


@pytest.mark.tsan
def test_killing_redis_in_the_middle_of_a_load_fails_nothing(redis):
    # A third of the responses is a 429: some request meets many of them.
    with daemons(redis, retry={"max_attempts": 50, "initial_delay": "20ms", "max_delay": "20ms",
                               "budget_min": 100000}, server={"workers": 2}) as (provider, one, two):
        provider.script({"rules": [{"match": {}, "answers": [limited(60), {"preset": "auto"}, {"preset": "auto"}],
                                    "then": "cycle"}]})
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, (one, two)[n % 2]) for n in range(300)]
            provider.wait(answered=100, timeout=60)
            redis.kill()
            assert {a.result().status for a in answers} == {200}
        assert "this daemon continues with what it knows itself" in one.wait_line(LOST)
        two.wait_line(LOST)
        assert one.metric("retryd_shared_up") == 0
        redis.start()
        one.wait_line(BACK, timeout=40)
        two.wait_line(BACK, timeout=40)
        assert one.metric("retryd_shared_up") == 1 and one.metric("retryd_shared_losses_total") >= 1
        start = len(two.lines)
        provider.answers(limited(300), {"preset": "auto"})
        assert ask(one, chat()).status == 200
        assert two.wait_log('msg="gate closed"', start=start)["learned"] == "yes"


def test_a_redis_that_says_nothing_holds_up_no_request(redis):
    with daemons(redis, {"requests_per_minute": 60000}, count=1) as (provider, one):
        redis.signal(signal.SIGSTOP)
        try:
            for _ in range(50):
                began = now_ms()
                assert ask(one).status == 200
                in_time(now_ms() - began, 1000)
            one.wait_line(LOST)
            assert ask(one).status == 200
        finally:
            redis.signal(signal.SIGCONT)
        one.wait_line(BACK, timeout=40)


def test_no_redis_at_the_start(tmp_path):
    class Nobody:
        socket = str(tmp_path / "nobody.sock")

    with daemons(Nobody, count=1, joined=False) as (provider, one):
        assert "nobody.sock" in one.wait_line(LOST)
        assert ask(one).status == 200
        assert one.metric("retryd_shared_up") == 0


def test_a_password_is_needed_and_never_shown(tmp_path):
    (tmp_path / "right").write_text("sesame-open-wide\n")
    (tmp_path / "wrong").write_text("sesame-shut\n")
    with Redis(tmp_path, "--requirepass", "sesame-open-wide") as redis:
        with daemons(redis, count=1, joined=False, shared={"redis_password_file": tmp_path / "wrong"}) as (_, one):
            assert "password" in one.wait_line(LOST)
            assert ask(one).status == 200
            assert "sesame" not in one.log
        with daemons(redis, count=1, shared={"redis_password_file": tmp_path / "right"}) as (_, one):
            assert ask(one).status == 200
            assert one.metric("retryd_shared_up") == 1
            assert "sesame" not in one.log


def test_accounts_with_prefixes_of_their_own_do_not_hear_of_each_other(redis):
    with daemons(redis, count=1, shared={"prefix": "first"}) as (provider, one), \
            daemons(redis, count=1, shared={"prefix": "second"}) as (_, other):
        provider.answers(limited(200), {"preset": "auto"})
        assert ask(one).status == 200
        assert one.metric("retryd_shared_sent_total") >= 1
        assert other.metric("retryd_shared_received_total") == 0
        assert model_of(provider.record()[0]) == "big"


class FalseRedis(threading.Thread):
    """Speaks as much of the protocol as retryd asks for, and answers each script with a number of its own."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number = number
        self.scripts = threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.start()

    def run(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer, peer.makefile("rwb") as f:
            while line := f.readline():
                words = []
                for _ in range(int(line[1:])):
                    n = int(f.readline()[1:])
                    words.append(f.read(n + 2)[:-2])
                f.write(self.answer(words))
                f.flush()

    def answer(self, words):
        command = words[0].upper()
        if command == b"SCRIPT":
            return b"$40\r\n" + b"0" * 40 + b"\r\n"
        if command == b"SUBSCRIBE":
            return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(words[1]), words[1])
        if command in (b"EVALSHA", b"EVAL"):
            self.scripts.set()
            return b":%d\r\n" % self.number
        return b"+PONG\r\n" if command == b"PING" else b"+OK\r\n"


@pytest.mark.parametrize("number", [3_600_000_000, 2**63 - 1])
def test_a_server_shuts_nobody_out_for_longer_than_the_settings_would(provider, retryd, number):
    """C22."""
    redis = FalseRedis(number)
    d = retryd(shared={"redis": redis.address}, upstream_settings={"requests_per_minute": 6000},
               retry={"max_hint": "1s", "max_delay": "1s", "initial_delay": "20ms"})
    d.wait_line(JOINED, timeout=20)
    for _ in range(3):
        with Raw(d, timeout=30) as c:
            c.request(body=CHAT)
            answer = c.answer()
        assert answer.status == 200
        assert int(answer.header("x-retryd-wait-ms")) < 10_000
    assert redis.scripts.is_set()
    redis.server.close()
